"""The loop, driven directly: a gate in the model holds the device while requests pile up."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
import torch

from model import catalog
from model.batch import PackedBatch
from model.checkpoint import CheckpointError
from server.config import ServerConfig
from server.engine.engine import Engine, State
from server.errors import ModelFailure, NotReady, QueueFull, RequestTimeout, UnknownModel
from server.metrics import Metrics

FAR = float("inf")


def image(seed, height=32, width=32):
    pixels = torch.randint(
        256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )
    return PackedBatch.from_images([pixels])


def tokens(image):
    return len(image.patches) + 1


@asynccontextmanager
async def running(spec, **settings):
    engine = Engine([spec], ServerConfig(**settings), Metrics())
    engine.start()
    while engine.state is State.LOADING:
        await asyncio.sleep(0.001)
    assert engine.failure is None
    yield engine
    await engine.stop()
    assert not engine.alive


def submit(engine, *images, deadline=FAR):
    return engine.submit("tiny", [(image, tokens(image)) for image in images], deadline)


async def reach_device(model):
    await asyncio.to_thread(model.wait_for_batch)


def forget_warm_up(model):
    model.batches.clear()
    while model.entered.acquire(blocking=False):
        pass


def test_what_waits_together_rides_together_whatever_its_size(tiny, spec):
    images = [image(0), *(image(i, 16 * i, 48) for i in range(1, 7))]

    async def run():
        async with running(spec) as engine:
            alone = [(await submit(engine, one)[0]).logits for one in images]
            forget_warm_up(tiny)
            tiny.gate.clear()
            first = submit(engine, images[0])
            await reach_device(tiny)
            rest = [submit(engine, one)[0] for one in images[1:]]
            tiny.gate.set()
            answers = await asyncio.gather(*first, *rest)
        assert [batch.num_images for batch in tiny.batches] == [1, 6]
        assert answers[1].batch.images == 6
        assert answers[1].batch.tokens == sum(map(tokens, images[1:]))
        for answer, expected in zip(answers, alone, strict=True):
            torch.testing.assert_close(answer.logits, expected, rtol=0, atol=1e-5)

    asyncio.run(run())


def test_batches_keep_to_the_budget(tiny, spec):
    async def run():
        async with running(spec, max_batch_tokens=16) as engine:
            forget_warm_up(tiny)
            tiny.gate.clear()
            first = submit(engine, image(0))
            await reach_device(tiny)
            rest = submit(engine, *(image(i) for i in range(1, 8)))
            tiny.gate.set()
            await asyncio.gather(*first, *rest)
        assert [batch.num_images for batch in tiny.batches] == [1, 3, 3, 1]

    asyncio.run(run())


def test_a_model_exception_fails_its_batch_and_the_worker_lives_on(tiny, spec, caplog):
    async def run():
        async with running(spec) as engine:
            tiny.failure = RuntimeError("boom")
            answers = await asyncio.gather(
                *submit(engine, image(0), image(1)), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [ModelFailure, ModelFailure]
            tiny.failure = None
            assert (await submit(engine, image(0))[0]).batch.images == 1
            assert engine.alive

    asyncio.run(run())
    assert "boom" in caplog.text


def test_scores_that_are_not_finite_are_an_error_of_that_image_alone(tiny, spec):
    good, bad = (PackedBatch.from_images([torch.full((3, 16, 16), v)]) for v in (0.5, torch.nan))

    async def run():
        async with running(spec) as engine:
            answer, failed = await asyncio.gather(
                *submit(engine, good, bad), return_exceptions=True
            )
            assert answer.logits.isfinite().all()
            assert isinstance(failed, ModelFailure)

    asyncio.run(run())


def test_a_full_queue_refuses_all_of_a_request(tiny, spec):
    async def run():
        async with running(spec, max_queue_tokens=14) as engine:
            forget_warm_up(tiny)
            tiny.gate.clear()
            running_now = submit(engine, image(0))
            await reach_device(tiny)
            waiting = submit(engine, image(1), image(2))
            with pytest.raises(QueueFull) as caught:
                submit(engine, image(3))
            assert (caught.value.limit, caught.value.value) == (14, 15)
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
            forget_warm_up(tiny)
            tiny.gate.clear()
            first = submit(engine, image(0))
            await reach_device(tiny)
            expired = submit(engine, image(1), deadline=time.monotonic())
            cancelled = submit(engine, image(2))
            kept = submit(engine, image(3))
            cancelled[0].cancel()
            tiny.gate.set()
            await asyncio.gather(*first, *kept)
            with pytest.raises(RequestTimeout) as caught:
                await expired[0]
            assert caught.value.limit == 60
        assert [batch.num_images for batch in tiny.batches] == [1, 1]

    asyncio.run(run())


def test_stopping_answers_what_waits_and_refuses_the_rest(tiny, spec):
    async def run():
        async with running(spec) as engine:
            forget_warm_up(tiny)
            tiny.gate.clear()
            futures = submit(engine, image(0))
            await reach_device(tiny)
            futures += submit(engine, image(1), image(2))
            stopping = asyncio.create_task(engine.stop())
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
            engine.runner("tiny")

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
        await asyncio.wait_for(engine.stop(), 5)
        assert engine.alive
        tiny.gate.set()
        await asyncio.to_thread(engine._thread.join, 5)
        assert engine.state is State.STOPPING

    asyncio.run(run())


def test_the_budget_admits_the_largest_image(tiny, spec):
    async def run(**settings):
        async with running(spec, **settings) as engine:
            return engine.budgets["tiny"]

    assert asyncio.run(run()) == 8192
    assert asyncio.run(run(max_resolution=2048)) == 128 * 128 + 1
    assert asyncio.run(run(max_batch_tokens=100, max_resolution=64)) == 100


def test_two_models_of_one_name(spec):
    with pytest.raises(ValueError, match="not tiny, tiny"):
        Engine([spec, spec], ServerConfig(), Metrics())


def test_unknown_models_are_told_the_known(tiny, spec):
    engine = Engine([spec], ServerConfig(), Metrics())
    assert engine.spec(None) is engine.spec("tiny") is spec
    with pytest.raises(UnknownModel) as caught:
        engine.spec("other")
    assert caught.value.limit == ["tiny"]
