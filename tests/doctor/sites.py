"""Sites for the doctor to look at, and servers that say nothing."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from windlass.doctor.examine import Examined, examine
from windlass.doctor.findings import Finding
from windlass.doctor.site import Role, Site
from windlass.sources import load

NOWHERE = "unix:///nowhere/docker.sock"


def site(role: Role, **flags: object) -> Site:
    named = {name.replace("__", "."): value for name, value in flags.items()}
    return Site(load(None, {"worker.docker_url": NOWHERE} | named), role)


def found(examined: Examined) -> dict[str, Finding]:
    return {finding.check: finding for finding in examined.report.findings}


async def ledger(url: str, **flags: object) -> dict[str, Finding]:
    return found(await examine(site(Role.SCHEDULER, database__url=url, **flags)))


@contextmanager
def silent(path: Path | None = None) -> Iterator[int]:
    """A server that takes connections and says nothing; its port."""
    with socket.socket(socket.AF_UNIX if path else socket.AF_INET) as listener:
        listener.bind(str(path) if path else ("127.0.0.1", 0))
        listener.listen(50)
        yield 0 if path else listener.getsockname()[1]
