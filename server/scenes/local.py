"""Asks models of this process about a scene's windows, through the engine that serves them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from torch import Tensor

from vimserve.model.palette import make_palette
from vimserve.model.spec import ModelSpec
from vimserve.server.config import Config
from vimserve.server.errors import InvalidParameter
from vimserve.server.images.prepare import Measured
from vimserve.server.scenes.described import Described
from vimserve.server.tasks import TASKS
from vimserve.server.tasks.segment import cell_of
from vimserve.server.tasks.task import Plan

Floats = np.ndarray[Any, np.dtype[np.float32]]


def described(spec: ModelSpec, config: Config) -> Described:
    """What a joiner has to know of a model that runs in this process."""
    source = str(spec.source)
    if isinstance(spec.source, Path) and spec.source.is_file():
        stat = spec.source.stat()
        source = f"{spec.source.name}, {stat.st_size} bytes, {stat.st_mtime_ns}"
    first = 1 if spec.task == "detect" else 0
    return Described(
        name=spec.name,
        identity=f"{source}; {spec.transform}; {config.model_dtype} on {config.device}",
        labels=spec.labels,
        palette=spec.palette or make_palette(len(spec.labels), first),
        multiple=spec.transform.multiple,
        cell=cell_of(spec) if spec.task == "segment" else 1,
        max_resolution=config.max_resolution,
        resolution=spec.transform.resolution,
    )


def plan_of(spec: ModelSpec, asked: Mapping[str, Any], config: Config, form: str) -> Plan[Any]:
    """How a model answers for a window, at the scene's own resolution.

    Args:
        spec: the model.
        asked: values of the query of its task.
        config: has the longest side of its input.
        form: of the scene's result.

    Raises:
        InvalidParameter: if it cannot.
    """
    return _PLANS[spec.task](spec, asked, config.max_resolution, form)


def _own_plan(
    spec: ModelSpec, query: Mapping[str, Any], max_resolution: int, form: str | None = None
) -> Plan[Any]:
    """The task's plan for pictures, of pixels whose bands were chosen already."""
    task = TASKS[spec.task]
    plan = task.plan(spec, task.ask({**query, "resolution": "native"}), max_resolution, form)
    return replace(plan, transform=replace(plan.transform, bands=None))


def _segment(
    spec: ModelSpec, query: Mapping[str, Any], max_resolution: int, _form: str
) -> Plan[Floats]:
    if spec.config.patch_size != spec.config.stride:
        raise InvalidParameter(
            f"a scene needs a model whose patches do not overlap; those of {spec.name!r} do"
        )
    plan = _own_plan(spec, query, max_resolution)
    return Plan(plan.transform, _scores)


def _scores(_measured: Measured, outputs: Sequence[Tensor]) -> Floats:
    return outputs[0].numpy()


def _classify(
    spec: ModelSpec, query: Mapping[str, Any], max_resolution: int, _form: str
) -> Plan[Floats]:
    plan = _own_plan(spec, {**query, "fit": "contain"}, max_resolution)

    def conclude(measured: Measured, outputs: Sequence[Tensor]) -> Floats:
        return plan.conclude(measured, outputs).softmax().astype(np.float32)

    return Plan(plan.transform, conclude)


_PLANS: Mapping[str, Callable[[ModelSpec, Mapping[str, Any], int, str], Plan[Any]]] = (
    MappingProxyType({"segment": _segment, "detect": _own_plan, "classify": _classify})
)
