"""``--task segment``: a head for pixels, on pictures with masks."""

import sys
from collections.abc import Mapping, Sequence
from functools import partial

from vimserve.model.catalog import resolve
from vimserve.model.class_names import numbered, read_all_labels
from vimserve.model.heads.data import Picture, split
from vimserve.model.heads.pixels.backbone import config_of
from vimserve.model.heads.saving import check_head_only
from vimserve.model.palette import make_palette, read_palette
from vimserve.model.picture_files import some
from vimserve.server.commands.evaluate.masks import pairs
from vimserve.server.commands.evaluate.samples import Sample
from vimserve.server.commands.train.evaluation import evaluate_file
from vimserve.server.commands.train.fitted import Fitted, Pictures, fitted
from vimserve.server.commands.train.held_out_masks import HeldOutMasks
from vimserve.server.commands.train.pictures import check_problems, left_out
from vimserve.server.commands.train.request import Request
from vimserve.server.commands.train.sample_facts import (
    Size,
    most_class,
    near_duplicates,
    sizes_of,
)
from vimserve.server.commands.train.segmenter_report import write_report
from vimserve.server.config import Config


def train_segmenter(config: Config, request: Request) -> int:
    """Train a head at each resolution, and write the best one's file and a report.

    Returns:
        0, or what the evaluation returns.

    Raises:
        ValueError: for a backbone or data that cannot be used, one line.
        OSError: for files that cannot be read or written.
    """
    spec, pixels = resolve(request.backbone), request.pixels
    config_of(spec, pixels.head, pixels.channels, num_classes=2)  # before anything is read
    if request.head_only:
        check_head_only(spec)
    samples, missing = pairs(
        request.paths["images"],
        request.paths["masks"],
        reduce_zero_label=pixels.reduce_zero_label,
        skip_missing=pixels.skip_missing,
    )
    labels = _labels(request, samples)
    head = config_of(spec, pixels.head, pixels.channels, len(labels))
    palette = (
        read_palette(pixels.palette, len(labels)) if pixels.palette else make_palette(len(labels))
    )
    sizes, problems = sizes_of(samples, request, config.max_pixels)
    check_problems(problems, len(samples), skip=request.skip_unreadable)
    pictures = _split(request, labels, samples, sizes)
    request.report.mkdir(parents=True, exist_ok=True)
    attempts = [fitted(config, request, spec, head, pictures, size) for size in request.resolutions]
    best = max(attempts, key=lambda one: one.miou)
    twins = near_duplicates(pictures.train, pictures.held_out, request, config.max_pixels)
    notes = [*_notes(problems | {**best.problems}, missing, best, labels, twins)]
    for note in notes:
        print(f"vimserve: {note}", file=sys.stderr)
    request.output.parent.mkdir(parents=True, exist_ok=True)
    best.model(spec, labels, palette).save(request.output, head_only=request.head_only)
    report = write_report(config, request, pictures, palette, attempts, best, notes)
    print(f"\n{best.told()}\n{request.output}\n{report}")
    if request.evaluate:
        rater = partial(HeldOutMasks, samples=best.held_out)
        folder = request.report / "evaluation"
        return evaluate_file(config, request.output, request.task, rater, folder)
    return 0


def _labels(request: Request, samples: Sequence[Sample]) -> tuple[str, ...]:
    file = request.pixels.labels
    labels = read_all_labels(file) if file else numbered(most_class(samples, request) + 1)
    if len(labels) < 2:
        where = f"labels {file}" if file else f"the masks in {request.paths['masks']}"
        raise ValueError(f"{where} have {len(labels)} classes: there must be at least two")
    return labels


def _split(
    request: Request,
    labels: tuple[str, ...],
    samples: Sequence[Sample],
    sizes: Mapping[str, Size],
) -> Pictures:
    read = [one for one in samples if one.name in sizes]
    if len(read) < 2:
        raise ValueError(
            "there must be a picture to train on and one to be tested by, but there are "
            f"{len(read)} with masks"
        )
    train, _ = split([Picture(one.name, one.path) for one in read], request.held_out, request.seed)
    names = {one.name for one in train}
    return Pictures(
        labels,
        [one for one in read if one.name in names],
        [one for one in read if one.name not in names],
        sizes,
    )


def _notes(
    problems: Mapping[str, str],
    missing: Sequence[str],
    best: Fitted,
    labels: Sequence[str],
    twins: Sequence[tuple[str, str]],
) -> list[str]:
    """What is odd about the pictures, in words."""
    notes = []
    if missing:
        notes.append(f"{len(missing)} pictures have no mask, and are left out: {some(missing)}")
    notes += left_out(problems)
    if absent := [label for label, count in zip(labels, best.pixels, strict=True) if not count]:
        notes.append(f"{len(absent)} classes are in no mask that is trained on: {some(absent)}")
    if untested := [
        label
        for label, count in zip(labels, best.pixels, strict=True)
        if count and label not in best.rating.classes
    ]:
        notes.append(f"{len(untested)} classes are in no mask that is held out: {some(untested)}")
    if twins:
        named = some([f"{one} and {other}" for one, other in twins])
        notes.append(
            f"{len(twins)} pictures that are held out are nearly the same as pictures that are "
            f"trained on, so that the figures are too high: {named}"
        )
    return notes
