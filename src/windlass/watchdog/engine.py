"""As much of the Docker Engine's API as it takes to end this node's containers: by hand, since an HTTP client from the
standard library would be most of our memory. HTTP/1.0: one request a connection, the answer ends with it.
"""

import json
import socket

_DEADLINE_S = 5.0
_MOST_BYTES = 64 * 2**20
_AT_ONCE = 32


class EngineAway(Exception):
    """It does not answer."""


def _open(address: str, method: str, path: str) -> socket.socket:
    """A request on its way. `address` is unix:PATH or http://HOST:PORT. Raises EngineAway."""
    kind, _, where = address.partition(":")
    try:
        if kind == "unix":
            line = socket.socket(socket.AF_UNIX)
            line.settimeout(_DEADLINE_S)
            line.connect(where)
        else:
            host, _, port = where.strip("/").rpartition(":")
            line = socket.create_connection((host.strip("[]"), int(port)), _DEADLINE_S)
        line.sendall(f"{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Length: 0\r\n\r\n".encode())
    except (OSError, ValueError) as fault:
        raise EngineAway(str(fault)) from fault
    return line


def _answer(line: socket.socket) -> tuple[int, bytes]:
    """Status and body. Raises EngineAway."""
    try:
        with line:
            answer = b""
            while len(answer) < _MOST_BYTES and (piece := line.recv(65536)):
                answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split(None, 2)[1]), body
    except (OSError, ValueError, IndexError) as fault:
        raise EngineAway(str(fault)) from fault


def alive(address: str, labels: list[str]) -> dict[str, str]:
    """Containers with these labels that run or are paused: id and name, which is the attempt. Raises EngineAway."""
    wanted = json.dumps({"label": labels, "status": ["running", "paused", "restarting"]})
    escaped = "".join(f"%{byte:02X}" for byte in wanted.encode())
    status, body = _answer(_open(address, "GET", f"/containers/json?filters={escaped}"))
    if status != 200:
        raise EngineAway(f"it answers {status}")
    return {row["Id"]: row["Names"][0].lstrip("/") for row in json.loads(body)}


def kill(address: str, containers: list[str]) -> None:
    """SIGKILL to each, many at a time; one that has ended meanwhile is no fault. Raises EngineAway."""
    for first in range(0, len(containers), _AT_ONCE):
        some = containers[first : first + _AT_ONCE]
        for line in [_open(address, "POST", f"/containers/{container}/kill?signal=KILL") for container in some]:
            _answer(line)
