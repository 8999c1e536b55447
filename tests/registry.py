"""A registry on loopback with one tiny image, for tests that pull. It counts, waits and refuses on request."""

import gzip
import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from tests.images import root_tar

_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


class Registry:
    """Serves `name`:1 over plain HTTP. `asked` counts requests by path; unset `open` and blobs wait until it is set."""

    name = "windlass-test/pulled"

    def __init__(self, salt: str) -> None:
        tar = root_tar()
        layer = gzip.compress(tar, 1, mtime=0)
        settings = {"Env": ["PATH=/bin"], "Labels": {"salt": salt}}
        rootfs = {"type": "layers", "diff_ids": [_digest(tar)]}
        config = _json({"architecture": "amd64", "os": "linux", "config": settings, "rootfs": rootfs})
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": _part("application/vnd.docker.container.image.v1+json", config),
                "layers": [_part("application/vnd.docker.image.rootfs.diff.tar.gzip", layer)],
            }
        )
        self.digest = _digest(manifest)
        self.asked: Counter[str] = Counter()
        self.open = threading.Event()
        self.open.set()
        at = f"/v2/{self.name}"
        self._answers = {"/v2/": (b"{}", "application/json")}
        self._answers |= {f"{at}/manifests/{tag}": (manifest, _MANIFEST) for tag in ("1", self.digest)}
        self._answers |= {f"{at}/blobs/{_digest(blob)}": (blob, "application/octet-stream") for blob in (config, layer)}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def image(self) -> str:
        return f"127.0.0.1:{self._server.server_port}/{self.name}"

    def blobs_asked(self) -> list[int]:
        """How often each blob was asked for."""
        return [count for path, count in self.asked.items() if "/blobs/" in path]

    def __enter__(self) -> "Registry":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.open.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.asked[self.path] += 1
                if "/blobs/" in self.path:
                    registry.open.wait(30)
                self._answer(with_body=True)

            def do_HEAD(self) -> None:
                self._answer(with_body=False)

            def _answer(self, *, with_body: bool) -> None:
                body, kind = registry._answers.get(self.path, (b"", ""))
                if not kind:
                    body = _json({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]})
                self.send_response(200 if kind else 404)
                self.send_header("Content-Type", kind or "application/json")
                self.send_header("Content-Length", str(len(body)))
                if kind == _MANIFEST:
                    self.send_header("Docker-Content-Digest", registry.digest)
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        return Handler


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _part(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(data), "digest": _digest(data)}
