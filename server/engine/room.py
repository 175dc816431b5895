"""Room in a model's queue, reserved before the images are there."""

from collections.abc import Sequence
from types import TracebackType
from typing import Generic, Self

from vimserve.server.engine.backlog import Backlog
from vimserve.server.engine.cost import Load
from vimserve.server.engine.forecast import Forecast
from vimserve.server.engine.model_queue import Budget, R
from vimserve.server.engine.urgency import Urgency


class Room(Generic[R]):
    """Room in a model's queue that one request reserves before its images are decoded.

    So a request is refused after reading only the headers of its images. Leaving the ``with`` block
    releases what was not queued.

    Args:
        backlog: the queue.
        model: name of the model.
        budget: the object that the model was added with, which tells it from a later model of
            the same name.
        urgency: of the request.

    Attributes:
        load: what is reserved.
        later: what is queued as that is answered.
    """

    def __init__(self, backlog: Backlog[R], model: str, budget: Budget, urgency: Urgency) -> None:
        self.model = model
        self.budget = budget
        self.urgency = urgency
        self.load = Load()
        self.later = Load()
        self._backlog = backlog

    def take(self, lengths: Sequence[int], later: Sequence[int] = ()) -> None:
        """Reserve room for more images.

        Args:
            lengths: their tokens.
            later: tokens of images that are queued as these are answered. They need time, but no
                room in the queue.

        Raises:
            QueueFull: if the queue has no room.
            TooLate: if they are not expected to be answered by the request's deadline.
            ModelUnavailable: if the model is being removed.
            NotReady: if the server is stopping.
        """
        self._backlog.reserve(self, lengths, later)

    def forecast(self) -> Forecast:
        """When what is reserved would run, were it queued now."""
        return self._backlog.forecast(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._backlog.release(self)
