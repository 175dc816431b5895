"""Models that come and go while others answer."""

import asyncio
import dataclasses
import threading
import weakref

import pytest
import torch

from tests.patience import PATIENCE_S
from tests.server.engine.driving import (
    SOMETIME,
    hold,
    image,
    running,
    started,
    submit,
)
from vimserve.model import catalog
from vimserve.model.checkpoint import CheckpointError
from vimserve.server.config import ServerConfig
from vimserve.server.engine.engine import Engine
from vimserve.server.engine.models import does
from vimserve.server.errors import (
    ModelFailure,
    ModelUnavailable,
    NotReady,
    UnknownModel,
    WrongTask,
)
from vimserve.server.telemetry.metrics import Metrics


@pytest.fixture
def other(spec):
    return dataclasses.replace(spec, name="other")


def test_two_models_of_one_name(spec):
    with pytest.raises(ValueError, match="not tiny, tiny"):
        Engine([spec, spec], ServerConfig(), Metrics())


def test_unknown_models_are_told_the_known(tiny, spec):
    models = Engine([spec], ServerConfig(), Metrics()).models
    assert models.spec(None, "classify") is models.spec("tiny", "classify") is spec
    with pytest.raises(UnknownModel) as caught:
        models.spec("other", "classify")
    assert caught.value.limit == ["tiny"]


def test_a_model_that_does_something_else_is_named_with_what_it_does(tiny, spec):
    models = Engine([spec], ServerConfig(), Metrics()).models
    with pytest.raises(WrongTask) as caught:
        models.spec("tiny", "segment")
    assert caught.value.detail == (
        "model 'tiny' classifies; it cannot segment: no served model can"
    )
    assert [does(task) for task in ("classify", "segment")] == ["classifies", "segments"]


def test_load_unload_and_reload_beside_another_model_under_load(tiny, spec, other):
    """Clients of both models ask all the time; everything that was accepted is answered."""
    answered, refused = {"tiny": 0, "other": 0}, []

    async def client(engine, model, until):
        while not until.is_set():
            try:
                futures = submit(engine, image(answered[model] % 5), model=model)
            except (UnknownModel, ModelUnavailable) as error:
                refused.append(error)
                await asyncio.sleep(0)
                continue
            await futures[0]
            answered[model] += 1

    async def reach(model, more):
        wanted = answered[model] + more
        while answered[model] < wanted:
            await asyncio.sleep(0.001)

    async def run():
        async with running(spec) as engine:
            until = asyncio.Event()
            clients = [
                asyncio.create_task(client(engine, model, until))
                for model in ("tiny", "tiny", "other", "other", "other")
            ]
            for _ in range(3):
                await reach("tiny", 5)
                assert "other" not in engine.models
                await engine.models.add(other)
                await reach("other", 5)
                await reach("tiny", 5)
                await engine.models.remove("other")
            await reach("tiny", 5)
            until.set()
            await asyncio.gather(*clients)
            assert list(engine.models) == ["tiny"]
            assert not engine._worker.in_hand
            assert set(engine._worker.models) == {"tiny"}
            assert engine.health().ok
        assert answered["other"] >= 15
        assert refused

    asyncio.run(run())


def test_what_waits_for_a_model_is_answered_before_it_goes(tiny, spec, other):
    async def run():
        async with running(spec, other) as engine:
            first = await hold(engine, tiny)
            model = engine.loaded("other")
            with engine.room(model, SOMETIME) as decoding:
                decoding.take([5])
                waiting = submit(engine, image(1), image(2), model="other")
                removing = asyncio.create_task(engine.models.remove("other"))
                await asyncio.sleep(0)
                assert engine.models["other"].status == "unloading"
                with pytest.raises(ModelUnavailable, match="'other' is unloading"):
                    engine.loaded("other")
                with engine.room(model, SOMETIME) as late, pytest.raises(ModelUnavailable):
                    late.take([5])
                tiny.gate.set()
                await asyncio.gather(*first, *waiting)
                assert not removing.done()  # an image of it is still being decoded
                (last,) = engine.submit(decoding, [image(3)])
            assert (await last).batch.images == 1
            await removing
            assert list(engine.models) == ["tiny"]

    asyncio.run(run())


