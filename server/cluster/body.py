"""A request's body as it passes through a router."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import Receive


class Body:
    """Reads a body once, and can send it more often: to another replica if the first refuses it.

    Only one reader at a time may wait for more.

    Attributes:
        complete: whether all of it is here.
        gone: whether the client hung up before.
    """

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._chunks: list[bytes] = []
        self._ended = asyncio.Event()
        self.complete = self.gone = False

    @property
    def empty(self) -> bool:
        """Whether there is none, as far as it is known."""
        return self.complete and not self._chunks

    async def head(
        self, enough: Callable[[bytes], bool], max_bytes: int, patience_s: float
    ) -> bytes:
        """Its first bytes, as soon as they are ``enough``, so many, all, or late.

        Raises:
            ClientDisconnect: the client hung up.
        """
        asked = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not self.complete:
                    await self._more()
                    # The next question is worth its time only with many bytes more.
                    if (known := sum(map(len, self._chunks))) >= 2 * asked:
                        asked = known
                        if known >= max_bytes or enough(b"".join(self._chunks)):
                            break
        return b"".join(self._chunks)[:max_bytes]

    async def stream(self) -> AsyncIterator[bytes]:
        """All of it, from the beginning.

        Raises:
            ClientDisconnect: the client hung up.
        """
        sent = 0
        while True:
            while sent < len(self._chunks):
                yield self._chunks[sent]
                sent += 1
            if self.complete:
                return
            await self._more()

    async def departure(self) -> None:
        """Wait until the client hangs up."""
        await self._ended.wait()
        while self.complete and (await self._receive())["type"] != "http.disconnect":
            pass

    async def _more(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            self._ended.set()
            raise ClientDisconnect
        if chunk := message.get("body", b""):
            self._chunks.append(chunk)
        if not message.get("more_body", False):
            self.complete = True
            self._ended.set()
