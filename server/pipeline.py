"""A request's way from images to results: decode, queue, inference, postprocess."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Generic, TypeVar

from vimserve.server.config import ServerConfig
from vimserve.server.engine.backlog import Room
from vimserve.server.engine.engine import Engine
from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.request import Answer, Batch
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import ServerError
from vimserve.server.images.prepare import Limits, Measured, measure
from vimserve.server.images.source import Source
from vimserve.server.tasks.task import Plan
from vimserve.server.telemetry.metrics import Metrics

DECODE_NICENESS = 10

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")
W = TypeVar("W")


@dataclass(frozen=True)
class Stages:
    """Where the time of a request went, in seconds.

    Attributes:
        decode_s: to decode, resize and cut into patches.
        queue_s: waiting for the device.
        inference_s: of the batches that carried the images, summed.
        postprocess_s: from the model's outputs to the rendered results.
        total_s: from the head of the request, upload included.
    """

    decode_s: float
    queue_s: float
    inference_s: float
    postprocess_s: float
    total_s: float


@dataclass(frozen=True)
class Completed(Generic[W]):
    """What became of a request's images, in their order.

    Attributes:
        results: as they were rendered.
        measured: what the model saw of each image.
        batch: the batches that carried them, added up; of the peaks the highest.
    """

    results: list[W]
    measured: Sequence[Measured]
    stages: Stages
    batch: Batch


class Pipeline:
    """Answers requests, whatever the wire format that they came in; one for the whole server."""

    def __init__(self, config: ServerConfig, engine: Engine, metrics: Metrics) -> None:
        self.config = config
        self.engine = engine
        self.metrics = metrics
        self._readers = ThreadPoolExecutor(1, "header")
        self._decoders = ThreadPoolExecutor(config.decode_threads, "decode", _yield_to_others)
        self._postprocessors = ThreadPoolExecutor(config.postprocess_threads, "postprocess")

    def close(self) -> None:
        """End the threads."""
        for pool in (self._readers, self._decoders, self._postprocessors):
            pool.shutdown(wait=False, cancel_futures=True)

    async def run(
        self,
        model: Loaded,
        plan: Plan[R],
        sources: Sequence[Source],
        urgency: Urgency,
        render: Callable[[Measured, R], W],
    ) -> Completed[W]:
        """The result for every image.

        Args:
            model: what answers.
            plan: how.
            sources: the images.
            urgency: by when.
            render: makes of a plain result what the wire format says; runs in another thread.

        Raises:
            ServerError: that of the first image which cannot be answered.
        """
        name = model.runner.spec.name
        began = time.monotonic()
        with self.engine.room(model) as room:
            measured = await self._measure(model, plan, sources, room)
            images = await _each(self._decoders, Measured.prepare, measured, sources)
            submitted = time.monotonic()
            waiting = self.engine.submit(room, list(chain(*images)), urgency)
        answers = iter(await _all(waiting))
        answered = time.monotonic()
        of_images = [list(islice(answers, len(views))) for views in images]
        results = await asyncio.get_running_loop().run_in_executor(
            self._postprocessors, _conclude, plan, measured, of_images, render
        )
        done = time.monotonic()

        batches = {answer.batch for answers in of_images for answer in answers}
        inference_s = sum(batch.inference_s for batch in batches)
        stages = Stages(
            decode_s=submitted - began,
            queue_s=max(answered - submitted - inference_s, 0.0),
            inference_s=inference_s,
            postprocess_s=done - answered,
            total_s=done - urgency.arrived,
        )
        self.metrics.observe_stages(
            name,
            decode=stages.decode_s,
            queue=stages.queue_s,
            inference=stages.inference_s,
            postprocess=stages.postprocess_s,
        )
        return Completed(results, measured, stages, Batch.sum_of(batches))

    async def _measure(
        self, model: Loaded, plan: Plan[R], sources: Sequence[Source], room: Room
    ) -> list[Measured]:
        limits = Limits(self.config.max_pixels, self.config.max_resolution)

        def look(source: Source) -> Measured:
            return measure(source, model.runner, plan.transform, limits, plan.views)

        # The headers have a thread of their own: a request that must be refused shall not wait
        # for the pixels of those that came before it.
        measured = await _each(self._readers, look, sources, sources)
        for one in measured:
            for view, tokens in zip(one.views, one.lengths, strict=True):
                model.check_fits(view.height, view.width, tokens)
            room.take(one.tokens)
        return measured


async def _each(
    pool: ThreadPoolExecutor,
    function: Callable[[A], B],
    arguments: Sequence[A],
    sources: Sequence[Source],
) -> list[B]:
    """The results for all arguments, or the error of the first that has one, with its file."""
    loop = asyncio.get_running_loop()
    jobs = (loop.run_in_executor(pool, function, argument) for argument in arguments)
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    for outcome, source in zip(outcomes, sources, strict=True):
        if isinstance(outcome, ServerError):
            outcome.file = source.name
    return [_value(outcome) for outcome in outcomes]


def _yield_to_others() -> None:
    """Let this thread take what the device's threads leave of the processor.

    They wait for one another many times in a forward pass, so that a moment lost by one is lost by
    all; and while the device works there is time enough to decode what comes next.
    """
    with suppress(OSError, AttributeError):  # threads have no priority of their own but on Linux
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), DECODE_NICENESS)


async def _all(waiting: Sequence[asyncio.Future[Answer]]) -> list[Answer]:
    """All the answers; when one cannot be had, nobody waits for the others."""
    try:
        return await asyncio.gather(*waiting)
    finally:
        for answer in waiting:
            answer.cancel()


def _value(outcome: B | BaseException) -> B:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _conclude(
    plan: Plan[R],
    measured: Sequence[Measured],
    answers: Sequence[Sequence[Answer]],
    render: Callable[[Measured, R], W],
) -> list[W]:
    results = []
    for one, of_image in zip(measured, answers, strict=True):
        try:
            result = plan.conclude(one, [answer.output for answer in of_image])
            results.append(render(one, result))
        except ServerError as error:
            error.file = one.name
            raise
    return results
