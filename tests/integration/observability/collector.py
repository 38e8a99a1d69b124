"""A collector of OpenTelemetry: takes what is exported by OTLP over HTTP, and keeps it."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector(ThreadingHTTPServer):
    """What was exported to it: spans, and the names of metrics, by service."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[tuple[str, Any]] = []
        self.metrics: set[tuple[str, str]] = set()
        self.keys: set[str | None] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def named(self, start: str) -> list[Any]:
        """The spans whose names begin so."""
        return [span for _, span in tuple(self.spans) if span.name.startswith(start)]


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.keys.add(self.headers.get("api-key"))
        if self.path == "/v1/traces":
            for of in ExportTraceServiceRequest.FromString(body).resource_spans:
                found = [span for scope in of.scope_spans for span in scope.spans]
                self.server.spans += [(_service(of), span) for span in found]
        else:
            for measured in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                names = [one.name for scope in measured.scope_metrics for one in scope.metrics]
                self.server.metrics.update((_service(measured), name) for name in names)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _service(exported: Any) -> str:
    found = (one for one in exported.resource.attributes if one.key == "service.name")
    return str(next(found).value.string_value)


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        Thread(target=collector.serve_forever, daemon=True).start()
        try:
            yield collector
        finally:
            collector.shutdown()
