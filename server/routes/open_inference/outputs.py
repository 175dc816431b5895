"""From a task's results to output tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic_core import to_json

from vimserve.model.spec import ModelSpec
from vimserve.server.routes.errors import MalformedRequest
from vimserve.server.routes.open_inference.binary import write_elements
from vimserve.server.routes.open_inference.messages import (
    DataType,
    WantedOutput,
)
from vimserve.server.tasks.classify import best

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Output:
    """A tensor that models of a task have.

    Attributes:
        name: of the tensor.
        datatype: of its elements.
        shape: for a model; -1 is any number.
        make: its value from the results for all images; BYTES are an array of texts.
    """

    name: str
    datatype: DataType
    shape: Callable[[ModelSpec], list[int]]
    make: Callable[[ModelSpec, Sequence[Any]], Array]


def _logits(_spec: ModelSpec, results: Sequence[Any]) -> Array:
    return np.stack([result.logits for result in results]).astype(np.float32)


def _scores(_spec: ModelSpec, results: Sequence[Any]) -> Array:
    return np.stack([result.softmax() for result in results]).astype(np.float32)


def _likeliest(spec: ModelSpec, results: Sequence[Any]) -> Array:
    return np.array([spec.labels[best(result.logits, 1)[0]] for result in results], object)


def _mask(_spec: ModelSpec, results: Sequence[Any]) -> Array:
    return np.stack([result.classes for result in results])


def _names(spec: ModelSpec, _results: Sequence[Any]) -> Array:
    return np.array(spec.labels, object)


def _every_class(spec: ModelSpec) -> list[int]:
    return [-1, len(spec.labels)]


# By the task. ``labels`` of a classifier are the likeliest classes of the images; those of a
# segmenter are its classes, which the values of the mask count.
OUTPUTS: Mapping[str, tuple[Output, ...]] = MappingProxyType(
    {
        "classify": (
            Output("logits", "FP32", _every_class, _logits),
            Output("scores", "FP32", _every_class, _scores),
            Output("labels", "BYTES", lambda _: [-1], _likeliest),
        ),
        "segment": (
            Output("mask", "UINT8", lambda _: [-1, -1, -1], _mask),
            Output("labels", "BYTES", lambda spec: [len(spec.labels)], _names),
        ),
    }
)
CLASSIFIED = ("logits", "scores")


def wanted_outputs(
    spec: ModelSpec, wanted: Sequence[WantedOutput] | None
) -> list[tuple[Output, WantedOutput]]:
    """The outputs that a request names, or all.

    Raises:
        MalformedRequest: the model has no such output, one is named twice, or its values are no
            scores of classes but shall be classified.
    """
    known = {output.name: output for output in OUTPUTS[spec.task]}
    chosen = [WantedOutput(name=name) for name in known] if wanted is None else wanted
    names = [one.name for one in chosen]
    for one in chosen:
        if one.name not in known or names.count(one.name) > 1:
            raise MalformedRequest(
                f"the outputs of model {spec.name!r} are {', '.join(known)}, each at most once; "
                f"wanted are {', '.join(map(repr, names))}",
                parameter="outputs",
                limit=[*known],
                value=one.name,
            )
        if one.parameters.classification and one.name not in CLASSIFIED:
            raise MalformedRequest(
                f"only {' and '.join(CLASSIFIED)} can be classified, not {one.name}",
                parameter="classification",
                limit=CLASSIFIED,
                value=one.name,
            )
    return [(known[one.name], one) for one in chosen]


def render(
    spec: ModelSpec,
    version: str,
    request_id: str | None,
    wanted: Sequence[tuple[Output, WantedOutput]],
    results: Sequence[Any],
    *,
    binary: bool,
) -> tuple[bytes, list[bytes]]:
    """The JSON of an answer, and the bytes that follow it.

    Args:
        spec: the model.
        version: of the model.
        request_id: what the client called its request.
        wanted: the outputs.
        results: of the images, in their order.
        binary: whether an output is bytes behind the JSON unless it says otherwise.
    """
    tensors: list[dict[str, Any]] = []
    blobs = []
    for output, want in wanted:
        value = output.make(spec, results)
        if count := min(want.parameters.classification, len(spec.labels)):
            value = _classified(spec, value, count)
        datatype = "BYTES" if value.dtype == object else output.datatype
        tensor = {"name": output.name, "shape": value.shape, "datatype": datatype}
        chosen = want.parameters.binary_data
        if binary if chosen is None else chosen:
            blob = write_elements(value.flat) if datatype == "BYTES" else _little_endian(value)
            tensor["parameters"] = {"binary_data_size": len(blob)}
            blobs.append(blob)
        else:
            tensor["data"] = value.reshape(-1).tolist()
        tensors.append(tensor)
    answer = {"model_name": spec.name, "model_version": version, "outputs": tensors}
    # Plain values: a schema's own serialisation takes ten times as long.
    return to_json(answer if request_id is None else {"id": request_id, **answer}), blobs


def _classified(spec: ModelSpec, values: Array, count: int) -> Array:
    rows = [[f"{row[i]:.6g}:{i}:{spec.labels[i]}" for i in best(row, count)] for row in values]
    return np.array(rows, object)


def _little_endian(value: Array) -> bytes:
    return value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
