"""Who waits for whom: jobs are held by hand, so no verdict depends on time."""

import asyncio
import threading

import pytest

from tests.patience import PATIENCE_S
from vimserve.server.errors import ImageTooLarge
from vimserve.server.images.cost import Cost
from vimserve.server.images.decoders import Decoders

MB = 2**20
SMALL, LARGE = Cost(MB, quick=True), Cost(100 * MB, quick=False)


class Job:
    """A job that goes on until it is let go."""

    def __init__(self, result=None):
        self.began, self.gate = threading.Event(), threading.Event()
        self._result = result

    def __call__(self):
        self.began.set()
        assert self.gate.wait(PATIENCE_S)
        return self._result

    async def has_begun(self):
        assert await asyncio.to_thread(self.began.wait, PATIENCE_S)


def run(scenario, threads=2, max_bytes=1024 * MB):
    async def whole():
        decoders = Decoders(threads, max_bytes)
        try:
            await asyncio.wait_for(scenario(decoders), PATIENCE_S)
        finally:
            decoders.close()

    asyncio.run(whole())


async def started(decoders, count, cost=LARGE):
    """Tasks of as many jobs, in their order."""
    jobs = [Job(i) for i in range(count)]
    tasks = [asyncio.ensure_future(decoders.run(job, cost)) for job in jobs]
    await asyncio.sleep(0)
    return jobs, tasks


async def finish(jobs, tasks):
    for job in jobs:
        job.gate.set()
    return await asyncio.gather(*tasks)


def test_a_small_image_does_not_wait_for_large_ones():
    async def scenario(decoders):
        jobs, tasks = await started(decoders, 5)
        assert await decoders.run(lambda: "small", SMALL) == "small"
        assert await finish(jobs, tasks) == [0, 1, 2, 3, 4]

    run(scenario)
    run(scenario, threads=1)
    run(scenario, max_bytes=200 * MB)


def test_as_many_large_images_as_threads_are_decoded_at_once():
    async def scenario(decoders):
        jobs, tasks = await started(decoders, 4)
        await jobs[0].has_begun()
        await jobs[1].has_begun()
        assert not jobs[2].began.is_set()
        jobs[1].gate.set()
        await jobs[2].has_begun()
        assert not jobs[3].began.is_set()
        await finish(jobs, tasks)

    run(scenario)


def test_images_are_admitted_within_the_memory_and_in_their_order():
    async def scenario(decoders):
        jobs, tasks = await started(decoders, 3, Cost(300 * MB, quick=False))
        tiny = asyncio.ensure_future(decoders.run(lambda: "tiny", Cost(MB, quick=False)))
        await jobs[0].has_begun()
        await jobs[1].has_begun()
        await asyncio.sleep(0)
        assert not jobs[2].began.is_set()
        assert not tiny.done()
        jobs[0].gate.set()
        await jobs[2].has_begun()
        assert await tiny == "tiny"
        await finish(jobs, tasks)

    run(scenario, threads=4, max_bytes=900 * MB)


def test_slow_or_large_is_not_small():
    async def scenario(decoders):
        jobs, tasks = await started(decoders, 2)
        for cost in (Cost(MB, quick=False), Cost(100 * MB, quick=True)):
            waits = asyncio.ensure_future(decoders.run(lambda: None, cost))
            await asyncio.sleep(0)
            assert len(decoders._waiting) == 1
            waits.cancel()
            await asyncio.gather(waits, return_exceptions=True)
            assert not decoders._waiting
        await finish(jobs, tasks)

    run(scenario)


def test_what_needs_more_than_there_is_for_one_is_refused():
    async def scenario(decoders):
        with pytest.raises(ImageTooLarge) as caught:
            await decoders.run(lambda: None, Cost(100 * MB, quick=True))
        assert caught.value.value == 100 * MB
        assert caught.value.limit < 100 * MB
        await decoders.run(lambda: None, Cost(caught.value.limit, quick=False))

    run(scenario, max_bytes=100 * MB)


def test_who_leaves_gives_the_room_back_when_the_thread_is_done():
    async def scenario(decoders):
        jobs, tasks = await started(decoders, 3)
        await jobs[0].has_begun()
        await jobs[1].has_begun()
        tasks[0].cancel()
        tasks[2].cancel()
        await asyncio.gather(tasks[0], tasks[2], return_exceptions=True)
        later = Job()
        task = asyncio.ensure_future(decoders.run(later, LARGE))
        await asyncio.sleep(0)
        assert not later.began.is_set()  # the thread of the first is still at work
        jobs[0].gate.set()
        await later.has_begun()
        assert not jobs[2].began.is_set()
        later.gate.set()
        await finish(jobs[1:2], [tasks[1], task])
        while decoders._free_threads < 2:
            await asyncio.sleep(0.001)
        assert decoders._free_bytes == decoders._most_bytes

    run(scenario)


def test_who_leaves_in_the_moment_of_its_turn_gives_it_back():
    async def scenario(decoders):
        jobs, tasks = await started(decoders, 1)
        waits = [asyncio.ensure_future(decoders.run(Job(), LARGE)) for _ in range(3)]
        last = asyncio.ensure_future(decoders.run(lambda: "last", LARGE))
        await asyncio.sleep(0)
        waits[0].cancel()
        decoders._release(0)  # the first that waits is the one that is going
        waits[1].cancel()
        decoders._free_threads -= 1
        waits[2].cancel()
        await finish(jobs, tasks)
        assert await last == "last"
        await asyncio.gather(*waits, return_exceptions=True)
        while decoders._free_threads < 1:
            await asyncio.sleep(0.001)
        assert decoders._free_bytes == decoders._most_bytes

    run(scenario, threads=1)


def test_an_error_gives_the_room_back():
    async def scenario(decoders):
        def fail():
            raise ValueError("damaged")

        for _ in range(5):
            with pytest.raises(ValueError, match="damaged"):
                await decoders.run(fail, LARGE)
        while decoders._free_threads < 2:
            await asyncio.sleep(0.001)
        assert decoders._free_bytes == decoders._most_bytes

    run(scenario)
