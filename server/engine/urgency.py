"""How urgent a request is."""

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Urgency:
    """By when, and how urgently, a client wants its answer.

    Attributes:
        arrived: when the head of the request had arrived, in seconds of the monotonic clock.
        timeout_s: seconds from then until the request times out.
        priority: from 1, served first, to 9.
    """

    arrived: float
    timeout_s: float
    priority: int

    @property
    def deadline(self) -> float:
        """When the request times out, in seconds of the monotonic clock."""
        return self.arrived + self.timeout_s

    @property
    def left_s(self) -> float:
        """Seconds until the deadline; 0 after it."""
        return max(self.deadline - time.monotonic(), 0)
