"""Behind PgBouncer in transaction mode: jobs run, a leader is elected by its lease alone, mistakes are named."""

import os
import subprocess
import sys
from collections.abc import Iterator
from shutil import which
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from tests.conftest import Servers
from tests.ports import reserved_port
from tests.support import wait_until
from tests.system.cluster import Cluster
from tests.system.test_leaders import leading, overview, terms_of_placements
from windlass.doctor.examine import examine
from windlass.doctor.findings import Severity
from windlass.doctor.site import Role, Site
from windlass.sources import load
from windlass.store.db import SESSION

POOLED = {"database.pooler": "transaction"}
#: Debian keeps it where users don't look.
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"


@pytest.fixture
def pooled_url(cluster: Cluster, servers: Servers) -> Iterator[str]:
    """The cluster's database through a real PgBouncer."""
    program = which("pgbouncer", path=PATH)
    if program is None:
        pytest.skip("no PgBouncer here (Debian: pgbouncer)")
    direct, port = urlsplit(cluster.database_url), reserved_port()
    name, sockets = direct.path.strip("/"), parse_qs(direct.query)["host"][0]
    account = servers.postgres._folder.account  # pyright: ignore
    if account:  # PgBouncer runs as nobody who is root, and PostgreSQL knows its users by the system's
        with (servers.postgres._files / "pg_ident.conf").open("a") as users:  # pyright: ignore
            users.write(f'windlass "{account.name}" windlass\n')
        servers.execute("SELECT pg_reload_conf()")
    config = cluster.folder / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n{name} = host='{sockets}' dbname={name} user=windlass\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 5\n"
    )
    config.chmod(0o644)
    run_as = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    with (cluster.folder / "pgbouncer.log").open("ab") as log:
        pooler = subprocess.Popen([program, str(config)], stdout=log, stderr=log, **run_as)
    yield f"postgresql://windlass@127.0.0.1:{port}/{name}"
    cluster.close()
    pooler.terminate()
    pooler.wait(10)


def setting(url: str, name: str) -> str:
    with psycopg.connect(url, prepare_threshold=None, gssencmode="disable") as conn:
        row = conn.execute("SELECT current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return row[0]


def answers(url: str) -> bool:
    try:
        return bool(setting(url, "server_version"))
    except psycopg.OperationalError:
        return False


async def test_it_elects_by_lease_and_runs_jobs(cluster: Cluster, pooled_url: str) -> None:
    direct = cluster.database_url
    env = os.environ | {"WINDLASS_DATABASE_URL": direct, "WINDLASS_DATABASE_POOLER": "transaction"}
    subprocess.run([sys.executable, "-m", "windlass", "migrate"], env=env, check=True, capture_output=True)
    await wait_until(lambda: answers(pooled_url), "PgBouncer answers")
    assert {name: setting(pooled_url, name) for name in ("enable_seqscan", "jit", "synchronous_commit")} == {
        name: SESSION[name] for name in ("enable_seqscan", "jit", "synchronous_commit")
    }
    cluster.database_url = pooled_url
    cluster.api(**POOLED)
    cluster.worker()
    schedulers = [cluster.scheduler(f"s{n}", **POOLED) for n in range(2)]
    cluster.database_url = direct
    await cluster.ready()
    leader = await wait_until(lambda: leading(cluster, schedulers), "one leads and one stands by")
    term = overview(cluster)["leader"]["term"]
    cluster.submit_all([cluster.spec(f"before{n}", "sleep 0.02", resources={"cpu": 1}) for n in range(60)])
    await wait_until(lambda: len(cluster.jobs(state="succeeded")) > 10, "jobs end")
    leader.kill()
    cluster.submit_all([cluster.spec(f"after{n}") for n in range(20)])
    await wait_until(lambda: terms_of_placements(cluster)[-1] == term + 1, "placements of the next term")
    jobs = await cluster.all_over(80)
    assert {job["state"] for job in jobs} == {"succeeded"}
    assert all(cluster.starts(job["name"]) == [1] for job in jobs)
    cluster.reconcile(jobs)
    assert not any("Traceback" in role.said() for role in cluster.started), cluster.words()


async def test_without_the_setting_the_error_names_it(cluster: Cluster, pooled_url: str) -> None:
    await wait_until(lambda: answers(pooled_url), "PgBouncer answers")
    cluster.database_url = pooled_url
    roles = [cluster.api(), cluster.scheduler()]
    for role in roles:
        await wait_until(lambda role=role: role.code is not None, f"the {role.role} gives up")
        assert role.code == 2
        assert "WINDLASS_DATABASE_POOLER=transaction" in role.said()


async def test_the_doctor_tells_whether_sessions_are_shared(
    cluster: Cluster, pooled_url: str, redis_url: str, database_url: str
) -> None:
    await wait_until(lambda: answers(pooled_url), "PgBouncer answers")
    told: dict[tuple[str, str], Severity] = {}
    for url, pooler in ((pooled_url, "none"), (pooled_url, "transaction"), (database_url, "none")):
        settings = load(None, {"database.url": url, "database.pooler": pooler, "redis.url": redis_url})
        for finding in (await examine(Site(settings, Role.SCHEDULER))).report.findings:
            if finding.check == "postgresql.isolation":
                told[urlsplit(url).netloc, pooler] = finding.severity
                assert bool(finding.fix) == (finding.severity is Severity.ERROR)
    pooled, direct = urlsplit(pooled_url).netloc, urlsplit(database_url).netloc
    assert told == {
        (pooled, "none"): Severity.ERROR,
        (pooled, "transaction"): Severity.OK,
        (direct, "none"): Severity.OK,
    }
