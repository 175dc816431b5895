"""A request's way from bytes to predictions: decode, queue, inference, postprocess."""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from model.catalog import ModelSpec
from model.transform import Transform
from server.config import ServerConfig
from server.engine.engine import Engine
from server.engine.request import Answer
from server.engine.runner import Runner
from server.errors import ServerError
from server.metrics import Metrics
from server.options import Options
from server.postprocess import top_k
from server.prepare import Limits, Prepared, classes_wanted, prepare, transform_for
from server.schemas import (
    BatchInfo,
    ClassifyQuery,
    ClassifyResponse,
    ClassifyResult,
    ModelInput,
    Timing,
)
from server.uploads import Upload

DECODE_THREADS = min(4, os.cpu_count() or 1)


@dataclass(frozen=True)
class Task:
    """What a request asks for, checked before its body is read.

    Attributes:
        options: how long, and how urgently, it is wanted.
    """

    runner: Runner
    transform: Transform
    top_k: int
    options: Options


class Pipeline:
    """Answers requests, whatever the wire format that they came in; one for the whole server."""

    def __init__(self, config: ServerConfig, engine: Engine, metrics: Metrics) -> None:
        self.config = config
        self.engine = engine
        self.metrics = metrics
        self._decoders = ThreadPoolExecutor(DECODE_THREADS, "decode")

    def close(self) -> None:
        """End the decoding threads."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def plan(self, spec: ModelSpec, query: ClassifyQuery, options: Options) -> Task:
        """What ``query`` and ``options`` ask of the model.

        Raises:
            InvalidParameter, NotReady.
        """
        return Task(
            top_k=classes_wanted(query.top_k, len(spec.labels)),
            transform=transform_for(spec, query.resolution, query.fit, self.config.max_resolution),
            runner=self.engine.runner(spec.name),
            options=options,
        )

    async def classify(self, task: Task, uploads: Sequence[Upload]) -> ClassifyResponse:
        """Predictions for every upload.

        Raises:
            ServerError: that of the first upload which cannot be answered.
        """
        spec = task.runner.spec
        began = time.monotonic()
        prepared = await self._prepare_all(task, uploads)
        submitted = time.monotonic()
        images = [(image.patches, image.tokens) for image in prepared]
        answers = await asyncio.gather(
            *self.engine.submit(spec.name, images, task.options.deadline)
        )
        answered = time.monotonic()
        results = [
            _result(task, upload, image, answer)
            for upload, image, answer in zip(uploads, prepared, answers, strict=True)
        ]
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
            ),
        )

    async def _prepare_all(self, task: Task, uploads: Sequence[Upload]) -> list[Prepared]:
        config = self.config
        limits = Limits(
            config.max_pixels, config.max_resolution, self.engine.budgets[task.runner.spec.name]
        )

        def prepare_one(upload: Upload) -> Prepared:
            try:
                return prepare(upload.data, task.runner, task.transform, limits)
            except ServerError as error:
                error.file = upload.name
                raise

        loop = asyncio.get_running_loop()
        outcomes = await asyncio.gather(
            *(loop.run_in_executor(self._decoders, prepare_one, upload) for upload in uploads),
            return_exceptions=True,
        )
        return [_value(outcome) for outcome in outcomes]


def _value(outcome: Prepared | BaseException) -> Prepared:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _result(task: Task, upload: Upload, prepared: Prepared, answer: Answer) -> ClassifyResult:
    height, width = prepared.size
    return ClassifyResult(
        file=upload.name,
        predictions=top_k(answer.logits, task.runner.spec.labels, task.top_k),
        input=ModelInput(height=height, width=width, tokens=prepared.tokens),
    )
