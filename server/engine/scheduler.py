"""Chooses the requests that run next; it needs no device, no event loop and no clock.

The time for a decision hardly grows with the queue: it looks at the requests that leave, at
``lookahead`` more, and at one number per model; they are found and removed by bisection.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from types import MappingProxyType
from typing import Generic

from vimserve.server.engine.cost import CostModel, Load
from vimserve.server.engine.model_queue import Budget, Entry, ModelQueue, R

FREE = CostModel()


@dataclass(frozen=True)
class Decision(Generic[R]):
    """What leaves the queues now.

    Attributes:
        batch: requests of one model to run together; empty only if none is pending.
        expired: requests whose deadline has passed.
    """

    batch: list[R]
    expired: list[R]


@dataclass(frozen=True)
class Beside:
    """The other half of a device that computes two batches side by side.

    Attributes:
        busy: whether a batch runs there.
        rest: seconds that this batch still needs.
    """

    busy: bool = False
    rest: float = 0.0


class Scheduler(Generic[R]):
    """The queues of all models, and the choice of the next batch.

    Within a model, the better priority (the smaller number) goes first, then the earlier deadline,
    then the older request. The first one leads the batch. Those behind it may fill it if they fit
    into the rest of the budget, and if that makes the sum of all waiting times smaller: a request
    that joins holds up those in the batch by its own time, and brings forward those outside it by
    the ``launch`` that they need not wait for. So small images join, and large ones where a launch
    costs much or many wait. Where two batches run side by side, a small one does not join a large
    one beside which it could run.

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
        self._queues: dict[str, ModelQueue[R]] = {}
        self._entries: dict[int, Entry[R]] = {}
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
        entry = Entry(request, next(self._arrivals), request.deadline)
        self._entries[key] = entry
        self._queues.setdefault(request.model, ModelQueue(request.model, self._patience)).add(entry)

    def discard(self, request: R) -> bool:
        """Forget the request; False if it is not pending."""
        key = id(request)
        if key not in self._entries:
            return False
        self._remove(key)
        return True

    def position(self, request: R) -> int | None:
        """How many requests for the same model go before this one; None if it is not pending."""
        entry = self._entries.get(id(request))
        return None if entry is None else self._queues[request.model].position(entry)

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

    def next(self, now: float, beside: Beside | None = None) -> Decision[R]:
        """Form the next batch; the requests in the decision are no longer pending.

        No request is held back for a fuller batch, because the caller asks when the device can
        take one. A request that exceeds the budget runs alone, so that it blocks no others.

        If the batch would share the device with one that runs, both take longer. That pays if more
        requests wait than one, because no part of the device is idle then; a single one had better
        wait, unless it ends before the batch that runs.

        Args:
            now: the present time, on the clock of the deadlines.
            beside: the other half of the device; None if it is not halved.
        """
        expired = self._expire(now)
        active = [queue for queue in self._queues.values() if queue.load.images]
        if not active or (beside is not None and self._had_better_wait(active, beside)):
            return Decision([], expired)
        queue = self._choose(active)
        chosen = queue.fill(
            self._budgets[queue.model],
            self._costs.get(queue.model, FREE),
            self._lookahead,
            len(self._entries),
            math.inf if beside is None else beside.rest,
        )
        batch = [entry.request for entry in chosen]
        queue.served += sum(request.tokens for request in batch)
        for request in batch:
            self._remove(id(request))
        return Decision(batch, expired)

    def _had_better_wait(self, active: Sequence[ModelQueue[R]], beside: Beside) -> bool:
        if len(self._entries) > 1 or not beside.busy:
            return False
        (queue,) = active
        return self.seconds(queue.model, queue.load) >= beside.rest

    def _expire(self, now: float) -> list[R]:
        expired = [entry.request for queue in self._queues.values() for entry in queue.expired(now)]
        for request in expired:
            self._remove(id(request))
        return expired

    def _choose(self, active: list["ModelQueue[R]"]) -> "ModelQueue[R]":
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
