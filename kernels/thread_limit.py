"""The most CPU threads of a forward pass, while other passes begin and end beside it."""

from array import array


class ThreadLimit:
    """The most threads that a pass may use; another Python thread may change it as the pass runs.

    Attributes:
        followed: what it was when the pass last looked.
    """

    def __init__(self, threads: int) -> None:
        self._threads = array("q", [threads])
        self.followed = threads

    @property
    def threads(self) -> int:
        """What it is now."""
        return self._threads[0]

    @threads.setter
    def threads(self, threads: int) -> None:
        self._threads[0] = threads

    @property
    def address(self) -> int:
        """Of the number, an int64, for kernels that look at it themselves."""
        return self._threads.buffer_info()[0]
