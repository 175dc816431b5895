"""``vimserve predict`` and ``vimserve models``: answers without a server."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor

from vimserve.model.catalog import HubFile, ModelSpec, names, resolve
from vimserve.model.transform import Fit, Transform
from vimserve.server.config import Config
from vimserve.server.engine.runner import Runner
from vimserve.server.errors import ServerError
from vimserve.server.images.prepare import Limits, Measured, Views, measure, transform_for, whole
from vimserve.server.schemas import MaskFormat, SegmentInput
from vimserve.server.tasks.classify import classes_wanted
from vimserve.server.tasks.postprocess import top_k as best
from vimserve.server.tasks.segment import class_map, classes_of, look, to_picture


@dataclass(frozen=True)
class Request:
    """What the command line asks of the images.

    ``output`` and ``form`` are for the task ``segment``, ``top_k`` and ``fit`` for ``classify``.
    """

    files: Sequence[str]
    task: str
    resolution: str | None
    top_k: int | None = None
    fit: Fit | None = None
    mode: str = "whole"
    window: int | None = None
    output: Path | None = None
    form: MaskFormat = "png"


# What prints, and perhaps writes, the answer for a file.
Show = Callable[[Measured, Sequence[Tensor]], None]


def predict(config: Config, request: Request) -> int:
    """Print what the models make of every file; all of them ride in one batch.

    Returns:
        0, or 1 if any file could not be read (the others are answered all the same).

    Raises:
        ValueError: for a model, a checkpoint or a parameter that cannot be used.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    specs = [resolve(name) for name in config.model]
    able = [spec for spec in specs if spec.task == request.task]
    if not able:
        other = ", ".join(f"{spec.name} is there to {spec.task}" for spec in specs)
        raise ValueError(f"no model to {request.task}: {other}; choose another --model or --task")
    if request.output and (request.task != "segment" or len(request.files) > 1 or len(able) > 1):
        raise ValueError("--output is for one model that segments a single image")
    failed = False
    for spec in able:
        if len(able) > 1:
            print(f"model {spec.name}")
        failed |= not _predict_one(config, spec, request)
    return int(failed)


def _predict_one(config: Config, spec: ModelSpec, request: Request) -> bool:
    limits = Limits(config.max_pixels, config.max_resolution)
    try:
        transform, views, show = _PLANS[request.task](spec, request, config.max_resolution)
    except ServerError as error:
        raise ValueError(error.detail) from error
    runner = Runner(spec, config)
    prepared = {}
    for file in request.files:
        try:
            data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
            measured = measure(data, runner, transform, limits, views)
            prepared[file] = measured, measured.prepare()
        except OSError as error:
            print(f"vimserve: {file}: {error.strerror}", file=sys.stderr)
        except ServerError as error:
            print(f"vimserve: {file}: {error.detail}", file=sys.stderr)
    if prepared:
        outputs = iter(runner.run(list(chain(*(images for _, images in prepared.values())))))
        for file, (measured, images) in prepared.items():
            print(file)
            finite = [output for output in islice(outputs, len(images)) if output is not None]
            if len(finite) < len(images):
                raise ValueError(f"{spec.name} answers with scores that are not numbers")
            show(measured, finite)
    return len(prepared) == len(set(request.files))


def _classify(
    spec: ModelSpec, request: Request, max_resolution: int
) -> tuple[Transform, Views, Show]:
    k = classes_wanted(request.top_k, len(spec.labels))

    def show(_measured: Measured, outputs: Sequence[Tensor]) -> None:
        for prediction in best(outputs[0], spec.labels, k):
            print(f"  {prediction.score:7.2%}  {prediction.label}")

    return transform_for(spec, request.resolution, request.fit, max_resolution), whole, show


def _segment(
    spec: ModelSpec, request: Request, max_resolution: int
) -> tuple[Transform, Views, Show]:
    for flag, value in (("--top-k", request.top_k), ("--fit", request.fit)):
        if value is not None:
            raise ValueError(f"{flag} is for --task classify")
    seen = SegmentInput.model_validate(
        {"resolution": request.resolution, "mode": request.mode, "window": request.window}
    )

    def show(measured: Measured, outputs: Sequence[Tensor]) -> None:
        classes = class_map(spec, measured, outputs)
        for one in classes_of(classes, spec.labels):
            print(f"  {one.fraction:7.2%}  {one.label}")
        if request.output:
            request.output.write_bytes(to_picture(spec, request.form, measured, classes))

    return *look(spec, seen, max_resolution), show


_PLANS = {"classify": _classify, "segment": _segment}


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
