"""Output in quantity: complete up to the cap, head and tail beyond it, and never a matter of memory."""

import re

import pytest

from tests.support import wait_until
from tests.system.cluster import Cluster

MIB = 2**20
CAP = 10 * MIB
GAP = re.compile(rb"\n\[windlass: (\d+) bytes of stdout are not kept\]\n")
BOTH = pytest.mark.parametrize("driver", ["process", pytest.param("docker", marks=pytest.mark.docker)])


#: Bytes of a line. The Engine takes some ten microseconds for each line, however short, so its lines are longer here.
WIDTH = {"process": 10, "docker": 1000}


def numbered(first: int, after: int, width: int) -> bytes:
    return b"".join(b"%0*d\n" % (width - 1, n) for n in range(first, after))


def printing(size: int, width: int) -> str:
    """A script that prints so many bytes in numbered lines."""
    return f"awk 'BEGIN {{ for (n = 0; n < {size // width}; n++) printf \"%0{width - 1}d\\n\", n }}'"


def check_cut(log: bytes, size: int, width: int) -> None:
    """Head and tail are the true ones to the byte, and the mark counts what lies between."""
    found = GAP.search(log)
    assert found is not None
    head, missing, tail = log[: found.start()], int(found[1]), log[found.end() :]
    assert len(head) + missing + len(tail) == size
    assert len(head) + len(tail) <= CAP
    assert min(len(head), len(tail)) >= CAP // 2
    lines = size // width
    assert head == numbered(0, len(head) // width + 1, width)[: len(head)]
    assert tail == numbered(lines - len(tail) // width - 1, lines, width)[-len(tail) :]


@BOTH
async def test_what_fits_the_cap_is_kept_to_the_byte(calm: Cluster, driver: str) -> None:
    job_id = calm.submit(calm.spec(f"fits-{driver}", printing(10 * MIB, WIDTH[driver]), driver=driver))
    (job,) = await calm.over(job_id)
    assert job["state"] == "succeeded"
    assert calm.log(job_id) == numbered(0, 10 * MIB // WIDTH[driver], WIDTH[driver])


@BOTH
async def test_30_mb_at_once_then_an_exit_keeps_head_and_tail(calm: Cluster, driver: str) -> None:
    job_id = calm.submit(calm.spec(f"over-{driver}", printing(30_000_000, WIDTH[driver]), driver=driver))
    (job,) = await calm.over(job_id)
    assert job["state"] == "succeeded"
    check_cut(calm.log(job_id), 30_000_000, WIDTH[driver])


@BOTH
async def test_200_mb_cost_neither_worker_nor_api_60_mib(cluster: Cluster, driver: str) -> None:
    api, _, worker = cluster.api(), cluster.scheduler(), cluster.worker()
    await cluster.ready()
    # A first job has the roles load what they load once.
    await cluster.over(cluster.submit(cluster.spec("first", printing(10_000, 10), driver=driver)))
    assert cluster.log(cluster.jobs()[0]["id"]) == numbered(0, 1000, 10)
    before = {role.role: role.memory() for role in (api, worker)}
    job_id = cluster.submit(cluster.spec("much", printing(200_000_000, WIDTH[driver]), driver=driver))
    answers = 0

    def over() -> bool:
        nonlocal answers
        head = cluster.log(job_id, tail="5")
        answers += bool(head)
        return cluster.job(job_id)["state"] == "succeeded"

    await wait_until(over, "it has printed it all")
    assert answers > 2  # the log could be read while it was written
    check_cut(cluster.log(job_id), 200_000_000, WIDTH[driver])
    for role in (api, worker):
        grown = role.memory("VmHWM") - before[role.role]
        assert grown < 60, f"{role.role} grew by {grown:.0f} MiB"
