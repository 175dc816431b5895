"""A body is read once and can be sent twice; whoever sends it may leave."""

import asyncio

import pytest
from starlette.requests import ClientDisconnect

from vimserve.server.cluster.body import Body


class Client:
    """Sends messages; when there are no more, it waits."""

    def __init__(self, *messages):
        self.messages: asyncio.Queue[dict[str, object]] = asyncio.Queue()
        for message in messages:
            self.messages.put_nowait(message)

    async def receive(self):
        return await self.messages.get()


def chunk(data, more=True):
    return {"type": "http.request", "body": data, "more_body": more}


GONE: dict[str, object] = {"type": "http.disconnect"}


async def collect(body):
    return [piece async for piece in body.stream()]


def test_it_can_be_sent_twice():
    async def check():
        body = Body(Client(chunk(b"a"), chunk(b""), chunk(b"b", more=False)).receive)
        assert await body.head(lambda data: data == b"a", 10, 60) == b"a"
        assert not body.complete
        assert await collect(body) == await collect(body) == [b"a", b"b"]
        assert body.complete

    asyncio.run(check())


def test_a_reader_that_was_cancelled_loses_nothing():
    async def check():
        client = Client(chunk(b"a"))
        body = Body(client.receive)
        reading = asyncio.ensure_future(collect(body))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reading.cancel()
        client.messages.put_nowait(chunk(b"b", more=False))
        assert await collect(body) == [b"a", b"b"]

    asyncio.run(check())


def test_the_head_ends_at_its_limit_or_when_it_is_late():
    async def check():
        body = Body(Client(chunk(b"abcdef")).receive)
        assert await body.head(lambda _: False, 4, 60) == b"abcd"
        assert await body.head(lambda _: False, 100, 0.001) == b"abcdef"

    asyncio.run(check())


def test_no_body():
    async def check():
        body = Body(Client(chunk(b"", more=False)).receive)
        assert not body.empty
        assert await body.head(lambda _: True, 4, 60) == b""
        assert body.empty

    asyncio.run(check())


def test_who_leaves_in_the_middle():
    async def check():
        body = Body(Client(chunk(b"a"), GONE).receive)
        leaving = asyncio.ensure_future(body.departure())
        with pytest.raises(ClientDisconnect):
            await collect(body)
        await leaving

    asyncio.run(check())


def test_who_leaves_while_it_waits():
    async def check():
        client = Client(chunk(b"a", more=False))
        body = Body(client.receive)
        leaving = asyncio.ensure_future(body.departure())
        assert await collect(body) == [b"a"]
        await asyncio.sleep(0)
        assert not leaving.done()
        client.messages.put_nowait(GONE)
        await leaving

    asyncio.run(check())
