"""Settings: every mistake is named, with the value and the fix, and no password is ever shown."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from windlass.errors import SettingsError
from windlass.settings import Settings
from windlass.sources import load, require, variable

DEEP_SECRET = "s3cr3t@pa:ss"


def of_file(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    (tmp_path / "windlass.toml").write_text(text)
    return load(tmp_path / "windlass.toml", environ=environ or {})


def complaint(environ: dict[str, str] | None = None, **flags: object) -> str:
    with pytest.raises(SettingsError) as caught:
        load(flags={key.replace("__", "."): value for key, value in flags.items()}, environ=environ or {})
    return str(caught.value)


def test_with_nothing_set_everything_has_a_value() -> None:
    settings = load(environ={"HOME": "/root", "PATH": "/bin"})
    assert (settings.api.host, settings.api.port) == ("127.0.0.1", 8000)
    assert settings.worker.cpu >= 1
    assert settings.worker.memory > 2**20
    assert settings.worker.drivers == ("docker",)
    assert not settings.worker.allow_process


def test_later_sources_win(tmp_path: Path) -> None:
    text = 'cluster = "file"\n[api]\nport = 1\nhost = "::1"\n[worker]\ncpu = 1\n'
    (tmp_path / "a.toml").write_text(text)
    environ = {"WINDLASS_CONFIG": str(tmp_path / "a.toml"), "WINDLASS_API_PORT": "2", "WINDLASS_WORKER_CPU": "500m"}
    settings = load(flags={"worker.cpu": "3", "worker.memory": None}, environ=environ)
    assert (settings.cluster, settings.api.host, settings.api.port, settings.worker.cpu) == ("file", "::1", 2, 3.0)


def test_variables_hold_lists_maps_flags_and_quantities() -> None:
    settings = load(
        environ={
            "WINDLASS_WORKER_DRIVERS": "docker, process",
            "WINDLASS_WORKER_LABELS": "disk=ssd,zone=a=b",
            "WINDLASS_WORKER_VOLUMES_ALLOWED": "",
            "WINDLASS_WORKER_ALLOW_PROCESS": "true",
            "WINDLASS_WORKER_MEMORY": "2Gi",
            "WINDLASS_WORKER_LOG_CAP_BYTES": "1Mi",
            "WINDLASS_WORKER_DATA": "relative",
            "WINDLASS_SCHEDULER_NODE_LOST_S": "7.5",
        }
    )
    worker = settings.worker
    assert worker.drivers == ("docker", "process")
    assert worker.labels == {"disk": "ssd", "zone": "a=b"}
    assert (worker.volumes_allowed, worker.allow_process) == ((), True)
    assert (worker.memory, worker.log_cap_bytes) == (2 * 2**30, 2**20)
    assert worker.data == Path.cwd() / "relative"
    assert settings.scheduler.node_lost_s == 7.5


def test_the_clients_own_variables_are_left_alone() -> None:
    load(environ={"WINDLASS_URL": "http://x", "WINDLASS_TOKEN": "t", "WINDLASS_TOKEN_FILE": "/nowhere"})


def in_file(tmp_path: Path, content: str, variable: str = "WINDLASS_REDIS_URL") -> dict[str, str]:
    (tmp_path / "value").write_text(content)
    return {f"{variable}_FILE": str(tmp_path / "value")}


def test_a_value_may_be_in_a_file(tmp_path: Path) -> None:
    redis = f"redis://:{DEEP_SECRET}@h/0"
    assert load(environ=in_file(tmp_path, redis + "\n")).redis.url == redis
    assert load(environ=in_file(tmp_path, "docker,process", "WINDLASS_WORKER_DRIVERS")).worker.drivers[1] == "process"
    assert load(environ=in_file(tmp_path, "lab", "WINDLASS_CLUSTER")).cluster == "lab"


def test_a_flag_wins_over_a_file_too(tmp_path: Path) -> None:
    environ = in_file(tmp_path, "http://file", "WINDLASS_API_URL")
    assert load(flags={"api.url": "http://flag"}, environ=environ).api.url == "http://flag"


@pytest.mark.parametrize(
    ("content", "variable", "fault"),
    [
        ("\n", "WINDLASS_REDIS_URL", "is empty"),
        (DEEP_SECRET, "WINDLASS_REDIS_URL", "what its file holds is not valid: write a URL that begins with redis://"),
        ("s3cr3t", "WINDLASS_API_PORT", "what its file holds is not valid: Expected int"),
        ("x", "WINDLASS_API_PROT", "unknown variable WINDLASS_API_PROT_FILE; did you mean WINDLASS_API_PORT"),
    ],
)
def test_a_bad_file_is_named_and_its_content_never_shown(
    tmp_path: Path, content: str, variable: str, fault: str
) -> None:
    said = complaint(in_file(tmp_path, content, variable))
    assert f"{variable}_FILE" in said
    assert fault in said
    assert "s3cr3t" not in said


def test_a_value_given_twice_or_not_there_is_named(tmp_path: Path) -> None:
    twice = in_file(tmp_path, "redis://a") | {"WINDLASS_REDIS_URL": "redis://b"}
    assert complaint(twice) == "WINDLASS_REDIS_URL and WINDLASS_REDIS_URL_FILE are both set: keep one of them"
    assert complaint({"WINDLASS_REDIS_URL_FILE": str(tmp_path / "none")}).endswith(
        "can't be read: No such file or directory"
    )


@pytest.mark.parametrize(
    ("name", "value", "fix"),
    [
        ("WINDLASS_API_PORT", "eighty", "Expected int"),
        ("WINDLASS_API_PORT", "65536", "<= 65535"),
        ("WINDLASS_API_URL", "localhost:8000", "begins with http:// or https://"),
        ("WINDLASS_CLUSTER", "no spaces", "regex"),
        ("WINDLASS_DATABASE_URL", "mysql://host/x", "begins with postgresql:// or postgres://"),
        ("WINDLASS_DATABASE_POOL_MAX", "0", ">= 1"),
        ("WINDLASS_LOG_LEVEL", "loud", "one of: debug, info, warning, error"),
        ("WINDLASS_REDIS_URL", "localhost", "redis:// or rediss:// or unix://"),
        ("WINDLASS_SCHEDULER_LEASE_TTL_S", "-1", "> 0.0"),
        ("WINDLASS_WORKER_ALLOW_PROCESS", "perhaps", "one of: true, false"),
        ("WINDLASS_WORKER_CPU", "many", "write cores as a number"),
        ("WINDLASS_WORKER_DRIVERS", "docker,podman", "one of: docker, process, kubernetes, mock"),
        ("WINDLASS_WORKER_MEMORY", "2Q", 'such as "512Mi"'),
    ],
)
def test_a_bad_value_is_named_with_the_fix(name: str, value: str, fix: str) -> None:
    said = complaint({name: value})
    assert said.startswith(f"{name} = '{value}' is not valid: ")
    assert fix in said


def test_a_bad_flag_is_named_as_it_was_written() -> None:
    assert complaint(worker__memory="lots").startswith("--memory = 'lots' is not valid: ")


def test_an_unknown_variable_is_named_with_what_was_meant() -> None:
    assert complaint({"WINDLASS_API_PROT": "1"}) == (
        "unknown variable WINDLASS_API_PROT; did you mean WINDLASS_API_PORT?"
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[api]\nprot = 1\n", "unknown setting 'api.prot'; did you mean api.port?"),
        ('[databse]\nurl = "x"\n', "unknown setting 'databse'"),
        ("api = 3\n", r"'api' is a section: write \[api\]"),
        ("[api]\nport = '8000'\n", "api.port = '8000' is not valid: Expected int"),
        ("[worker]\ndrivers = 'docker'\n", "worker.drivers = 'docker' is not valid: Expected array"),
        ("[scheduler]\nlease_renew_s = 4\n", "lease_renew_s must be below scheduler.lease_ttl_s"),
        ("[worker]\ndrivers = ['kubernetes', 'docker']\n", "kubernetes offers a namespace's room, not a machine's"),
        ("[worker]\ndrivers = ['kubernetes']\nallow_process = true\n", "give it a worker of its own"),
        ("[scheduler]\nnode_lost_s = 5\n", "node_suspect_s must be below scheduler.node_lost_s"),
        ("api port", "is not valid TOML"),
    ],
)
def test_a_fault_in_the_file_is_named(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        of_file(tmp_path, text)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing.toml' can't be read: No such file"):
        load(tmp_path / "nothing.toml", environ={})


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://user:{DEEP_SECRET}@host/name",
        f"postgresql://host/name?user=u&password={DEEP_SECRET}&sslmode=require",
        f"postgresql://:{DEEP_SECRET}@host/name",
    ],
)
def test_passwords_are_not_shown(url: str) -> None:
    settings = load(environ={"WINDLASS_DATABASE_URL": url, "WINDLASS_REDIS_URL": f"redis://:{DEEP_SECRET}@h/0"})
    assert settings.database.url == url
    said = complaint({"WINDLASS_REDIS_URL": url})
    for shown in (repr(settings), str(settings), said):
        for piece in ("s3cr3t", "pa:ss"):
            assert piece not in shown


def test_what_a_role_needs_is_named() -> None:
    with pytest.raises(SettingsError, match=r"database\.url is not set: set WINDLASS_DATABASE_URL"):
        require(load(environ={}), "database.url")
    require(load(environ={"WINDLASS_DATABASE_URL": "postgres://x"}), "database.url")


def test_variable_names() -> None:
    assert variable("worker.log_cap_bytes") == "WINDLASS_WORKER_LOG_CAP_BYTES"
    assert variable("cluster") == "WINDLASS_CLUSTER"


def windlass(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
    return subprocess.run(
        [sys.executable, "-m", "windlass", *args], env=clean | environ, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("role", "environ", "named"),
    [
        ("api", {}, "WINDLASS_DATABASE_URL"),
        ("api", {"WINDLASS_DATABASE_URL": "postgres://h/d"}, "WINDLASS_REDIS_URL"),
        ("scheduler", {}, "WINDLASS_DATABASE_URL"),
        ("worker", {"WINDLASS_DATABASE_URL": "postgres://h/d"}, "WINDLASS_REDIS_URL"),
        ("migrate", {}, "WINDLASS_DATABASE_URL"),
        ("migrate", {"WINDLASS_DATABASE_ULR": "postgres://h/d"}, "did you mean WINDLASS_DATABASE_URL?"),
    ],
)
def test_a_role_started_without_what_it_needs_says_so(role: str, environ: dict[str, str], named: str) -> None:
    done = windlass(role, **environ)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_file_that_is_not_there_stops_the_api(servers) -> None:
    environ = {"WINDLASS_DATABASE_URL": servers.postgres_url, "WINDLASS_REDIS_URL": servers.valkey_url}
    done = windlass("api", "--port", "0", **environ, WINDLASS_API_ADMIN_TOKEN_FILE="/nowhere")
    assert done.returncode == 2
    assert "token file '/nowhere' can't be read" in done.stderr


def test_half_of_what_tls_needs_is_not_enough() -> None:
    assert "set both or none" in complaint({"WINDLASS_API_TLS_CERT_FILE": "cert.pem"})


def test_migrate_says_what_it_did(servers) -> None:
    servers.execute("CREATE DATABASE unmigrated")
    try:
        first = windlass("migrate", WINDLASS_DATABASE_URL=servers.url_of("unmigrated"))
        again = windlass("migrate", WINDLASS_DATABASE_URL=servers.url_of("unmigrated"))
    finally:
        servers.execute("DROP DATABASE unmigrated")
    assert first.stdout.startswith("applied 0001"), first.stderr
    assert again.stdout == "nothing to do: the schema is up to date\n"
