"""The images that wait, and the room that is held for those on their way: one lock around both."""

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
# Weight of what is known already in the moving average of the time that a token takes.
SMOOTHING = 0.8


class Backlog:
    """What waits for the device, bounded in tokens: they measure the time and the memory ahead.

    Models are added and retired while it is in use. Safe to use from any thread.

    Args:
        max_tokens: most tokens that may wait for one model.
        show: told what waits for a model whenever that changes.
    """

    def __init__(self, max_tokens: int, show: Callable[[str, Load], None]) -> None:
        self._max_tokens = max_tokens
        self._show = show
        self._changed = threading.Condition()
        self._closed = False
        self._woken = False
        self._reserved: Counter[str] = Counter()
        self._token_s: dict[str, float] = {}
        self._budgets: dict[str, Budget] = {}
        self._retired: dict[str, Future[None]] = {}
        self._scheduler: Scheduler[Req] = Scheduler(self._budgets)

    def add(self, model: str, budget: Budget) -> None:
        """Take requests for this model from now on."""
        with self._changed:
            self._budgets[model] = budget

    def retire(self, model: str) -> Future[None]:
        """Hold no more room for this model.

        Returns:
            What is done as soon as nothing of the model waits or is on its way here. Then the
            model is forgotten.
        """
        with self._changed:
            retired: Future[None] = promise()
            self._retired[model] = retired
            self._forget_if_empty(model)
            return retired

    def close(self) -> None:
        """Take no more; ``take`` goes on until nothing waits."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def wake(self) -> None:
        """Let ``take`` return, with a batch or without one."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def put(self, room: "Room", requests: Sequence[Req]) -> None:
        """Queue requests in the room that was held for them.

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
        """Forget a request that nobody waits for any more."""
        with self._changed:
            if self._scheduler.discard(request):
                self._left(request.model)

    def clear(self) -> list[Req]:
        """Everything that waits, which then waits no longer."""
        requests: list[Req] = []
        with self._changed:
            while batch := self._scheduler.next(-math.inf).batch:
                requests += batch
        return requests

    @property
    def closed(self) -> bool:
        """Whether no more requests come."""
        return self._closed

    def take(self, timeout_s: float | None) -> Decision[Req]:
        """The next batch, or an empty one: in time there was none, or somebody wanted it to
        return.
        """
        waited = False
        with self._changed:
            while True:
                decision = self._scheduler.next(time.monotonic())
                for model in {request.model for request in decision.batch + decision.expired}:
                    self._left(model)
                stop = self._closed or self._woken or waited
                if decision.batch or decision.expired or stop:
                    self._woken = False
                    return decision
                waited = not self._changed.wait(timeout_s)

    def served(self, model: str, tokens: int, seconds: float) -> None:
        """Learn how long the device takes."""
        with self._changed:
            if model in self._budgets:
                now = seconds / tokens
                known = self._token_s.get(model, now)
                self._token_s[model] = SMOOTHING * known + (1 - SMOOTHING) * now

    def reserve(self, room: "Room", tokens: int) -> None:
        """Hold room for an image; see ``Room.take``."""
        with self._changed:
            self._check_open()
            if self._budgets.get(room.model) is not room.budget or room.model in self._retired:
                raise ModelUnavailable(
                    f"model {room.model!r} is being removed", parameter="model", value=room.model
                )
            others = self._load(room.model) - room.tokens
            total = others + room.tokens + tokens
            # A request that meets an empty queue is taken however large it is.
            if others and total > self._max_tokens:
                raise QueueFull(
                    f"{others} tokens wait for model {room.model!r}; with this request it would be "
                    f"{total}, more than the {self._max_tokens} allowed",
                    limit=self._max_tokens,
                    value=total,
                    retry_after_s=self._seconds_left(),
                )
            self._reserved[room.model] += tokens
            room.tokens += tokens

    def release(self, room: "Room") -> None:
        """Give back what a room still holds."""
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
        """How long the device needs for all that waits."""
        seconds = sum(self._load(model) * token_s for model, token_s in self._token_s.items())
        return min(max(math.ceil(seconds), 1), LONGEST_RETRY_S)

    def _check_open(self) -> None:
        if self._closed:
            raise NotReady("the server is stopping", limit="ready", value="stopping")


class Room:
    """What one request holds of a model's queue from before its images are decoded.

    A full queue thus costs a client no more than the reading of its images' headers. Leaving the
    ``with`` block gives back what was not put in the queue.

    Args:
        budget: the one that the model was added with, so that a successor under the same name is
            not taken for it.
    """

    def __init__(self, backlog: Backlog, model: str, budget: Budget) -> None:
        self.model = model
        self.budget = budget
        self.tokens = 0
        self._backlog = backlog

    def take(self, tokens: int) -> None:
        """Hold room for one more image.

        Raises:
            QueueFull: if there is none.
            ModelUnavailable: if the model is being removed.
            NotReady: if the server stops.
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
