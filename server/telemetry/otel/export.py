"""Sends spans to a collector, in a thread of its own, and never makes a request wait for that."""

import logging
import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from vimserve import __version__
from vimserve.server.telemetry.otel.requests import FollowRequests, is_untraced
from vimserve.server.telemetry.otel.spans import Tracers
from vimserve.server.telemetry.tracing import Tracing

logger = logging.getLogger(__name__)

PATH = "/v1/traces"
# Nothing of theirs is printed; see Messages.
_theirs = logging.getLogger("opentelemetry")
_theirs.addHandler(logging.NullHandler())
_theirs.propagate = False


class OpenTelemetry(Tracing):
    """Traces requests with OpenTelemetry; nothing of it is global.

    Args:
        processor: what to do with spans that have ended.

    Attributes:
        tracers: what makes its spans.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        resource = _resource()
        # The sampler of requests is the one of the variable OTEL_TRACES_SAMPLER. A batch is
        # recorded if one of its requests is, whatever that sampler would say of its own trace.
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        of_batches = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        for provider in (self._provider, of_batches):
            provider.add_span_processor(processor)
        self.tracers = Tracers(
            self._provider.get_tracer("vimserve", __version__),
            of_batches.get_tracer("vimserve", __version__),
        )

    def options(self, root_path: str) -> Mapping[str, Any]:  # noqa: D102, as in the base class
        telemetry = TelemetryConfig(
            tracer_provider=self._provider,
            exclude=partial(is_untraced, root_path=root_path),
            metrics=False,
            logs=False,
            operation_spans=False,
            auto_configure=False,
        )
        return {"telemetry": telemetry}

    def add_to(self, app: FastAPI) -> None:  # noqa: D102
        app.add_middleware(FollowRequests, tracers=self.tracers)

    def close(self, timeout_s: float) -> None:  # noqa: D102
        # The SDK waits for its exporter as long as that tries, so it may have to be left behind.
        thread = threading.Thread(target=self._provider.shutdown, name="otlp-flush", daemon=True)
        thread.start()
        thread.join(timeout_s)
        if thread.is_alive():
            logger.warning("the last traces were not sent within %.1f s", timeout_s)


class OtlpTracing(OpenTelemetry):
    """Sends the spans to a collector, by OTLP over HTTP.

    Its settings besides the address are those of the SDK: ``OTEL_EXPORTER_OTLP_HEADERS`` and so on.

    Args:
        url: of the collector, with the path.
    """

    def __init__(self, url: str) -> None:
        self._said = Messages()
        self._exporter = Reported(OTLPSpanExporter(url), url, self._said)
        super().__init__(BatchSpanProcessor(self._exporter))
        logger.info("traces go to %s", url)

    def close(self, timeout_s: float) -> None:
        """As in the base class, but do not wait for a collector that is not there."""
        super().close(timeout_s if self._exporter.arrives else 0)
        self._said.close()


def tracing_to(endpoint: str) -> OpenTelemetry:
    """Tracing that sends to the collector whose base address is ``endpoint``."""
    return OtlpTracing(endpoint.rstrip("/").removesuffix(PATH) + PATH)


class Messages(logging.Handler):
    """What OpenTelemetry logs.

    Its exporter complains of every attempt to reach the collector: ``reason`` keeps the first
    complaint. Everything else is passed on, each message once until ``forget``.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reason: str | None = None
        self._said: set[str] = set()
        _theirs.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a complaint of the exporter; pass on what is new."""
        if record.name == OTLPSpanExporter.__module__:
            self.reason = self.reason or record.getMessage()
        elif record.msg not in self._said:
            self._said.add(record.msg)
            logger.log(record.levelno, "OpenTelemetry: %s", record.getMessage())

    def forget(self) -> None:
        """Say everything once more."""
        self.reason = None
        self._said.clear()

    def close(self) -> None:
        """Listen no longer."""
        _theirs.removeHandler(self)
        super().close()


class Reported(SpanExporter):
    """An exporter that logs when spans do not reach their collector any more, and when they do.

    Attributes:
        arrives: whether the last spans did.
    """

    def __init__(self, exporter: SpanExporter, url: str, said: Messages) -> None:
        self.arrives = True
        self._exporter = exporter
        self._url = url
        self._said = said

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans."""
        result = self._exporter.export(spans)
        arrives = result is SpanExportResult.SUCCESS
        if arrives and not self.arrives:
            logger.info("traces reach %s again", self._url)
        if not arrives and self.arrives:
            logger.warning("traces do not reach %s: %s", self._url, self._said.reason)
        if arrives:
            self._said.forget()
        self.arrives = arrives
        return result

    def shutdown(self) -> None:
        """End the exporter."""
        self._exporter.shutdown()


def _resource() -> Resource:
    """This server, called what the SDK's variables say, or by its own name."""
    resource = Resource({SERVICE_VERSION: __version__}).merge(Resource.create())
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        return resource.merge(Resource({SERVICE_NAME: "vimserve"}))
    return resource
