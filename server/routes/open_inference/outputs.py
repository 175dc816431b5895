"""From a task's results to output tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from pydantic_core import to_json

from vimserve.model.spec import ModelSpec
from vimserve.server.routes.errors import MalformedRequest
from vimserve.server.routes.open_inference import detections
from vimserve.server.routes.open_inference.binary import write_elements
from vimserve.server.routes.open_inference.messages import (
    DataType,
    WantedOutput,
)
from vimserve.server.tasks.classify import best
from vimserve.server.tasks.detect import has_masks

Array = np.ndarray[Any, Any]
MASKS = "masks"  # of a detector, which finds none unless they are wanted
SCORES = "scores"


@dataclass(frozen=True)
class Output:
    """A tensor that models of a task have.

    Attributes:
        name: of the tensor.
        datatype: of its elements.
        shape: for a model; -1 is any number.
        make: its value from the results for all images; BYTES are an array of texts.
        per_class: whether a row has a value for each class, and so can be classified.
        known: whether a model has it.
        bulky: whether it is only sent if it is named, as bytes and for a single image. In JSON it
            would take many times the memory that the image's limits are meant for.
    """

    name: str
    datatype: DataType
    shape: Callable[[ModelSpec], list[int]]
    make: Callable[[ModelSpec, Sequence[Any]], Array]
    per_class: bool = False
    known: Callable[[ModelSpec], bool] = lambda _: True
    bulky: bool = False


def _logits(_spec: ModelSpec, results: Sequence[Any]) -> Array:
    return np.stack([result.logits for result in results]).astype(np.float32)


def _scores(_spec: ModelSpec, results: Sequence[Any]) -> Array:
    return np.stack([result.softmax() for result in results]).astype(np.float32)


def _likeliest(spec: ModelSpec, results: Sequence[Any]) -> Array:
    return np.array([spec.labels[best(result.logits, 1)[0]] for result in results], object)


def _mask(_spec: ModelSpec, results: Sequence[Any]) -> Array:
    return np.stack([result.classes for result in results])


def _of_cells(_spec: ModelSpec, results: Sequence[Any]) -> Array:
    return np.stack([result.scores for result in results])


def _names(spec: ModelSpec, _results: Sequence[Any]) -> Array:
    return np.array(spec.labels, object)


def _every_class(spec: ModelSpec) -> list[int]:
    return [-1, len(spec.labels)]


# By the task. ``labels`` of a classifier are the likeliest classes of the images, those of a
# segmenter its classes, which the values of the mask count, and those of a detector the names of
# what ``classes`` numbers.
_OUTPUTS: Mapping[str, tuple[Output, ...]] = MappingProxyType(
    {
        "classify": (
            Output("logits", "FP32", _every_class, _logits, per_class=True),
            Output(SCORES, "FP32", _every_class, _scores, per_class=True),
            Output("labels", "BYTES", lambda _: [-1], _likeliest),
        ),
        "segment": (
            Output("mask", "UINT8", lambda _: [-1, -1, -1], _mask),
            Output("labels", "BYTES", lambda spec: [len(spec.labels)], _names),
            Output(
                SCORES, "FP32", lambda spec: [-1, len(spec.labels), -1, -1], _of_cells, bulky=True
            ),
        ),
        "detect": (
            Output("num_detections", "INT32", lambda _: [-1], detections.count),
            Output("boxes", "FP32", lambda _: [-1, -1, 4], detections.boxes),
            Output(SCORES, "FP32", lambda _: [-1, -1], detections.scores),
            Output("classes", "INT32", lambda _: [-1, -1], detections.classes),
            Output("labels", "BYTES", lambda _: [-1, -1], detections.labels),
            Output(MASKS, "BYTES", lambda _: [-1, -1], detections.masks, known=has_masks),
        ),
    }
)


def outputs_of(spec: ModelSpec) -> list[Output]:
    """What a model has, in the order in which it is sent."""
    return [output for output in _OUTPUTS[spec.task] if output.known(spec)]


def wanted_outputs(
    spec: ModelSpec, wanted: Sequence[WantedOutput] | None, *, images: int, binary: bool
) -> list[tuple[Output, WantedOutput]]:
    """The outputs that a request names, or all but the bulky ones.

    Args:
        spec: the model.
        wanted: the outputs that are named; None if none are.
        images: how many the request has.
        binary: whether an output is bytes unless it says otherwise.

    Raises:
        MalformedRequest: the model has no such output, one is named twice, its values are no
            scores of classes but shall be classified, or it is bulky, and there are several images
            or it shall not be bytes.
    """
    known = {output.name: output for output in outputs_of(spec)}
    classified = [output.name for output in known.values() if output.per_class]
    usual = [WantedOutput(name=output.name) for output in known.values() if not output.bulky]
    chosen = usual if wanted is None else wanted
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
        if one.parameters.classification and one.name not in classified:
            raise MalformedRequest(
                f"only {' and '.join(classified) or 'scores of all classes'} can be classified, "
                f"not {one.name} of model {spec.name!r}",
                parameter="classification",
                limit=classified,
                value=one.name,
            )
        as_bytes = one.parameters.binary_data
        if known[one.name].bulky and not (binary if as_bytes is None else as_bytes):
            raise MalformedRequest(
                f"{one.name} of model {spec.name!r} are only sent as bytes: give the output the "
                "parameter binary_data=true",
                parameter="binary_data",
                limit=True,
                value=False,
            )
        if known[one.name].bulky and images > 1:
            raise MalformedRequest(
                f"{one.name} of model {spec.name!r} are only sent for a single image, not for "
                f"{images}",
                parameter="outputs",
                limit=1,
                value=images,
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