def test_a_successor_is_not_taken_for_the_model_that_a_request_began_with(tiny, spec, other):
    async def run():
        async with running(spec, other) as engine:
            before = engine.loaded("other")
            await engine.models.remove("other")
            await engine.models.add(other)
            assert engine.loaded("other") is not before
            with engine.room(before, SOMETIME) as room, pytest.raises(ModelUnavailable):
                room.take([5])
            await submit(engine, image(0), model="other")[0]

    asyncio.run(run())


def test_a_model_that_cannot_be_added_leaves_nothing_behind(monkeypatch, tiny, spec, other):
    def load(spec, *_):
        raise CheckpointError("other.pth: truncated")

    async def run():
        async with running(spec) as engine:
            monkeypatch.setattr(catalog, "load", load)
            with pytest.raises(CheckpointError, match="truncated"):
                await engine.models.add(other)
            assert list(engine.models) == ["tiny"]
            with pytest.raises(ValueError, match="'tiny' is served already"):
                await engine.models.add(spec)
            assert (await submit(engine, image(0))[0]).batch.images == 1

    asyncio.run(run())


def test_a_model_warms_up_between_batches(tiny, spec, other):
    """The device's thread runs both, so that neither measures or delays the other halfway."""

    async def run():
        async with running(spec) as engine:
            first = await hold(engine, tiny)
            adding = asyncio.create_task(engine.models.add(other))
            while not engine._worker._calls:
                await asyncio.sleep(0.001)
            assert engine.models["other"].status == "loading"
            assert len(tiny.batches) == 1
            tiny.gate.set()
            await asyncio.gather(*first, adding)
            assert engine.models["other"].status == "ready"

    asyncio.run(run())


def test_stopping_refuses_a_model_that_is_on_its_way(tiny, spec, other):
    async def run():
        engine = await started(spec)
        futures = await hold(engine, tiny)
        adding = asyncio.create_task(engine.models.add(other))
        while not engine._worker._calls:
            await asyncio.sleep(0.001)
        stopping = asyncio.create_task(engine.stop(PATIENCE_S))
        await asyncio.sleep(0)
        tiny.gate.set()
        with pytest.raises(NotReady, match="stopping"):
            await adding
        await stopping
        await asyncio.gather(*futures)
        assert not engine.alive

    asyncio.run(run())


def test_removing_a_model_from_an_engine_that_breaks_ends(tiny, spec, other):
    async def run():
        engine = await started(spec, other)
        futures = await hold(engine, tiny)
        futures += submit(engine, image(1), model="other")
        removing = asyncio.create_task(engine.models.remove("other"))
        await asyncio.sleep(0)
        tiny.failures = [torch.AcceleratorError("CUDA error: unspecified launch failure")]
        tiny.gate.set()
        with pytest.raises(NotReady):
            await asyncio.wait_for(removing, PATIENCE_S)
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ModelFailure, ModelFailure]

    asyncio.run(run())


def test_the_metrics_list_what_is_served(tiny, spec, other):
    async def run():
        async with running(spec) as engine:
            registry = engine._worker._metrics.registry

            def listed():
                (family,) = [f for f in registry.collect() if f.name == "vimserve_model_info"]
                return [sample.labels["model"] for sample in family.samples]

            await engine.models.add(other)
            assert listed() == ["tiny", "other"]
            await submit(engine, image(0), model="other")[0]
            await engine.models.remove("other")
            assert listed() == ["tiny"]
            depth = registry.get_sample_value("vimserve_queue_depth", {"model": "other"})
            assert depth == 0

    asyncio.run(run())


def test_a_removed_model_goes_in_the_device_s_thread(monkeypatch, tiny, spec, other):
    """Graphs that are destroyed in another one would be so while those of a new model are made."""
    threads = []

    async def run():
        async with running(spec, other) as engine:
            runner = engine.loaded("other").runner
            weakref.finalize(runner, lambda: threads.append(threading.current_thread()))
            del runner
            await engine.models.remove("other")
            assert threads == [engine._thread]

    asyncio.run(run())
