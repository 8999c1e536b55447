"""What runs containers: versions that are known to be bad, by what is wrong with them and where it was mended."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

Numbers = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Flaw:
    """A flaw of a program. `mended` are the first good releases, one for each line (the first two numbers) that got
    one; lines before the first never did, lines behind the last never had it. `since`: it was not there before."""

    program: str
    mended: tuple[Numbers, ...]
    what: str
    grave: bool = False
    since: Numbers = (0, 0, 0)


FLAWS = (
    Flaw("runc", ((1, 1, 12),), "CVE-2024-21626: a container can reach the host's files", grave=True),
    Flaw(
        "runc",
        ((1, 2, 8), (1, 3, 3)),
        "CVE-2025-31133, -52565 and -52881: a crafted image can write to the host's /proc",
    ),
    Flaw(
        "containerd",
        ((1, 6, 38), (1, 7, 27), (2, 0, 4)),
        "CVE-2024-40635: an image with a large user id runs as root",
    ),
    Flaw(
        "engine",
        ((28, 3, 3),),
        "CVE-2025-54388: once firewalld is reloaded, ports published on loopback are open to the network",
        since=(28, 2, 0),
    ),
)
#: The oldest Docker Engine that is tested against; those before the second get no more mends from Docker.
OLDEST_ENGINE, KEPT_ENGINE = (20, 10, 0), (25, 0, 0)


def numbers(version: str) -> Numbers | None:
    """The three numbers a version begins with; None where it has none. A pre-release counts as the release before."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if not found:
        return None
    major, minor, patch = int(found[1]), int(found[2]), int(found[3] or 0)
    return (major, minor, patch - 1) if re.search(r"[-~](?:rc|alpha|beta)", version) else (major, minor, patch)


def own(version: str) -> bool:
    """Whether a distribution made it, which may have mended it under its old number: 1.1.5+ds1, 20.10.24+dfsg1."""
    return bool(re.search(r"\d[-+~](?!rc|alpha|beta)[A-Za-z0-9]", version))


def flaws(program: str, version: str) -> Iterator[Flaw]:
    """The known flaws of this version, by its number."""
    given = numbers(version)
    for flaw in FLAWS if given else ():
        if flaw.program == program and given is not None and given >= flaw.since and not _mended(flaw, given):
            yield flaw


def _mended(flaw: Flaw, given: Numbers) -> bool:
    for release in flaw.mended:
        if release[:2] == given[:2]:
            return given >= release
    return given > flaw.mended[-1]
