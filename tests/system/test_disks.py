"""Disks without room, the ledger's and a worker's: nothing is lost, it is said, and it passes with room again."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import httpx2
from anyio.from_thread import start_blocking_portal

from tests.support import wait_until
from tests.system.cluster import Cluster
from tests.system.test_outages import all_ran_once
from windlass.embedded.folder import DataFolder
from windlass.embedded.postgres import Postgres
from windlass.store.migrate import migrate


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A tmpfs of this size. Needs root."""
    path.mkdir(mode=0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0711", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return ballast
    raise AssertionError("the disk did not fill up")


async def test_a_worker_whose_disk_is_full(cluster: Cluster, tmp_path: Path) -> None:
    with small_disk(cluster.folder / "n1", "64m") as disk:
        cluster.api()
        cluster.scheduler()
        worker = cluster.worker(drivers="process")
        await cluster.ready()
        running = cluster.submit(cluster.spec("running", "sleep 12"))
        await wait_until(lambda: cluster.starts("running"), "it runs")
        ballast = fill(disk)
        await wait_until(lambda: cluster.nodes()[0]["drivers"] == [], "the node takes no more work")
        assert "disk" in str(cluster.nodes()[0])
        worker.kill()
        worker.start()  # and the new one takes over what runs
        waits = cluster.submit(cluster.spec("waits"))
        (done,) = await cluster.over(running)
        all_ran_once(cluster, [done])
        ballast.unlink()
        (after,) = await cluster.over(waits)
        all_ran_once(cluster, [after])
        worker.kill()
        worker.start()
        all_ran_once(cluster, await cluster.over(cluster.submit(cluster.spec("again"))))
        worker.stop()


async def test_a_ledger_whose_disk_is_full(cluster: Cluster) -> None:
    with (
        small_disk(cluster.folder / "pg", "256m") as disk,
        start_blocking_portal() as portal,
        DataFolder(disk) as folder,
    ):
        postgres = Postgres(folder)
        cluster.database_url = portal.call(postgres.start)
        try:
            portal.call(migrate, cluster.database_url)
            cluster.api()
            cluster.scheduler()
            cluster.worker()
            await cluster.ready()
            ballast = fill(disk)
            accepted, refusal = submit_until_refused(cluster)
            assert refusal.headers["content-type"] == "application/problem+json"
            assert int(refusal.headers["retry-after"]) >= 1
            assert cluster.http.get("/livez").status_code == 200
            ballast.unlink()

            def again() -> bool:
                answer = cluster.http.post("/v1/jobs", json=cluster.spec("last"), headers={"Idempotency-Key": "last"})
                return answer.status_code in (200, 201)

            await wait_until(again, "jobs are accepted again")
            found = await cluster.all_over(len(accepted) + 1)
            assert set(accepted) <= {job["id"] for job in found}
            all_ran_once(cluster, found)
        finally:
            for role in reversed(cluster.started):
                role.stop()
            portal.call(postgres.stop)


def submit_until_refused(cluster: Cluster) -> tuple[list[str], httpx2.Response]:
    """Jobs with much in them, one after another; the ids of each yes, and the first no."""
    accepted: list[str] = []
    for n in count(1):
        spec = cluster.spec(f"big{n}", env={"LOAD": f"{n}" * 40_000})
        answer = cluster.http.post("/v1/jobs", json=spec)
        if answer.status_code != 201:
            assert answer.status_code == 503, answer.text
            return accepted, answer
        accepted.append(answer.json()["id"])
    raise AssertionError
