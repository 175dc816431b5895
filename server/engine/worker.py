"""The thread that owns the device; a batch that fails does not end it."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from vimserve.model.device_errors import is_broken, is_out_of_memory
from vimserve.model.device_memory import PeakMeter, held_bytes, release_unused
from vimserve.server.engine.backlog import Backlog
from vimserve.server.engine.calls import Calls
from vimserve.server.engine.device import usable_device
from vimserve.server.engine.endings import Ending, ending_of, fault, too_late
from vimserve.server.engine.lanes import Lanes, wait_for_one
from vimserve.server.engine.request import Batch, Req
from vimserve.server.engine.running import Running, Shares
from vimserve.server.engine.watch import Watch
from vimserve.server.telemetry.metrics import Metrics
from vimserve.server.telemetry.tracing import begin_batch

if TYPE_CHECKING:
    from vimserve.server.engine.loading import Loaded

logger = logging.getLogger(__name__)

IDLE_S = 5.0
MOST_RUNNING = 2
# Of a CPU that has a thread for each.
LANES = 2

T = TypeVar("T")


class Worker:
    """Runs the backlog's batches, at most two at a time.

    A GPU computes one while the host launches the other; a CPU computes both side by side.

    Args:
        device: name of the torch device that it owns.
        backlog: where the batches come from.
        settle: called with requests and their answers or errors, in this thread.
        metrics: where batches are counted.

    Attributes:
        models: the models to run, by name; only changed in this thread (see ``call``).
        in_hand: requests that have left the backlog and have no answer yet.
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
        self._device_name = device
        self._device = torch.device("cpu")
        self._backlog = backlog
        self._tell = settle
        self._metrics = metrics
        self._calls = Calls()
        self._shares = Shares()
        self._lanes: Lanes | None = None
        self._unanswered: tuple[Running, list[Tensor | None]] | None = None

    @property
    def busy_s(self) -> float:
        """Seconds that the device has run batches, those that run now included."""
        return self._shares.busy_s

    @property
    def busy_since(self) -> float | None:
        """Since when a batch has computed, the oldest of them; None while the device is idle."""
        return self._shares.busy_since

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Run ``function`` in this thread while the device is idle. Safe from any thread.

        Returns:
            A future of its result; it fails with ``NotReady`` if the worker ends first.
        """
        future = self._calls.add(function)
        self._backlog.wake()
        return future

    def run(self) -> None:
        """Work until the backlog is closed and empty.

        Raises:
            ValueError: if there is no such device.
            Exception: if the device fails for good.
        """
        try:
            self._device = usable_device(self._device_name)
            threads = torch.get_num_threads()
            if self._device.type == "cpu" and min(LANES, threads) > 1:
                self._lanes = Lanes(threads, self._backlog.wake)
                self._shares.side_by_side = True
            watch = Watch(self._device, self._backlog.wake)
            try:
                self._run(watch)
            finally:
                watch.close()
                if self._lanes:
                    self._lanes.close()
        finally:
            self._calls.end()

    def _run(self, watch: Watch) -> None:
        running = self._shares.running
        swept = True
        while True:
            if self._calls:
                while running:
                    self._finish(running[0])
                self._run_calls()
            if len(running) == MOST_RUNNING:
                self._end_one()
            timeout_s = None if running or swept else IDLE_S
            beside = None if self._lanes is None else bool(running)
            interrupted = partial(self._interrupted, watch)
            decision = self._backlog.take(timeout_s, interrupted, beside=beside)
            self._settle([(request, too_late(request)) for request in decision.expired])
            swept = swept and not decision.batch
            # The backlog learns a moment late that a client has left.
            wanted = [request for request in decision.batch if request.wanted]
            started = self._start(wanted) if wanted else None
            self._answer()
            if wanted:
                if started is not None and running == [started] and started.result.done:
                    self._finish(started)
            elif running:
                # Otherwise a call waits, or requests went without a batch.
                if self._backlog.closed or any(batch.has_ended for batch in running):
                    self._finish(self._next_to_end())
            elif not (decision.batch or decision.expired):
                if self._backlog.closed:
                    return
                if not swept:
                    # Image sizes change over time: give back the memory cached for old ones.
                    self._sweep()
                    swept = True
            if not running:
                self.in_hand.clear()

    def _interrupted(self, watch: Watch) -> bool:
        """Whether there is something else to do than to wait, when no batch can begin."""
        running = self._shares.running
        if self._lanes is not None and not self._backlog.expects:
            self._lanes.widen()
        if running and running[0].ended is None:
            running[0].ended = watch.end_of(running[0].result).is_set
        return bool(self._calls or self._unanswered) or any(batch.has_ended for batch in running)

    def _next_to_end(self) -> Running:
        """The running batch that has ended; if none has, wait for one, or return the oldest."""
        running = self._shares.running
        wait_for_one(batch.result for batch in running)
        return next((batch for batch in running if batch.has_ended), running[0])

    def _end_one(self) -> None:
        """Wait for one of the batches. If it ran in a lane, ``_answer`` has to follow soon.

        In between the lane can be given its next batch, or it would wait for all those answers.
        """
        batch = self._next_to_end()
        outputs = self._outputs(batch)
        if outputs is not None:
            self._unanswered = batch, outputs
        if self._lanes is None:
            self._answer()

    def _answer(self) -> None:
        if self._unanswered is not None:
            (batch, outputs), self._unanswered = self._unanswered, None
            self._conclude(batch, outputs)

    def _start(self, requests: Sequence[Req], *, retried: bool = False) -> Running | None:
        self.in_hand.update(requests)
        for request in requests:
            request.started = True
        model = self.models[requests[0].model]
        predicted = max(model.memory.predict([request.tokens for request in requests]), 1)
        if self._lanes is not None:
            self._make_room(model.available_bytes - predicted)
        batch = Running(requests, begin_batch(requests, retried=retried), predicted)
        self._shares.add(batch)
        images = [request.image for request in requests]
        if self._lanes is not None:
            lane_pass = self._lanes.start(partial(model.runner.start, images))
            batch.result, batch.ended = lane_pass, lane_pass.future.done
            return batch
        try:
            with PeakMeter(self._device, self._shares.held) as meter:
                batch.result = model.runner.start(images)
        except Exception as error:
            self._shares.remove(batch)
            self._recover(batch, error)
            return None
        batch.peak_bytes = meter.bytes + batch.result.recorded_bytes
        return batch

    def _make_room(self, left: int) -> None:
        """Wait until the batches that run take no more than ``left`` bytes together."""
        running = self._shares.running
        while running and sum(batch.predicted_bytes for batch in running) > left:
            self._answer()
            self._finish(self._next_to_end())

    def _finish(self, batch: Running) -> None:
        outputs = self._outputs(batch)
        if outputs is not None:
            self._conclude(batch, outputs)

    def _outputs(self, batch: Running) -> list[Tensor | None] | None:
        """Wait for a batch and take it off the device; None if it failed, and was recovered."""
        try:
            outputs = batch.result.outputs()
        except Exception as error:
            self._shares.remove(batch)
            self._recover(batch, error)
            return None
        self._shares.remove(batch)
        return outputs

    def _conclude(self, batch: Running, outputs: Sequence[Tensor | None]) -> None:
        self._observe(batch)
        figures = Batch(len(batch.requests), batch.tokens, batch.seconds, batch.peak_bytes)
        self._settle(
            [
                (request, ending_of(output, figures))
                for request, output in zip(batch.requests, outputs, strict=True)
            ]
        )

    def _recover(self, batch: Running, error: Exception) -> None:
        """Retry a failed batch in smaller ones, so that only requests that cannot be answered fail.

        Raises:
            Exception: ``error``, if the device fails for good.
        """
        batch.trace.fail(error)
        if is_broken(error, self._device):
            raise error
        requests = batch.requests
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
            self._settle([(requests[0], fault(error, crowded))])
            return
        half = len(requests) // 2
        parts = [requests[:half], requests[half:]] if crowded else [[one] for one in requests]
        for part in parts:
            wanted = [request for request in part if request.wanted]
            if wanted and (again := self._start(wanted, retried=True)):
                self._finish(again)

    def _run_calls(self) -> None:
        run = self._lanes.call if self._lanes else _call
        while self._calls and not self._backlog.closed:
            self._calls.run_one(run)
        self._sweep()

    def _sweep(self) -> None:
        release_unused(self._device)
        self._shares.held = held_bytes(self._device)

    def _settle(self, endings: Sequence[tuple[Req, Ending]]) -> None:
        self.in_hand.difference_update(request for request, _ in endings)
        self._tell(endings)

    def _observe(self, batch: Running) -> None:
        model = batch.requests[0].model
        lengths = [request.tokens for request in batch.requests]
        self._backlog.served(model, lengths, batch.device_s)
        figures = batch.figures
        self._metrics.observe_batch(figures)
        batch.trace.end(figures, batch.seconds)


def _call(function: Callable[[], T]) -> T:
    return function()
