"""A probe of the models that clients cannot use to flood the device."""

import asyncio
from collections.abc import Awaitable, Callable


class SharedProbe:
    """Runs one probe at a time; callers that ask meanwhile share its outcome.

    Args:
        probe: raises if a model does not answer within the given seconds.
        timeout_s: seconds after which a probe has failed.
    """

    def __init__(self, probe: Callable[[float], Awaitable[None]], timeout_s: float) -> None:
        self._probe = probe
        self._timeout_s = timeout_s
        self._running: asyncio.Task[str | None] | None = None

    async def failure(self) -> str | None:
        """Why the models do not answer, or None if they do."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        # A client that leaves must not end the probe for the others.
        return await asyncio.shield(self._running)

    async def _run(self) -> str | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._probe(self._timeout_s)
        except TimeoutError:
            return f"the models did not answer a probe within {self._timeout_s:g} s"
        except Exception as error:
            return f"a probe failed: {error}" if str(error) else f"a probe failed: {error!r}"
        return None
