"""Chooses the requests that run next; it needs no device, no event loop and no clock.

The time for a decision hardly grows with the queue: it looks at the requests that leave, at
``lookahead`` more, and at one number per model; they are found and removed by bisection.
"""

import heapq
import math
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, takewhile
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

from vimserve.server.engine.cost import CostModel, Load

# A launch that is saved brings forward what waits, and what arrives before the queue is empty: at
# two thirds of the capacity, two more for each that waits.
BROUGHT_FORWARD = 3
FREE = CostModel()


class Pending(Protocol):
    """What the scheduler reads of a request; it must not change while the request waits."""

    @property
    def model(self) -> str: ...  # noqa: D102
    @property
    def tokens(self) -> int: ...  # noqa: D102
    @property
    def cost_bytes(self) -> int: ...  # noqa: D102
    @property
    def priority(self) -> int: ...  # noqa: D102
    @property
    def deadline(self) -> float: ...  # noqa: D102


R = TypeVar("R", bound=Pending)


@dataclass(frozen=True)
class Budget:
    """Limits of one batch: the sums of its requests' ``tokens`` and ``cost_bytes``."""

    tokens: int
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Decision(Generic[R]):
    """What leaves the queues now.

    Attributes:
        batch: requests of one model to run together; empty only if none is pending.
        expired: requests whose deadline has passed.
    """

    batch: list[R]
    expired: list[R]


