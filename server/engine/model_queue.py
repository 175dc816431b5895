"""The requests that wait for one model, and which of them its next batch carries."""

import heapq
import math
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Generic, Protocol, TypeVar

from vimserve.server.engine.cost import CostModel, Load

# A launch that is saved brings forward what waits, and what arrives before the queue is empty: at
# two thirds of the capacity, two more for each that waits.
BROUGHT_FORWARD = 3


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


@dataclass(frozen=True, slots=True, eq=False)
class Entry(Generic[R]):
    """A request, when it came among all requests, and the deadline that it came with."""

    request: R
    arrival: int
    deadline: float


class _Level(Generic[R]):
    """The requests of one model and priority, in the order of arrival and of deadlines."""

    def __init__(self) -> None:
        self.load = Load()
        self.by_arrival: OrderedDict[int, Entry[R]] = OrderedDict()
        self.by_deadline: list[tuple[float, int, Entry[R]]] = []

    def add(self, entry: Entry[R]) -> None:
        self.load += Load.of([entry.request.tokens])
        self.by_arrival[entry.arrival] = entry
        insort(self.by_deadline, (entry.deadline, entry.arrival, entry))

    def remove(self, entry: Entry[R]) -> None:
        self.load -= Load.of([entry.request.tokens])
        del self.by_arrival[entry.arrival]
        del self.by_deadline[bisect_left(self.by_deadline, (entry.deadline, entry.arrival))]

    def until(self, deadline: float) -> Iterator[Entry[R]]:
        """Those whose deadline is not later, the earliest first."""
        return (
            entry for *_, entry in takewhile(lambda place: place[0] <= deadline, self.by_deadline)
        )


@dataclass(eq=False)
class ModelQueue(Generic[R]):
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

    def add(self, entry: Entry[R]) -> None:
        """Let it wait."""
        self.load += Load.of([entry.request.tokens])
        self._levels.setdefault(entry.request.priority, _Level()).add(entry)

    def remove(self, entry: Entry[R]) -> None:
        """Let it wait no longer."""
        self.load -= Load.of([entry.request.tokens])
        level = self._levels[entry.request.priority]
        level.remove(entry)
        if not level.by_arrival:
            del self._levels[entry.request.priority]
        if not self.load.images:
            self.competes = False
            self.passed = 0

    def expired(self, now: float) -> list[Entry[R]]:
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

    def position(self, entry: Entry[R]) -> int:
        """How many of those that wait go before this one, which waits too."""
        return next(place for place, other in enumerate(self._in_order()) if other is entry)

    def join(self, served: Mapping[int, int]) -> None:
        """Compete at the best priority that waits; ``served`` has the lowest count of each one."""
        if self.competes and self.level == self.best:
            return
        own = self.served if self.level == self.best else 0
        self.level, self.competes = self.best, True
        self.served = max(own, served.get(self.level, 0))

    def fill(
        self,
        budget: Budget,
        cost: CostModel,
        lookahead: int,
        waiting: int,
        other: float = math.inf,
    ) -> list[Entry[R]]:
        """The next batch; the caller removes its requests.

        Args:
            budget: of the batch.
            cost: of the model.
            lookahead: how many requests behind one that does not join are tried.
            waiting: images that wait, of all models.
            other: seconds until another batch can begin beside this one.
        """
        tokens = budget.tokens
        memory = math.inf if budget.memory_bytes is None else budget.memory_bytes
        batch: list[Entry[R]] = []
        tried, seconds = 0, cost.launch
        for entry in self._in_order():
            if tried > lookahead or (batch and tokens <= 0):
                break
            request = entry.request
            own = cost.image(request.tokens)
            # By joining it holds up the others, and has to wait for them if it could begin before.
            held = len(batch) * own + max(0.0, seconds - other - cost.launch)
            forward = BROUGHT_FORWARD * (waiting - len(batch)) * cost.launch
            if not batch or (
                request.tokens <= tokens and request.cost_bytes <= memory and held <= forward
            ):
                batch.append(entry)
                tokens -= request.tokens
                memory -= request.cost_bytes
                seconds += own
                tried += tried > 0
            elif self._is_due(entry):
                break
            else:
                tried += 1
                other += cost.launch + own
        heapq.heappush(self._reaches, max(entry.arrival for entry in batch))
        if len(self._reaches) > self.patience:
            heapq.heappop(self._reaches)
        return batch

    def _in_order(self) -> Iterator[Entry[R]]:
        levels = [self._levels[priority] for priority in sorted(self._levels)]
        due = (takewhile(self._is_due, level.by_arrival.values()) for level in levels)
        yield from heapq.merge(*due, key=lambda entry: entry.arrival)
        # Reached only if the batch took all due requests, so few are skipped.
        for level in levels:
            yield from (entry for *_, entry in level.by_deadline if not self._is_due(entry))

    def _is_due(self, entry: Entry[R]) -> bool:
        return len(self._reaches) == self.patience and entry.arrival <= self._reaches[0]
