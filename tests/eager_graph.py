"""A stand-in for a CUDA graph."""

from collections.abc import Callable

from torch import Tensor

RECORDED_BYTES = 12_345


class EagerGraph:
    """Replays by running again, into the same output."""

    def __init__(self, run: Callable[[], Tensor]) -> None:
        self.run = run
        self.output = run()
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        self.output.copy_(self.run())

    def pool(self) -> tuple[int, int]:
        return (0, 1)
