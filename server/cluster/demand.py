"""What a request asks for, as far as a router can tell before the body is there."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vimserve.model.spec import ModelSpec
from vimserve.server.config import ServerConfig
from vimserve.server.engine.geometry import Geometry
from vimserve.server.errors import BadRequest
from vimserve.server.images.decode import read_header
from vimserve.server.images.formats import recognise
from vimserve.server.images.prepare import Limits, input_of
from vimserve.server.images.source import Size
from vimserve.server.tasks import TASKS

# Pillow knows their size from the first bytes, and takes no memory for it.
_EARLY = ("JPEG", "PNG", "BMP", "GIF")
# The parts of a form that are looked at for an image.
_PARTS = 8
# A photo has about two bits for each of its pixels.
_PIXELS_PER_BYTE = 4

_NAMED = re.compile(r"/(?:v2/(?:repository/)?)?models/([^/]+)(?:/.*)?")
_TASK = re.compile(rf"/v1/({'|'.join(TASKS)})")
_ANY_TASK = re.compile(r"/v1/(?:jobs|estimate|compare)|/|/health|/info")
_NO_MODEL = ("/v2/models/stats",)


@dataclass(frozen=True)
class Demand:
    """Which model a request is for, and how much work it is.

    Attributes:
        model: its name, which need not exist; None if the request is for no model.
        tokens: of its first image; a guess if that is not known.
    """

    model: str | None
    tokens: int


class Demands:
    """Reads demands off the heads of requests and the first bytes of their bodies.

    Args:
        specs: all models, the default one first.
        config: the limits.
    """

    def __init__(self, specs: Sequence[ModelSpec], config: ServerConfig) -> None:
        self._models = {spec.name: Geometry(spec) for spec in specs}
        self._limits = Limits(config.max_pixels, config.max_resolution)

    def model(self, path: str, query: Mapping[str, str]) -> str | None:
        """The model that a request names or means; None if it is for none.

        Args:
            path: as the routes have it.
            query: its parameters.
        """
        if path in _NO_MODEL:
            return None
        if found := _NAMED.fullmatch(path):
            return found[1]
        task = found[1] if (found := _TASK.fullmatch(path)) else query.get("task")
        if task is None and not _ANY_TASK.fullmatch(path):
            return None
        if named := query.get("model") or query.get("models", "").partition(",")[0].strip():
            return named
        able = [name for name, one in self._models.items() if task in (None, one.spec.task)]
        return (able or [*self._models])[0]

    def tokens(
        self, model: str | None, query: Mapping[str, str], size: Size | None, num_bytes: int
    ) -> int:
        """What an image becomes.

        Args:
            model: its name.
            query: of the request, what its task does not know left out.
            size: (height, width) of the image in pixels, if it is known.
            num_bytes: of the body, if they are.
        """
        if model not in self._models:
            return 0
        geometry = self._models[model]
        if size is None:
            side = math.isqrt(_PIXELS_PER_BYTE * num_bytes) + 1
            size = (min(side, self._limits.resolution),) * 2
        task = TASKS[geometry.spec.task]
        given = {name: text for name, text in query.items() if name in task.query.model_fields}
        try:
            plan = task.plan(geometry.spec, task.ask(given), self._limits.resolution)
            return input_of(size, geometry, plan.transform, self._limits, plan.views).tokens
        except BadRequest:
            return 0  # the replica will say what is wrong


def size_in(head: bytes, content_type: str, max_pixels: int) -> Size | None:
    """(height, width) of the first image of a body that begins so, if that can be told already."""
    parts = [head]
    if content_type.lower().startswith("multipart/form-data"):
        parts = head.split(b"\r\n\r\n", _PARTS)[1:]
    for part in parts:
        if recognise(part) in _EARLY:
            try:
                return read_header(part, max_pixels).size
            except BadRequest:
                return None
    return None
