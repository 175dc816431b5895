"""``vimserve predict`` and ``vimserve models``: answers without a server."""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from model.catalog import HubFile, ModelSpec, names, resolve
from model.transform import Fit
from server.config import Config
from server.engine.runner import Runner
from server.errors import ServerError
from server.postprocess import top_k as best
from server.prepare import Limits, classes_wanted, measure, transform_for


def predict(
    config: Config,
    files: Sequence[str],
    top_k: int | None,
    resolution: str | None,
    fit: Fit | None,
) -> int:
    """Print the likeliest classes of every file; all of them ride in one batch.

    Returns:
        0, or 1 if any file could not be read (the others are answered all the same).

    Raises:
        ValueError: for a model, a checkpoint or a parameter that cannot be used.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    failed = False
    for name in config.model:
        spec = resolve(name)
        if len(config.model) > 1:
            print(f"model {spec.name}")
        failed |= not _predict_one(config, spec, files, top_k, resolution, fit)
    return int(failed)


def _predict_one(
    config: Config,
    spec: ModelSpec,
    files: Sequence[str],
    top_k: int | None,
    resolution: str | None,
    fit: Fit | None,
) -> bool:
    limits = Limits(config.max_pixels, config.max_resolution)
    try:
        k = classes_wanted(top_k, len(spec.labels))
        transform = transform_for(spec, resolution, fit, config.max_resolution)
    except ServerError as error:
        raise ValueError(error.detail) from error
    runner = Runner(spec, config)
    prepared = {}
    for file in files:
        try:
            data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
            prepared[file] = measure(data, runner, transform, limits).prepare()
        except OSError as error:
            print(f"vimserve: {file}: {error.strerror}", file=sys.stderr)
        except ServerError as error:
            print(f"vimserve: {file}: {error.detail}", file=sys.stderr)
    if prepared:
        logits = runner.run([image.patches for image in prepared.values()])
        for file, scores in zip(prepared, logits, strict=True):
            print(file)
            for prediction in best(scores, spec.labels, k):
                print(f"  {prediction.score:7.2%}  {prediction.label}")
    return len(prepared) == len(set(files))


def list_models() -> int:
    """Print a table of the catalog."""
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
