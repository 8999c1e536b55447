"""The cluster at one glance."""

from collections.abc import Iterator, Sequence

from windlass.cli.exits import Code
from windlass.cli.options import Format, Out, Url
from windlass.cli.render import emit_value, since, table
from windlass.cli.session import connect, go
from windlass.client import Cluster

_COUNTED_TO = 10_000
_HEADER = ("ROLE", "ID", "HOST", "PID", "TERM", "SINCE", "SEEN", "VERSION")


def status(output: Out = Format.TABLE, url: Url = None) -> int:
    """Show who leads and stands by, nodes, jobs, and whether Redis serves. Exits with 1 while no scheduler leads."""

    async def work() -> int:
        async with connect(url) as client:
            found = await client.cluster()
        if output is Format.TABLE:
            print("\n".join([*table(_HEADER, list(_schedulers(found))), "", *_facts(found)]))
        elif output is Format.NAME:
            print("\n".join(one.id for one in (found.leader, *found.standbys) if one))
        else:
            emit_value(found, output)
        return Code.OK if found.leader else Code.NO_LEADER

    return go(work())


def _schedulers(found: Cluster) -> Iterator[Sequence[str]]:
    leader = found.leader
    if leader:
        term = str(leader.term)
        yield "leader", leader.id, leader.host, str(leader.pid), term, since(leader.since), "", leader.version
    for one in found.standbys:
        yield "standby", one.id, one.host, str(one.pid), "", since(one.since), since(one.seen_at), one.version


def _facts(found: Cluster) -> Iterator[str]:
    if not found.leader:
        yield "leader   none: nothing is placed until a scheduler leads; see that one runs and reaches PostgreSQL"
    nodes = [f"{count} {state}" for state, count in found.nodes.items() if count]
    yield f"nodes    {', '.join(nodes) or 'none'}"
    yield f"jobs     {_count(found.jobs.queued)} queued, {_count(found.jobs.running)} running"
    degraded = f"degraded for {since(found.redis_degraded_since)}: work goes on by polls"
    yield f"redis    {degraded if found.redis_degraded else 'ok'}"


def _count(jobs: int) -> str:
    return f"{_COUNTED_TO} or more" if jobs >= _COUNTED_TO else str(jobs)
