"""Four ways to choose which images run next; the server's own is one of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from vimserve.server.engine.backlog import Backlog
from vimserve.server.engine.forecast import Work
from vimserve.server.engine.model_queue import Budget
from vimserve.server.engine.room import Room
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import QueueFull, TooLate

MODEL = "model"
LOOKAHEAD, PATIENCE = 64, 8

Clock = Callable[[], float]


@dataclass(eq=False)
class Job:
    """An image that waits.

    Attributes:
        index: its place in the trace.
        size: (height, width) in pixels.
        tokens: how many it has.
        urgency: when it arrived, in seconds of the clock, and how long it waits.
        passed_over: by how many batches, as ``fill_in_order`` counts.

    The other attributes are what the server's scheduler needs besides; here all jobs have the same.
    """

    index: int
    size: tuple[int, int]
    tokens: int
    urgency: Urgency
    passed_over: int = 0
    model: str = MODEL
    cost_bytes: int = 0

    @property
    def priority(self) -> int:
        """From 1, served first, to 9."""
        return self.urgency.priority

    @property
    def deadline(self) -> float:
        """When it expires."""
        return self.urgency.deadline


@dataclass(frozen=True)
class Limits:
    """Most tokens of a batch, and of all jobs that wait."""

    batch_tokens: int
    queue_tokens: int


class Policy(Protocol):
    """Takes jobs when they arrive, and gives a batch when the device is idle."""

    def add(self, job: Job) -> bool:
        """Let the job wait; False if it is refused."""

    def next(self) -> list[Job]:
        """Take out of the queue what is to run now; empty only if nothing waits."""

    def ran(self, batch: Sequence[Job], seconds: float) -> None:
        """Learn how long a batch took."""


class Served:
    """The server's own queue: its admission, its scheduler and the costs that it learns."""

    def __init__(self, limits: Limits, clock: Clock) -> None:
        self._backlog = Backlog[Job](limits.queue_tokens, lambda _model, _load: None, clock)
        self._budget = Budget(limits.batch_tokens)
        self._backlog.add(MODEL, self._budget)

    def add(self, job: Job) -> bool:
        """Let the job wait; False if it is refused."""
        with Room(self._backlog, MODEL, self._budget, job.urgency) as room:
            try:
                room.take([job.tokens])
            except (QueueFull, TooLate):
                return False
            self._backlog.put(room, [job])
        return True

    def next(self) -> list[Job]:
        """Take out of the queue what is to run now."""
        while (decision := self._backlog.take(0)).expired and not decision.batch:
            pass
        return decision.batch

    def ran(self, batch: Sequence[Job], seconds: float) -> None:
        """Learn how long a batch took."""
        self._backlog.served(MODEL, [job.tokens for job in batch], seconds)

    def work(self) -> Work:
        """What the device has to do, and how fast it is at it; of tokens only those that wait."""
        return self._backlog.work()


class OldestFirst:
    """Runs what ``choose`` picks of the waiting jobs, which it gets oldest first.

    Args:
        choose: from the waiting jobs and the most tokens of a batch to the batch.
        limits: of a batch and of the queue.
        clock: tells which jobs have expired.
    """

    def __init__(
        self, choose: Callable[[Sequence[Job], int], list[Job]], limits: Limits, clock: Clock
    ) -> None:
        self._choose = choose
        self._limits = limits
        self._clock = clock
        self._pending: list[Job] = []
        self._tokens = 0

    def add(self, job: Job) -> bool:
        """Let the job wait; False if the queue is full."""
        if self._pending and self._tokens + job.tokens > self._limits.queue_tokens:
            return False
        self._pending.append(job)
        self._tokens += job.tokens
        return True

    def next(self) -> list[Job]:
        """Take out of the queue what is to run now."""
        now = self._clock()
        self._keep([job for job in self._pending if job.deadline > now])
        batch = self._choose(self._pending, self._limits.batch_tokens) if self._pending else []
        chosen = set(batch)
        self._keep([job for job in self._pending if job not in chosen])
        return batch

    def ran(self, batch: Sequence[Job], seconds: float) -> None:
        """It does not matter here."""

    def _keep(self, pending: list[Job]) -> None:
        self._pending = pending
        self._tokens = sum(job.tokens for job in pending)


def one_at_a_time(pending: Sequence[Job], _most: int) -> list[Job]:
    """The oldest alone."""
    return [pending[0]]


def equal_sizes(pending: Sequence[Job], most: int) -> list[Job]:
    """The oldest and those of exactly its height and width, up to ``most`` tokens."""
    alike = [job for job in pending if job.size == pending[0].size]
    return alike[: max(1, most // alike[0].tokens)]


def fill_in_order(pending: Sequence[Job], most: int) -> list[Job]:
    """All that fit, oldest first, whatever they cost, as the server did without a cost curve.

    No job is passed over more than ``PATIENCE`` times.
    """
    batch = [pending[0]]
    left, tried = most - pending[0].tokens, 0
    for job in pending[1:]:
        if tried > LOOKAHEAD or left <= 0:
            break
        if job.tokens <= left:
            batch.append(job)
            left -= job.tokens
            tried += tried > 0
        elif job.passed_over == PATIENCE:
            break
        else:
            tried += 1
    chosen = set(batch)
    for job in pending[: pending.index(batch[-1])]:
        job.passed_over += job not in chosen
    return batch


POLICIES: dict[str, Callable[[Limits, Clock], Policy]] = {
    "server": Served,
    "fill in order": lambda limits, clock: OldestFirst(fill_in_order, limits, clock),
    "equal sizes": lambda limits, clock: OldestFirst(equal_sizes, limits, clock),
    "one at a time": lambda limits, clock: OldestFirst(one_at_a_time, limits, clock),
}
