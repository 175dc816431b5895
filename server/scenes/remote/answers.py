"""What each task asks a server for, and what it makes of the tensors that come."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic_core import from_json

from vimserve.model.palette import make_palette
from vimserve.model.samples import parse_range
from vimserve.model.transform import Transform
from vimserve.server.images.instance import Instance
from vimserve.server.images.run_lengths import RunLengths
from vimserve.server.images.source import Size
from vimserve.server.routes.native.models import ModelInfo
from vimserve.server.scenes.described import Described, cells_along
from vimserve.server.scenes.remote.tensors import Array, Tensors, take
from vimserve.server.scenes.remote.trouble import Refused
from vimserve.server.tasks.detect import Detected


@dataclass(frozen=True)
class Asking:
    """How a task is asked of a server.

    Attributes:
        parameters: of every request, besides those of the query.
        without: fields of the query that the protocol has other ways for.
        outputs: the tensors that a query wants of a model.
        read: the result for a picture of (height, width) pixels; raises a ValueError if the
            tensors are not those of the model.
    """

    parameters: Mapping[str, Any]
    without: frozenset[str]
    outputs: Callable[[ModelInfo, Mapping[str, Any]], Sequence[str]]
    read: Callable[[ModelInfo, Size, Tensors], Any]


def described(model: ModelInfo, max_resolution: int) -> Described:
    """What a joiner has to know of a server's model.

    Args:
        model: as the server describes it.
        max_resolution: longest side of the model's input in pixels, on any of the servers.

    Raises:
        Refused: it cannot be asked about a scene.
    """
    if model.task == "segment" and model.cell is None:
        raise Refused(
            f"a scene needs a model whose patches do not overlap; those of {model.name!r} do"
        )
    transform = model.transform
    return Described(
        name=model.name,
        identity=model.identity or "",
        labels=tuple(model.labels),
        palette=tuple(model.palette or make_palette(model.classes)),
        multiple=transform.multiple,
        cell=model.cell or 1,
        max_resolution=max_resolution,
        resolution=None if transform.resolution == "native" else transform.resolution,
    )


def samples_of(model: ModelInfo) -> Transform:
    """The range and the bands that a server's model was given.

    Raises:
        Refused: the range is none that this version knows.
    """
    bands = model.transform.bands
    try:
        chosen = parse_range(model.transform.range)
    except ValueError as error:
        raise Refused(f"the range of {model.name!r} must be {error}") from error
    return Transform(range=chosen, bands=None if bands is None else tuple(bands))


def _scores(model: ModelInfo, size: Size, tensors: Tensors) -> Array:
    grid = (cells_along(side, model.transform.multiple, model.cell or 1) for side in size)
    return take(tensors, "scores", "f", (1, model.classes, *grid))[0]


def _probabilities(model: ModelInfo, _size: Size, tensors: Tensors) -> Array:
    return take(tensors, "scores", "f", (1, model.classes))[0]


def _wanted_of_detector(model: ModelInfo, query: Mapping[str, Any]) -> Sequence[str]:
    masks = query.get("masks") or ("rle" if model.masks else "none")
    return ["boxes", "scores", "classes", *(["masks"] if masks != "none" else [])]


def _detected(model: ModelInfo, size: Size, tensors: Tensors) -> Detected:
    (boxes,) = take(tensors, "boxes", "f", (1, None, 4))
    found = len(boxes)
    (scores,) = take(tensors, "scores", "f", (1, found))
    (classes,) = take(tensors, "classes", "i", (1, found))
    masks: Sequence[RunLengths | None] = [None] * found
    if "masks" in tensors:
        masks = [_mask(text, size) for text in take(tensors, "masks", "O", (1, found))[0]]
    if found and not 0 <= classes.min() <= classes.max() < model.classes:
        raise ValueError(f"an object has a class beyond the {model.classes} of the model")
    instances = [
        Instance(index, score, (box[0], box[1], box[2], box[3]), mask)
        for index, score, box, mask in zip(
            classes.tolist(), scores.tolist(), boxes.tolist(), masks, strict=True
        )
    ]
    return Detected(size, instances)


def _mask(text: bytes, size: Size) -> RunLengths:
    members = from_json(text)
    if not isinstance(members, dict) or members.get("size") != [*size]:
        raise ValueError(f"a mask is not one of {size[0]}x{size[1]} pixels")
    return RunLengths.read(str(members.get("counts")), size)


# A window is a picture of its own size, whose bands were chosen already.
_WINDOW = {"resolution": "native", "bands": "1,2,3"}

ASKING: Mapping[str, Asking] = MappingProxyType(
    {
        "classify": Asking(
            {**_WINDOW, "fit": "contain"},
            frozenset({"top_k"}),
            lambda *_: ["scores"],
            _probabilities,
        ),
        "segment": Asking(_WINDOW, frozenset(), lambda *_: ["scores"], _scores),
        "detect": Asking(_WINDOW, frozenset({"masks"}), _wanted_of_detector, _detected),
    }
)
