"""Takes a request from images to results: decode, queue, inference, postprocess."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, Generic, TypeVar

from vimserve.server.config import ServerConfig
from vimserve.server.engine.backlog import Forecast, Room
from vimserve.server.engine.engine import Engine
from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.request import Answer, Batch, Req
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import ServerError
from vimserve.server.images.cost import Cost
from vimserve.server.images.decoders import Decoders
from vimserve.server.images.prepare import Input, Limits, Measured, input_of, measure
from vimserve.server.images.source import Size, Source
from vimserve.server.tasks.task import Plan
from vimserve.server.telemetry.metrics import Metrics
from vimserve.server.telemetry.threads import name_thread

B = TypeVar("B")
R = TypeVar("R")
W = TypeVar("W")


@dataclass(frozen=True)
class Stages:
    """Where the time of a request went, in seconds.

    Attributes:
        decode_s: decoding, resizing and cutting into patches.
        queue_s: waiting for the device.
        inference_s: the sum over the batches that carried the images.
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
    """The results of a request, in the order of its images.

    Attributes:
        results: what ``render`` made of each image's result.
        measured: what the model saw of each image.
        stages: where the time went.
        batch: the sum of the batches that carried the images, with the highest of their peaks.
    """

    results: list[W]
    measured: Sequence[Measured]
    stages: Stages
    batch: Batch


@dataclass(frozen=True)
class Estimate:
    """What a request with a single image is expected to cost.

    Attributes:
        seen: what the model would see of the image.
        forecast: when it would run, and for how long.
        peak_bytes: device memory above the weights, of its largest batch without other images.
    """

    seen: Input
    forecast: Forecast
    peak_bytes: int


class Pipeline:
    """Answers requests of any wire format; the server has a single pipeline."""

    def __init__(self, config: ServerConfig, engine: Engine, metrics: Metrics) -> None:
        self.config = config
        self.engine = engine
        self.metrics = metrics
        self._limits = Limits(config.max_pixels, config.max_resolution)
        self._readers = ThreadPoolExecutor(1, "header", partial(name_thread, "header"))
        self._decoders = Decoders(config.decode_threads, config.max_decode_bytes)
        self._postprocessors = ThreadPoolExecutor(
            config.postprocess_threads, "postprocess", partial(name_thread, "postprocess")
        )

    def close(self) -> None:
        """Stop the threads."""
        self._decoders.close()
        for pool in (self._readers, self._postprocessors):
            pool.shutdown(wait=False, cancel_futures=True)

    async def run(
        self,
        model: Loaded,
        plan: Plan[R],
        sources: Sequence[Source],
        urgency: Urgency,
        render: Callable[[Measured, R], W],
        *,
        drawing: bool = False,
    ) -> Completed[W]:
        """Answer a request.

        Args:
            model: the model that answers.
            plan: how the model answers.
            sources: the images.
            urgency: deadline and priority.
            render: turns an image's result into its wire format; runs in another thread.
            drawing: whether ``render`` takes the whole picture.

        Raises:
            ServerError: the error of the first image that cannot be answered.
        """
        name = model.runner.spec.name
        began = time.monotonic()
        with self.engine.room(model, urgency) as room:
            measured = await self._measure(model, plan, sources, room)
            if drawing:
                self._decoders.check(_drawing_cost(measured))
            jobs = (self._decoders.run(one.prepare, one.prepare_cost) for one in measured)
            images = await _each(jobs, sources)
            submitted = time.monotonic()
            async with model.turns.together():
                waiting = self.engine.submit(room, list(chain(*images)))
                answers = iter(await _all(waiting))
        answered = time.monotonic()
        of_images = [list(islice(answers, len(views))) for views in images]
        results = await self._postprocess(
            measured, partial(_conclude, plan, measured, of_images, render), drawing=drawing
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

    def estimate(
        self, model: Loaded, plan: Plan[Any], image_size: Size, urgency: Urgency
    ) -> Estimate:
        """What ``run`` would cost for an image of ``image_size``, (height, width) in pixels.

        Raises:
            ServerError: as ``run`` before it decodes such an image.
        """
        seen = input_of(image_size, model.runner, plan.transform, self._limits, plan.views)
        with self.engine.room(model, urgency) as room:
            _reserve(room, model, seen)
            return Estimate(seen, room.forecast(), model.predict_peak(seen.lengths))

    async def _measure(
        self, model: Loaded, plan: Plan[R], sources: Sequence[Source], room: Room[Req]
    ) -> list[Measured]:
        def look(source: Source) -> Measured:
            transform, views = plan.transform, plan.views
            return measure(source, model.runner, transform, self._limits, views, scores=plan.scores)

        # The headers have a thread of their own, so that a refusal does not wait until the
        # images of earlier requests are decoded.
        loop = asyncio.get_running_loop()
        jobs = (loop.run_in_executor(self._readers, look, source) for source in sources)
        measured = await _each(jobs, sources)
        for one in measured:
            _reserve(room, model, one)
        return measured

    async def _postprocess(
        self, measured: Sequence[Measured], conclude: Callable[[], list[W]], *, drawing: bool
    ) -> list[W]:
        if drawing:  # which decodes once more
            return await self._decoders.run(conclude, _drawing_cost(measured))
        return await asyncio.get_running_loop().run_in_executor(self._postprocessors, conclude)


def _reserve(room: Room[Req], model: Loaded, seen: Input) -> None:
    for view, tokens in zip(seen.views, seen.lengths, strict=True):
        model.check_fits(view.height, view.width, tokens)
    room.take(seen.lengths)


def _drawing_cost(measured: Sequence[Measured]) -> Cost:
    return sum((one.picture_cost for one in measured), start=Cost(0, quick=True))


async def _each(jobs: Iterable[Awaitable[B]], sources: Sequence[Source]) -> list[B]:
    """Wait for all jobs; raise the first error, with the name of its file."""
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    for outcome, source in zip(outcomes, sources, strict=True):
        if isinstance(outcome, ServerError):
            outcome.file = source.name
    return [_value(outcome) for outcome in outcomes]


async def _all(waiting: Sequence[asyncio.Future[Answer]]) -> list[Answer]:
    """Wait for all answers; if one fails, cancel the others."""
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
