"""A request's way from bytes to predictions: decode, queue, inference, postprocess."""

import asyncio
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from model.catalog import ModelSpec
from model.transform import Transform
from server.config import ServerConfig
from server.engine.backlog import Room
from server.engine.engine import Engine
from server.engine.loading import Loaded
from server.engine.request import Answer, Image
from server.errors import ServerError
from server.metrics import Metrics
from server.options import Options
from server.postprocess import top_k
from server.prepare import Limits, Measured, classes_wanted, measure, transform_for
from server.schemas import (
    BatchInfo,
    ClassifyResponse,
    ClassifyResult,
    InputQuery,
    ModelInput,
    Timing,
)
from server.uploads import Upload

DECODE_NICENESS = 10

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Task:
    """What a request asks for, checked before its body is read.

    Attributes:
        options: how long, and how urgently, it is wanted.
    """

    model: Loaded
    transform: Transform
    top_k: int
    options: Options


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

    def plan(self, spec: ModelSpec, query: InputQuery, options: Options) -> Task:
        """What ``query`` and ``options`` ask of the model.

        Raises:
            InvalidParameter, NotReady.
        """
        return Task(
            top_k=classes_wanted(query.top_k, len(spec.labels)),
            transform=transform_for(spec, query.resolution, query.fit, self.config.max_resolution),
            model=self.engine.loaded(spec.name),
            options=options,
        )

    async def classify(self, task: Task, uploads: Sequence[Upload]) -> ClassifyResponse:
        """Predictions for every upload.

        Raises:
            ServerError: that of the first upload which cannot be answered.
        """
        spec = task.model.runner.spec
        began = time.monotonic()
        with self.engine.room(spec.name) as room:
            images = await self._prepare_all(task, uploads, room)
            submitted = time.monotonic()
            waiting = self.engine.submit(room, images, task.options)
        answers = await _all(waiting)
        answered = time.monotonic()
        results = await asyncio.get_running_loop().run_in_executor(
            self._postprocessors, _results, task, uploads, images, answers
        )
        done = time.monotonic()

        batches = {answer.batch for answer in answers}
        inference_s = sum(batch.inference_s for batch in batches)
        timing = Timing(
            decode=_ms(submitted - began),
            queue=max(_ms(answered - submitted - inference_s), 0.0),
            inference=_ms(inference_s),
            postprocess=_ms(done - answered),
            total=_ms(done - task.options.arrived),
        )
        self.metrics.observe_stages(spec.name, timing)
        return ClassifyResponse(
            model=spec.name,
            results=results,
            timing_ms=timing,
            batch=BatchInfo(
                images=sum(batch.images for batch in batches),
                tokens=sum(batch.tokens for batch in batches),
                peak_memory_bytes=max(batch.peak_bytes for batch in batches),
            ),
        )

    async def _prepare_all(self, task: Task, uploads: Sequence[Upload], room: Room) -> list[Image]:
        limits = Limits(self.config.max_pixels, self.config.max_resolution)
        model = task.model

        def look(upload: Upload) -> Measured:
            return measure(upload.data, model.runner, task.transform, limits)

        # The headers have a thread of their own: a request that must be refused shall not wait
        # for the pixels of those that came before it.
        measured = await _each(self._readers, look, uploads, uploads)
        for one in measured:
            model.check_fits(*one.size, one.tokens)
            room.take(one.tokens)
        return await _each(self._decoders, Measured.prepare, measured, uploads)


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


def _results(
    task: Task, uploads: Sequence[Upload], images: Sequence[Image], answers: Sequence[Answer]
) -> list[ClassifyResult]:
    labels = task.model.runner.spec.labels
    return [
        ClassifyResult(
            file=upload.name,
            predictions=top_k(answer.logits, labels, task.top_k),
            input=ModelInput(height=image.size[0], width=image.size[1], tokens=image.tokens),
        )
        for upload, image, answer in zip(uploads, images, answers, strict=True)
    ]
