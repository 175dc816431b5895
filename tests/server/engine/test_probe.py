import asyncio

from tests.patience import PATIENCE_S
from vimserve.server.engine.probe import SharedProbe


def test_a_client_that_leaves_does_not_end_the_probe_of_others():
    async def run():
        gate, calls = asyncio.Event(), []

        async def probe(timeout_s):
            calls.append(timeout_s)
            await gate.wait()

        shared = SharedProbe(probe, PATIENCE_S)
        leaving = asyncio.create_task(shared.failure())
        staying = asyncio.create_task(shared.failure())
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.sleep(0)
        gate.set()
        assert await staying is None
        assert await shared.failure() is None
        assert calls == [PATIENCE_S, PATIENCE_S]

    asyncio.run(run())
