"""What happens to batches on the device: the engine is driven through ``driving``."""

import asyncio

import pytest
import torch

from tests.patience import PATIENCE_S
from tests.server.engine.driving import (
    forget_warm_up,
    image,
    images_of,
    packed,
    reach_device,
    running,
    started,
    submit,
)
from vimserve.model import device_memory
from vimserve.model.served import Answers
from vimserve.server.engine import worker
from vimserve.server.engine.backlog import Backlog
from vimserve.server.engine.engine import State
from vimserve.server.engine.request import Answer
from vimserve.server.engine.runner import Pass
from vimserve.server.errors import (
    ModelFailure,
    NotReady,
    OutOfMemory,
)
from vimserve.server.telemetry import request_id


def test_only_the_culprit_fails_and_the_worker_lives_on(tiny, spec, caplog):
    culprit = image(5)

    def check(batch):
        if any(torch.equal(part, culprit.patches.patches) for part in images_of(batch)):
            raise RuntimeError("boom")

    async def run():
        async with running(spec) as engine:
            tiny.check = check
            request_id.current.set("abc")
            first, failed, last = await asyncio.gather(
                *submit(engine, image(0), culprit, image(1)),
                return_exceptions=True,
            )
            assert isinstance(first, Answer)
            assert isinstance(failed, ModelFailure)
            assert isinstance(last, Answer)
            assert first.batch.images == 1
            assert engine.health().ok
            assert (await submit(engine, image(0))[0]).batch.images == 1

    asyncio.run(run())
    assert "boom" in caplog.text
    assert "abc" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB"),
        torch.AcceleratorError("CUDA error: out of memory\nSearch for"),
        RuntimeError("Triton Error [CUDA]: out of memory"),
    ],
    ids=["in the allocator", "outside it", "in Triton"],
)
def test_out_of_memory_splits_the_batch_until_it_fits(tiny, spec, error):
    def check(batch):
        if len(batch.patches) > 8:
            raise error

    async def run():
        async with running(spec) as engine:
            forget_warm_up(tiny)
            tiny.check = check
            large = image(9, 64, 64)
            *others, refused = submit(engine, *(image(i) for i in range(5)), large)
            answers = await asyncio.gather(*others)
            assert [answer.batch.images for answer in answers] == [1, 2, 2, 1, 1]
            with pytest.raises(OutOfMemory):
                await refused
            assert (await submit(engine, image(0))[0]).batch.images == 1

    asyncio.run(run())


def test_nobody_is_run_again_who_has_left(tiny, spec):
    async def run():
        async with running(spec) as engine:
            forget_warm_up(tiny)
            tiny.gate.clear()
            gone, kept = submit(engine, image(0), image(1))
            await reach_device(tiny)
            gone.cancel()
            tiny.failures = [RuntimeError("boom")]
            tiny.gate.set()
            assert (await kept).batch.images == 1
        assert [batch.num_images for batch in tiny.batches] == [2, 1]

    asyncio.run(run())


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: unspecified launch failure"),
        RuntimeError("Triton Error [CUDA]: unspecified launch failure"),
    ],
    ids=["in PyTorch", "in Triton"],
)
def test_a_broken_device_ends_the_engine_and_everybody_is_told(tiny, spec, error):
    async def run():
        engine = await started(spec)
        forget_warm_up(tiny)
        tiny.gate.clear()
        tiny.failures = [error]
        futures = submit(engine, image(0))
        await reach_device(tiny)
        futures += submit(engine, image(1))
        tiny.gate.set()
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ModelFailure, ModelFailure]
        assert engine.state is State.FAILED
        assert not engine.health().ok
        assert "unspecified launch failure" in engine.health().detail
        with pytest.raises(NotReady):
            submit(engine, image(2))
        await engine.stop(PATIENCE_S)

    asyncio.run(run())


def test_scores_that_are_not_finite_are_an_error_of_that_image_alone(tiny, spec):
    good, bad = (packed(torch.full((3, 16, 16), value)) for value in (0.5, torch.nan))

    async def run():
        async with running(spec) as engine:
            answer, failed = await asyncio.gather(
                *submit(engine, good, bad), return_exceptions=True
            )
            assert isinstance(answer, Answer)
            assert answer.output.isfinite().all()
            assert isinstance(failed, ModelFailure)

    asyncio.run(run())


def test_memory_goes_back_once_when_the_device_is_idle(monkeypatch, tiny, spec):
    released: list[torch.device] = []
    waits: list[float | None] = []
    take = Backlog.take

    def watched_take(self, timeout_s, interrupted, **how):
        waits.append(timeout_s)
        return take(self, timeout_s, interrupted, **how)

    monkeypatch.setattr(worker, "IDLE_S", 0.05)
    monkeypatch.setattr(worker, "release_unused", released.append)
    monkeypatch.setattr(Backlog, "take", watched_take)

    async def use_and_leave(engine):
        released.clear()
        waits.clear()
        await submit(engine, image(0))[0]
        # Idle for a moment, then for as long as it takes: there is no second release.
        while not (0.05 in waits and waits[-1] is None):
            await asyncio.sleep(0.005)

    async def run():
        async with running(spec) as engine:
            await use_and_leave(engine)  # loading releases memory as well
            for _ in range(2):
                await use_and_leave(engine)
                assert released == [torch.device("cpu")]

    asyncio.run(run())


def test_the_peak_of_a_batch_is_that_of_its_graph_and_of_what_runs_outside(monkeypatch, tiny, spec):
    def start(images):
        monkeypatch.setattr(device_memory, "highest_resident", lambda: 5000)
        return Pass(Answers.of_scores(torch.zeros(len(images), 7), recorded_bytes=700))

    monkeypatch.setattr(worker, "held_bytes", lambda device: 1000)

    async def run():
        async with running(spec) as engine:
            monkeypatch.setattr(engine.loaded("tiny").runner, "start", start)
            answer = await submit(engine, image(0))[0]
            assert answer.batch.peak_bytes == 4000 + 700

    asyncio.run(run())
