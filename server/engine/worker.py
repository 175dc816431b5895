"""The thread that owns the device; a batch that fails does not end it."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from vimserve.model.device_errors import is_broken, is_out_of_memory
from vimserve.model.device_memory import PeakMeter, held_bytes, release_unused
from vimserve.server.engine.backlog import Backlog
from vimserve.server.engine.device import usable_device
from vimserve.server.engine.promise import promise
from vimserve.server.engine.request import Answer, Batch, Req
from vimserve.server.engine.runner import Pass
from vimserve.server.engine.watch import Watch
from vimserve.server.errors import ModelFailure, NotReady, OutOfMemory, RequestTimeout, ServerError
from vimserve.server.telemetry.metrics import BatchFigures, Metrics

if TYPE_CHECKING:
    from vimserve.server.engine.loading import Loaded

logger = logging.getLogger(__name__)

IDLE_S = 5.0

Ending = Answer | ServerError
T = TypeVar("T")


@dataclass(eq=False)
class Running:
    """A batch that the device is running."""

    requests: Sequence[Req]
    result: Pass
    peak_bytes: int
    ended: threading.Event | None = None  # set at its end, once somebody waits for that

    @property
    def tokens(self) -> int:
        """Tokens of all its images."""
        return sum(request.tokens for request in self.requests)

    @property
    def has_ended(self) -> bool:
        """Whether its end has been seen."""
        return self.ended is not None and self.ended.is_set()


class Worker:
    """Runs the backlog's batches; on a GPU it launches one batch while another one computes.

    Args:
        device: name of the torch device that it owns.
        backlog: where the batches come from.
        settle: called with requests and their answers or errors, in this thread.
        metrics: where batches are counted.

    Attributes:
        models: the models to run, by name; only changed in this thread (see ``call``).
        in_hand: requests that have left the backlog and have no answer yet.
        busy_since: when the latest running batch began, in seconds of the monotonic clock; None
            while the device is idle.
    """

    def __init__(
        self,
        device: str,
        backlog: Backlog[Req],
        settle: Callable[[Sequence[tuple[Req, Ending]]], None],
        metrics: Metrics,
    ) -> None:
        self.models: dict[str, Loaded] = {}
        self.in_hand: set[Req] = set()
        self.busy_since: float | None = None
        self._device_name = device
        self._device = torch.device("cpu")
        self._backlog = backlog
        self._tell = settle
        self._metrics = metrics
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._ended = False
        self._held = 0
        self._busy_s = 0.0
        self._busy_from: float | None = None

    @property
    def busy_s(self) -> float:
        """Seconds that the device has run batches, the present one included."""
        begun, since = self._busy_s, self._busy_from
        return begun + (0 if since is None else time.monotonic() - since)

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run ``function`` in this thread while the device is idle. Safe from any thread.

        Returns:
            A future of its result; it fails with ``NotReady`` if the worker ends first.
        """
        future: Future[T] = promise()
        self._calls.append((function, future))
        self._backlog.wake()
        if self._ended:
            self._refuse_calls()
        return future

    def run(self) -> None:
        """Work until the backlog is closed and empty.

        Raises:
            ValueError: if there is no such device.
            Exception: if the device fails for good.
        """
        try:
            self._device = usable_device(self._device_name)
            watch = Watch(self._device, self._backlog.wake)
            try:
                self._run(watch)
            finally:
                watch.close()
        finally:
            self._ended = True
            self._refuse_calls()

    def _run(self, watch: Watch) -> None:
        running: Running | None = None
        swept = True
        while True:
            if self._calls:
                if running is not None:
                    self._finish(running)
                    running = None
                self._run_calls()
            timeout_s = None if running is not None or swept else IDLE_S
            decision = self._backlog.take(timeout_s, partial(self._interrupted, running, watch))
            self._settle([(request, _late(request)) for request in decision.expired])
            # The backlog learns a moment late that a client has left.
            wanted = [request for request in decision.batch if request.wanted]
            started = self._start(wanted) if wanted else None
            swept = swept and not decision.batch
            if running is not None:
                if started is None and not (self._backlog.closed or running.has_ended):
                    continue  # a call waits, or requests went without a batch
                self._finish(running)
            elif not (decision.batch or decision.expired):
                if self._backlog.closed:
                    return
                if not swept:
                    # Image sizes change over time: give back the memory cached for old ones.
                    self._sweep()
                    swept = True
            running = started
            if running is not None and running.result.done:
                self._finish(running)
                running = None
            if running is None:
                self.busy_since = self._busy_from = None
                self.in_hand.clear()

    def _interrupted(self, running: Running | None, watch: Watch) -> bool:
        """Whether there is something else to do than to wait for a batch."""
        if running is not None and running.ended is None:
            running.ended = watch.end_of(running.result)
        return bool(self._calls) or (running is not None and running.has_ended)

    def _start(self, requests: Sequence[Req]) -> Running | None:
        self.in_hand.update(requests)
        for request in requests:
            request.started = True
        self.busy_since = time.monotonic()
        self._busy_from = self._busy_from or self.busy_since
        runner = self.models[requests[0].model].runner
        try:
            with PeakMeter(self._device, self._held) as meter:
                result = runner.start([request.image for request in requests])
        except Exception as error:
            self._recover(requests, error)
            return None
        return Running(requests, result, meter.bytes + result.recorded_bytes)

    def _finish(self, running: Running) -> None:
        requests = running.requests
        try:
            outputs = running.result.outputs()
        except Exception as error:
            self._recover(requests, error)
            return
        now = time.monotonic()
        seconds = now - (self._busy_from or now)
        self._busy_s, self._busy_from = self._busy_s + seconds, now
        self._observe(running, seconds)
        batch = Batch(len(requests), running.tokens, seconds, running.peak_bytes)
        self._settle(
            [
                (request, _ending(output, batch))
                for request, output in zip(requests, outputs, strict=True)
            ]
        )

    def _recover(self, requests: Sequence[Req], error: Exception) -> None:
        """Retry a failed batch in smaller ones, so that only requests that cannot be answered fail.

        Raises:
            Exception: ``error``, if the device fails for good.
        """
        if is_broken(error, self._device):
            raise error
        model = requests[0].model
        crowded = is_out_of_memory(error)
        self._metrics.batch_retries.labels(model, "memory" if crowded else "exception").inc()
        logger.log(
            logging.WARNING if crowded else logging.ERROR,
            "model %s failed on a batch of %d images (%s): %s: %s",
            model, len(requests), ", ".join(request.request_id for request in requests),
            type(error).__name__, error, exc_info=None if crowded else error,
        )  # fmt: skip
        if crowded:
            # The traceback holds the tensors of the pass that failed.
            error.__traceback__ = None
            release_unused(self._device)
        if len(requests) == 1:
            self._settle([(requests[0], _fault(error, crowded))])
            return
        half = len(requests) // 2
        parts = [requests[:half], requests[half:]] if crowded else [[one] for one in requests]
        for part in parts:
            wanted = [request for request in part if request.wanted]
            if wanted and (again := self._start(wanted)):
                self._finish(again)

    def _run_calls(self) -> None:
        while self._calls and not self._backlog.closed:
            function, future = self._calls.popleft()
            try:
                future.set_result(function())
            except Exception as error:
                future.set_exception(error)
        self._sweep()

    def _refuse_calls(self) -> None:
        while self._calls:
            _, future = self._calls.popleft()
            future.set_exception(NotReady("the server is stopping"))

    def _sweep(self) -> None:
        release_unused(self._device)
        self._held = held_bytes(self._device)

    def _settle(self, endings: Sequence[tuple[Req, Ending]]) -> None:
        self.in_hand.difference_update(request for request, _ in endings)
        self._tell(endings)

    def _observe(self, running: Running, seconds: float) -> None:
        model = running.requests[0].model
        lengths = [request.tokens for request in running.requests]
        self._backlog.served(model, lengths, seconds)
        self._metrics.observe_batch(
            BatchFigures(
                model=model,
                images=len(running.requests),
                tokens=running.tokens,
                largest=max((request.image.size for request in running.requests), key=_area),
                peak_bytes=running.peak_bytes,
                predicted_bytes=self.models[model].memory.predict(lengths),
            )
        )


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _ending(output: Tensor | None, batch: Batch) -> Ending:
    if output is None:
        return ModelFailure("the model's scores are not finite")
    return Answer(output, batch)


def _fault(error: Exception, crowded: bool) -> ServerError:
    if crowded:
        return OutOfMemory("the device has no memory left for this image; try again")
    return ModelFailure(f"the model failed: {type(error).__name__}")


def _late(request: Req) -> RequestTimeout:
    limit = request.urgency.timeout_s
    waited = time.monotonic() - request.urgency.arrived
    return RequestTimeout(f"no answer within {limit:g} s", limit=limit, value=round(waited, 3))
