"""A traced server, whose spans stay in memory."""

from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.patience import wait_until
from vimserve.server.telemetry.otel.export import OpenTelemetry

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=1"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}


class Spans:
    """The spans that have ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = OpenTelemetry(SimpleSpanProcessor(self._exporter))

    def all(self) -> list[ReadableSpan]:
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str, count: int = 1) -> Any:
        """So many of that name, once they have ended; a single one by itself."""
        wait_until(lambda: len([one for one in self.all() if one.name == name]) >= count)
        found = [one for one in self.all() if one.name == name]
        assert len(found) == count
        return found[0] if count == 1 else found

    def request(self, name: str = "POST /v1/classify") -> Any:
        return self.named(name)

    def below(self, span: Any) -> dict[str, Any]:
        """The stages of a request, by name."""
        parent = span.context.span_id
        return {one.name: one for one in self.all() if one.parent and one.parent.span_id == parent}

    def stage(self, request: Any, name: str) -> Any:
        """A stage of a request. Those that are cancelled end after their request has."""
        wait_until(lambda: name in self.below(request))
        return self.below(request)[name]

    def clear(self) -> None:
        self._exporter.clear()


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def traced(serve: Callable[..., Any], spans: Spans) -> Callable[..., Any]:
    """``traced(**settings)``: the client of a traced server."""
    return lambda **settings: serve(spans.tracing, **settings)[0]


@pytest.fixture
def held_traced(held: Callable[..., Any], spans: Spans) -> Callable[..., Any]:
    """As ``held``, traced; the first request's spans come too."""
    return lambda data, **settings: held(data, tracing=spans.tracing, **settings)
