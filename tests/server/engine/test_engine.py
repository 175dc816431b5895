"""The loop, driven directly: a gate in the model holds the device while requests pile up."""

import asyncio
import dataclasses
import time
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest
import torch

from vimserve.model import catalog
from vimserve.model.batch import PackedBatch
from vimserve.model.checkpoint import CheckpointError
from vimserve.server.config import ServerConfig
from vimserve.server.engine import loading, worker
from vimserve.server.engine.engine import Engine, State
from vimserve.server.engine.memory import MemoryModel
from vimserve.server.engine.request import Answer, Image
from vimserve.server.engine.runner import Pass
from vimserve.server.engine.scheduler import Budget
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import (
    ImageTooLarge,
    ModelFailure,
    ModelUnavailable,
    NotReady,
    OutOfMemory,
    QueueFull,
    RequestTimeout,
    UnknownModel,
)
from vimserve.server.telemetry import request_id
from vimserve.server.telemetry.metrics import Metrics

FAR = float("inf")


def image(seed, height=32, width=32):
    pixels = torch.randint(
        256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return packed(pixels)


def packed(pixels):
    batch = PackedBatch.from_images([pixels])
    return Image(tuple(pixels.shape[1:]), batch, len(batch.patches) + 1)


async def started(*specs, **settings):
    engine = Engine(specs, ServerConfig(**settings), Metrics())
    engine.start()
    while engine.state is State.LOADING:
        await asyncio.sleep(0.001)
    assert engine.failure is None
    return engine


@asynccontextmanager
async def running(*specs, drain_s=10, **settings):
    engine = await started(*specs, **settings)
    yield engine
    await engine.stop(drain_s)
    assert not engine.alive


def submit(engine, *images, model="tiny", timeout_s=FAR, priority=5):
    with engine.room(engine.models.loaded(model)) as room:
        for one in images:
            room.take(one.tokens)
        return engine.submit(room, images, Urgency(time.monotonic(), timeout_s, priority))


async def reach_device(model):
    await asyncio.to_thread(model.wait_for_batch)


async def hold(engine, model):
    """Keep the device busy with a first image until the model's gate opens."""
    forget_warm_up(model)
    model.gate.clear()
    futures = submit(engine, image(0))
    await reach_device(model)
    return futures


def images_of(batch):
    ends = batch.cu_seqlens.tolist()
    return [batch.patches[i:j] for i, j in pairwise(ends)]


def forget_warm_up(model):
    model.batches.clear()
    while model.entered.acquire(blocking=False):
        pass


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


def test_only_the_culprit_fails_and_the_worker_lives_on(tiny, spec, caplog):
    culprit = image(5)

    def check(batch):
        if any(torch.equal(part, culprit.patches.patches) for part in images_of(batch)):
            raise RuntimeError("boom")

    async def run():
        async with running(spec) as engine:
            tiny.check = check
            request_id.current.set("abc")
            answers = await asyncio.gather(
                *submit(engine, image(0), culprit, image(1)),
                return_exceptions=True,
            )
            assert [type(answer) for answer in answers] == [Answer, ModelFailure, Answer]
            assert answers[0].batch.images == 1
            assert engine.health().ok
            assert (await submit(engine, image(0))[0]).batch.images == 1

    asyncio.run(run())
    assert "boom" in caplog.text
    assert "abc" in caplog.text


def test_out_of_memory_splits_the_batch_until_it_fits(tiny, spec):
    def check(batch):
        if len(batch.patches) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    async def run():
        async with running(spec) as engine:
            forget_warm_up(tiny)
            tiny.check = check
            large = image(9, 64, 64)
            answers = await asyncio.gather(
                *submit(engine, *(image(i) for i in range(5)), large), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [Answer] * 5 + [OutOfMemory]
            assert [answer.batch.images for answer in answers[:5]] == [1, 2, 2, 1, 1]
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


def test_a_broken_device_ends_the_engine_and_everybody_is_told(tiny, spec, caplog):
    async def run():
        engine = await started(spec)
        forget_warm_up(tiny)
        tiny.gate.clear()
        tiny.failures = [torch.AcceleratorError("CUDA error: an illegal memory access")]
        futures = submit(engine, image(0))
        await reach_device(tiny)
        futures += submit(engine, image(1))
        tiny.gate.set()
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ModelFailure, ModelFailure]
        assert engine.state is State.FAILED
        assert not engine.health().ok
        assert "illegal memory access" in engine.health().detail
        with pytest.raises(NotReady):
            submit(engine, image(2))
        await engine.stop(1)

    asyncio.run(run())


def test_scores_that_are_not_finite_are_an_error_of_that_image_alone(tiny, spec):
    good, bad = (packed(torch.full((3, 16, 16), value)) for value in (0.5, torch.nan))

    async def run():
        async with running(spec) as engine:
            answer, failed = await asyncio.gather(
                *submit(engine, good, bad), return_exceptions=True
            )
            assert answer.output.isfinite().all()
            assert isinstance(failed, ModelFailure)

    asyncio.run(run())


def test_a_full_queue_refuses_all_of_a_request(tiny, spec):
    async def run():
        async with running(spec, max_queue_tokens=14) as engine:
            running_now = await hold(engine, tiny)
            waiting = submit(engine, image(1), image(2))
            with pytest.raises(QueueFull) as caught:
                submit(engine, image(3))
            assert (caught.value.limit, caught.value.value) == (14, 15)
            assert caught.value.retry_after_s >= 1
            tiny.gate.set()
            await asyncio.gather(*running_now, *waiting)
            assert (await submit(engine, image(3))[0]).batch.images == 1

    asyncio.run(run())


def test_an_empty_queue_takes_what_is_larger_than_its_bound(tiny, spec):
    async def run():
        async with running(spec, max_queue_tokens=1) as engine:
            await asyncio.gather(*submit(engine, image(0), image(1)))

    asyncio.run(run())


def test_expired_and_cancelled_requests_never_reach_the_device(tiny, spec):
    async def run():
        async with running(spec) as engine:
            first = await hold(engine, tiny)
            expired = submit(engine, image(1), timeout_s=0)
            cancelled = submit(engine, image(2))
            kept = submit(engine, image(3))
            cancelled[0].cancel()
            tiny.gate.set()
            await asyncio.gather(*first, *kept)
            with pytest.raises(RequestTimeout) as caught:
                await expired[0]
            assert caught.value.value >= 0
        assert [batch.num_images for batch in tiny.batches] == [1, 1]

    asyncio.run(run())


def test_stopping_answers_what_waits_and_refuses_the_rest(tiny, spec):
    async def run():
        async with running(spec) as engine:
            futures = await hold(engine, tiny)
            futures += submit(engine, image(1), image(2))
            stopping = asyncio.create_task(engine.stop(10))
            await asyncio.sleep(0)
            with pytest.raises(NotReady) as caught:
                submit(engine, image(3))
            assert caught.value.value == "stopping"
            tiny.gate.set()
            await stopping
            answers = await asyncio.gather(*futures)
        assert [answer.batch.images for answer in answers] == [1, 2, 2]

    asyncio.run(run())


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


def test_stopping_does_not_wait_for_a_model_that_loads(tiny, spec):
    async def run():
        tiny.gate.clear()
        engine = Engine([spec], ServerConfig(), Metrics())
        engine.start()
        await reach_device(tiny)
        await asyncio.wait_for(engine.stop(1), 5)
        assert engine.alive
        tiny.gate.set()
        await asyncio.to_thread(engine._thread.join, 5)
        assert engine.state is State.STOPPING

    asyncio.run(run())


def test_the_budget_admits_the_largest_image(tiny, spec):
    async def run(**settings):
        async with running(spec, **settings) as engine:
            return engine.loaded("tiny").budget.tokens

    assert asyncio.run(run()) == 8192
    assert asyncio.run(run(max_resolution=2048)) == 128 * 128 + 1
    assert asyncio.run(run(max_batch_tokens=100, max_resolution=64)) == 100


def test_two_models_of_one_name(spec):
    with pytest.raises(ValueError, match="not tiny, tiny"):
        Engine([spec, spec], ServerConfig(), Metrics())


def test_unknown_models_are_told_the_known(tiny, spec):
    engine = Engine([spec], ServerConfig(), Metrics())
    assert engine.models.spec(None, "classify") is engine.models.spec("tiny", "classify") is spec
    with pytest.raises(UnknownModel) as caught:
        engine.models.spec("other", "classify")
    assert caught.value.limit == ["tiny"]


def test_a_request_holds_its_room_until_it_is_queued_or_gives_up(tiny, spec):
    async def run():
        async with running(spec, max_queue_tokens=10) as engine:
            tiny_model = engine.loaded("tiny")
            with engine.room(tiny_model) as decoding:
                decoding.take(5)
                decoding.take(5)
                with engine.room(tiny_model) as other, pytest.raises(QueueFull) as caught:
                    other.take(5)
                assert caught.value.value == 15
            with engine.room(tiny_model) as other:
                other.take(100)

    asyncio.run(run())


def test_retry_after_is_the_time_that_the_queue_takes(tiny, spec):
    async def run():
        async with running(spec, max_queue_tokens=100) as engine:
            engine._backlog.served("tiny", tokens=10, seconds=1)
            futures = await hold(engine, tiny)
            futures += submit(engine, *[image(1)] * 20)
            with pytest.raises(QueueFull) as caught:
                submit(engine, image(2))
            assert caught.value.retry_after_s == 10
            tiny.gate.set()
            await asyncio.gather(*futures)

    asyncio.run(run())


def test_better_priorities_go_first(tiny, spec):
    async def run():
        async with running(spec, max_batch_tokens=5) as engine:
            futures = await hold(engine, tiny)
            later, sooner = image(1), image(2)
            futures += submit(engine, later) + submit(engine, sooner, priority=1)
            tiny.gate.set()
            await asyncio.gather(*futures)
        ran = [batch.patches for batch in tiny.batches]
        assert torch.equal(ran[1], sooner.patches.patches)
        assert torch.equal(ran[2], later.patches.patches)

    asyncio.run(run())


def test_a_stuck_worker_is_no_healthy_one(tiny, spec):
    async def run():
        async with running(spec, stuck_timeout=1) as engine:
            futures = await hold(engine, tiny)
            assert engine.health().ok
            await asyncio.sleep(1.1)
            health = engine.health()
            assert not health.ok
            assert "limit 1 s" in health.detail
            with pytest.raises(TimeoutError):
                await engine.probe(0.05)
            tiny.gate.set()
            await asyncio.gather(*futures)
            await engine.probe(5)
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
        await asyncio.to_thread(engine._thread.join, 5)

    asyncio.run(run())


def test_an_image_that_needs_more_memory_than_there_is(tiny, spec, monkeypatch):
    monkeypatch.setattr(loading, "measure", lambda runner: MemoryModel(base=100, per_token=10))
    monkeypatch.setattr(loading, "free_bytes", lambda device: 1100)

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
    loaded = loading.Loaded(None, memory, loading.make_budget(memory, 10_100, 8192))
    loaded.check_fits(144, 144, 82)
    with pytest.raises(ImageTooLarge, match="needs 10100 bytes of memory") as caught:
        loaded.check_fits(160, 160, 100)
    assert (caught.value.limit, caught.value.value) == (10_000, 10_100)


def test_memory_for_nothing_at_all():
    with pytest.raises(ValueError, match="the smallest needs 110: free some"):
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
            await engine.probe(5)

    asyncio.run(run())


def test_memory_goes_back_once_when_the_device_is_idle(monkeypatch, tiny, spec):
    released = []
    monkeypatch.setattr(worker, "IDLE_S", 0.05)
    monkeypatch.setattr(worker, "release_unused", released.append)

    async def run():
        async with running(spec) as engine:
            await asyncio.sleep(0.15)
            assert len(released) == 1
            await submit(engine, image(0))[0]
            await asyncio.sleep(0.3)
            assert released == [torch.device("cpu")] * 2
            await submit(engine, image(0))[0]
            await asyncio.sleep(0.3)
            assert len(released) == 3

    asyncio.run(run())


def test_a_batch_on_the_device_is_told_when_a_later_one_breaks_it(monkeypatch, tiny, spec):
    """On a GPU one batch is launched while another computes: both are in hand."""

    class Later(Pass):
        done = False

        def outputs(self):
            raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    async def run():
        engine = await started(spec, max_batch_tokens=5)
        runner = engine.loaded("tiny").runner
        monkeypatch.setattr(
            runner,
            "start",
            lambda images: Later([torch.zeros(len(images), 7)], torch.ones(len(images))),
        )
        futures = submit(engine, image(0), image(1), image(2))
        answers = await asyncio.gather(*futures, return_exceptions=True)
        assert [type(answer) for answer in answers] == [ModelFailure] * 3
        assert not engine.health().ok
        await engine.stop(1)

    asyncio.run(run())


def test_a_gpu_is_given_the_next_batch_before_it_has_finished_the_last(monkeypatch, tiny, spec):
    log = []

    class Later(Pass):
        done = False

        def __init__(self, images):
            self.number = sum(entry.startswith("start") for entry in log)
            self.images = images
            log.append(f"start {self.number}")

        def outputs(self):
            log.append(f"end {self.number}")
            return list(torch.zeros(len(self.images), 7))

    async def run():
        async with running(spec, max_batch_tokens=5) as engine:
            runner = engine.loaded("tiny").runner
            monkeypatch.setattr(runner, "start", Later)
            answers = await asyncio.gather(*submit(engine, image(0), image(1), image(2)))
            assert [answer.batch.images for answer in answers] == [1, 1, 1]

    asyncio.run(run())
    assert log == ["start 0", "start 1", "end 0", "start 2", "end 1", "end 2"]


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
        await engine.stop(1)

    asyncio.run(run())
    assert "a bug" in caplog.text
