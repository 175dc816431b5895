"""Who may use the device's memory while models come: loaders side by side, a measurement alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """What loads waits for what measures or records CUDA graphs, and the other way round.

    Loading allocates: its memory would count as that of the measured model, and a graph that is
    being recorded would get what is left. Only for the event loop's thread.
    """

    def __init__(self) -> None:
        self._alone = asyncio.Lock()
        self._loading = 0
        self._none_loads = asyncio.Event()
        self._none_loads.set()

    async def begin_loading(self) -> None:
        """Wait until nothing measures or waits to; ``end_loading`` has to follow."""
        async with self._alone:
            self._loading += 1
            self._none_loads.clear()

    def end_loading(self) -> None:
        """Let what waits to measure do so, if nothing else loads."""
        self._loading -= 1
        if not self._loading:
            self._none_loads.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Within the block nothing loads or measures."""
        async with self._alone:
            await self._none_loads.wait()
            yield
