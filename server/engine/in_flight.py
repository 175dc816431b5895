"""The images of one request that are on their way through the engine, so many at a time."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from vimserve.server.engine.request import Answer, Image, Part

# Windows of a picture between the queue and what is made of them. A GPU is full with fewer, and
# their scores take some 300 MB if there are 150 classes.
PARTS_AT_ONCE = 32


class InFlight:
    """A request's images on their way through the engine, in their order.

    Args:
        submit: queues some of the images, while others are to follow.
        images: the images.
        most: how many may be queued, run or wait to be asked for at once. So answers do not pile up
            where the device is quicker than what is made of them, and others get their turn.
    """

    def __init__(
        self,
        submit: Callable[..., list[asyncio.Future[Answer]]],
        images: Sequence[Image | Part],
        most: int,
    ) -> None:
        self._submit, self._most = submit, most
        self._left = deque(images)
        self._waiting: deque[asyncio.Future[Answer]] = deque()
        self._fill(most)

    async def next(self) -> Answer:
        """The answer for the next image.

        Raises:
            ServerError: if there is none.
        """
        half = self._most // 2
        if self._left and len(self._waiting) <= half:  # so that there is a batch to run meanwhile
            self._fill(self._most - half)
        return await self._waiting.popleft()

    def cancel(self) -> None:
        """Let the images go whose answers are not wanted any more."""
        for future in self._waiting:
            if not future.cancel() and not future.cancelled():
                future.exception()  # so it counts as known

    def _fill(self, count: int) -> None:
        some = [self._left.popleft() for _ in range(min(count, len(self._left)))]
        following = list(islice(self._left, self._most - self._most // 2))
        self._waiting += self._submit(some, following=following)
