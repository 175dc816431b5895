"""The engine as a whole: what rides together, health, and the end."""

import asyncio
import time
from types import SimpleNamespace

import pytest
import torch

from tests.patience import PATIENCE_S
from tests.server.engine.driving import (
    forget_warm_up,
    hold,
    image,
    reach_device,
    running,
    started,
    submit,
)
from vimserve.server.config import ServerConfig
from vimserve.server.engine import engine as engine_module
from vimserve.server.engine.engine import Engine, State
from vimserve.server.errors import (
    ModelFailure,
    NotReady,
)
from vimserve.server.telemetry.metrics import Metrics


def test_what_waits_together_rides_together_whatever_its_size(tiny, spec):
    images = [image(0), *(image(i, 16 * i, 48) for i in range(1, 7))]

    async def run():
        async with running(spec) as engine:
            alone = [(await submit(engine, one)[0]).output for one in images]
            forget_warm_up(tiny)
            tiny.gate.clear()
            first = submit(engine, images[0])
            await reach_device(tiny)
            rest = [submit(engine, one)[0] for one in images[1:]]
            tiny.gate.set()
            answers = await asyncio.gather(*first, *rest)
        assert [batch.num_images for batch in tiny.batches] == [1, 6]
        assert answers[1].batch.images == 6
        assert answers[1].batch.tokens == sum(one.tokens for one in images[1:])
        for answer, expected in zip(answers, alone, strict=True):
            torch.testing.assert_close(answer.output, expected, rtol=0, atol=1e-5)

    asyncio.run(run())


def test_batches_keep_to_the_budget(tiny, spec):
    async def run():
        async with running(spec, max_batch_tokens=16) as engine:
            first = await hold(engine, tiny)
            rest = submit(engine, *(image(i) for i in range(1, 8)))
            tiny.gate.set()
            await asyncio.gather(*first, *rest)
        assert [batch.num_images for batch in tiny.batches] == [1, 3, 3, 1]

    asyncio.run(run())


def test_stopping_answers_what_waits_and_refuses_the_rest(tiny, spec):
    async def run():
        async with running(spec) as engine:
            futures = await hold(engine, tiny)
            futures += submit(engine, image(1), image(2))
            stopping = asyncio.create_task(engine.stop(PATIENCE_S))
            await asyncio.sleep(0)
            with pytest.raises(NotReady) as caught:
                submit(engine, image(3))
            assert caught.value.value == "stopping"
            tiny.gate.set()
            await stopping
            answers = await asyncio.gather(*futures)
        assert [answer.batch.images for answer in answers] == [1, 2, 2]

    asyncio.run(run())


def test_stopping_does_not_wait_for_a_model_that_loads(tiny, spec):
    async def run():
        tiny.gate.clear()
        engine = Engine([spec], ServerConfig(), Metrics())
        engine.start()
        await reach_device(tiny)
        await asyncio.wait_for(engine.stop(2 * PATIENCE_S), PATIENCE_S)
        assert engine.alive
        tiny.gate.set()
        await asyncio.to_thread(engine._thread.join, PATIENCE_S)
        assert engine.state is State.STOPPING

    asyncio.run(run())


def test_a_stuck_worker_is_no_healthy_one(monkeypatch, tiny, spec):
    late_s = 0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + late_s)
    monkeypatch.setattr(engine_module, "time", clock)

    async def run():
        nonlocal late_s
        async with running(spec, stuck_timeout=1000) as engine:
            futures = await hold(engine, tiny)
            assert engine.health().ok
            late_s = 1001
            health = engine.health()
            assert not health.ok
            assert "the limit is 1000 s" in health.detail
            late_s = 0
            with pytest.raises(TimeoutError):
                await engine.probe(0.05)
            tiny.gate.set()
            await asyncio.gather(*futures)
            await engine.probe(PATIENCE_S)
            assert engine.health().ok

    asyncio.run(run())


def test_stopping_waits_no_longer_than_it_may(tiny, spec):
    async def run():
        engine = await started(spec)
        futures = await hold(engine, tiny)
        futures += submit(engine, image(1))
        await engine.stop(0.05)
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(answer) for answer in answers] == [NotReady, NotReady]
        tiny.gate.set()
        await asyncio.to_thread(engine._thread.join, PATIENCE_S)
        assert not engine.alive

    asyncio.run(run())


def test_a_fault_of_the_scheduler_is_not_hidden(monkeypatch, tiny, spec, caplog):
    """The loop cannot go on, so nobody may wait for it and /healthz must say so."""

    async def run():
        engine = await started(spec)
        scheduler = engine._backlog._scheduler
        faults = iter([ZeroDivisionError("a bug")])

        def broken(now, real=scheduler.next):
            if scheduler.load("tiny").images and (fault := next(faults, None)):
                raise fault
            return real(now)

        monkeypatch.setattr(scheduler, "next", broken)
        (answer,) = await asyncio.gather(*submit(engine, image(0)), return_exceptions=True)
        assert isinstance(answer, ModelFailure)
        assert not engine.health().ok
        assert "a bug" in engine.health().detail
        with pytest.raises(NotReady):
            submit(engine, image(1))
        await engine.stop(PATIENCE_S)

    asyncio.run(run())
    assert "a bug" in caplog.text
