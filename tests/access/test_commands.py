"""The commands of docs/how-to/access.md on real processes: a first token, tokens of people, a worker that joins, TLS,
and who changed what. Redis asks for a password, as it would anywhere but on one machine."""

import json
import shutil
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
import redis

from tests.access.site import Site, Streams, make_certificate, sealed_ledger, sealed_postgres
from tests.support import wait_until
from windlass.core.access import sound
from windlass.embedded.valkey import wheel

NO_REDIS = pytest.mark.skipif(shutil.which("redis-server") is None, reason="there is no redis-server; apt has one")
NO_LEDGER = pytest.mark.skipif(sealed_postgres() is None, reason="there is no PostgreSQL of Debian's; apt has one")
VALKEY = pytest.param(str(wheel().site / wheel().program), id="valkey")
#: Debian's is of version 7.0, the oldest that serves.
REDIS = pytest.param(shutil.which("redis-server"), id="redis", marks=NO_REDIS)


@pytest.fixture(params=[VALKEY])
def streams(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Streams]:
    server = Streams(request.param, tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def site(database_url: str, streams: Streams, tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path, database_url, streams.url)
    yield made
    complaints = [role.stop() for role in reversed(made.roles)]
    assert not any(complaints), complaints


async def begin(site: Site, both: Mapping[str, object] | None = None, **api: object) -> None:
    """The first token and the API, as docs/how-to/access.md has it; and a scheduler."""
    first = site.cli("token", "generate", token_file="")
    assert sound(first.stdout.strip())
    (site.folder / "admin").write_text(first.stdout)
    ledger = {"database.url": site.database_url, "redis.url": site.redis_url} | dict(both or {})
    mine = {"api.port": site.port, "api.admin_token_file": site.folder / "admin"}
    site.role("api", "api", ledger | mine | api)
    site.role("scheduler", "scheduler", ledger)
    trust = {"WINDLASS_CA_FILE": str(api["api.tls_cert_file"])} if api else {}
    await wait_until(lambda: site.cli("token", "whoami", **trust).returncode == 0, "the API knows its admin")


async def ready(site: Site, count: int = 1, **environ: str) -> list[dict]:
    def look() -> list[dict] | None:
        done = site.cli("nodes", "-o", "json", **environ)
        found = json.loads(done.stdout) if done.returncode == 0 else []
        fresh = [node for node in found if node["state"] == "ready"]
        return fresh if len(fresh) >= count else None

    try:
        found = await wait_until(look, f"{count} nodes are ready")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{site.said()}") from None
    assert found is not None
    return found


async def test_tokens_of_people_and_who_changed_what(site: Site) -> None:
    await begin(site)
    assert site.out("token", "whoami") == "admin token file, admin"
    made = site.cli("token", "create", "--role", "submitter", "--name", "ci", "--expires", "90d")
    token = made.stdout.strip()
    assert sound(token)
    assert "not shown again" in made.stderr
    assert "ci" in site.out("token", "ls")
    refused = site.cli("nodes", token_file="")
    assert refused.returncode == 4
    assert "WINDLASS_TOKEN_FILE" in refused.stderr
    weak = site.cli("token", "ls", WINDLASS_TOKEN=token)
    assert weak.returncode == 4
    assert "windlass token create --role admin" in weak.stderr
    job = site.out("run", "--detach", "--", "true", WINDLASS_TOKEN=token)
    site.out("cancel", job, WINDLASS_TOKEN=token)
    audit = json.loads(site.out("audit", "--who", "ci", "-o", "json"))
    assert [(one["action"], one["target"]) for one in audit] == [("cancel_job", job), ("submit_job", job)]
    assert "create_token" in site.out("audit")
    assert len(json.loads(site.out("audit", "--target", job, "-o", "json"))) == 2
    site.out("token", "revoke", "ci")
    gone = site.cli("ps", WINDLASS_TOKEN=token)
    assert gone.returncode == 4
    assert "was revoked" in gone.stderr
    fresh = site.out("token", "generate", token_file="")
    (site.folder / "admin").write_text(fresh)
    await wait_until(lambda: site.cli("ps").returncode == 0, "the file's new token opens")


@pytest.mark.parametrize("streams", [VALKEY, REDIS], indirect=True)
async def test_a_worker_joins_runs_jobs_and_reaches_nothing_but_its_own(site: Site, streams: Streams) -> None:
    await begin(site)
    joined = site.cli("token", "create", "--join")
    assert f"windlass worker --join {joined.stdout.strip()}" in joined.stderr
    worker = site.worker("w1", **{"worker.join": joined.stdout.strip()})
    [node] = await ready(site)
    assert site.out("run", "--", "echo", "hello") == "hello"
    late = site.worker("w2", **{"worker.join": joined.stdout.strip()})
    assert await wait_until(lambda: late.code is not None, "a second one is not let in")
    assert late.code == 2
    assert "used up" in late.said()

    credentials = json.loads((site.folder / "w1" / "credentials.json").read_text())
    assert (site.folder / "w1" / "credentials.json").stat().st_mode & 0o777 == 0o600
    user, own = f"windlass:node:{node['id']}", f"windlass:node:{node['id']}"
    with redis.Redis(port=streams.port, username=user, password=credentials["redis_password"]) as mine:
        assert mine.ping()
        mine.xadd("windlass:leader", {"m": "[]"})
        mine.xpending_range(own, "worker", "-", "+", 1)
        for forbidden in (
            ("XADD", "windlass:node:node_other", "*", "m", "[]"), ("XADD", own, "*", "m", "[]"),
            ("XREADGROUP", "GROUP", "worker", "0", "STREAMS", "windlass:node:node_other", ">"),
            ("XREADGROUP", "GROUP", "leader", "0", "STREAMS", "windlass:leader", ">"),
            ("XRANGE", "windlass:leader", "-", "+"), ("XREAD", "STREAMS", "windlass:news", "0"), ("DEL", own),
            ("XTRIM", "windlass:leader", "MAXLEN", "0"), ("FLUSHALL",), ("KEYS", "*"), ("SCAN", "0"), ("SET", "x", "1"),
            ("CONFIG", "GET", "*"), ("ACL", "LIST"), ("EVAL", "return 1", "0"), ("SUBSCRIBE", "x"), ("SHUTDOWN",),
        ):  # fmt: skip
            with pytest.raises(redis.exceptions.NoPermissionError):
                mine.execute_command(*forbidden)
    with redis.Redis(port=streams.port) as nobody, pytest.raises(redis.exceptions.AuthenticationError):
        nobody.ping()

    # an empty restart: the node's user is gone with all else, and comes back
    streams.kill()
    streams.start()
    assert site.out("run", "--", "echo", "again") == "again"
    await wait_until(lambda: "redis_access_renewed" in worker.said(), "its user is made again")

    # a restart needs no join token; a revoked node is out, of the API and of Redis
    worker.kill()
    worker.start(WINDLASS_WORKER_JOIN="")
    await ready(site)
    site.out("token", "revoke", "w1")
    with redis.Redis.from_url(streams.url) as admin:
        await wait_until(lambda: user not in admin.acl_users(), "its user in Redis is gone")
    refused = site.cli("ps", WINDLASS_TOKEN=credentials["token"])
    assert refused.returncode == 4


async def test_any_number_of_workers_join_by_a_file(site: Site) -> None:
    token = site.cli("token", "generate", "--join", token_file="").stdout
    (site.folder / "join").write_text(token)
    await begin(site, **{"api.join_token_file": site.folder / "join", "api.tls_cert_file": ""})
    for name in ("w1", "w2"):
        site.worker(name, **{"worker.join_file": site.folder / "join"})
    assert {node["name"] for node in await ready(site, 2)} == {"w1", "w2"}
    audit = json.loads(site.out("audit", "--action", "join", "-o", "json"))
    assert {one["detail"]["name"] for one in audit} == {"w1", "w2"}
    assert {one["who"] for one in audit} == {"join token file"}
    gone = site.worker("w3", **{"worker.join_file": "/nowhere"})
    await wait_until(lambda: gone.code == 2, "no file, no worker")
    assert "worker.join_file '/nowhere' can't be read" in gone.said()


async def test_the_api_speaks_tls_to_those_who_trust_its_ca(site: Site, certificate: Path) -> None:
    site.scheme = "https"
    key = certificate.with_name("key.pem")
    await begin(site, **{"api.tls_cert_file": certificate, "api.tls_key_file": key})
    trust = {"WINDLASS_CA_FILE": str(certificate)}
    untrusting = site.cli("nodes")
    assert untrusting.returncode == 7
    assert "certificate" in untrusting.stderr.lower()
    token = site.out("token", "create", "--join", **trust)
    site.worker("w1", **{"worker.join": token, "api.ca_file": certificate})
    await ready(site, **trust)
    assert site.out("run", "--", "echo", "sealed", **trust) == "sealed"
    before = ssl.get_server_certificate(("localhost", site.port))
    make_certificate(certificate.parent)
    await wait_until(
        lambda: ssl.get_server_certificate(("localhost", site.port)) != before, "a renewed certificate is taken up"
    )


@NO_REDIS
@NO_LEDGER
async def test_all_roles_speak_tls_with_redis_and_postgresql(roomy_folder: Path) -> None:
    """Both are Debian's, built with TLS; the wheels' PostgreSQL and Valkey are not."""
    folder, programs = Path(tempfile.mkdtemp(dir=roomy_folder, prefix="sealed ")), sealed_postgres()
    folder.chmod(0o711)
    certificate = make_certificate(folder)
    streams = Streams(shutil.which("redis-server") or "", folder, certificate)
    assert programs is not None
    streams.start()
    with sealed_ledger(programs, folder / "ledger", certificate) as database_url:
        site = Site(folder, database_url, streams.url)
        try:
            await all_sealed(site, certificate)
        finally:
            for role in reversed(site.roles):
                role.stop()
            streams.kill()


async def all_sealed(site: Site, certificate: Path) -> None:
    trust = {"WINDLASS_DATABASE_URL": site.database_url, "WINDLASS_DATABASE_CA_FILE": str(certificate)}
    await wait_until(lambda: site.cli("migrate", **trust).returncode == 0, "the ledger takes clients with TLS")
    await begin(site, {"database.ca_file": certificate, "redis.ca_file": certificate})
    clear = site.cli("migrate", WINDLASS_DATABASE_URL=f"{site.database_url}?sslmode=disable")
    assert "no encryption" in clear.stderr, "in clear nobody gets through"
    token = site.out("token", "create", "--join")
    site.worker("w1", **{"worker.join": token, "redis.ca_file": certificate})
    await ready(site)
    assert site.out("run", "--", "echo", "sealed") == "sealed"
    with psycopg.connect(site.database_url, sslmode="verify-full", sslrootcert=str(certificate)) as ledger:
        sealed = ledger.execute("SELECT count(*), bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
                                "WHERE application_name LIKE 'windlass%'").fetchone()  # fmt: skip
    assert sealed is not None
    assert sealed[0] >= 2, "API and scheduler"
    assert sealed[1]
    wary = f"{site.database_url}?sslmode=verify-full&sslrootcert=system"
    refused = site.cli("migrate", WINDLASS_DATABASE_URL=wary)
    assert "certificate verify failed" in refused.stderr
    with redis.Redis.from_url(site.redis_url) as untrusting, pytest.raises(redis.exceptions.ConnectionError):
        untrusting.ping()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)
