"""What the report of a comparison of detectors says of their parts."""

from collections.abc import Sequence

from vimserve.loadtests.compare.results import Case, Results
from vimserve.model.tables import markdown


def explained(results: Results) -> list[str]:
    """How equal the work of the heads was, and which share of the time the backbones have."""
    return [
        "All but the backbone is the same in every model. How much the heads have to do depends on",
        "the number of proposals and detections; of each image they took:",
        "",
        *_work(results),
        "",
        "The backbone's share of that time, and its milliseconds:",
        "",
        *_shares(results),
        "",
        "## One image, the backbone alone",
        "",
    ]


def _work(results: Results) -> list[str]:
    rows = []
    for model in results.models:
        passes = [
            one for one in results.first_passes if one.model == model and not one.case.backbone
        ]
        if passes:
            boxes, masks = ([getattr(one, what) for one in passes] for what in ("boxes", "masks"))
            rows.append([model, _range(boxes), _range(masks)])
    return markdown(["model", "proposals", "masks"], rows)


def _range(counts: Sequence[int]) -> str:
    least, most = min(counts), max(counts)
    return str(most) if least == most else f"{least} to {most}"


def _shares(results: Results) -> list[str]:
    rows = [
        [str(size), *(_share(results, Case(size), model) for model in results.models)]
        for size in results.sizes
    ]
    return markdown(["pixels", *results.models], rows)


def _share(results: Results, whole: Case, model: str) -> str:
    """Of two medians, which are no result if either is none."""
    of_whole = results.image_ms(whole, model)
    of_part = results.image_ms(Case(whole.size, backbone=True), model)
    if not of_whole or not of_part:
        return "–"
    doubt = of_part.doubt or of_whole.doubt
    told = f"{of_part.median / of_whole.median:.1%}, {of_part.median:.0f}"
    return f"{told} ({doubt})" if doubt else told
