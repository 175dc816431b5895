"""What waits, and what is refused: the engine is driven through ``driving``."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from tests.patience import PATIENCE_S
from tests.server.engine.driving import SOMETIME, hold, image, running, submit
from tests.server.engine.pending import Request
from vimserve.server.engine.backlog import Backlog
from vimserve.server.errors import (
    QueueFull,
    RequestTimeout,
)


def test_a_full_queue_refuses_all_of_a_request(tiny, spec):
    async def run():
        async with running(spec, max_queue_tokens=14) as engine:
            running_now = await hold(engine, tiny)
            waiting = submit(engine, image(1), image(2))
            with pytest.raises(QueueFull) as caught:
                submit(engine, image(3))
            assert (caught.value.limit, caught.value.value) == (14, 15)
            assert caught.value.retry_after_s is not None
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


def test_a_request_holds_its_room_until_it_is_queued_or_gives_up(tiny, spec):
    async def run():
        async with running(spec, max_queue_tokens=10) as engine:
            tiny_model = engine.loaded("tiny")
            with engine.room(tiny_model, SOMETIME) as decoding:
                decoding.take([5])
                decoding.take([5])
                with engine.room(tiny_model, SOMETIME) as other, pytest.raises(QueueFull) as caught:
                    other.take([5])
                assert caught.value.value == 15
            with engine.room(tiny_model, SOMETIME) as other:
                other.take([100])

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


def test_whoever_waits_for_a_batch_returns_without_one_when_interrupted():
    backlog = Backlog[Request](100, lambda model, load: None)
    asked = threading.Semaphore(0)
    stop = threading.Event()

    def interrupted():
        asked.release()
        return stop.is_set()

    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(backlog.take, None, interrupted)
        asked.acquire()
        backlog.wake()
        asked.acquire()  # woken for nothing, it waits on
        stop.set()
        backlog.wake()
        assert taken.result(PATIENCE_S).batch == []
