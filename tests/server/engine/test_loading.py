"""Models from their names to ready, and what one batch of each may take."""

import asyncio
import dataclasses
from typing import Any

import pytest

from tests.patience import PATIENCE_S
from tests.server.engine.driving import image, running, submit
from vimserve.model import catalog
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.device_memory import Usage
from vimserve.server.config import ServerConfig
from vimserve.server.engine import loading
from vimserve.server.engine.engine import Engine, State
from vimserve.server.engine.memory import MemoryModel
from vimserve.server.engine.scheduler import Budget
from vimserve.server.errors import (
    ImageTooLarge,
    ModelUnavailable,
    NotReady,
)
from vimserve.server.telemetry.metrics import Metrics


@pytest.mark.parametrize("error", [CheckpointError("bad.pth: truncated"), KeyError("a bug")])
def test_a_model_that_cannot_be_loaded(monkeypatch, spec, error, caplog):
    def load(*_):
        raise error

    monkeypatch.setattr(catalog, "load", load)

    async def run():
        told = asyncio.Event()
        engine = Engine([spec], ServerConfig(), Metrics(), on_failure=told.set)
        engine.start()
        await told.wait()
        assert engine.state is State.FAILED
        assert engine.failure is error
        with pytest.raises(NotReady):
            engine.loaded("tiny")

    asyncio.run(run())
    assert ("Traceback" in caplog.text) == isinstance(error, KeyError)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_is_not_there(spec, device):
    async def run():
        told = asyncio.Event()
        engine = Engine([spec], ServerConfig(device=device), Metrics(), on_failure=told.set)
        engine.start()
        await told.wait()
        assert f"device {device!r} cannot be used" in str(engine.failure)

    asyncio.run(run())


def test_the_budget_admits_the_largest_image(tiny, spec):
    async def run(**settings):
        async with running(spec, **settings) as engine:
            return engine.loaded("tiny").budget.tokens

    assert asyncio.run(run()) == 8192
    assert asyncio.run(run(max_resolution=2048)) == 128 * 128 + 1
    assert asyncio.run(run(max_batch_tokens=100, max_resolution=64)) == 100


def test_an_image_that_needs_more_memory_than_there_is(tiny, spec, monkeypatch):
    monkeypatch.setattr(loading, "measure", lambda runner: MemoryModel(base=100, per_token=10))
    monkeypatch.setattr(loading, "usage", lambda device: Usage(free=1100, held=0, graphs=0))

    async def run():
        async with running(spec, memory_fraction=0.5) as engine:
            loaded = engine.loaded("tiny")
            assert loaded.budget == Budget(tokens=45, memory_bytes=450)
            loaded.check_fits(96, 112, 43)
            with pytest.raises(ImageTooLarge) as caught:
                loaded.check_fits(128, 128, 65)
            assert (caught.value.limit, caught.value.value) == (45, 65)

    asyncio.run(run())


def test_an_image_whose_attention_needs_more_memory_than_there_is(tiny, spec):
    memory = MemoryModel(base=100, per_token=1, per_token_squared=1)
    runner: Any = None
    loaded = loading.Loaded(runner, memory, loading.make_budget(memory, 10_100, 8192))
    loaded.check_fits(144, 144, 82)
    with pytest.raises(ImageTooLarge, match="needs 10100 bytes of memory") as caught:
        loaded.check_fits(160, 160, 100)
    assert (caught.value.limit, caught.value.value) == (10_000, 10_100)


def test_memory_for_nothing_at_all():
    with pytest.raises(ValueError, match="the smallest one needs 110: free memory"):
        loading.make_budget(MemoryModel(base=100, per_token=10), 105, 8192)


def test_a_model_that_fails_to_load_leaves_the_others(monkeypatch, tiny, spec):
    bad = dataclasses.replace(spec, name="bad")

    def load(spec, *_):
        if spec.name == "bad":
            raise CheckpointError("bad.pth: truncated")
        return tiny

    monkeypatch.setattr(catalog, "load", load)

    async def run():
        async with running(bad, spec, allow_partial=True) as engine:
            assert engine.models["bad"].status == "failed"
            assert engine.models["bad"].detail == "CheckpointError: bad.pth: truncated"
            assert engine.models["tiny"].status == "ready"
            with pytest.raises(ModelUnavailable, match="could not be loaded") as caught:
                engine.loaded("bad")
            assert caught.value.limit == ["tiny"]
            await submit(engine, image(0))[0]
            await engine.probe(PATIENCE_S)

    asyncio.run(run())
