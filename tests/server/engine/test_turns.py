"""Loading side by side, measuring alone."""

import asyncio
import dataclasses
import threading

from tests.patience import PATIENCE_S
from tests.server.engine.driving import image, running, submit
from vimserve.model import catalog
from vimserve.server.engine import loading
from vimserve.server.engine.turns import Turns


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_loading_and_measuring_take_turns() -> None:
    log: list[str] = []

    async def load(turns: Turns, name: str, until: asyncio.Event) -> None:
        await turns.begin_loading()
        log.append(f"{name} loads")
        await until.wait()
        turns.end_loading()

    async def measure(turns: Turns, name: str, until: asyncio.Event) -> None:
        async with turns.alone():
            log.append(f"{name} measures")
            await until.wait()

    async def run() -> None:
        turns, loaded, measured = Turns(), asyncio.Event(), asyncio.Event()
        tasks = [asyncio.create_task(load(turns, name, loaded)) for name in "ab"]
        await settle()
        assert log == ["a loads", "b loads"]
        tasks.append(asyncio.create_task(measure(turns, "a", measured)))
        await settle()
        tasks.append(asyncio.create_task(load(turns, "c", loaded)))
        tasks.append(asyncio.create_task(measure(turns, "b", measured)))
        await settle()
        assert len(log) == 2  # the measurement waits for both, and the late load for it
        loaded.set()
        await settle()
        assert log[2:] == ["a measures"]
        measured.set()
        await asyncio.gather(*tasks)
        assert log[3:] == ["c loads", "b measures"]

    asyncio.run(run())


def test_what_is_done_together_ends_before_somebody_is_alone() -> None:
    log: list[str] = []

    async def answer(turns: Turns, name: str, until: asyncio.Event) -> None:
        async with turns.together():
            log.append(name)
            await until.wait()

    async def run() -> None:
        turns, until = Turns(), asyncio.Event()
        tasks = [asyncio.create_task(answer(turns, name, until)) for name in "ab"]
        await settle()

        async def swap() -> None:
            async with turns.alone():
                log.append("swap")

        tasks.append(asyncio.create_task(swap()))
        await settle()
        tasks.append(asyncio.create_task(answer(turns, "c", until)))
        await settle()
        assert log == ["a", "b"]
        tasks[0].cancel()  # its client has left
        until.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert log == ["a", "b", "swap", "c"]

    asyncio.run(run())


def test_a_measurement_that_fails_lets_the_next_one_go_on() -> None:
    async def run() -> None:
        turns = Turns()
        try:
            async with turns.alone():
                raise KeyError
        except KeyError:
            pass
        await turns.begin_loading()
        turns.end_loading()
        async with turns.alone():
            pass

    asyncio.run(run())


def test_a_model_is_measured_while_no_other_one_loads(monkeypatch, tiny, spec):
    """What another thread allocates meanwhile would count as the measured model's memory."""
    other, third = (dataclasses.replace(spec, name=name) for name in ("other", "third"))
    go, log = threading.Event(), []
    measure = loading.measure

    def load(spec, *_):
        log.append(f"{spec.name} loads")
        assert spec.name != "other" or go.wait(PATIENCE_S)
        log.append(f"{spec.name} is loaded")
        return tiny

    def logged(runner):
        log.append(f"{runner.spec.name} is measured")
        return measure(runner)

    async def until(entry):
        while entry not in log:
            await asyncio.sleep(0.001)

    async def run():
        async with running(spec) as engine:
            monkeypatch.setattr(catalog, "load", load)
            monkeypatch.setattr(loading, "measure", logged)
            slow = asyncio.create_task(engine.models.add(other))
            await until("other loads")
            quick = asyncio.create_task(engine.models.add(third))
            await until("third is loaded")
            await submit(engine, image(0))[0]  # batches go on
            go.set()
            await asyncio.gather(slow, quick)

    asyncio.run(run())
    assert log[:4] == ["other loads", "third loads", "third is loaded", "other is loaded"]
    assert sorted(log[4:]) == ["other is measured", "third is measured"]


def test_a_loader_whose_waiter_gave_up_still_keeps_others_from_measuring(monkeypatch, tiny, spec):
    other = dataclasses.replace(spec, name="other")
    go, loads = threading.Event(), threading.Event()

    def load(*_):
        loads.set()
        assert go.wait(PATIENCE_S)
        return tiny

    async def run():
        async with running(spec) as engine:
            monkeypatch.setattr(catalog, "load", load)
            adding = asyncio.create_task(engine.models.add(other))
            await asyncio.to_thread(loads.wait, PATIENCE_S)
            adding.cancel()
            await asyncio.gather(adding, return_exceptions=True)
            turn = asyncio.create_task(engine.models._turns.alone().__aenter__())
            await asyncio.sleep(0.01)
            assert not turn.done()
            go.set()
            await asyncio.wait_for(turn, PATIENCE_S)

    asyncio.run(run())
