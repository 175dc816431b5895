"""The router that the cluster's is compared with counts requests, and can be exchanged."""

import asyncio
import time

import pytest

from vimserve.loadtests.cluster.routers import PATH, ByRequests, Exchange
from vimserve.server.cluster.directory import Directory
from vimserve.server.cluster.metrics import ClusterMetrics
from vimserve.server.cluster.routing import Router
from vimserve.server.cluster.standing import Standing


@pytest.fixture
def directory():
    directory = Directory(ClusterMetrics())
    hear(directory, 1)
    return directory


def hear(directory, beat):
    """One has much to do, the other nothing."""
    busy = Standing("busy", "all", "host:1", "0", beat, {"tiny": 100.0}, 1000, 10.0, 0)
    idle = Standing("idle", "all", "host:2", "1", beat, {"tiny": 100.0}, 0, 0.0, 0)
    directory.hear([busy, idle])


class Requests:
    """The application: each request goes to the replicas named, and stays until it ends."""

    def __init__(self, directory, replicas):
        self._directory = directory
        self._replicas = iter(replicas)
        self.end = asyncio.Event()

    async def __call__(self, scope, receive, send):
        for replica in next(self._replicas):
            self._directory.sent(replica, 1)
        await self.end.wait()


def first(directory):
    """The choices in many rankings."""
    return {directory.rank("tiny", 1)[0].replica for _ in range(50)}


async def nothing(*_):
    """Neither receives nor sends."""
    raise AssertionError


def test_routers_are_exchanged(directory):
    ended = []

    async def send(message):
        ended.append(message)

    async def use(name):
        app = Exchange(Requests(directory, []), directory)
        await app({"type": "http", "path": PATH + name}, nothing, send)

    assert first(directory) == {"idle"}
    asyncio.run(use("requests"))
    assert type(directory.router) is ByRequests
    hear(directory, 2)
    assert first(directory) == {"idle", "busy"}  # neither has requests of this router
    asyncio.run(use("tokens"))
    assert type(directory.router) is Router
    hear(directory, 3)
    assert first(directory) == {"idle"}
    assert [message["status"] for message in ended[::2]] == [204, 204]


def test_who_has_fewer_requests_comes_first(directory):
    directory.router = ByRequests(time.monotonic)
    hear(directory, 2)

    async def run():
        # The second request is refused by one replica, and goes to the other.
        requests = Requests(directory, [["idle"], ["busy", "idle"]])
        app = Exchange(requests, directory)
        scope = {"type": "http", "path": "/v1/classify"}
        running = [asyncio.create_task(app(scope, nothing, nothing)) for _ in range(2)]
        await asyncio.sleep(0)
        assert first(directory) == {"busy"}
        requests.end.set()
        await asyncio.gather(*running)

    asyncio.run(run())
    assert first(directory) == {"idle", "busy"}
