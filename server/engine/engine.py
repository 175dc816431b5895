"""The engine's interface to the event loop: images in, the models' outputs out."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from vimserve.model.spec import ModelSpec
from vimserve.server.config import ServerConfig
from vimserve.server.engine.backlog import Backlog
from vimserve.server.engine.endings import Ending
from vimserve.server.engine.forecast import Work
from vimserve.server.engine.loading import Loaded, Status
from vimserve.server.engine.models import Models
from vimserve.server.engine.progress import Progress
from vimserve.server.engine.request import Answer, Image, Part, Req
from vimserve.server.engine.room import Room
from vimserve.server.engine.urgency import Urgency
from vimserve.server.engine.worker import Worker
from vimserve.server.errors import ModelFailure, NotReady, ServerError
from vimserve.server.telemetry import request_id, tracing
from vimserve.server.telemetry.metrics import Metrics
from vimserve.server.telemetry.threads import name_thread

logger = logging.getLogger(__name__)


class State(StrEnum):
    """The engine's lifecycle state."""

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
    """Runs models on images. Its methods may only be called in the event loop's thread.

    Args:
        specs: the models to serve; the first is the default.
        config: device, limits and budgets.
        metrics: where batches and queues are counted.
        on_failure: called in the event loop if loading fails; the reason is in ``failure``.

    Attributes:
        models: the served models; they can be added and removed while the engine runs.

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
        self.state = State.LOADING
        self.failure: Exception | None = None
        self._config = config
        self._on_failure = on_failure
        self._backlog: Backlog[Req] = Backlog(config.max_queue_tokens, metrics.show_queue)
        self._worker = Worker(config.device, self._backlog, self._settle, metrics)
        self.models = Models(specs, config, self._worker, self._backlog, metrics)
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether one of the engine's threads runs."""
        return self._thread.is_alive() or self.models.building

    def start(self) -> None:
        """Begin to load the models; ``state`` becomes ready when they are warm."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._loading = asyncio.create_task(self._load())

    async def ready(self) -> None:
        """Wait until the first models are loaded.

        Raises:
            Exception: the error that kept them from loading.
        """
        await asyncio.shield(self._loading)
        if self.failure is not None:
            raise self.failure

    def drain(self) -> None:
        """Stop being ready; accepted requests are still answered."""
        if self.state in (State.LOADING, State.READY):
            self.state = State.STOPPING

    async def stop(self, timeout_s: float) -> None:
        """Answer the requests that wait, then end the worker.

        After ``timeout_s`` the unanswered requests are refused. If the first models are still
        loading, return at once.
        """
        self.drain()
        self._backlog.close()
        if not self._loading.done():
            self._loading.cancel()
            return
        await asyncio.to_thread(self._thread.join, timeout_s)
        if self._thread.is_alive():
            logger.error("the worker has not ended within %g s", timeout_s)
            self._refuse_all(NotReady("the server has stopped"))

    def loaded(self, model: str) -> Loaded:
        """The model, for a new request.

        Raises:
            NotReady: while the first models load or the server stops.
            ModelUnavailable, UnknownModel: if this model cannot answer.
        """
        self.check_ready()
        return self.models.loaded(model)

    def check_ready(self) -> None:
        """Refuse whatever needs the models.

        Raises:
            NotReady: while the first models load or the server stops.
        """
        if self.state is not State.READY:
            raise NotReady(f"the server is {self.state}", limit=State.READY, value=self.state)

    def room(self, model: Loaded, urgency: Urgency) -> Room[Req]:
        """Room in the model's queue, to be reserved before images are decoded."""
        return Room(self._backlog, model.runner.spec.name, model.budget, urgency)

    def submit(
        self,
        room: Room[Req],
        images: Sequence[Image | Part],
        progress: Progress | None = None,
        following: Sequence[Image | Part] = (),
    ) -> list[asyncio.Future[Answer]]:
        """Queue images for the model and with the urgency that ``room`` was made for.

        Args:
            room: what was reserved for them.
            images: the images.
            progress: is given the requests.
            following: those that the caller queues next, for which the room is reserved meanwhile.

        Returns:
            A future for each image; cancelling it removes the image from the queue.

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
                urgency=room.urgency,
                request_id=request_id.current.get() or "",
                cost_bytes=served.memory.cost(image.tokens),
                arrived=now,
                answer=self._loop.create_future(),
                trace=tracing.current.get(),
            )
            for image in images
        ]
        self._backlog.put(room, requests, [image.tokens for image in following])
        if progress is not None:
            progress.queue(requests)
        for request in requests:
            request.answer.add_done_callback(partial(self._drop, request))
        return [request.answer for request in requests]

    def position(self, progress: Progress) -> int | None:
        """How many images go before a request in the queue of its model; None if it waits not."""
        if not progress.requests or progress.started:
            return None
        return self._backlog.position(next(iter(progress.requests)))

    def health(self) -> Health:
        """Whether the worker is alive and not stuck."""
        if self.failure is not None:
            return Health(ok=False, detail=f"the engine has stopped: {self.failure}")
        if not self._thread.is_alive():
            return Health(ok=self.state is State.STOPPING, detail="the worker has ended")
        since = self._worker.busy_since
        busy_s = 0.0 if since is None else time.monotonic() - since
        limit = self._config.stuck_timeout
        if busy_s > limit:
            return Health(
                ok=False,
                detail=f"a batch has been running for {busy_s:.0f} s; the limit is {limit:g} s",
            )
        return Health(ok=True, detail="alive")

    def work(self) -> Work:
        """What the device has to do, of all models, and how fast those are that are ready."""
        left = self._backlog.work()
        running = sum(request.tokens for request in [*self._worker.in_hand])
        ready = {name for name, one in self.models.items() if one.status is Status.READY}
        speeds = {name: speed for name, speed in left.speeds.items() if name in ready}
        return Work(left.tokens + running, left.seconds, speeds)

    def busy_seconds(self) -> dict[str, float]:
        """Seconds that each device has run batches, the present one included."""
        return {self._config.device: self._worker.busy_s}

    async def probe(self, timeout_s: float) -> None:
        """Run the smallest image through every model that is ready.

        Raises:
            ServerError: if a model cannot answer.
            TimeoutError: if it takes longer than ``timeout_s``.
        """
        urgency = Urgency(time.monotonic(), timeout_s, priority=1)
        futures = []
        for served in self.models.values():
            if served.loaded is not None and served.status is Status.READY:
                smallest = served.loaded.runner.smallest()
                futures += self.submit(self.room(served.loaded, urgency), [smallest])
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(*futures)

    async def _load(self) -> None:
        start = time.monotonic()
        try:
            await self.models.load()
        except Exception as error:
            if self.state is State.STOPPING:
                return
            self._fail(error)
            if not isinstance(error, ValueError | OSError | ServerError):
                logger.error("the models could not be loaded", exc_info=error)
            self._on_failure()
            return
        if self.state is State.LOADING:
            self.state = State.READY
        logger.info("ready after %.1f s", time.monotonic() - start)

    def _work(self) -> None:
        name_thread("model")
        try:
            self._worker.run()
        except Exception as error:
            if not isinstance(error, ValueError):
                logger.critical("the engine has stopped", exc_info=error)
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        # Keep the first error: a worker that ends makes the loading fail too.
        self.failure = self.failure or error
        self.state = State.FAILED
        self._backlog.close()
        self._refuse_all(ModelFailure("the engine has stopped"))

    def _refuse_all(self, error: ServerError) -> None:
        requests = [*self._worker.in_hand, *self._backlog.clear()]
        self._settle([(request, error) for request in requests])

    def _drop(self, request: Req, answer: asyncio.Future[Answer]) -> None:
        if answer.cancelled():
            self._backlog.discard(request)

    def _settle(self, endings: Sequence[tuple[Req, Ending]]) -> None:
        if endings:
            try:
                self._loop.call_soon_threadsafe(_deliver, endings)
            except RuntimeError:  # the event loop is closed, so no client waits
                logger.debug("an answer came after the server had stopped")


def _deliver(endings: Sequence[tuple[Req, Ending]]) -> None:
    for request, ending in endings:
        if not request.answer.done():
            if isinstance(ending, Answer):
                request.answer.set_result(ending)
            else:
                request.answer.set_exception(ending)
