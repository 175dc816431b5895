"""The queue of images for the device, with room reserved for images that are being decoded."""

import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic

from vimserve.server.engine.cost import CostCurve, CostModel, Load
from vimserve.server.engine.forecast import Forecast, Work
from vimserve.server.engine.model_queue import Budget, R
from vimserve.server.engine.promise import promise
from vimserve.server.engine.retry import retry_after
from vimserve.server.engine.scheduler import FREE, Beside, Decision, Scheduler
from vimserve.server.errors import ModelUnavailable, NotReady, QueueFull, TooLate

if TYPE_CHECKING:
    from vimserve.server.engine.room import Room

# What goes before a request may take longer than the cost curve says: batches are not quite full.
CAUTION = 1.1
# An image of 512 × 512 pixels has so many, in patches of 16.
USUAL_TOKENS = 1024


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
        self._latest_s = 0.0

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

    def put(self, room: "Room[R]", requests: Sequence[R], following: Sequence[int] = ()) -> None:
        """Queue requests in the room that was reserved for them.

        Args:
            room: from now on it is reserved for those that follow.
            requests: the requests.
            following: tokens of those that follow.

        Raises:
            NotReady: if the backlog is closed.
        """
        with self._changed:
            self._check_open()
            reserved = Load.of(following)
            self._reserved[room.model] += reserved - room.load
            room.load = reserved
            for request in requests:
                self._scheduler.add(request)
            self._changed.notify_all()
            self._show(room.model, self._scheduler.load(room.model))

    def discard(self, request: R) -> None:
        """Drop a request whose client no longer waits, if it is still queued."""
        with self._changed:
            if self._scheduler.discard(request):
                self._left(request.model)

    def position(self, request: R) -> int | None:
        """How many requests for the same model go before this one; None if it is not queued."""
        with self._changed:
            return self._scheduler.position(request)

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
    def expects(self) -> bool:
        """Whether images are on their way for which room is reserved."""
        with self._changed:
            return any(load.images for load in self._reserved.values())

    @property
    def closed(self) -> bool:
        """Whether new requests are refused."""
        return self._closed

    def take(
        self,
        timeout_s: float | None,
        interrupted: Callable[[], bool] = lambda: False,
        *,
        beside: bool | None = None,
    ) -> Decision[R]:
        """Wait for the next batch.

        Args:
            timeout_s: how long to wait for one; None waits until there is a reason to return.
            interrupted: whether to return without one. It is asked if none is there; whoever
                changes its answer then calls ``wake``.
            beside: whether a batch runs on the other half of the device; None if it is not halved.

        Returns:
            A decision. Its batch is empty if ``timeout_s`` passed, if requests only expired, if
            ``interrupted``, or after ``close``.
        """
        waited = False
        with self._changed:
            while True:
                now = self._clock()
                rest = max(self._free_at - now, 0)
                half = None if beside is None else Beside(beside, rest if beside else 0.0)
                decision = self._scheduler.next(now, half)
                if batch := decision.batch:
                    load = Load.of(request.tokens for request in batch)
                    seconds = self._costs[batch[0].model].predict(load)
                    # At most one batch is before this one.
                    self._free_at = now + seconds + min(rest, self._latest_s)
                    self._latest_s = seconds
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

    def reserve(self, room: "Room[R]", lengths: Sequence[int], later: Sequence[int] = ()) -> None:
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
                    retry_after_s=retry_after(self._seconds_left()),
                )
            in_all_later = room.later + Load.of(later)
            self._check_time(room, wanted + in_all_later)
            self._reserved[room.model] += wanted - room.load
            room.load, room.later = wanted, in_all_later

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
                self._scheduler.seconds(room.model, room.load + room.later) if known else None,
            )

    def work(self) -> Work:
        """What the device has to do, and how fast it is at it."""
        with self._changed:
            tokens = sum(self._load(model).tokens for model in self._budgets)
            return Work(tokens, self._seconds_left(), {m: self._speed(m) for m in self._budgets})

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
                retry_after_s=retry_after(late),
            )

    def _speed(self, model: str) -> float:
        """Tokens per second in batches of usual images."""
        images = max(self._budgets[model].tokens // USUAL_TOKENS, 1)
        load = Load.of([USUAL_TOKENS] * images)
        seconds = self._costs[model].predict(load)
        return load.tokens / seconds if seconds else 0.0

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
        others = self._reserved | {room.model: self._reserved[room.model] - room.load}
        return (
            max(self._free_at - now, 0)
            + self._scheduler.ahead(room.model, room.urgency.priority, room.urgency.deadline)
            + sum(self._scheduler.seconds(*reserved) for reserved in others.items())
        )

    def _seconds_left(self) -> float:
        """Estimated time until the device has run all that it has and all that waits."""
        waiting = sum(self._scheduler.seconds(model, self._load(model)) for model in self._budgets)
        return max(self._free_at - self._clock(), 0) + waiting

    def _check_open(self) -> None:
        if self._closed:
            raise NotReady("the server is stopping", limit="ready", value="stopping")
