"""Ports for servers whose address must be known before they start, or that end and start again on the same port.

A server that starts once binds port 0 and reports what it got.
"""

from socket import socket

from windlass.embedded.ports import reserve_port

_RESERVED: list[socket] = []


def reserved_port() -> int:
    """Return a port of 127.0.0.1 that nobody else is given while this process lives."""
    _RESERVED.append(reserve_port())
    return _RESERVED[-1].getsockname()[1]
