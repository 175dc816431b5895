"""A simulated replica: the server's own queue and scheduler, and what it says of itself."""

import random
from collections.abc import Callable, Sequence

from vimserve.loadtests.mixed_sizes.policies import Job, Limits, Served
from vimserve.loadtests.mixed_sizes.simulate import Device, Station
from vimserve.server.cluster.routing import Report


class Replica:
    """One device with its queue.

    Args:
        name: its id.
        device: how long it takes for a batch.
        queue_tokens: most tokens that may wait.
        clock: the simulated time.
        choice: of the noise on the device's times.

    Attributes:
        in_flight: requests that it has and has not answered.
        answered: images that it has answered.
        batches: that it has run.
        busy_s: for how long it has computed.
    """

    def __init__(
        self,
        name: str,
        device: Device,
        queue_tokens: int,
        clock: Callable[[], float],
        choice: random.Random,
    ) -> None:
        self.name = name
        self.in_flight = self.answered = self.batches = 0
        self.busy_s = 0.0
        self._clock = clock
        self._queue = Served(Limits(device.batch_tokens, queue_tokens), clock)
        self._station = Station(device, self._queue, choice)
        self._taken = 0

    @property
    def idle(self) -> bool:
        """Whether it computes nothing."""
        return not self._station.batch

    @property
    def queued_seconds(self) -> float:
        """How long it needs for what it has, as far as it has learnt that."""
        return self._queue.work().seconds

    @property
    def report(self) -> Report:
        """What it says of itself now."""
        work = self._queue.work()
        running = sum(job.tokens for job in self._station.batch)
        return Report(
            self.name,
            work.speeds,
            work.tokens + running,
            work.seconds,
            self._taken,
            self._clock(),
        )

    def take(self, job: Job) -> bool:
        """Receive a request; False if it is refused."""
        self._taken += 1
        if not self._station.add(job):
            return False
        self.in_flight += 1
        return True

    def begin(self) -> float | None:
        """Begin with the next batch; when it ends, or None if nothing waits."""
        if self.in_flight and self._station.begin(self._clock()):
            return self._station.until
        return None

    def end(self) -> Sequence[Job]:
        """End the batch and return it."""
        seconds = self._station.seconds
        batch = self._station.end()
        self.in_flight -= len(batch)
        self.answered += len(batch)
        self.batches += 1
        self.busy_s += seconds
        return batch
