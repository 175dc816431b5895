"""The queue of images for the device, with room reserved for images that are being decoded."""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Self

from vimserve.server.engine.promise import promise
from vimserve.server.engine.request import Req
from vimserve.server.engine.scheduler import Budget, Decision, Load, Scheduler
from vimserve.server.errors import ModelUnavailable, NotReady, QueueFull

LONGEST_RETRY_S = 60
# Weight of the old average in the moving average of the seconds per token.
SMOOTHING = 0.8


class Backlog:
    """The queue for the device, bounded in tokens, because they determine its time and memory.

    Thread-safe. Models can be added and retired at any time.

    Args:
        max_tokens: most tokens that may wait for one model.
        show: called with a model's load whenever the load changes.
    """

    def __init__(self, max_tokens: int, show: Callable[[str, Load], None]) -> None:
        self._max_tokens = max_tokens
        self._show = show
        self._changed = threading.Condition()
        self._closed = False
        self._reserved: Counter[str] = Counter()
        self._token_s: dict[str, float] = {}
        self._budgets: dict[str, Budget] = {}
        self._retired: dict[str, Future[None]] = {}
        self._scheduler: Scheduler[Req] = Scheduler(self._budgets)

    def add(self, model: str, budget: Budget) -> None:
        """Accept requests for this model from now on."""
        with self._changed:
            self._budgets[model] = budget

    def retire(self, model: str) -> Future[None]:
        """Refuse new requests for this model, and forget it once it has none left.

        Returns:
            A future that is done once no request waits and no room is reserved for the model.
        """
        with self._changed:
            retired: Future[None] = promise()
            self._retired[model] = retired
            self._forget_if_empty(model)
            return retired

    def close(self) -> None:
        """Refuse new requests; ``take`` still returns those that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Make ``take`` ask again whether it is interrupted."""
        with self._changed:
            self._changed.notify_all()

    def put(self, room: "Room", requests: Sequence[Req]) -> None:
        """Queue requests in the room that was reserved for them.

        Raises:
            NotReady: if the backlog is closed.
        """
        with self._changed:
            self._check_open()
            self._reserved[room.model] -= room.tokens
            room.tokens = 0
            for request in requests:
                self._scheduler.add(request)
            self._changed.notify_all()
            self._show(room.model, self._scheduler.load(room.model))

    def discard(self, request: Req) -> None:
        """Drop a request whose client no longer waits, if it is still queued."""
        with self._changed:
            if self._scheduler.discard(request):
                self._left(request.model)

    def clear(self) -> list[Req]:
        """Remove and return all requests that wait."""
        requests: list[Req] = []
        with self._changed:
            while batch := self._scheduler.next(-math.inf).batch:
                requests += batch
            for model in {request.model for request in requests}:
                self._left(model)
        return requests

    @property
    def closed(self) -> bool:
        """Whether new requests are refused."""
        return self._closed

    def take(
        self, timeout_s: float | None, interrupted: Callable[[], bool] = lambda: False
    ) -> Decision[Req]:
        """Wait for the next batch.

        Args:
            timeout_s: how long to wait for one; None waits until there is a reason to return.
            interrupted: whether to return without one. It is asked if none is there; whoever
                changes its answer then calls ``wake``.

        Returns:
            A decision. Its batch is empty if ``timeout_s`` passed, if requests only expired, if
            ``interrupted``, or after ``close``.
        """
        waited = False
        with self._changed:
            while True:
                decision = self._scheduler.next(time.monotonic())
                for model in {request.model for request in decision.batch + decision.expired}:
                    self._left(model)
                if decision.batch or decision.expired or self._closed or waited or interrupted():
                    return decision
                waited = not self._changed.wait(timeout_s)

    def served(self, model: str, tokens: int, seconds: float) -> None:
        """Update the model's moving average of seconds per token."""
        with self._changed:
            if model in self._budgets:
                now = seconds / tokens
                known = self._token_s.get(model, now)
                self._token_s[model] = SMOOTHING * known + (1 - SMOOTHING) * now

    def reserve(self, room: "Room", tokens: int) -> None:
        """Reserve room for an image; see ``Room.take``."""
        with self._changed:
            self._check_open()
            if self._budgets.get(room.model) is not room.budget or room.model in self._retired:
                raise ModelUnavailable(
                    f"model {room.model!r} is being removed", parameter="model", value=room.model
                )
            others = self._load(room.model) - room.tokens
            total = others + room.tokens + tokens
            # An empty queue accepts a request of any size.
            if others and total > self._max_tokens:
                raise QueueFull(
                    f"{others} tokens wait for model {room.model!r}; with this request there would "
                    f"be {total}, more than the limit of {self._max_tokens}",
                    limit=self._max_tokens,
                    value=total,
                    retry_after_s=self._seconds_left(),
                )
            self._reserved[room.model] += tokens
            room.tokens += tokens

    def release(self, room: "Room") -> None:
        """Release the tokens that a room still reserves."""
        with self._changed:
            if room.tokens:
                self._reserved[room.model] -= room.tokens
                room.tokens = 0
                self._forget_if_empty(room.model)

    def _left(self, model: str) -> None:
        self._show(model, self._scheduler.load(model))
        self._forget_if_empty(model)

    def _forget_if_empty(self, model: str) -> None:
        if model in self._retired and not self._load(model):
            self._scheduler.forget(model)
            for known in (self._budgets, self._token_s, self._reserved):
                known.pop(model, None)
            self._retired.pop(model).set_result(None)

    def _load(self, model: str) -> int:
        return self._scheduler.load(model).tokens + self._reserved[model]

    def _seconds_left(self) -> int:
        """Estimated time until the device has run all that waits, from 1 to LONGEST_RETRY_S."""
        seconds = sum(self._load(model) * token_s for model, token_s in self._token_s.items())
        return min(max(math.ceil(seconds), 1), LONGEST_RETRY_S)

    def _check_open(self) -> None:
        if self._closed:
            raise NotReady("the server is stopping", limit="ready", value="stopping")


class Room:
    """Room in a model's queue that one request reserves before its images are decoded.

    So a full queue refuses a request after reading only the headers of its images. Leaving the
    ``with`` block releases what was not queued.

    Args:
        backlog: the queue.
        model: name of the model.
        budget: the object that the model was added with, which tells it from a later model of
            the same name.
    """

    def __init__(self, backlog: Backlog, model: str, budget: Budget) -> None:
        self.model = model
        self.budget = budget
        self.tokens = 0
        self._backlog = backlog

    def take(self, tokens: int) -> None:
        """Reserve room for one more image.

        Raises:
            QueueFull: if the queue has no room.
            ModelUnavailable: if the model is being removed.
            NotReady: if the server is stopping.
        """
        self._backlog.reserve(self, tokens)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._backlog.release(self)
