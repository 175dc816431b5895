"""A request's way from bytes to results: decode, queue, inference, postprocess."""

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
from vimserve.server.engine.request import Answer
from vimserve.server.errors import ServerError
from vimserve.server.http.uploads import Upload
from vimserve.server.images.prepare import Limits, Measured, measure
from vimserve.server.schemas import BatchInfo, Timing
from vimserve.server.tasks.plan import Task
from vimserve.server.telemetry.metrics import Metrics

DECODE_NICENESS = 10

A = TypeVar("A")
B = TypeVar("B")
R = TypeVar("R")


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What became of a request's uploads, in their order.

    Attributes:
        measured: what the model saw of each.
    """

    results: list[R]
    measured: Sequence[Measured]
    timing: Timing
    batch: BatchInfo


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

    async def run(self, task: Task[R], uploads: Sequence[Upload]) -> Outcome[R]:
        """The results for every upload.

        Raises:
            ServerError: that of the first upload which cannot be answered.
        """
        name = task.model.runner.spec.name
        began = time.monotonic()
        with self.engine.room(name) as room:
            measured = await self._measure(task, uploads, room)
            images = await _each(self._decoders, Measured.prepare, measured, uploads)
            submitted = time.monotonic()
            waiting = self.engine.submit(room, list(chain(*images)), task.options)
        answers = iter(await _all(waiting))
        answered = time.monotonic()
        of_uploads = [list(islice(answers, len(views))) for views in images]
        results = await asyncio.get_running_loop().run_in_executor(
            self._postprocessors, _conclude, task, uploads, measured, of_uploads
        )
        done = time.monotonic()

        batches = {answer.batch for answers in of_uploads for answer in answers}
        inference_s = sum(batch.inference_s for batch in batches)
        timing = Timing(
            decode=_ms(submitted - began),
            queue=max(_ms(answered - submitted - inference_s), 0.0),
            inference=_ms(inference_s),
            postprocess=_ms(done - answered),
            total=_ms(done - task.options.arrived),
        )
        self.metrics.observe_stages(name, timing)
        batch = BatchInfo(
            images=sum(batch.images for batch in batches),
            tokens=sum(batch.tokens for batch in batches),
            peak_memory_bytes=max(batch.peak_bytes for batch in batches),
        )
        return Outcome(results, measured, timing, batch)

    async def _measure(
        self, task: Task[R], uploads: Sequence[Upload], room: Room
    ) -> list[Measured]:
        limits = Limits(self.config.max_pixels, self.config.max_resolution)
        model = task.model

        def look(upload: Upload) -> Measured:
            return measure(upload.data, model.runner, task.transform, limits, task.views)

        # The headers have a thread of their own: a request that must be refused shall not wait
        # for the pixels of those that came before it.
        measured = await _each(self._readers, look, uploads, uploads)
        for one in measured:
            for view, tokens in zip(one.views, one.lengths, strict=True):
                model.check_fits(view.height, view.width, tokens)
            room.take(one.tokens)
        return measured


async def _each(
    pool: ThreadPoolExecutor,
    function: Callable[[A], B],
    arguments: Sequence[A],
    uploads: Sequence[Upload],
) -> list[B]:
    """The results for all arguments, or the error of the first that has one, with its file."""
    loop = asyncio.get_running_loop()
    jobs = (loop.run_in_executor(pool, function, argument) for argument in arguments)
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    for outcome, upload in zip(outcomes, uploads, strict=True):
        if isinstance(outcome, ServerError):
            outcome.file = upload.name
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


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _conclude(
    task: Task[R],
    uploads: Sequence[Upload],
    measured: Sequence[Measured],
    answers: Sequence[Sequence[Answer]],
) -> list[R]:
    results = []
    for upload, one, of_upload in zip(uploads, measured, answers, strict=True):
        try:
            results.append(task.conclude(upload, one, of_upload))
        except ServerError as error:
            error.file = upload.name
            raise
    return results
