"""Asks the models about the pictures, through the engine that serves them."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from vimserve.model.spec import ModelSpec
from vimserve.server.commands.evaluate.benchmark import Benchmark
from vimserve.server.commands.evaluate.journal import Journal
from vimserve.server.commands.evaluate.samples import Record, Sample
from vimserve.server.commands.standalone import standalone
from vimserve.server.config import Config
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import BadRequest, OutOfMemory
from vimserve.server.images.prepare import Measured
from vimserve.server.images.source import EncodedImage
from vimserve.server.pipeline import Pipeline
from vimserve.server.tasks.task import Plan

# Enough to fill a batch while the next one is decoded; more would only take memory.
FILES_AT_ONCE = 32


@dataclass(frozen=True)
class Setting:
    """One model at one size, on its pictures.

    Attributes:
        spec: the model.
        resolution: what was asked for; None for the model's own.
        plan: how the model answers.
        benchmark: the pictures.
        journal: keeps the answers.
    """

    spec: ModelSpec
    resolution: str | None
    plan: Plan[Any]
    benchmark: Benchmark
    journal: Journal

    def open(self) -> list[tuple[Sample, str]]:
        """The pictures that have no answer yet, each with its key.

        Raises:
            OSError: if one of their files has gone.
        """
        keys = [(sample, sample.key()) for sample in self.benchmark.samples]
        return [one for one in keys if not self.journal.answered(*one)]


async def answer_all(config: Config, settings: Sequence[Setting]) -> None:
    """Fill the journals; the models are only loaded if there is something to ask.

    Raises:
        ValueError: if a truth does not fit its picture or the model.
        ServerError: if a model cannot answer.
    """
    to_do = [(setting, setting.open()) for setting in settings]
    to_do = [(setting, samples) for setting, samples in to_do if samples]
    if not to_do:
        return
    specs = {setting.spec.name: setting.spec for setting, _ in to_do}
    async with standalone(config, [*specs.values()]) as pipeline:
        every = sum(len(setting.benchmark.samples) for setting in settings)
        left = sum(len(samples) for _, samples in to_do)
        with tqdm(total=every, initial=every - left, unit="picture", disable=None) as bar:
            for setting, samples in to_do:
                bar.set_description(f"{setting.spec.name} {setting.resolution or ''}".strip())
                await _answer(pipeline, setting, samples, bar)


async def _answer(
    pipeline: Pipeline,
    setting: Setting,
    samples: Sequence[tuple[Sample, str]],
    bar: "tqdm[Any]",
) -> None:
    """Ask one setting's model, about several pictures at a time."""
    model = pipeline.engine.loaded(setting.spec.name)
    waiting = iter(samples)
    counted = _busy_s(pipeline)

    async def ask(sample: Sample) -> Record:
        urgency = Urgency(time.monotonic(), timeout_s=float("inf"), priority=1)

        def render(measured: Measured, result: Any) -> Record:
            record = setting.benchmark.record(sample, result)
            return record | {"peak_bytes": model.predict_peak(measured.lengths)}

        try:
            image = EncodedImage(await asyncio.to_thread(sample.path.read_bytes))
            completed = await pipeline.run(model, setting.plan, [image], urgency, render)
        except (BadRequest, OutOfMemory) as error:
            return {"error": error.detail}
        except OSError as error:
            return {"error": error.strerror or str(error)}
        return completed.results[0]

    async def work(rest: Iterator[tuple[Sample, str]]) -> None:
        nonlocal counted
        for sample, key in rest:
            record = await ask(sample)
            # From one answer to the next, so that the sum is right however often a run goes on.
            busy = _busy_s(pipeline)
            setting.journal.add(sample, key, record | {"seconds": busy - counted})
            counted = busy
            bar.update()

    workers = [asyncio.create_task(work(waiting)) for _ in range(FILES_AT_ONCE)]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


def _busy_s(pipeline: Pipeline) -> float:
    """Seconds that the device has run batches."""
    return sum(pipeline.engine.busy_seconds().values())
