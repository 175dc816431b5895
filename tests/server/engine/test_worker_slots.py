"""A GPU has two batches at a time, one computing and one launched; these passes end when told."""

import asyncio

import pytest
import torch

from tests.patience import PATIENCE_S
from tests.server.engine.driving import Gpu, image, running, started, submit
from vimserve.server.engine.backlog import Backlog
from vimserve.server.errors import ModelFailure, RequestTimeout

LOST = torch.AcceleratorError("CUDA error: unspecified launch failure")


def test_what_arrives_while_a_batch_runs_is_launched_at_once(monkeypatch, tiny, spec):
    async def run():
        async with running(spec) as engine:
            gpu = Gpu(monkeypatch, engine)
            (one,) = submit(engine, image(0))
            first = await gpu.launch()
            (two,) = submit(engine, image(1))
            second = await gpu.launch()
            assert not one.done()
            first.end.set()
            await one
            assert not two.done()
            second.end.set()
            await two
        assert gpu.log == ["start 0", "start 1", "end 0", "end 1"]

    asyncio.run(run())


def test_the_next_batch_is_launched_before_the_last_has_ended_and_never_a_third(
    monkeypatch, tiny, spec
):
    async def run():
        async with running(spec, max_batch_tokens=5) as engine:
            gpu = Gpu(monkeypatch, engine)
            answers = submit(engine, image(0), image(1), image(2))
            first, second = await gpu.launch(), await gpu.launch()
            first.end.set()
            third = await gpu.launch()
            third.end.set()
            second.end.set()
            assert [answer.batch.images for answer in await asyncio.gather(*answers)] == [1, 1, 1]
        assert gpu.log == ["start 0", "start 1", "end 0", "start 2", "end 1", "end 2"]

    asyncio.run(run())


def test_a_batch_is_answered_though_nothing_arrives(monkeypatch, tiny, spec):
    async def run():
        async with running(spec) as engine:
            gpu = Gpu(monkeypatch, engine)
            for number in range(3):
                (answer,) = submit(engine, image(number))
                (await gpu.launch()).end.set()
                await answer

    asyncio.run(run())


def test_a_running_batch_is_waited_for_without_polling(monkeypatch, tiny, spec):
    asked = 0
    take = Backlog.take

    def counted_take(self, timeout_s, interrupted, **how):
        def counted():
            nonlocal asked
            asked += 1
            return interrupted()

        return take(self, timeout_s, counted, **how)

    async def run():
        nonlocal asked
        async with running(spec) as engine:
            gpu = Gpu(monkeypatch, engine)
            monkeypatch.setattr(Backlog, "take", counted_take)
            (answer,) = submit(engine, image(0))
            launched = await gpu.launch()
            await asyncio.sleep(0.1)
            launched.end.set()
            await answer
            # The idle worker was woken by the request; then it began to wait, and was woken again.
            assert asked <= 4

    asyncio.run(run())


def test_what_expires_while_a_batch_runs_takes_no_place_behind_it(monkeypatch, tiny, spec):
    async def run():
        async with running(spec) as engine:
            gpu = Gpu(monkeypatch, engine)
            (kept,) = submit(engine, image(0))
            first = await gpu.launch()
            (expired,) = submit(engine, image(1), timeout_s=0)
            with pytest.raises(RequestTimeout):
                await expired
            (late,) = submit(engine, image(2))
            second = await gpu.launch()
            assert not kept.done()
            first.end.set()
            second.end.set()
            await asyncio.gather(kept, late)
        assert gpu.log == ["start 0", "start 1", "end 0", "end 1"]

    asyncio.run(run())


@pytest.mark.parametrize("late", [False, True], ids=["alone", "with a second batch launched"])
def test_a_batch_that_breaks_the_device_while_it_is_waited_for_is_told(
    monkeypatch, tiny, spec, late
):
    async def run():
        engine = await started(spec)
        gpu = Gpu(monkeypatch, engine)
        futures = submit(engine, image(0))
        first = await gpu.launch()
        if late:
            futures += submit(engine, image(1))
            await gpu.launch()
        first.failure = LOST
        first.end.set()
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ModelFailure] * len(futures)
        assert not engine.health().ok
        await engine.stop(PATIENCE_S)

    asyncio.run(run())


def test_a_batch_that_fails_while_it_is_waited_for_is_run_again(monkeypatch, tiny, spec):
    async def run():
        async with running(spec) as engine:
            gpu = Gpu(monkeypatch, engine)
            answers = submit(engine, image(0), image(1))
            first = await gpu.launch()
            first.failure = RuntimeError("boom")
            first.end.set()
            for _ in answers:
                (await gpu.launch()).end.set()
            assert [answer.batch.images for answer in await asyncio.gather(*answers)] == [1, 1]

    asyncio.run(run())


def test_a_running_batch_is_answered_when_the_engine_stops(monkeypatch, tiny, spec):
    async def run():
        engine = await started(spec)
        gpu = Gpu(monkeypatch, engine)
        (answer,) = submit(engine, image(0))
        launched = await gpu.launch()
        stopping = asyncio.create_task(engine.stop(PATIENCE_S))
        await asyncio.sleep(0)
        launched.end.set()
        await answer
        await stopping
        assert not engine.alive

    asyncio.run(run())


def test_a_call_waits_for_the_running_batch_and_comes_before_the_next(monkeypatch, tiny, spec):
    async def run():
        async with running(spec) as engine:
            gpu = Gpu(monkeypatch, engine)
            (one,) = submit(engine, image(0))
            first = await gpu.launch()
            called = engine._worker.call(lambda: gpu.log.append("call"))
            first.end.set()
            await asyncio.wrap_future(called)
            (two,) = submit(engine, image(1))
            (await gpu.launch()).end.set()
            await asyncio.gather(one, two)
        assert gpu.log == ["start 0", "end 0", "call", "start 1", "end 1"]

    asyncio.run(run())
