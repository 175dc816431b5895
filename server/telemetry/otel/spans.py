"""Requests, their stages and the device's batches as spans of OpenTelemetry."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import time_ns
from types import TracebackType
from typing import Self

from opentelemetry.context import Context
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import (
    Link,
    Span,
    SpanContext,
    StatusCode,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from vimserve.server.engine.request import Req
from vimserve.server.errors import ServerError
from vimserve.server.telemetry.metrics import BatchFigures
from vimserve.server.telemetry.tracing import BatchTrace, Trace, current

MODEL = "vimserve.model"
IMAGES = "vimserve.images"
TOKENS = "vimserve.tokens"
PEAK_BYTES = "vimserve.peak_memory_bytes"
PREDICTED_BYTES = "vimserve.predicted_memory_bytes"
RETRIED = "vimserve.retried"


@dataclass(frozen=True)
class Tracers:
    """What makes spans.

    Attributes:
        requests: those of requests; it samples them as the caller or the environment says.
        batches: those of batches, which it records all.
    """

    requests: Tracer
    batches: Tracer


def ids_of(context: SpanContext) -> Mapping[str, str]:
    """How lines of the log and exemplars name a span."""
    return {
        "trace_id": format_trace_id(context.trace_id),
        "span_id": format_span_id(context.span_id),
    }


class Recorded(Trace):
    """A request, or a stage of one, as a span; a stage is a context manager.

    Attributes:
        span: it is still open.
        request: the request, for a stage; for a request, itself.
    """

    recorded = True

    def __init__(self, tracers: Tracers, span: Span, request: "Recorded | None" = None) -> None:
        super().__init__(ids_of(span.get_span_context()))
        self.span = span
        self.request = request or self
        self._tracers = tracers
        self._taken_at: int | None = None

    def child(
        self,
        name: str,
        began: int,
        attributes: Mapping[str, AttributeValue],
        links: Sequence[Link] = (),
    ) -> Span:
        """A new span below this one."""
        return self._tracers.requests.start_span(
            name,
            context=set_span_in_context(self.span, Context()),
            attributes=attributes,
            links=links,
            start_time=began,
        )

    def stage(self, name: str, **attributes: str) -> "Recorded":  # noqa: D102, as in the base class
        named = {f"vimserve.{key}": value for key, value in attributes.items()}
        span = self.child(name, time_ns(), named)
        return Recorded(self._tracers, span, self.request)

    def batch(self, requests: Sequence[Req], *, retried: bool) -> BatchTrace:  # noqa: D102
        riders = [request.trace for request in requests if isinstance(request.trace, Recorded)]
        began = time_ns()
        for rider in riders:
            rider.take(began)
        return RecordedBatch(self._tracers, began, requests, retried=retried)

    def take(self, now: int) -> None:
        """End the wait for the device, if this is the stage of waiting for it."""
        if self._taken_at is None:
            self._taken_at = now

    def __enter__(self) -> Self:
        self._token = current.set(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        current.reset(self._token)
        # What fails after the device has taken it did not fail in the queue.
        if error is not None and self._taken_at is None:
            set_error(self.span, error)
        self.span.end(self._taken_at or time_ns())


class RecordedBatch(BatchTrace):
    """A batch, in a trace of its own, and its part in the traces of those who ride in it.

    Each of its requests gets a span of the same time; the two are linked.
    """

    def __init__(
        self, tracers: Tracers, began: int, requests: Sequence[Req], *, retried: bool
    ) -> None:
        self._tracers = tracers
        self._began = began
        self._requests = requests
        self._retried = retried

    def end(self, figures: BatchFigures, seconds: float) -> None:  # noqa: D102
        now = time_ns()
        # On a GPU a batch is launched while the one before it still computes.
        began = max(self._began, now - round(seconds * 1e9))
        memory = {PEAK_BYTES: figures.peak_bytes, PREDICTED_BYTES: figures.predicted_bytes}
        self._record(began, now, memory)

    def fail(self, error: Exception) -> None:  # noqa: D102
        self._record(self._began, time_ns(), {}, error)

    def _record(
        self, began: int, ended: int, memory: Mapping[str, int], error: Exception | None = None
    ) -> None:
        images: Counter[Recorded] = Counter()
        tokens: Counter[Recorded] = Counter()
        for one in self._requests:
            if isinstance(one.trace, Recorded):
                images[one.trace] += 1
                tokens[one.trace] += one.tokens
        shared: dict[str, AttributeValue] = {MODEL: self._requests[0].model, RETRIED: self._retried}
        size = {IMAGES: len(self._requests), TOKENS: sum(one.tokens for one in self._requests)}
        batch = self._tracers.batches.start_span(
            "batch",
            context=Context(),
            attributes={**shared, **size, **memory},
            links=[Link(rider.request.span.get_span_context()) for rider in images],
            start_time=began,
        )
        if error is not None:
            batch.record_exception(error, timestamp=ended)
        link = Link(batch.get_span_context())
        parts = [
            rider.request.child(
                "inference", began, {**shared, IMAGES: count, TOKENS: tokens[rider]}, [link]
            )
            for rider, count in images.items()
        ]
        for span in (*parts, batch):
            if error is not None:
                set_error(span, error)
            span.end(ended)


def set_error(span: Span, error: BaseException) -> None:
    """Mark a span as failed."""
    kind = error.slug if isinstance(error, ServerError) else type(error).__qualname__
    span.set_attribute(ERROR_TYPE, kind)
    span.set_status(StatusCode.ERROR, str(error) or None)
