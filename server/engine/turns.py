"""Who may do something side by side, and who only alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """What loads waits for what measures or records CUDA graphs, and the other way round.

    Loading allocates: its memory would count as that of the measured model, and a graph that is
    being recorded would get what is left. In the same way a model's requests are answered together,
    and its weights are swapped alone. Who waits to be alone goes before those that come later.
    Only for the event loop's thread.
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
    async def together(self) -> AsyncIterator[None]:
        """As ``begin_loading`` and ``end_loading``, before and after the block."""
        await self.begin_loading()
        try:
            yield
        finally:
            self.end_loading()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Within the block nothing loads or measures."""
        async with self._alone:
            await self._none_loads.wait()
            yield
