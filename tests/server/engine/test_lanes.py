"""A CPU runs two batches side by side; here each image holds its batch until it is let go.

A batch that is held follows the changes of its threads when it is asked how many it has.

Nothing is known of costs here, so the second batch begins only if one more request waits besides.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import pytest
import torch

from tests.patience import PATIENCE_S
from tests.server.engine.driving import SOMETIME, image, images_of, running, started, submit
from vimserve.model.threads import follow_limit
from vimserve.server.engine import worker
from vimserve.server.engine.engine import State
from vimserve.server.errors import ModelFailure


@pytest.fixture(autouse=True)
def two_lanes(monkeypatch):
    """With four threads between them, however many this machine has."""
    monkeypatch.setattr(worker, "LANES", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Held:
    """A tiny model's batches, each of which lasts until its first image is let go."""

    def __init__(self, tiny, images):
        self.threads: dict[int, int] = {}
        self.failures: dict[int, Exception] = {}
        self._begun = [threading.Event() for _ in images]
        self._asked: list[SimpleQueue[Future[int] | None]] = [SimpleQueue() for _ in images]
        self._patches = [one.patches.patches for one in images]
        tiny.check = self._check

    def _check(self, batch):
        first = images_of(batch)[0]
        for number, patches in enumerate(self._patches):
            if torch.equal(first, patches):
                self.threads[number] = torch.get_num_threads()
                self._begun[number].set()
                while (question := self._asked[number].get(timeout=PATIENCE_S)) is not None:
                    follow_limit()
                    question.set_result(torch.get_num_threads())
                if number in self.failures:
                    raise self.failures.pop(number)

    async def begun(self, number):
        assert await asyncio.to_thread(self._begun[number].wait, PATIENCE_S)

    def has_begun(self, number):
        return self._begun[number].is_set()

    async def threads_of(self, number):
        """How many a batch that runs has from now on."""
        question: Future[int] = Future()
        self._asked[number].put(question)
        return await asyncio.wrap_future(question)

    async def gets(self, number, threads):
        async with asyncio.timeout(PATIENCE_S):
            while await self.threads_of(number) != threads:
                await asyncio.sleep(0.001)

    def let_go(self, *numbers):
        for number in numbers:
            self._asked[number].put(None)


def drive(tiny, spec, scenario: Callable[..., Any], images: int = 4):
    """Run ``scenario(engine, held, submit_one)`` on batches of one image each."""

    async def run():
        async with running(spec, max_batch_tokens=5) as engine:
            pictures = [image(number) for number in range(images)]
            held = Held(tiny, pictures)
            await scenario(engine, held, lambda number: submit(engine, pictures[number])[0])

    asyncio.run(run())


def test_the_batch_that_ends_first_is_answered_first_and_there_is_never_a_third(tiny, spec):
    async def scenario(engine, held, ask):
        answers = [ask(0)]
        await held.begun(0)
        answers += [ask(number) for number in (1, 2, 3)]
        await held.begun(1)
        held.let_go(1)
        await answers[1]
        await held.begun(2)
        assert not answers[0].done()
        held.let_go(2)
        await answers[2]
        assert not answers[0].done()
        assert not held.has_begun(3)
        held.let_go(0, 3)
        await asyncio.gather(*answers)
        assert held.threads == {0: 4, 1: 2, 2: 2, 3: 4}

    drive(tiny, spec, scenario)


def test_a_lane_has_its_next_batch_before_the_last_one_is_answered(tiny, spec):
    async def scenario(engine, held, ask):
        running = []
        tell = engine._worker._tell

        def note(endings):
            if endings:
                running.append(len(engine._worker._shares.running))
            tell(endings)

        engine._worker._tell = note
        answers = [ask(number) for number in range(4)]
        await held.begun(0)
        await held.begun(1)
        held.let_go(1)
        await answers[1]
        assert running == [2]
        held.let_go(2)
        await answers[2]  # the last had better wait for all threads, and holds up no answer
        assert running == [2, 1]
        held.let_go(0, 3)
        await asyncio.gather(*answers)

    drive(tiny, spec, scenario)


def test_a_single_one_waits_and_then_has_all_threads(tiny, spec):
    async def scenario(engine, held, ask):
        first = ask(0)
        await held.begun(0)
        single = ask(1)
        held.let_go(0)
        await first
        await held.begun(1)
        held.let_go(1)
        await single
        assert held.threads == {0: 4, 1: 4}

    drive(tiny, spec, scenario)


