"""One worker thread that loads the models, then runs batch after batch."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

import torch

from model.batch import PackedBatch
from model.catalog import ModelSpec
from server.config import ServerConfig
from server.engine.queue import RequestQueue
from server.engine.request import Answer, Batch, Req
from server.engine.runner import Runner
from server.engine.scheduler import schedule
from server.errors import ModelFailure, NotReady, RequestTimeout, ServerError, UnknownModel
from server.metrics import Metrics

logger = logging.getLogger(__name__)

LEAST_BATCH_TOKENS = 8192


class State(StrEnum):
    """Where the engine is in its life."""

    LOADING = "loading"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


class Engine:
    """Answers images with class scores; its methods belong to the event loop's thread.

    Args:
        specs: the models to serve; the first is the default.
        config: device, limits and budgets.
        metrics: where batches and queues are counted.
        on_failure: called in the event loop if loading fails; the reason is in ``failure``.

    Raises:
        ValueError: if two models have the same name.
    """

    def __init__(
        self,
        specs: Sequence[ModelSpec],
        config: ServerConfig,
        metrics: Metrics,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.specs = {spec.name: spec for spec in specs}
        if len(self.specs) < len(specs):
            raise ValueError(
                f"every model needs a name of its own, not {', '.join(spec.name for spec in specs)}"
            )
        self.state = State.LOADING
        self.failure: Exception | None = None
        self.runners: dict[str, Runner] = {}
        self.budgets: dict[str, int] = {}
        self._default = specs[0].name
        self._config = config
        self._metrics = metrics
        self._on_failure = on_failure
        self._queues = {name: RequestQueue(name, config.max_queue_tokens) for name in self.specs}
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the worker is there to answer."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to load the models; ``state`` turns to ready when they are warm."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Refuse new requests, answer those that wait, end the worker.

        A model that is still loading is not waited for.
        """
        with self._changed:
            loading = self.state is State.LOADING
            self.state = State.STOPPING
            self._changed.notify()
        if not loading:
            await asyncio.to_thread(self._thread.join)

    def spec(self, model: str | None) -> ModelSpec:
        """The model of that name, or the default.

        Raises:
            UnknownModel: with the names that are served.
        """
        name = self._default if model is None else model
        if name not in self.specs:
            raise UnknownModel(
                f"no model {name!r} is served; there is {', '.join(self.specs)}",
                parameter="model",
                limit=list(self.specs),
                value=name,
            )
        return self.specs[name]

    def runner(self, model: str) -> Runner:
        """The loaded model.

        Raises:
            NotReady: while the models load or the server stops.
        """
        if self.state is not State.READY:
            raise NotReady(f"the server is {self.state}", limit=State.READY, value=self.state)
        return self.runners[model]

    def submit(
        self, model: str, images: Sequence[tuple[PackedBatch, int]], deadline: float
    ) -> list[asyncio.Future[Answer]]:
        """Queue all of the (image, tokens) or none; cancel a future to take its image back.

        Raises:
            QueueFull, NotReady.
        """
        now = time.monotonic()
        requests = [
            Req(model, image, tokens, deadline, now, self._loop.create_future())
            for image, tokens in images
        ]
        with self._changed:
            self.runner(model)
            self._queues[model].put(requests)
            self._show_depths()
            self._changed.notify()
        return [request.answer for request in requests]

    def _work(self) -> None:
        try:
            self._load()
            while batch := self._next_batch():
                self._run(batch)
        except Exception as error:
            self._fail(error)

    def _load(self) -> None:
        config = self._config
        start = time.monotonic()
        for name, spec in self.specs.items():
            runner = Runner(spec, config)
            side = runner.largest_side(config.max_resolution)
            self.budgets[name] = config.max_batch_tokens or max(
                runner.tokens(side, side), LEAST_BATCH_TOKENS
            )
            runner.warm_up(config.max_resolution, self.budgets[name])
            self.runners[name] = runner
            self._metrics.model_info.labels(
                model=name,
                family=spec.family,
                dtype=config.model_dtype,
                device=str(runner.device),
                attention=spec.attention,
                parameters=spec.parameters,
            ).set(1)
        with self._changed:
            if self.state is State.LOADING:
                self.state = State.READY
        logger.info("ready after %.1f s", time.monotonic() - start)

    def _next_batch(self) -> list[Req]:
        """Wait for work; nothing once the engine stops and all is answered."""
        with self._changed:
            while True:
                now = time.monotonic()
                decision = schedule(
                    [(queue.pending, self.budgets[name]) for name, queue in self._queues.items()],
                    now,
                )
                for queue in self._queues.values():
                    queue.remove(decision.batch + decision.expired + decision.abandoned)
                self._show_depths()
                for request in decision.expired:
                    self._reject(request, self._late(now - request.arrived))
                if decision.batch or self.state is not State.READY:
                    return decision.batch
                self._changed.wait()

    def _run(self, requests: list[Req]) -> None:
        tokens = sum(request.tokens for request in requests)
        self._metrics.batch_images.observe(len(requests))
        self._metrics.batch_tokens.observe(tokens)
        start = time.monotonic()
        try:
            logits = self.runners[requests[0].model].run([request.image for request in requests])
        except Exception as error:
            logger.exception("model %s failed on a batch of %d", requests[0].model, len(requests))
            for request in requests:
                self._reject(request, ModelFailure(f"the model failed: {type(error).__name__}"))
            return
        batch = Batch(len(requests), tokens, time.monotonic() - start)
        for request, scores in zip(requests, logits, strict=True):
            if torch.isfinite(scores).all():
                self._call(_resolve, request.answer, Answer(scores, batch))
            else:
                self._reject(request, ModelFailure("the model's scores are not finite"))

    def _fail(self, error: Exception) -> None:
        """Loading went wrong, or the loop did, which nothing in it should have let happen."""
        with self._changed:
            loading = self.state is State.LOADING
            self.state, self.failure = State.FAILED, error
            waiting = [request for queue in self._queues.values() for request in queue.pending]
        for request in waiting:
            self._reject(request, ModelFailure("the engine has stopped"))
        if not (loading and isinstance(error, ValueError | OSError)):
            logger.error("the engine has stopped", exc_info=error)
        if loading:
            self._call(self._on_failure)

    def _late(self, waited_s: float) -> RequestTimeout:
        limit = self._config.request_timeout
        return RequestTimeout(
            f"no answer within {limit:g} s", limit=limit, value=round(waited_s, 3)
        )

    def _reject(self, request: Req, error: ServerError) -> None:
        self._call(_refuse, request.answer, error)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            logger.debug("an answer came after the server had stopped")

    def _show_depths(self) -> None:
        for name, queue in self._queues.items():
            self._metrics.queue_depth.labels(name).set(len(queue.pending))


def _resolve(answer: asyncio.Future[Answer], result: Answer) -> None:
    if not answer.done():
        answer.set_result(result)


def _refuse(answer: asyncio.Future[Answer], error: ServerError) -> None:
    if not answer.done():
        answer.set_exception(error)
