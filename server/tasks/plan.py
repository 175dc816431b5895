"""What one request asks of one model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vimserve.model.transform import Transform
from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.request import Answer
from vimserve.server.engine.urgency import Options
from vimserve.server.http.uploads import Upload
from vimserve.server.images.prepare import Measured, Views, whole
from vimserve.server.schemas import ModelInput

R = TypeVar("R")


@dataclass(frozen=True)
class Task(Generic[R]):
    """What a request asks for, checked before its body is read.

    Attributes:
        options: how long, and how urgently, it is wanted.
        conclude: makes the result for an upload of the answers for its views.
        views: the parts of an input that the model sees one by one.
    """

    model: Loaded
    transform: Transform
    options: Options
    conclude: Callable[[Upload, Measured, Sequence[Answer]], R]
    views: Views = whole


def model_input(measured: Measured) -> ModelInput:
    """What the model saw of an upload."""
    height, width = measured.size
    return ModelInput(height=height, width=width, tokens=sum(measured.lengths))