def test_a_batch_gives_half_of_its_threads_to_one_that_begins_and_gets_them_back(tiny, spec):
    async def scenario(engine, held, ask):
        answers = [ask(0)]
        await held.begun(0)
        answers += [ask(number) for number in (1, 2)]
        await held.begun(1)
        assert held.threads == {0: 4, 1: 2}
        assert await held.threads_of(0) == await held.threads_of(1) == 2
        held.let_go(0)
        await answers[0]
        await held.gets(1, 4)  # the single one that waits had better have all threads too
        answers.append(ask(3))
        await held.begun(2)
        assert await held.threads_of(1) == await held.threads_of(2) == 2
        held.let_go(1, 2, 3)
        await asyncio.gather(*answers)

    drive(tiny, spec, scenario)


def test_a_batch_left_alone_keeps_half_while_another_image_is_on_its_way(tiny, spec):
    async def scenario(engine, held, ask):
        with engine.room(engine.models.loaded("tiny"), SOMETIME) as room:
            room.take([5])
            answers = [ask(number) for number in range(3)]
            await held.begun(0)
            await held.begun(1)
            held.let_go(0)
            await answers[0]
            assert await held.threads_of(1) == 2
        engine._worker._backlog.wake()
        await held.gets(1, 4)
        held.let_go(1, 2)
        await asyncio.gather(*answers)

    drive(tiny, spec, scenario)


def test_batches_do_not_run_side_by_side_if_they_need_more_memory_than_there_is(tiny, spec):
    async def scenario(engine, held, ask):
        loaded = engine.loaded("tiny")
        few = replace(loaded, available_bytes=2 * loaded.memory.predict([5]) - 1)
        await asyncio.wrap_future(
            engine._worker.call(lambda: engine._worker.models.update(tiny=few))
        )
        answers = [ask(number) for number in range(3)]
        await held.begun(0)
        held.let_go(0)
        await answers[0]
        await held.begun(1)
        assert not held.has_begun(2)
        held.let_go(1, 2)
        await asyncio.gather(*answers)
        assert held.threads == {0: 4, 1: 4, 2: 4}

    drive(tiny, spec, scenario)


def test_a_failure_is_that_of_its_own_batch(tiny, spec):
    async def scenario(engine, held, ask):
        failing, *others = [ask(number) for number in range(3)]
        await held.begun(0)
        await held.begun(1)
        held.failures[0] = RuntimeError("boom")
        held.let_go(0)
        with pytest.raises(ModelFailure):
            await failing
        held.let_go(1, 2)
        await asyncio.gather(*others)

    drive(tiny, spec, scenario)


def test_a_call_waits_for_both(tiny, spec):
    async def scenario(engine, held, ask):
        answers = [ask(number) for number in range(3)]
        await held.begun(0)
        await held.begun(1)
        called = engine._worker.call(lambda: [*engine._worker.in_hand])
        held.let_go(1, 0)
        assert await asyncio.wrap_future(called) == []
        held.let_go(2)
        await asyncio.gather(*answers)

    drive(tiny, spec, scenario)


def test_both_are_answered_when_the_engine_stops(tiny, spec):
    async def run():
        engine = await started(spec, max_batch_tokens=5)
        pictures = [image(number) for number in range(3)]
        held = Held(tiny, pictures)
        answers = submit(engine, *pictures)
        await held.begun(0)
        await held.begun(1)
        stopping = asyncio.create_task(engine.stop(PATIENCE_S))
        await asyncio.sleep(0)
        held.let_go(1, 0, 2)
        await asyncio.gather(*answers)
        await stopping
        assert not engine.alive
        assert engine.state is State.STOPPING

    asyncio.run(run())


def test_a_batch_that_hangs_is_noticed_while_others_run_beside_it(tiny, spec):
    async def scenario(engine, held, ask):
        stuck = ask(0)
        await held.begun(0)
        since = engine._worker.busy_since
        others = [ask(1), ask(2)]
        held.let_go(1)
        await others[0]
        assert engine._worker.busy_since == pytest.approx(since, abs=1e-6)
        held.let_go(0, 2)
        await asyncio.gather(stuck, others[1])

    drive(tiny, spec, scenario)
