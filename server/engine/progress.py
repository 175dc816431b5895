"""How far a request has come, for whoever does not wait at its connection."""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vimserve.server.engine.request import Req


class Progress:
    """``Pipeline.run`` keeps it up to date; it belongs to the event loop's thread.

    A window is a part of an image that the model sees at once; most images have one.

    Attributes:
        admitted: set as soon as nothing is left for which the request can be refused at once: the
            images' headers are read, and there is room in the queue.
        total: windows of all images; 0 before ``admitted``.
        requests: one for each window, once they have been queued.
    """

    def __init__(self) -> None:
        self.admitted = asyncio.Event()
        self.total = 0
        self.requests: Sequence[Req] = ()
        self._done = 0

    def admit(self, windows: int) -> None:
        """Set ``admitted`` and ``total``."""
        self.total = windows
        self.admitted.set()

    @property
    def done(self) -> int:
        """Windows that the model has answered."""
        return self._done + sum(request.answer.done() for request in self.requests)

    @property
    def started(self) -> bool:
        """Whether the device has taken any window."""
        return any(request.started for request in self.requests)

    def close(self) -> None:
        """Let the images go, because the request has ended; ``done`` remains."""
        self._done, self.requests = self.done, ()
