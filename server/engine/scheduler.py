"""Chooses the requests that run next; it needs no device, no event loop and no clock.

The time for a decision does not grow with the queue: it looks at the requests that leave, at
``lookahead`` more, and at one number per model.
"""

import heapq
import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, dropwhile, takewhile
from typing import Generic, Protocol, TypeVar


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
class Load:
    """Images and tokens that wait for a model."""

    images: int
    tokens: int


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

    Within a model, the better priority (the smaller number) goes first, then the older request.
    If a request does not fit into the rest of the budget, later ones may fill the batch. A batch
    passes over a request if it takes one that was added later and leaves this one behind. A
    request that was passed over ``patience`` times is due. Due requests go before all others,
    oldest first, and a due request that does not fit ends the batch. So no request is passed over
    more than ``patience`` times.

    Between models, the better priority goes first, then the model that was served fewer tokens
    since it began to compete. A model that was passed over ``patience`` times for a better
    priority goes next.

    Not thread-safe: the caller guards it with a lock.

    Args:
        budgets: limits by model; they are read at every decision, so the caller may change them.
        lookahead: how many requests behind one that does not fit may be tried.
        patience: how often a request may be passed over.

    Raises:
        ValueError: if ``lookahead`` is below 0 or ``patience`` below 1.
    """

    def __init__(
        self, budgets: Mapping[str, Budget], lookahead: int = 64, patience: int = 8
    ) -> None:
        if lookahead < 0:
            raise ValueError(f"lookahead must be at least 0, not {lookahead}")
        if patience < 1:
            raise ValueError(f"patience must be at least 1, not {patience}")
        self._budgets = budgets
        self._lookahead = lookahead
        self._patience = patience
        self._arrivals = count()
        self._queues: dict[str, _Queue[R]] = {}
        self._entries: dict[int, _Entry[R]] = {}
        # Heap of (deadline, arrival, key). It holds no requests, because stale items stay a while.
        self._deadlines: list[tuple[float, int, int]] = []
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
        entry = _Entry(request, next(self._arrivals))
        self._entries[key] = entry
        self._queues.setdefault(request.model, _Queue(request.model, self._patience)).add(
            key, entry
        )
        heapq.heappush(self._deadlines, (request.deadline, entry.arrival, key))
        if len(self._deadlines) > 2 * len(self._entries) + 64:
            self._deadlines = [item for item in self._deadlines if self._pending(*item[1:])]
            heapq.heapify(self._deadlines)

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
        return Load(queue.images, queue.tokens) if queue else Load(0, 0)

    def next(self, now: float) -> Decision[R]:
        """Form the next batch; the requests in the decision are no longer pending.

        No request is held back for a fuller batch, because the caller asks when the device can
        take one. A request that exceeds the budget runs alone, so that it blocks no others.

        Args:
            now: the present time, on the clock of the deadlines.
        """
        expired = self._expire(now)
        active = [queue for queue in self._queues.values() if queue.images]
        if not active:
            return Decision([], expired)
        queue = self._choose(active)
        batch = [entry.request for entry in queue.fill(self._budgets[queue.model], self._lookahead)]
        queue.served += sum(request.tokens for request in batch)
        for request in batch:
            self._remove(id(request))
        return Decision(batch, expired)

    def _expire(self, now: float) -> list[R]:
        expired = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, arrival, key = heapq.heappop(self._deadlines)
            if self._pending(arrival, key):
                expired.append(self._entries[key].request)
                self._remove(key)
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

    def _pending(self, arrival: int, key: int) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry.arrival == arrival

    def _remove(self, key: int) -> None:
        request = self._entries.pop(key).request
        self._queues[request.model].remove(key, request)
        if not self._entries:
            self._deadlines.clear()


@dataclass(frozen=True, slots=True, eq=False)
class _Entry(Generic[R]):
    request: R
    arrival: int


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
    images: int = 0
    tokens: int = 0
    competes: bool = False
    level: int = 0
    served: int = 0
    passed: int = 0
    _levels: dict[int, OrderedDict[int, _Entry[R]]] = field(default_factory=dict)
    _reaches: list[int] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The best priority that waits."""
        return min(self._levels)

    def add(self, key: int, entry: _Entry[R]) -> None:
        self.images += 1
        self.tokens += entry.request.tokens
        self._levels.setdefault(entry.request.priority, OrderedDict())[key] = entry

    def remove(self, key: int, request: R) -> None:
        self.images -= 1
        self.tokens -= request.tokens
        level = self._levels[request.priority]
        del level[key]
        if not level:
            del self._levels[request.priority]
        if not self.images:
            self.competes = False
            self.passed = 0

    def join(self, served: Mapping[int, int]) -> None:
        """Compete at the best priority that waits; ``served`` has the lowest count of each one."""
        if self.competes and self.level == self.best:
            return
        own = self.served if self.level == self.best else 0
        self.level, self.competes = self.best, True
        self.served = max(own, served.get(self.level, 0))

    def fill(self, budget: Budget, lookahead: int) -> list[_Entry[R]]:
        """The next batch; the caller removes its requests."""
        tokens = budget.tokens
        memory = math.inf if budget.memory_bytes is None else budget.memory_bytes
        batch: list[_Entry[R]] = []
        tried = 0
        for entry in self._in_order():
            if tried > lookahead or (batch and tokens <= 0):
                break
            request = entry.request
            fits = request.tokens <= tokens and request.cost_bytes <= memory
            if fits or not batch:
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
        levels = [self._levels[priority].values() for priority in sorted(self._levels)]
        due = (takewhile(self._is_due, level) for level in levels)
        yield from heapq.merge(*due, key=lambda entry: entry.arrival)
        # Reached only if the batch took all due requests, so few are skipped a second time.
        for level in levels:
            yield from dropwhile(self._is_due, level)

    def _is_due(self, entry: _Entry[R]) -> bool:
        return len(self._reaches) == self.patience and entry.arrival <= self._reaches[0]
