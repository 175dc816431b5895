"""A collector of traces: what OTLP over HTTP asks of one, and no more."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.patience import PATIENCE_S


class Collector:
    """Keeps what it is sent.

    Attributes:
        url: its base address.
        status: with which it answers.
        gate: closed, it lets senders wait.
        requests: the headers and messages that it got.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()
        self.requests: list[tuple[dict[str, str], Any]] = []

    def spans(self) -> list[tuple[dict[str, Any], Any]]:
        """Attributes of the resource, and the span, of all that were accepted."""
        return [
            (_attributes(of.resource), span)
            for _, message in self.requests
            for of in message.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]


@contextmanager
def collecting() -> Iterator[Collector]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            assert self.headers["Content-Type"] == "application/x-protobuf"
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            collector.requests.append(
                (dict(self.headers), ExportTraceServiceRequest.FromString(body))
            )
            assert collector.gate.wait(PATIENCE_S)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(collector.status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        try:
            yield collector
        finally:
            collector.gate.set()
            server.shutdown()
            thread.join(PATIENCE_S)


def _attributes(resource: Any) -> dict[str, Any]:
    return {one.key: one.value.string_value for one in resource.attributes}