class Scheduler(Generic[R]):
    """The queues of all models, and the choice of the next batch.

    Within a model, the better priority (the smaller number) goes first, then the earlier deadline,
    then the older request. The first one leads the batch. Those behind it may fill it if they fit
    into the rest of the budget, and if that makes the sum of all waiting times smaller: a request
    that joins holds up those in the batch by its own time, and brings forward those outside it by
    the ``launch`` that they need not wait for. So small images join, and large ones where a launch
    costs much or many wait.

    A batch passes over a request if it takes one that was added later and leaves this one behind.
    A request that was passed over ``patience`` times is due. Due requests go before all others,
    oldest first, and a due request that does not join ends the batch. So no request is passed over
    more than ``patience`` times.

    Between models, the better priority goes first, then the model that was served fewer tokens
    since it began to compete. A model that was passed over ``patience`` times for a better
    priority goes next.

    Not thread-safe: the caller guards it with a lock.

    Args:
        budgets: limits by model; they are read at every decision, so the caller may change them.
        costs: seconds of batches by model, read in the same way; a model that has none here costs
            nothing, so its batches are filled.
        lookahead: how many requests behind one that does not join may be tried.
        patience: how often a request may be passed over.

    Raises:
        ValueError: if ``lookahead`` is below 0 or ``patience`` below 1.
    """

    def __init__(
        self,
        budgets: Mapping[str, Budget],
        costs: Mapping[str, CostModel] = MappingProxyType({}),
        lookahead: int = 64,
        patience: int = 8,
    ) -> None:
        if lookahead < 0:
            raise ValueError(f"lookahead must be at least 0, not {lookahead}")
        if patience < 1:
            raise ValueError(f"patience must be at least 1, not {patience}")
        self._budgets = budgets
        self._costs = costs
        self._lookahead = lookahead
        self._patience = patience
        self._arrivals = count()
        self._queues: dict[str, _Queue[R]] = {}
        self._entries: dict[int, _Entry[R]] = {}
        self._served: dict[int, int] = {}

    def add(self, request: R) -> None:
        """Queue the request.

        Raises:
            KeyError: if its model has no budget.
            ValueError: if it waits already.
        """
        self._budgets[request.model]
        key = id(request)
        if key in self._entries:
            raise ValueError("the request is pending already")
        entry = _Entry(request, next(self._arrivals), request.deadline)
        self._entries[key] = entry
        self._queues.setdefault(request.model, _Queue(request.model, self._patience)).add(entry)

    def discard(self, request: R) -> bool:
        """Forget the request; False if it is not pending."""
        key = id(request)
        if key not in self._entries:
            return False
        self._remove(key)
        return True

    def forget(self, model: str) -> None:
        """Drop the state of a model that was removed.

        Raises:
            ValueError: if requests wait for it.
        """
        if self.load(model).images:
            raise ValueError(f"requests wait for {model!r}")
        self._queues.pop(model, None)

    def load(self, model: str) -> Load:
        """What waits for the model."""
        queue = self._queues.get(model)
        return queue.load if queue else Load()

    def ahead(self, model: str, priority: int, deadline: float) -> float:
        """Seconds that the device takes for what goes before a request that is added now.

        Of other models that is as much as fairness gives them. What will be added later may go
        first too, but is unknown.
        """
        own = self._queues[model].ahead(priority, deadline) if model in self._queues else Load()
        seconds = self.seconds(model, own)
        for name, queue in self._queues.items():
            if name != model and (rivals := queue.up_to(priority)).tokens:
                turns = own.tokens + self._budgets[name].tokens
                seconds += min(turns / rivals.tokens, 1) * self.seconds(name, rivals)
        return seconds

    def seconds(self, model: str, load: Load) -> float:
        """Seconds that the device takes for a load, in batches as large as the budget allows."""
        batches = math.ceil(load.tokens / self._budgets[model].tokens)
        return self._costs.get(model, FREE).predict(load, batches)

    def next(self, now: float) -> Decision[R]:
        """Form the next batch; the requests in the decision are no longer pending.

        No request is held back for a fuller batch, because the caller asks when the device can
        take one. A request that exceeds the budget runs alone, so that it blocks no others.

        Args:
            now: the present time, on the clock of the deadlines.
        """
        expired = self._expire(now)
        active = [queue for queue in self._queues.values() if queue.load.images]
        if not active:
            return Decision([], expired)
        queue = self._choose(active)
        chosen = queue.fill(
            self._budgets[queue.model],
            self._costs.get(queue.model, FREE),
            self._lookahead,
            len(self._entries),
        )
        batch = [entry.request for entry in chosen]
        queue.served += sum(request.tokens for request in batch)
        for request in batch:
            self._remove(id(request))
        return Decision(batch, expired)

    def _expire(self, now: float) -> list[R]:
        expired = [entry.request for queue in self._queues.values() for entry in queue.expired(now)]
        for request in expired:
            self._remove(id(request))
        return expired

    def _choose(self, active: list["_Queue[R]"]) -> "_Queue[R]":
        """The model to serve: of those with the best priority, the one served fewest tokens.

        A model that begins to compete starts with the lowest count of the others at its priority.
        So it has no credit from the time it was away, and no debt from another priority.
        """
        for queue in active:
            queue.join(self._served)
        chosen = min(active, key=lambda q: (q.passed < self._patience, q.level, q.served))
        if chosen.passed < self._patience:
            for queue in active:
                queue.passed += queue.level > chosen.level
        chosen.passed = 0
        level = chosen.level
        least = min(queue.served for queue in active if queue.level == level)
        self._served[level] = max(least, self._served.get(level, 0))
        return chosen

    def _remove(self, key: int) -> None:
        entry = self._entries.pop(key)
        self._queues[entry.request.model].remove(entry)


@dataclass(frozen=True, slots=True, eq=False)
class _Entry(Generic[R]):
    request: R
    arrival: int
    deadline: float


class _Level(Generic[R]):
    """The requests of one model and priority, in the order of arrival and of deadlines."""

    def __init__(self) -> None:
        self.load = Load()
        self.by_arrival: OrderedDict[int, _Entry[R]] = OrderedDict()
        self.by_deadline: list[tuple[float, int, _Entry[R]]] = []

    def add(self, entry: _Entry[R]) -> None:
        self.load += Load.of([entry.request.tokens])
        self.by_arrival[entry.arrival] = entry
        insort(self.by_deadline, (entry.deadline, entry.arrival, entry))

    def remove(self, entry: _Entry[R]) -> None:
        self.load -= Load.of([entry.request.tokens])
        del self.by_arrival[entry.arrival]
        del self.by_deadline[bisect_left(self.by_deadline, (entry.deadline, entry.arrival))]

    def until(self, deadline: float) -> Iterator[_Entry[R]]:
        """Those whose deadline is not later, the earliest first."""
        return (
            entry for *_, entry in takewhile(lambda place: place[0] <= deadline, self.by_deadline)
        )


