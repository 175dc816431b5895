"""``vimserve models``: a table of the catalog."""

from vimserve.model.catalog import names, resolve
from vimserve.model.sources import HubFile
from vimserve.model.spec import ModelSpec


def list_models() -> int:
    """Print the table; returns 0."""
    rows: list[tuple[str, ...]] = [("name", "family", "parameters", "resolution", "weights")]
    rows += [_row(resolve(name)) for name in names()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 0


def _row(spec: ModelSpec) -> tuple[str, ...]:
    if spec.available:
        weights = "present"
    elif isinstance(spec.source, HubFile):
        weights = f"from huggingface.co/{spec.source.repo}"
    else:
        weights = f"missing: {spec.source}"
    resolution = spec.transform.resolution or "native"
    return spec.name, spec.family, f"{spec.parameters:,}", str(resolution), weights
