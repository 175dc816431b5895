"""How far a request has come, for whoever does not wait at its connection."""

import asyncio
from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vimserve.server.engine.request import Req


class Progress:
    """``Pipeline.run`` keeps it up to date; it belongs to the event loop's thread.

    A window is a part of an image that the model sees at once; most images have one.

    Attributes:
        admitted: set as soon as nothing is left for which the request can be refused at once: the
            images' headers are read, and there is room in the queue.
        total: windows of all images; 0 before ``admitted``.
        done: windows that the model has answered.
    """

    def __init__(self) -> None:
        self.admitted = asyncio.Event()
        self.total = 0
        self.done = 0
        self._waiting: dict[Req, None] = {}

    @property
    def requests(self) -> Collection["Req"]:
        """Those of the windows that are queued or run."""
        return self._waiting.keys()

    def admit(self, windows: int) -> None:
        """Set ``admitted`` and ``total``."""
        self.total = windows
        self.admitted.set()

    def queue(self, requests: Sequence["Req"]) -> None:
        """There are requests for windows. They are let go with their answers, which are large."""
        for request in requests:
            self._waiting[request] = None
            request.answer.add_done_callback(partial(self._end, request))

    @property
    def started(self) -> bool:
        """Whether the device has taken any window."""
        return self.done > 0 or any(request.started for request in self.requests)

    def close(self) -> None:
        """Let the images go, because the request has ended."""
        self._waiting.clear()

    def _end(self, request: "Req", answer: asyncio.Future[Any]) -> None:
        self._waiting.pop(request, None)
        self.done += not answer.cancelled()
