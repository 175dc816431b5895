"""Models from their names to ready, and what one batch of each may take."""

import asyncio
import dataclasses
import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tests.patience import PATIENCE_S
from tests.server.engine.driving import image, running, submit
from vimserve.model import catalog
from vimserve.model.checkpoint import CheckpointError
from vimserve.model.device_memory import Usage
from vimserve.server.config import ServerConfig
from vimserve.server.engine import loading
from vimserve.server.engine.engine import Engine, State
from vimserve.server.engine.memory import MemoryModel
from vimserve.server.engine.model_queue import Budget
from vimserve.server.engine.plan import Demand
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
    loaded = loading.Loaded(runner, memory, loading.make_budget(memory, 10_100, 8192), 10_100)
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


class Recorder:
    """A runner on a GPU whose graphs take what the batches of their buckets do."""

    def __init__(self, name, gpu, *, recordable=True, error=None):
        self.spec = SimpleNamespace(name=name)
        self.device = torch.device("cuda")
        self.recordable = recordable
        self.gpu, self.error = gpu, error
        self.recorded, self.ran = [], 0

    def record_graphs(self, max_tokens, fits):
        if self.error is not None:
            raise self.error
        self.recorded = [tokens for tokens in range(1, max_tokens + 1) if fits([tokens])]
        self.gpu["graphs"] += 100 + 10 * max(self.recorded, default=0)

    def smallest(self):
        return "smallest"

    def run(self, images):
        assert images == ["smallest"]
        self.ran += 1


@pytest.fixture
def gpu(monkeypatch):
    """The memory of a GPU of 10,000 bytes."""
    sizes = {"held": 1000, "graphs": 0}
    monkeypatch.setattr(
        loading,
        "usage",
        lambda device: Usage(free=10_000 - sum(sizes.values()), **sizes),
    )
    return sizes


def measured(name, gpu, tokens, **options):
    runner: Any = Recorder(name, gpu, **options)
    memory = MemoryModel(base=100, per_token=10)
    demand = Demand(name, 50, 100 + 10 * tokens, workspace=0, graphs=runner.recordable)
    return loading.Measured(runner, memory, tokens, demand)


def admitted(models, reserved=0):
    results = loading.admit(models, ServerConfig(memory_fraction=0.8), reserved)
    return [result for result in results if isinstance(result, loading.Loaded)]


def test_weights_graphs_and_a_batch_outside_them_fit_into_the_fraction(gpu, caplog):
    models = [
        measured("modest", gpu, 50),
        measured("greedy", gpu, 9000),
        measured("plain", gpu, 400, recordable=False),
    ]
    with caplog.at_level(logging.INFO):
        modest, greedy, plain = admitted(models)
    # Of the 7,000 beside the weights the modest one's graphs take 600; the plain one's batches of
    # 4,100 do not fit beside graphs of the greedy one for more than 3,200.
    recorders: Any = [model.runner for model in models]
    assert recorders[0].recorded == [*range(1, 51)]
    assert recorders[1].recorded == [*range(1, 311)]
    assert [recorder.ran for recorder in recorders] == [1, 1, 0]
    left = 7000 - 600 - 3200
    assert modest.budget == Budget(50, 500)
    assert greedy.budget == Budget((left - 100) // 10, left - 100)
    assert plain.budget == Budget((left - 100) // 10, left - 100)
    assert gpu["held"] + gpu["graphs"] + max(m.batch_bytes for m in (modest, greedy, plain)) == 8000
    assert "memory in MB" in caplog.text


def test_a_model_that_comes_later_leaves_the_others_their_batches(gpu):
    (first,) = admitted([measured("first", gpu, 200)])
    assert first.batch_bytes == 2100
    gpu["held"] += 500
    late = measured("late", gpu, 9000)
    (second,) = admitted([late], first.batch_bytes)
    assert gpu["held"] + gpu["graphs"] + max(first.batch_bytes, second.batch_bytes) <= 8000


def test_a_model_without_memory_or_graphs_that_fail_stays_alone_with_it(gpu):
    gpu["held"] = 5000
    broken = ValueError("a bug")
    models = [measured("broken", gpu, 50, error=broken), measured("fine", gpu, 50)]
    failed, fine = loading.admit(models, ServerConfig(memory_fraction=0.8), 0)
    assert failed is broken
    assert isinstance(fine, loading.Loaded)
    assert fine.budget.tokens == 50
    gpu["held"] = 8000
    (full,) = loading.admit([measured("full", gpu, 50)], ServerConfig(memory_fraction=0.8), 0)
    assert isinstance(full, ValueError)
    assert "the smallest one needs 110" in str(full)
