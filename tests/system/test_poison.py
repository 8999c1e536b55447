"""Poison in placement: a job that this version cannot read waits apart and says why; all others go on, and so does the
leader."""

import psycopg
import pytest

from tests.support import wait_until
from tests.system.cluster import Cluster

SPECS = {
    "word": '{"driver":"future","command":["true"]}',
    "type": '{"driver":"process","command":["true"],"resources":{"cpu":"many"}}',
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
async def test_a_spec_this_version_cannot_read(cluster: Cluster, spec: str) -> None:
    cluster.api()
    scheduler = cluster.scheduler()
    cluster.worker()
    await cluster.ready()
    bad = cluster.submit(cluster.spec("bad", start_delay="2s"))
    with psycopg.connect(cluster.database_url, autocommit=True) as ledger:
        ledger.execute("UPDATE jobs SET spec = %s::json WHERE id = %s", (spec, bad))
    await cluster.over(cluster.submit(cluster.spec("before")))

    def parked() -> bool:
        return "cannot be read" in (cluster.job(bad)["status"]["reason"] or "")

    await wait_until(parked, "it says why it waits")
    jobs = await cluster.over(*cluster.submit_all([cluster.spec(f"g{n}") for n in range(5)]))
    assert {job["state"] for job in jobs} == {"succeeded"}
    why = cluster.cli("why", bad)
    assert f"{bad} is queued: its spec cannot be read by version " in why.stdout
    assert [event["type"] for event in cluster.events(bad)].count("job.parked") == 1
    said = scheduler.said()
    assert (said.count("Traceback"), said.count("poison_task")) == (0, 1)
    assert cluster.cli("cancel", bad).returncode == 0
    assert cluster.job(bad)["state"] == "cancelled"
