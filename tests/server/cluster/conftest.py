"""Replicas of this process, each with its own tiny model, and the router in front of them."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest

from tests.patience import PATIENCE_S, wait_until
from tests.server.conftest import TinyModel, _spec
from tests.server.live import live
from vimserve.model import catalog
from vimserve.model.spec import ModelSpec
from vimserve.server.cluster import replica as replica_module
from vimserve.server.cluster.app import create_cluster_app
from vimserve.server.cluster.replica import Replica
from vimserve.server.cluster.standing import Registry, Standing
from vimserve.server.config import ServerConfig

LOCAL = "127.0.0.1"


class Fleet:
    """Replicas, the registry that knows them, and the client of the router."""

    def __init__(self, stack: ExitStack) -> None:
        self.registry = Registry()
        self.loaded: list[TinyModel] = []
        self.replicas: dict[str, Replica] = {}
        self.pretended: set[str] = set()
        self._stack = stack
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    def add(self, name: str, *models: str, group: str = "all", **settings: Any) -> TinyModel:
        """A replica; returns the model that it loads last."""

        async def publish(standing: Standing) -> None:
            self.registry.publish(standing)

        config = ServerConfig(**settings)
        one = Replica(name, group, config, LOCAL, publish)
        self.run(one.serve(models or ("tiny",)))
        self.replicas[name] = one
        return self.loaded[-1]

    def pretend(self, name: str, address: str) -> None:
        """A replica that only seems to be there, at this address."""
        self.registry.publish(Standing(name, "all", address, name, 0, {"tiny": 0.0}, 0, 0.0, 0))
        self.pretended.add(name)

    def stop(self, name: str) -> None:
        self.run(self.replicas.pop(name).stop())
        self.registry.leave(name)

    def client(self, *models: str, **settings: Any) -> httpx2.Client:
        """The client of a router, once that knows all replicas."""

        async def hear() -> list[Standing]:
            return self.registry.standings()

        async def counted() -> dict[tuple[str, str], int]:
            return {("all", "running"): len(self.replicas), ("all", "starting"): 1}

        specs = [_spec(name) for name in models or ("tiny",)]
        self.app = create_cluster_app(ServerConfig(**settings), specs, hear, counted)
        client = self._stack.enter_context(live(self.app, "/healthz"))
        self.wait_for(self.pretended | set(self.replicas))
        return client

    def wait_for(self, names: set[str]) -> None:
        """Wait until the router sends to these replicas and to no others."""
        wait_until(lambda: {one.replica for one in self.app.state.directory.ready} == names)

    def wait_for_work(self) -> None:
        """Wait until the router knows that a replica has something to do."""
        wait_until(lambda: any(one.queued_tokens for one in self.app.state.directory.ready))

    def close(self) -> None:
        for model in self.loaded:
            model.gate.set()
        for name in [*self.replicas]:
            self.stop(name)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    with ExitStack() as stack:
        fleet = Fleet(stack)
        stack.callback(fleet.close)

        def load(spec: ModelSpec, device: Any, dtype: Any) -> TinyModel:
            fleet.loaded.append(TinyModel())
            return fleet.loaded[-1]

        monkeypatch.setattr(catalog, "load", load)
        monkeypatch.setattr(replica_module, "resolve", _spec)
        monkeypatch.setattr(replica_module, "LEAVE_S", 0.0)
        monkeypatch.setattr(ModelSpec, "parameters", property(lambda spec: 1234))
        yield fleet


def hold(model: TinyModel) -> None:
    """Let the model's next batch wait until its gate opens."""
    while model.entered.acquire(blocking=False):
        pass
    model.gate.clear()
