"""What /proc tells of processes."""

import os


def read(path: str) -> bytes:
    """The file's content; nothing when it, or its process, is not there or not ours to read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        found: list[bytes] = []
        while piece := os.read(fd, 65536):
            found.append(piece)
        return b"".join(found)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _stat(pid: int) -> list[bytes]:
    """The fields of its stat from the state on; none when it is gone."""
    return read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()


def children() -> list[int]:
    """This process's own, those it was given as their parents died included."""
    me = os.getpid()
    path = f"/proc/{me}/task/{me}/children"
    if os.path.exists(path):
        return [int(pid) for pid in read(path).split()]
    return [pid for pid in everyone() if _stat(pid)[1:2] == [str(me).encode()]]


def everyone() -> list[int]:
    """Every process there is."""
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def began(pid: int) -> int:
    """When it was forked, in the kernel's ticks since boot; 0 when it is gone."""
    fields = _stat(pid)
    return int(fields[19]) if len(fields) > 19 else 0


def running(pid: int) -> bool:
    """Whether it is there and more than a zombie."""
    return _stat(pid)[:1] not in ([], [b"Z"], [b"X"])


def environment(pid: int) -> dict[bytes, bytes]:
    """The variables it was started with."""
    return dict(pair.split(b"=", 1) for pair in read(f"/proc/{pid}/environ").split(b"\0") if b"=" in pair)
