"""Images in, the models' outputs out: the engine as the event loop sees it."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from vimserve.model.catalog import ModelSpec
from vimserve.server.config import ServerConfig
from vimserve.server.engine.backlog import Backlog, Room
from vimserve.server.engine.loading import Loaded, Served, load
from vimserve.server.engine.request import Answer, Image, Req
from vimserve.server.engine.urgency import Options
from vimserve.server.engine.worker import Outcome, Worker
from vimserve.server.errors import (
    ModelFailure,
    ModelUnavailable,
    NotReady,
    ServerError,
    UnknownModel,
    WrongTask,
)
from vimserve.server.telemetry import request_id
from vimserve.server.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)


class State(StrEnum):
    """Where the engine is in its life."""

    LOADING = "loading"
    READY = "ready"
    STOPPING = "stopping"
    FAILED = "failed"


@dataclass(frozen=True)
class Health:
    """Whether the engine can still answer, and if not, why."""

    ok: bool
    detail: str


class Engine:
    """Answers images with what a model makes of them; its methods are for the event loop's thread.

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
        self.models = {spec.name: Served(spec) for spec in specs}
        if len(self.models) < len(specs):
            raise ValueError(
                f"every model needs a name of its own, not {', '.join(spec.name for spec in specs)}"
            )
        self.state = State.LOADING
        self.failure: Exception | None = None
        self._config = config
        self._metrics = metrics
        self._on_failure = on_failure
        self._backlog = Backlog(config.max_queue_tokens, metrics.show_queue)
        self._worker: Worker | None = None
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the worker's thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to load the models; ``state`` turns to ready when they are warm."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def drain(self) -> None:
        """Be not ready any more; what was accepted is still answered."""
        if self.state in (State.LOADING, State.READY):
            self.state = State.STOPPING

    async def stop(self, timeout_s: float) -> None:
        """Answer what waits, refuse the rest, end the worker.

        A model that is still loading is not waited for. What is unanswered after ``timeout_s`` is
        refused.
        """
        loading = self.state is State.LOADING or self._worker is None
        self.drain()
        self._backlog.close()
        if not loading:
            await asyncio.to_thread(self._thread.join, timeout_s)
            if self.alive:
                logger.error("the worker has not ended within %g s", timeout_s)
                self._refuse_all(NotReady("the server has stopped"))

    def spec(self, model: str | None, task: str) -> ModelSpec:
        """The model of that name, or the first for the task.

        Raises:
            UnknownModel: with the names that are served.
            WrongTask: if it does something else, or nothing that is served does that; with the
                names that do.
        """
        able = [name for name, served in self.models.items() if served.spec.task == task]
        name = next(iter(able or self.models)) if model is None else model
        if name not in self.models:
            raise UnknownModel(
                f"no model {name!r} is served; there is {', '.join(self.models)}",
                parameter="model",
                limit=list(self.models),
                value=name,
            )
        spec = self.models[name].spec
        if spec.task != task:
            raise WrongTask(
                f"model {name!r} is there to {spec.task}, not to {task}; "
                f"{', '.join(able) or 'no model that is served'} can",
                parameter="model",
                limit=able,
                value=name,
            )
        return spec

    def loaded(self, model: str) -> Loaded:
        """The model, for a request that begins now.

        Raises:
            NotReady: while the models load or the server stops.
            ModelUnavailable: if this one could not be loaded.
        """
        served = self.models[model]
        if self.state is not State.READY:
            raise NotReady(f"the server is {self.state}", limit=State.READY, value=self.state)
        if served.loaded is None:
            raise ModelUnavailable(
                f"model {model!r} could not be loaded: {served.detail}",
                parameter="model",
                limit=[name for name, other in self.models.items() if other.loaded],
                value=model,
            )
        return served.loaded

    def room(self, model: str) -> Room:
        """Room in the queue of the model, to take before images are decoded."""
        return Room(self._backlog, model)

    def submit(
        self, room: Room, images: Sequence[Image], options: Options
    ) -> list[asyncio.Future[Answer]]:
        """Queue images for the model that ``room`` belongs to; cancel a future to take its image
        back.

        Raises:
            NotReady: if the engine has stopped.
        """
        now = time.monotonic()
        served = self.models[room.model].loaded
        if served is None or self.state is State.FAILED:
            raise NotReady(f"the server is {self.state}", limit=State.READY, value=self.state)
        requests = [
            Req(
                model=room.model,
                image=image,
                options=options,
                request_id=request_id.current.get() or "",
                cost_bytes=served.memory.cost(image.tokens),
                arrived=now,
                answer=self._loop.create_future(),
            )
            for image in images
        ]
        self._backlog.put(room, requests)
        for request in requests:
            request.answer.add_done_callback(partial(self._drop, request))
        return [request.answer for request in requests]

    def health(self) -> Health:
        """Whether the worker is there and gets on with its work."""
        if self.failure is not None:
            return Health(ok=False, detail=f"the engine has stopped: {self.failure}")
        if not self.alive:
            return Health(ok=self.state is State.STOPPING, detail="the worker has ended")
        since = self._worker.busy_since if self._worker else None
        busy_s = 0.0 if since is None else time.monotonic() - since
        limit = self._config.stuck_timeout
        if busy_s > limit:
            return Health(
                ok=False, detail=f"a batch has been running for {busy_s:.0f} s, limit {limit:g} s"
            )
        return Health(ok=True, detail="alive")

    def busy_seconds(self) -> dict[str, float]:
        """How long each device has run batches, those included that it runs now."""
        return {self._config.device: self._worker.busy_s} if self._worker else {}

    async def probe(self, timeout_s: float) -> None:
        """A forward pass of the smallest image through every model that is ready.

        Raises:
            ServerError: what failed.
            TimeoutError: if it took longer.
        """
        options = Options(time.monotonic(), timeout_s, priority=1)
        futures = []
        for name, served in self.models.items():
            if served.loaded is not None:
                futures += self.submit(self.room(name), [served.loaded.runner.smallest()], options)
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*futures)

    def _work(self) -> None:
        try:
            worker = self._worker = self._load()
        except Exception as error:
            self._fail(error)
            if not isinstance(error, ValueError | OSError):
                logger.error("the models could not be loaded", exc_info=error)
            self._call(self._on_failure)
            return
        try:
            worker.run()
        except Exception as error:
            logger.critical("the engine has stopped", exc_info=error)
            self._fail(error)

    def _load(self) -> Worker:
        start = time.monotonic()
        load(list(self.models.values()), self._config)
        loaded = {name: m.loaded for name, m in self.models.items() if m.loaded is not None}
        for name, model in loaded.items():
            spec = self.models[name].spec
            self._metrics.model_info.labels(
                model=name,
                family=spec.family,
                dtype=self._config.model_dtype,
                device=str(model.runner.device),
                attention=spec.attention,
                parameters=spec.parameters,
            ).set(1)
        self._backlog.open({name: model.budget for name, model in loaded.items()})
        if self.state is State.LOADING:
            self.state = State.READY
        logger.info("ready after %.1f s", time.monotonic() - start)
        return Worker(loaded, self._backlog, self._settle, self._metrics)

    def _fail(self, error: Exception) -> None:
        self.state, self.failure = State.FAILED, error
        self._backlog.close()
        self._refuse_all(ModelFailure("the engine has stopped"))

    def _refuse_all(self, error: ServerError) -> None:
        requests = [*(self._worker.in_hand if self._worker else ()), *self._backlog.clear()]
        self._settle([(request, error) for request in requests])

    def _drop(self, request: Req, answer: asyncio.Future[Answer]) -> None:
        if answer.cancelled():
            self._backlog.discard(request)

    def _settle(self, outcomes: Sequence[tuple[Req, Outcome]]) -> None:
        if outcomes:
            self._call(_deliver, outcomes)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: nobody is left to be told
            logger.debug("an answer came after the server had stopped")


def _deliver(outcomes: Sequence[tuple[Req, Outcome]]) -> None:
    for request, outcome in outcomes:
        if not request.answer.done():
            if isinstance(outcome, Answer):
                request.answer.set_result(outcome)
            else:
                request.answer.set_exception(outcome)
