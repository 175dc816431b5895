"""How urgent a request is."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Urgency:
    """By when, and how urgently, a client wants its answer.

    Attributes:
        arrived: when the head of the request was there, in seconds of the monotonic clock.
        timeout_s: how long the answer is of use.
        priority: from 1, served first, to 9.
    """

    arrived: float
    timeout_s: float
    priority: int

    @property
    def deadline(self) -> float:
        """When the answer is of no use any more, on the monotonic clock."""
        return self.arrived + self.timeout_s

    @property
    def left_s(self) -> float:
        """What is left of the time; 0 when it is over."""
        return max(self.deadline - time.monotonic(), 0)
