"""The queue of images for the device, with room reserved for images that are being decoded."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Self

from vimserve.server.engine.cost import CostCurve, CostModel, Load
from vimserve.server.engine.model_queue import Budget, R
from vimserve.server.engine.promise import promise
from vimserve.server.engine.scheduler import FREE, Decision, Scheduler
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import ModelUnavailable, NotReady, QueueFull, TooLate

LONGEST_RETRY_S = 60
# What goes before a request may take longer than the cost curve says: batches are not quite full.
CAUTION = 1.1


@dataclass(frozen=True)
class Forecast:
    """When the images of a request are expected to run.

    Attributes:
        queue_s: seconds that the device takes for what goes before them.
        inference_s: seconds that it takes for them; None while no batch of the model has run.
    """

    queue_s: float
    inference_s: float | None


class Backlog(Generic[R]):
    """The queue for the device, bounded in tokens, because they determine its time and memory.

    It learns how long batches take, and refuses what it does not expect to be answered in time.

    Thread-safe. Models can be added and retired at any time.

    Args:
        max_tokens: most tokens that may wait for one model.
        show: called with a model's load whenever the load changes.
        clock: tells the seconds in which deadlines are given.
    """

    def __init__(
        self,
        max_tokens: int,
        show: Callable[[str, Load], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_tokens = max_tokens
        self._show = show
        self._clock = clock
        self._changed = threading.Condition()
        self._closed = False
        self._reserved: dict[str, Load] = {}
        self._budgets: dict[str, Budget] = {}
        self._curves: dict[str, CostCurve] = {}
        self._costs: dict[str, CostModel] = {}
        self._retired: dict[str, Future[None]] = {}
        self._scheduler: Scheduler[R] = Scheduler(self._budgets, self._costs)
        # When the device is expected to have run what it was given.
        self._free_at = -math.inf

    def add(self, model: str, budget: Budget) -> None:
        """Accept requests for this model from now on."""
        with self._changed:
            self._budgets[model] = budget
            self._reserved[model] = Load()
            self._curves[model] = CostCurve()
            self._costs[model] = self._curves[model].model

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

    def put(self, room: "Room[R]", requests: Sequence[R]) -> None:
        """Queue requests in the room that was reserved for them.

        Raises:
            NotReady: if the backlog is closed.
        """
        with self._changed:
            self._check_open()
            self._reserved[room.model] -= room.load
            room.load = Load()
            for request in requests:
                self._scheduler.add(request)
            self._changed.notify_all()
            self._show(room.model, self._scheduler.load(room.model))

    def discard(self, request: R) -> None:
        """Drop a request whose client no longer waits, if it is still queued."""
        with self._changed:
            if self._scheduler.discard(request):
                self._left(request.model)

    def clear(self) -> list[R]:
        """Remove and return all requests that wait."""
        requests: list[R] = []
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
    ) -> Decision[R]:
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
                now = self._clock()
                decision = self._scheduler.next(now)
                if batch := decision.batch:
                    load = Load.of(request.tokens for request in batch)
                    self._free_at = now + self._costs[batch[0].model].predict(load)
                for model in {request.model for request in decision.batch + decision.expired}:
                    self._left(model)
                if decision.batch or decision.expired or self._closed or waited or interrupted():
                    return decision
                waited = not self._changed.wait(timeout_s)

    def served(self, model: str, lengths: Sequence[int], seconds: float) -> None:
        """Learn how long a batch took whose images had ``lengths`` tokens."""
        with self._changed:
            if model in self._budgets:
                self._curves[model].observe(lengths, seconds)
                self._costs[model] = self._curves[model].model

    def reserve(self, room: "Room[R]", lengths: Sequence[int]) -> None:
        """Reserve room for images; see ``Room.take``."""
        with self._changed:
            self._check_open()
            if self._budgets.get(room.model) is not room.budget or room.model in self._retired:
                raise ModelUnavailable(
                    f"model {room.model!r} is being removed", parameter="model", value=room.model
                )
            wanted = room.load + Load.of(lengths)
            others = (self._load(room.model) - room.load).tokens
            total = others + wanted.tokens
            # An empty queue accepts a request of any size.
            if others and total > self._max_tokens:
                raise QueueFull(
                    f"{others} tokens wait for model {room.model!r}; with this request there would "
                    f"be {total}, more than the limit of {self._max_tokens}",
                    limit=self._max_tokens,
                    value=total,
                    retry_after_s=_retry_after(self._seconds_left()),
                )
            self._check_time(room, wanted)
            self._reserved[room.model] += wanted - room.load
            room.load = wanted

    def release(self, room: "Room[R]") -> None:
        """Release what a room still reserves."""
        with self._changed:
            if room.load.images:
                self._reserved[room.model] -= room.load
                room.load = Load()
                self._forget_if_empty(room.model)

    def forecast(self, room: "Room[R]") -> Forecast:
        """When what a room reserves would run, were it queued now."""
        with self._changed:
            known = self._costs.get(room.model, FREE) != FREE
            return Forecast(
                self._seconds_before(room, self._clock()),
                self._scheduler.seconds(room.model, room.load) if known else None,
            )

    def _check_time(self, room: "Room[R]", wanted: Load) -> None:
        """Refuse what is expected to end after its deadline.

        If nothing else is there it is accepted, for it takes no other request's time, and shows
        how long it takes.

        Raises:
            TooLate: if there is something else.
        """
        urgency, now = room.urgency, self._clock()
        own = self._scheduler.seconds(room.model, wanted)
        before = self._seconds_before(room, now)
        # It ends with its batch. The more goes before it, the more others join that batch.
        full = self._scheduler.seconds(room.model, Load(tokens=room.budget.tokens))
        expected = now - urgency.arrived + CAUTION * before + min(before, full) + own
        late = expected - urgency.timeout_s
        if before > 0 and late > 0:
            raise TooLate(
                f"the answer may take {expected:.3g} s, because what goes before it takes "
                f"{before:.3g} s; the request waits for {urgency.timeout_s:g} s",
                limit=urgency.timeout_s,
                value=round(expected, 3),
                retry_after_s=_retry_after(late),
            )

    def _left(self, model: str) -> None:
        self._show(model, self._scheduler.load(model))
        self._forget_if_empty(model)

    def _forget_if_empty(self, model: str) -> None:
        if model in self._retired and not self._load(model).images:
            self._scheduler.forget(model)
            for known in (self._budgets, self._curves, self._costs, self._reserved):
                known.pop(model, None)
            self._retired.pop(model).set_result(None)

    def _load(self, model: str) -> Load:
        return self._scheduler.load(model) + self._reserved[model]

    def _seconds_before(self, room: "Room[R]", now: float) -> float:
        """Seconds that the device takes for what goes before the requests of a room."""
        urgency = room.urgency
        return (
            max(self._free_at - now, 0)
            + self._scheduler.ahead(room.model, urgency.priority, urgency.deadline)
            + self._seconds_reserved(room)
        )

    def _seconds_reserved(self, room: "Room[R]") -> float:
        """Seconds that the device takes for what the other rooms reserve."""
        others = self._reserved | {room.model: self._reserved[room.model] - room.load}
        return sum(self._scheduler.seconds(*reserved) for reserved in others.items())

    def _seconds_left(self) -> float:
        """Estimated time until the device has run all that it has and all that waits."""
        waiting = sum(self._scheduler.seconds(model, self._load(model)) for model in self._budgets)
        return max(self._free_at - self._clock(), 0) + waiting

    def _check_open(self) -> None:
        if self._closed:
            raise NotReady("the server is stopping", limit="ready", value="stopping")


def _retry_after(seconds: float) -> int:
    return min(max(math.ceil(seconds), 1), LONGEST_RETRY_S)


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
    """

    def __init__(self, backlog: Backlog[R], model: str, budget: Budget, urgency: Urgency) -> None:
        self.model = model
        self.budget = budget
        self.urgency = urgency
        self.load = Load()
        self._backlog = backlog

    def take(self, lengths: Sequence[int]) -> None:
        """Reserve room for more images.

        Args:
            lengths: their tokens.

        Raises:
            QueueFull: if the queue has no room.
            TooLate: if they are not expected to be answered by the request's deadline.
            ModelUnavailable: if the model is being removed.
            NotReady: if the server is stopping.
        """
        self._backlog.reserve(self, lengths)

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
