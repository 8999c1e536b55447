"""The support bundle: everything that helps somebody who is not here, with no secret in it (`windlass debug`).

Whatever is dead or hangs costs its own time at most, and is named in the manifest.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from windlass import __version__
from windlass.core.quantity import show_size
from windlass.doctor import engine, ledger, machine, pages, tails
from windlass.doctor.aside import aside
from windlass.doctor.examine import examine, hiding
from windlass.doctor.papers import LeftOut, Paper, Papers, packed
from windlass.doctor.site import Site
from windlass.doctor.ways import Ways, ways_of
from windlass.errors import WindlassError
from windlass.stream.keys import Keys
from windlass.stream.outage import StreamDown
from windlass.stream.produce import connect as connect_stream
from windlass.stream.survey import survey

#: Seconds for each part, however badly a server behaves; all are asked at once.
PART_S = 60.0
NEVER = {
    "output of jobs": "it is the jobs' own; `windlass logs JOB` shows it",
    "commands and values of variables of jobs": "they may be secrets; names of variables are there",
    "values of variables of this process": "they may be secrets; names are there, and settings with theirs hidden",
    "messages on the streams": "they hold what jobs are; only how many there are, and how old, is told",
}
_README = """\
A support bundle of Windlass {version}, made on {host} at {at} by `windlass debug`.

Passwords, tokens and what looks like one were replaced by ***. Names were not: of jobs, images, labels, queues, nodes,
hosts, users, folders and addresses. Look it through before you give it to anybody; it is plain text.

What is in it:

{files}

What is not, and why:

{left_out}
"""


class Bundle(Struct, frozen=True):
    """What is in a bundle: the manifest. `since`: events and lines of logs are from then on."""

    version: str
    at: str
    host: str
    role: str
    since: str
    files: list[Paper]
    left_out: list[LeftOut]


def name_of(now: datetime) -> str:
    """What a bundle of this host and moment is called."""
    host = re.sub(r"[^A-Za-z0-9_-]+", "-", socket.gethostname()).strip("-")[:40] or "host"
    return f"windlass-debug-{host}-{now:%Y%m%dT%H%M%SZ}"


async def collect(site: Site, within_s: float, now: datetime) -> tuple[Bundle, bytes]:
    """The manifest and the archive. Raises nothing that a server does, and WindlassError where the files with the
    secrets to hide don't answer."""
    try:
        hide, ways = await aside(lambda: (hiding(site), ways_of(site)))
    except TimeoutError:
        raise WindlassError("the files with tokens and passwords can't be read: their disk does not answer") from None
    papers = Papers()
    since = now - timedelta(seconds=within_s)
    parts: dict[str, Papers] = {}

    async def part(name: str, work: Callable[[Papers], Awaitable[None]]) -> None:
        own = parts[name] = Papers()
        try:
            await asyncio.wait_for(work(own), PART_S)
        except TimeoutError:
            own.without(name, "not done in good time; what was got until then is there")
        except Exception as fault:
            own.without(name, f"{type(fault).__name__}: {fault}")

    async def doctor(own: Papers) -> None:
        examined = await examine(site)
        own.put("doctor.json", "what `windlass doctor` finds here", examined.report)
        own.put("facts.json", "what it was told by PostgreSQL, Redis, the Docker Engine and the API", examined.facts)

    settings = site.settings
    await asyncio.gather(
        part("doctor.json", doctor),
        part("machine.json", lambda own: _machine(site, own)),
        part("ledger/", lambda own: ledger.gather(settings.database, within_s, own)),
        part("streams.json", lambda own: _streams(site, ways, own)),
        part("engine/", lambda own: engine.gather(settings.worker, own)),
        part("api/", lambda own: pages.gather_api(ways, own)),
        part("metrics/", lambda own: pages.gather_metrics(ways, settings.metrics, own)),
        part("logs/", lambda own: aside(lambda: tails.gather(site, since, own))),
    )
    for own in parts.values():
        papers.add(own)
    for what, why in NEVER.items():
        papers.without(what, why)
    return _bundle(site, now, since, *papers.finished(hide))


async def _machine(site: Site, papers: Papers) -> None:
    papers.put("machine.json", "versions, kernel, user, and names of variables that are set", machine.machine())
    papers.put("settings.json", "every setting, and who set it; secrets hidden", machine.settings(site))
    papers.put("processes.json", "processes of Windlass on this host", await aside(machine.processes))


async def _streams(site: Site, ways: Ways, papers: Papers) -> None:
    if not ways.redis_url:
        return papers.without("streams.json", "redis.url is not set here")
    if ways.login is not None:
        return papers.without("streams.json", "a node's own user sees no more; look from a host of the API")
    redis = connect_stream(ways.redis_url)
    try:
        found = await survey(redis, Keys(site.settings.cluster))
        papers.put("streams.json", "the streams: lengths, groups, what was read and not dealt with", found)
    except (StreamDown, ValueError) as fault:
        papers.without("streams.json", fault)
    finally:
        await redis.aclose()


def _bundle(
    site: Site, now: datetime, since: datetime, done: list[tuple[Paper, bytes]], left_out: list[LeftOut]
) -> tuple[Bundle, bytes]:
    at, then = (moment.isoformat(timespec="seconds") for moment in (now, since))
    papers = [paper for paper, _ in done]
    bundle = Bundle(__version__, at, socket.gethostname(), site.role, then, papers, left_out)
    text = _README.format(
        version=bundle.version, host=bundle.host, at=at,
        files="\n".join(f"  {paper.name:<28} {line_of(paper)}" for paper in papers),
        left_out="\n".join(f"  {one.what}: {one.why}" for one in left_out),
    )  # fmt: skip
    manifest = msgspec.json.format(msgspec.json.encode(bundle)) + b"\n"
    own = [("README.txt", text.encode(errors="replace")), ("manifest.json", manifest)]
    return bundle, packed(name_of(now), [*own, *((paper.name, content) for paper, content in done)])


def line_of(paper: Paper) -> str:
    """What a paper is, how large, and what is missing from it."""
    return f"{paper.what}, {show_size(paper.bytes)}B" + (f" (without {paper.cut})" if paper.cut else "")