@dataclass(eq=False)
class _Queue(Generic[R]):
    """The requests of one model.

    No request counts how often it was passed over. Instead, the latest arrival in a batch is the
    batch's reach: the batch passed over all waiting requests that arrived before it. A request
    was passed over ``patience`` times if ``patience`` batches reached beyond it, so it suffices
    to keep the ``patience`` furthest reaches.
    """

    model: str
    patience: int
    load: Load = field(default_factory=Load)
    competes: bool = False
    level: int = 0
    served: int = 0
    passed: int = 0
    _levels: dict[int, _Level[R]] = field(default_factory=dict)
    _reaches: list[int] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The best priority that waits."""
        return min(self._levels)

    def add(self, entry: _Entry[R]) -> None:
        self.load += Load.of([entry.request.tokens])
        self._levels.setdefault(entry.request.priority, _Level()).add(entry)

    def remove(self, entry: _Entry[R]) -> None:
        self.load -= Load.of([entry.request.tokens])
        level = self._levels[entry.request.priority]
        level.remove(entry)
        if not level.by_arrival:
            del self._levels[entry.request.priority]
        if not self.load.images:
            self.competes = False
            self.passed = 0

    def expired(self, now: float) -> list[_Entry[R]]:
        """Those whose deadline has passed."""
        return [entry for level in self._levels.values() for entry in level.until(now)]

    def up_to(self, priority: int) -> Load:
        """What has this priority or a better one."""
        return sum((o.load for own, o in self._levels.items() if own <= priority), Load())

    def ahead(self, priority: int, deadline: float) -> Load:
        """What goes before a request that is added now."""
        lengths: list[int] = []
        for own, level in self._levels.items():
            if own == priority:
                lengths += [entry.request.tokens for entry in level.until(deadline)]
            if own >= priority:
                lengths += [
                    entry.request.tokens
                    for entry in takewhile(self._is_due, level.by_arrival.values())
                    if own > priority or entry.deadline > deadline
                ]
        return self.up_to(priority - 1) + Load.of(lengths)

    def join(self, served: Mapping[int, int]) -> None:
        """Compete at the best priority that waits; ``served`` has the lowest count of each one."""
        if self.competes and self.level == self.best:
            return
        own = self.served if self.level == self.best else 0
        self.level, self.competes = self.best, True
        self.served = max(own, served.get(self.level, 0))

    def fill(
        self, budget: Budget, cost: CostModel, lookahead: int, waiting: int
    ) -> list[_Entry[R]]:
        """The next batch; the caller removes its requests.

        Args:
            budget: of the batch.
            cost: of the model.
            lookahead: how many requests behind one that does not join are tried.
            waiting: images that wait, of all models.
        """
        tokens = budget.tokens
        memory = math.inf if budget.memory_bytes is None else budget.memory_bytes
        batch: list[_Entry[R]] = []
        tried = 0
        for entry in self._in_order():
            if tried > lookahead or (batch and tokens <= 0):
                break
            request = entry.request
            forward = BROUGHT_FORWARD * (waiting - len(batch)) * cost.launch
            if not batch or (
                request.tokens <= tokens
                and request.cost_bytes <= memory
                and len(batch) * cost.image(request.tokens) <= forward
            ):
                batch.append(entry)
                tokens -= request.tokens
                memory -= request.cost_bytes
                tried += tried > 0
            elif self._is_due(entry):
                break
            else:
                tried += 1
        heapq.heappush(self._reaches, max(entry.arrival for entry in batch))
        if len(self._reaches) > self.patience:
            heapq.heappop(self._reaches)
        return batch

    def _in_order(self) -> Iterator[_Entry[R]]:
        levels = [self._levels[priority] for priority in sorted(self._levels)]
        due = (takewhile(self._is_due, level.by_arrival.values()) for level in levels)
        yield from heapq.merge(*due, key=lambda entry: entry.arrival)
        # Reached only if the batch took all due requests, so few are skipped.
        for level in levels:
            yield from (entry for *_, entry in level.by_deadline if not self._is_due(entry))

    def _is_due(self, entry: _Entry[R]) -> bool:
        return len(self._reaches) == self.patience and entry.arrival <= self._reaches[0]
