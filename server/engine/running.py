"""The batches that the device runs, and what each of them has of its time and memory."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vimserve.model.device_memory import forget_highest_resident, highest_resident
from vimserve.server.engine.request import Req
from vimserve.server.engine.runner import Pass
from vimserve.server.telemetry.metrics import BatchFigures
from vimserve.server.telemetry.tracing import BatchTrace


@dataclass(eq=False)
class Running:
    """A batch that the device is given.

    Attributes:
        predicted_bytes: of memory.
        result: once it is launched.
        peak_bytes: of memory, as far as it was measured.
        seconds: in which it computed; on a GPU a batch does not while it waits for another one.
        device_s: what it had of the device's time.
        ended: tells whether it has; None until somebody waits for that.
    """

    requests: Sequence[Req]
    trace: BatchTrace
    predicted_bytes: int
    result: Pass = field(init=False)
    peak_bytes: int = 0
    seconds: float = 0.0
    device_s: float = 0.0
    ended: Callable[[], bool] | None = None

    @property
    def tokens(self) -> int:
        """Tokens of all its images."""
        return sum(request.tokens for request in self.requests)

    @property
    def figures(self) -> BatchFigures:
        """What the metrics and traces tell of it."""
        return BatchFigures(
            model=self.requests[0].model,
            images=len(self.requests),
            tokens=self.tokens,
            largest=max((request.image.size for request in self.requests), key=math.prod),
            peak_bytes=self.peak_bytes,
            predicted_bytes=self.predicted_bytes,
        )

    @property
    def has_ended(self) -> bool:
        """Whether its end has been seen."""
        return self.ended is not None and self.ended()


class Shares:
    """Divides the device among the batches that it is given.

    Side by side, on a CPU, they share the time equally, and the growth of the process's memory in
    proportion to what was predicted of them. One after the other, each has all the time while it is
    the first, and its memory is measured when it is launched.

    Attributes:
        running: the batches, in the order of their start.
        held: bytes that the device held while it was idle.
        side_by_side: whether all batches compute at once.
    """

    def __init__(self) -> None:
        self.running: list[Running] = []
        self.held = 0
        self.side_by_side = False
        self._busy_s = 0.0
        self._noted = time.monotonic()

    @property
    def busy_s(self) -> float:
        """Seconds that the device has run batches, until now."""
        return self._busy_s + (time.monotonic() - self._noted if self.running else 0.0)

    @property
    def busy_since(self) -> float | None:
        """When the batch that has computed longest began to; None while the device is idle."""
        longest = max((one.seconds for one in self._computing()), default=None)
        return None if longest is None else self._noted - longest

    def add(self, batch: Running) -> None:
        """Give the device another batch."""
        self._note()
        self.running.append(batch)

    def remove(self, batch: Running) -> None:
        """The batch has ended or failed."""
        self._note()
        self.running.remove(batch)

    def _computing(self) -> list[Running]:
        return self.running[:] if self.side_by_side else self.running[:1]

    def _note(self) -> None:
        now = time.monotonic()
        passed_s, self._noted = now - self._noted, now
        computing = self._computing()
        if computing:
            self._busy_s += passed_s
        for one in computing:
            one.seconds += passed_s
            one.device_s += passed_s / len(computing)
        if self.side_by_side:
            growth = max(0, highest_resident() - self.held)
            predicted = sum(one.predicted_bytes for one in computing)
            for one in computing:
                share = growth * one.predicted_bytes // predicted
                one.peak_bytes = max(one.peak_bytes, share)
            forget_highest_resident()
