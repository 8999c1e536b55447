"""A collector of spans for a measurement: takes all that comes, in a process of its own, and looks at it later."""

import multiprocessing
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Collector:
    """One that runs."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.url = f"http://127.0.0.1:{pipe.recv()}"

    def spans(self) -> int:
        """How many have come since the last time one asked, but those of requests."""
        self._pipe.send(None)
        return self._pipe.recv()


@contextmanager
def collector() -> Iterator[Collector]:
    """A collector, while inside."""
    ours, its = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(its,), daemon=True)
    process.start()
    try:
        yield Collector(ours)
    finally:
        process.terminate()
        process.join()


def _serve(pipe: Connection) -> None:
    """Answer 200 to everything, and the pipe with what came."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipe.send(server.server_address[1])
    while True:
        pipe.recv()
        taken, bodies[:] = list(bodies), []
        pipe.send(sum(map(_spans, taken)))


def _spans(body: bytes) -> int:
    told = ExportTraceServiceRequest.FromString(body).resource_spans
    return sum(span.kind != span.SPAN_KIND_SERVER for one in told for scope in one.scope_spans for span in scope.spans)
