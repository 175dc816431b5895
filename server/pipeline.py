"""Takes a request from images to results: decode, queue, inference, postprocess."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

from vimserve.server.config import ServerConfig
from vimserve.server.engine.engine import Engine
from vimserve.server.engine.forecast import Forecast
from vimserve.server.engine.in_flight import PARTS_AT_ONCE, InFlight
from vimserve.server.engine.loading import Loaded
from vimserve.server.engine.progress import Progress
from vimserve.server.engine.request import Batch, Req
from vimserve.server.engine.room import Room
from vimserve.server.engine.urgency import Urgency
from vimserve.server.errors import ServerError
from vimserve.server.images.cost import Cost
from vimserve.server.images.decoders import Decoders
from vimserve.server.images.prepare import Input, Limits, Measured, input_of, measure
from vimserve.server.images.source import Size, Source
from vimserve.server.tasks.task import Plan
from vimserve.server.telemetry.metrics import Metrics
from vimserve.server.telemetry.threads import name_thread
from vimserve.server.telemetry.tracing import stage

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
        decoding: Callable[[Measured], Cost] | None = None,
        progress: Progress | None = None,
    ) -> Completed[W]:
        """Answer a request.

        Args:
            model: the model that answers.
            plan: how the model answers.
            sources: the images.
            urgency: deadline and priority.
            render: turns an image's result into its wire format; runs in another thread.
            decoding: what it costs ``render`` to decode an image once more, if it does.
            progress: is kept up to date.

        Raises:
            ServerError: the error of the first image that cannot be answered.
        """
        name = model.runner.spec.name
        began = time.monotonic()
        progress = progress or Progress()
        with self.engine.room(model, urgency) as room:
            with stage("decode", model=name):
                measured = await self._measure(model, plan, sources, room)
                again = _cost_of(decoding, measured)
                self._decoders.check(again)
                progress.admit(sum(len(one.views) for one in measured))
                jobs = (
                    self._decoders.run(partial(one.prepare, plan.wanted(one)), one.prepare_cost)
                    for one in measured
                )
                images = list(chain(*await _each(jobs, sources)))
            submitted = time.monotonic()
            with stage("queue", model=name):
                async with model.turns.together():
                    submit = partial(self.engine.submit, room, progress=progress)
                    queue = InFlight(submit, images, _at_once(plan, images))
                    del images  # each is let go when it is answered
                    concluding, batches = await self._answers(plan, measured, queue)
        answered = time.monotonic()
        with stage("postprocess", model=name):
            results = await self._postprocess(
                partial(_conclude, measured, concluding, render), again
            )
        done = time.monotonic()

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
            _reserve(room, model, plan, seen)
            return Estimate(seen, room.forecast(), model.predict_peak(seen.lengths))

    async def _measure(
        self, model: Loaded, plan: Plan[R], sources: Sequence[Source], room: Room[Req]
    ) -> list[Measured]:
        def look(source: Source) -> Measured:
            transform, views = plan.transform, plan.views
            one = measure(source, model.runner, transform, self._limits, views)
            self._decoders.check(one.prepare_cost)
            return one

        # The headers have a thread of their own, so that a refusal does not wait until the
        # images of earlier requests are decoded.
        loop = asyncio.get_running_loop()
        jobs = (loop.run_in_executor(self._readers, look, source) for source in sources)
        measured = await _each(jobs, sources)
        for one in measured:
            _reserve(room, model, plan, one)
        return measured

    async def _answers(
        self, plan: Plan[R], measured: Sequence[Measured], queue: InFlight
    ) -> tuple[list[Callable[[], R]], set[Batch]]:
        """What makes each image's result, once all answers are there, and the batches.

        No answer is held any longer than it is needed; if one fails, the others are cancelled.
        """
        loop = asyncio.get_running_loop()
        concluding: list[Callable[[], R]] = []
        batches = set()
        try:
            for one in measured:
                joiner = plan.joiner(one) if plan.joiner and len(one.views) > 1 else None
                outputs = []
                for _ in one.views:
                    answer = await queue.next()
                    batches.add(answer.batch)
                    if joiner is None:
                        outputs.append(answer.output)
                    else:
                        await loop.run_in_executor(self._postprocessors, joiner.add, answer.output)
                concluding.append(joiner.result if joiner else partial(plan.conclude, one, outputs))
        finally:
            queue.cancel()
        return concluding, batches

    async def _postprocess(self, conclude: Callable[[], list[W]], again: Cost) -> list[W]:
        if again.num_bytes:
            return await self._decoders.run(conclude, again)
        return await asyncio.get_running_loop().run_in_executor(self._postprocessors, conclude)


def _reserve(room: Room[Req], model: Loaded, plan: Plan[Any], seen: Input) -> None:
    for view, tokens in zip(seen.views, seen.lengths, strict=True):
        model.check_fits(view.height, view.width, tokens)
    first = _at_once(plan, seen.views)
    room.take(seen.lengths[:first], seen.lengths[first:])


def _at_once(plan: Plan[Any], images: Sequence[Any]) -> int:
    """How many of the images, or views, are in flight at a time."""
    return PARTS_AT_ONCE if plan.joiner else len(images)


def _cost_of(decoding: Callable[[Measured], Cost] | None, measured: Sequence[Measured]) -> Cost:
    costs = map(decoding, measured) if decoding else ()
    return sum(costs, start=Cost(0, quick=True))


async def _each(jobs: Iterable[Awaitable[B]], sources: Sequence[Source]) -> list[B]:
    """Wait for all jobs; raise the first error, with the name of its file."""
    outcomes = await asyncio.gather(*jobs, return_exceptions=True)
    for outcome, source in zip(outcomes, sources, strict=True):
        if isinstance(outcome, ServerError):
            outcome.file = source.name
    return [_value(outcome) for outcome in outcomes]


def _value(outcome: B | BaseException) -> B:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _conclude(
    measured: Sequence[Measured],
    concluding: Sequence[Callable[[], R]],
    render: Callable[[Measured, R], W],
) -> list[W]:
    results = []
    for one, conclude in zip(measured, concluding, strict=True):
        try:
            results.append(render(one, conclude()))
        except ServerError as error:
            error.file = one.name
            raise
    return results
