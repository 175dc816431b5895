"""Which requests run next: policy alone, without a device, an event loop or a clock."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar


class Pending(Protocol):
    """What the policy looks at; times are on the caller's clock."""

    @property
    def tokens(self) -> int: ...  # noqa: D102
    @property
    def arrived(self) -> float: ...  # noqa: D102
    @property
    def deadline(self) -> float: ...  # noqa: D102
    @property
    def abandoned(self) -> bool: ...  # noqa: D102


R = TypeVar("R", bound=Pending)


@dataclass(frozen=True)
class Decision(Generic[R]):
    """What leaves the queues now.

    Attributes:
        batch: requests of one model to run together, oldest first; empty if none is pending.
        expired: requests whose deadline has passed.
        abandoned: requests that nobody waits for.
    """

    batch: list[R]
    expired: list[R]
    abandoned: list[R]


def schedule(queues: Iterable[tuple[Sequence[R], int]], now: float) -> Decision[R]:
    """Form the next batch.

    The model whose oldest request has waited longest is served, its requests oldest first until
    the next one would exceed the budget. Nothing is held back in the hope of a fuller batch: the
    caller asks when the device is idle.

    Args:
        queues: per model, its pending requests, oldest first, and its budget in tokens. A request
            above the budget on its own rides alone, so that it cannot block its queue.
        now: the present time.
    """
    expired: list[R] = []
    abandoned: list[R] = []
    oldest: tuple[list[R], int] | None = None
    for pending, budget in queues:
        alive = []
        for request in pending:
            if request.abandoned:
                abandoned.append(request)
            elif request.deadline <= now:
                expired.append(request)
            else:
                alive.append(request)
        if alive and (oldest is None or alive[0].arrived < oldest[0][0].arrived):
            oldest = alive, budget
    return Decision(_fill(*oldest) if oldest else [], expired, abandoned)


def _fill(pending: list[R], budget: int) -> list[R]:
    total = 0
    for count, request in enumerate(pending):
        total += request.tokens
        if total > budget:
            return pending[: max(count, 1)]
    return pending
