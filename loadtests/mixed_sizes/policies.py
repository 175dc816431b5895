"""Three ways to choose which images run next."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vimserve.model.batch import PackedBatch
from vimserve.server.engine.scheduler import Budget, Scheduler

MODEL = "model"


@dataclass(frozen=True, eq=False)
class Job:
    """An image that waits.

    Attributes:
        index: its place in the trace.
        patches: of the image.
        tokens: how many it has.
        arrived: when, in seconds of the performance counter.

    The other attributes are what the server's scheduler needs besides; here all jobs have the same.
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
    """Takes jobs when they arrive, and gives a batch when the device is idle."""

    def add(self, job: Job) -> None:
        """Let the job wait."""

    def next(self) -> list[Job]:
        """Take out of the queue what is to run now; empty only if nothing waits."""


class Packed:
    """The server's own scheduler: images of any sizes together, up to ``budget`` tokens."""

    def __init__(self, budget: int) -> None:
        self._scheduler: Scheduler[Job] = Scheduler({MODEL: Budget(budget)})

    def add(self, job: Job) -> None:
        """Let the job wait."""
        self._scheduler.add(job)

    def next(self) -> list[Job]:
        """Take out of the queue what is to run now."""
        return self._scheduler.next(0.0).batch


class OldestFirst:
    """Runs what ``choose`` picks of the waiting jobs, which it gets oldest first.

    Args:
        choose: from the waiting jobs and the budget to the batch.
        budget: of tokens in a batch.
    """

    def __init__(self, choose: Callable[[Sequence[Job], int], list[Job]], budget: int) -> None:
        self._choose = choose
        self._budget = budget
        self._pending: list[Job] = []

    def add(self, job: Job) -> None:
        """Let the job wait."""
        self._pending.append(job)

    def next(self) -> list[Job]:
        """Take out of the queue what is to run now."""
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
