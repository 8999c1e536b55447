"""Ports that are known before their server listens."""

import socket


def reserve_port(port: int = 0, host: str = "127.0.0.1") -> socket.socket:
    """Bind a port, 0 for any free one, and return the socket that reserves it until it is closed.

    The socket never listens, and permits sharing (SO_REUSEADDR), so a server that permits it too may listen on the
    port, end, and listen again. Meanwhile the kernel gives the port to nobody who asks for any free one.

    Raises OSError when another socket listens on the port.
    """
    reserved = socket.socket()
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((host, port))
    except OSError:
        reserved.close()
        raise
    return reserved
