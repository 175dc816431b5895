"""What a client that waits in vain says; the soak's tests show it the other answers."""

import asyncio

from tests.loadtests.soak.stub import CLASSES, Stub
from vimserve.loadtests.common.client import open_session
from vimserve.loadtests.common.mix import Mix
from vimserve.loadtests.common.sender import Sender


async def silence(request, images):
    await asyncio.sleep(3600)


def send(kind, missing_s):
    """How a request ends at a server that never answers good images."""
    stub = Stub()
    stub.good = silence  # type: ignore[assignment]

    async def run():
        mix = Mix(0, timeout_ms=50)
        async with open_session(stub.url) as session:
            sender = Sender(session, CLASSES, mix, references=[], missing_s=missing_s)
            return await sender.send(mix.make(kind))

    with stub.listening():
        return asyncio.run(run())


def test_an_answer_that_never_comes_is_missed():
    outcome = send("single", missing_s=0.05)
    assert outcome.wrong == "no answer: TimeoutError()"
    assert outcome.end == "nothing"
    assert outcome.latency_s >= 0.1


def test_a_client_that_hangs_up_misses_nothing():
    outcome = send("gone, waiting", missing_s=3600)
    assert outcome.wrong is None
    assert outcome.end == "abandoned"
