"""Three ways to choose what runs next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vimserve.model.batch import PackedBatch
from vimserve.server.engine.scheduler import Budget, Scheduler

MODEL = "model"


@dataclass(frozen=True, eq=False)
class Job:
    """An image that waits: its place in the trace, its patches, when it arrived (s).

    The rest is what the server's scheduler asks for and what makes no difference here.
    """

    index: int
    patches: PackedBatch
    tokens: int
    arrived: float
    model: str = MODEL
    cost_bytes: int = 0
    priority: int = 5
    deadline: float = float("inf")


class Policy(Protocol):
    """Takes jobs as they arrive, gives batches as the device falls idle."""

    def add(self, job: Job) -> None:
        """Let the job wait."""

    def next(self) -> list[Job]:
        """What runs now and no longer waits; empty only if nothing does."""


class Packed:
    """The server's own scheduler: whatever the sizes, up to ``budget`` tokens."""

    def __init__(self, budget: int) -> None:
        self._scheduler: Scheduler[Job] = Scheduler({MODEL: Budget(budget)})

    def add(self, job: Job) -> None:
        """Let the job wait."""
        self._scheduler.add(job)

    def next(self) -> list[Job]:
        """What runs now."""
        return self._scheduler.next(0.0).batch


class OldestFirst:
    """Whatever ``choose(pending, budget)`` picks of what waits, the oldest first."""

    def __init__(self, choose: Callable[[Sequence[Job], int], list[Job]], budget: int) -> None:
        self._choose = choose
        self._budget = budget
        self._pending: list[Job] = []

    def add(self, job: Job) -> None:
        """Let the job wait."""
        self._pending.append(job)

    def next(self) -> list[Job]:
        """What runs now."""
        batch = self._choose(self._pending, self._budget)
        self._pending = [job for job in self._pending if job not in batch]
        return batch


def one_at_a_time(pending: Sequence[Job], _budget: int) -> list[Job]:
    """The oldest alone."""
    return list(pending[:1])


def equal_sizes(pending: Sequence[Job], budget: int) -> list[Job]:
    """The oldest and those of exactly its height and width, up to ``budget`` tokens."""
    alike = [job for job in pending if job.patches.grids == pending[0].patches.grids]
    return alike[: max(1, budget // alike[0].tokens)] if alike else []


POLICIES: dict[str, Callable[[int], Policy]] = {
    "packed": Packed,
    "equal sizes": lambda budget: OldestFirst(equal_sizes, budget),
    "one at a time": lambda budget: OldestFirst(one_at_a_time, budget),
}
