"""How much else the machine had to do while something was measured."""

import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import psutil
import torch

# A round is disturbed if other programs took more than this share of all processors' time,
OTHERS = 0.075
# or the hypervisor more than this,
STEAL = 0.05
# or if the fixed product before it took so many times the least time in the whole run.
PRODUCT = 1.3

# Of the product's square matrices: some milliseconds on two cores.
SIDE = 1024
GPU_SIDE = 8192
PRODUCTS = 7


@dataclass(frozen=True)
class Disturbance:
    """What disturbed a round.

    Attributes:
        product_ms: time of a fixed matrix product just before the round.
        others: share of all processors' time that other programs used during the round.
        steal: share that the hypervisor gave to other machines meanwhile.
    """

    product_ms: float
    others: float
    steal: float

    def disturbed(self, best_product_ms: float) -> bool:
        """Whether the round is no measurement, given the product's least time."""
        return (
            self.product_ms > PRODUCT * best_product_ms
            or self.others > OTHERS
            or self.steal > STEAL
        )


class Product:
    """A fixed matrix product on the device that is measured, with PyTorch's number of threads."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        side = SIDE if self._device.type == "cpu" else GPU_SIDE
        self._matrix = torch.rand(side, side, device=self._device)

    def ms(self) -> float:
        """How long it takes now: the median of several, after one that wakes the threads."""
        return statistics.median([self._once_ms() for _ in range(1 + PRODUCTS)][1:])

    def _once_ms(self) -> float:
        start = time.perf_counter()
        torch.mm(self._matrix, self._matrix)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return 1e3 * (time.perf_counter() - start)


class Watch:
    """From its making on, what this process and its descendants took of the machine, and others.

    No descendant may end meanwhile.
    """

    def __init__(self) -> None:
        self._start, self._busy, self._steal, self._own = _now()

    @property
    def seconds(self) -> float:
        """How long it has watched."""
        return time.monotonic() - self._start

    def disturbance(self, product_ms: float) -> Disturbance:
        """What has disturbed since then, and before it a product that took so long."""
        now, busy, steal, own = _now()
        capacity_s = (now - self._start) * (psutil.cpu_count() or 1)
        return Disturbance(
            product_ms=product_ms,
            others=max(0.0, (busy - self._busy - (own - self._own)) / capacity_s),
            steal=(steal - self._steal) / capacity_s,
        )


def _now() -> tuple[float, float, float, float]:
    """The time, and in processor seconds: all programs, the hypervisor's others, our own."""
    system = psutil.cpu_times()
    busy = system.user + system.nice + system.system
    return time.monotonic(), busy, getattr(system, "steal", 0.0), sum(_own_seconds())


def _own_seconds() -> Iterator[float]:
    this = psutil.Process()
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            yield times.user + times.system
