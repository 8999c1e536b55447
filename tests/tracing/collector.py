"""A tiny OpenTelemetry collector: takes OTLP over HTTP, and keeps every span."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True)
class Kept:
    """A span as it was received. Ids are in hex, moments in seconds."""

    name: str
    service: str
    kind: str
    trace_id: str
    id: str
    parent: str
    links: tuple[str, ...]
    failed: str
    about: dict[str, Any]
    began: float
    ended: float


@dataclass
class Collector:
    """All that came."""

    spans: list[Kept] = field(default_factory=list[Kept])
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, trace_id: str, name: str | None = None) -> list[Kept]:
        """The spans of a trace, in order of their beginning."""
        found = [span for span in list(self.spans) if span.trace_id == trace_id and name in (None, span.name)]
        return sorted(found, key=lambda span: span.began)

    def take(self, body: bytes) -> None:
        request = ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            service = _values(resource.resource.attributes)["service.name"]
            for scope in resource.scope_spans:
                self.spans += [_kept(span, service) for span in scope.spans]


def _kept(span: Any, service: str) -> Kept:
    failed = (span.status.message or "failed") if span.status.code == span.status.STATUS_CODE_ERROR else ""
    return Kept(
        span.name, service, KINDS[span.kind], span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
        tuple(link.span_id.hex() for link in span.links), failed, _values(span.attributes),
        span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9,
    )  # fmt: skip


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector that listens while inside."""
    kept = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.take(gzip.decompress(body) if self.headers.get("content-encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.port = server.server_address[1]
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
