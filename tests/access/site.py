"""A cluster that asks for tokens, its roles processes of their own, and servers as a site has them: a Redis with a
password, a PostgreSQL and a Redis that speak TLS and nothing else."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.ports import reserved_port
from tests.system.cluster import Role
from windlass.embedded.account import unprivileged
from windlass.sources import variable

#: Where Debian keeps PostgreSQL's servers, which no other distribution's package is built to shadow.
DEBIAN = Path("/usr/lib/postgresql")


@dataclass
class Site:
    """An API with an admin token in a file, a scheduler, and whatever a test starts beside them."""

    folder: Path
    database_url: str
    redis_url: str
    port: int = field(default_factory=reserved_port)
    scheme: str = "http"
    roles: list[Role] = field(default_factory=list[Role])

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.port}"

    def role(self, kind: str, name: str, settings: dict[str, object]) -> Role:
        own = {key: value for key, value in os.environ.items() if not key.startswith("WINDLASS_")}
        env = own | {variable(key): str(value) for key, value in ({"log.format": "json"} | settings).items()}
        made = Role(kind, env, self.folder / f"{name}.log")
        self.roles.append(made)
        return made.start()

    def cli(self, *args: str, token_file: str = "admin", **environ: str) -> subprocess.CompletedProcess[str]:
        own = {key: value for key, value in os.environ.items() if not key.startswith("WINDLASS_")}
        if token_file:
            environ = {"WINDLASS_TOKEN_FILE": str(self.folder / token_file)} | environ
        return subprocess.run(
            [sys.executable, "-m", "windlass", *args],
            env=own | {"WINDLASS_URL": self.url} | environ, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def out(self, *args: str, **environ: str) -> str:
        done = self.cli(*args, **environ)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def worker(self, name: str, **settings: object) -> Role:
        mine = {"worker.name": name, "worker.data": self.folder / name, "worker.drivers": "process"}
        return self.role("worker", name, mine | {"worker.allow_process": "true", "api.url": self.url} | settings)

    def said(self) -> str:
        return "\n".join(f"-- {role.log.name}\n{role.said()[-2000:]}" for role in self.roles)


class Streams:
    """A Valkey or Redis of this test's own that asks for a password, and may be killed and started empty. With a
    certificate it speaks TLS and nothing else."""

    def __init__(self, program: str, folder: Path, certificate: Path | None = None) -> None:
        self.port, self.tls = reserved_port(), certificate
        self._argv = [program, "--requirepass", "pass-of-the-api", "--bind", "127.0.0.1", "--dir", str(folder)]
        self._argv += ["--save", "", "--appendonly", "no", "--port", "0" if certificate else str(self.port)]
        if certificate:
            self._argv += ["--tls-port", str(self.port), "--tls-auth-clients", "no"]
            self._argv += ["--tls-cert-file", str(certificate), "--tls-key-file", str(certificate.with_name("key.pem"))]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{'rediss' if self.tls else 'redis'}://:pass-of-the-api@127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self.process = subprocess.Popen(self._argv, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()


def sealed_postgres() -> Path | None:
    """The folder of a PostgreSQL's programs that were built with TLS, as the wheel's are not; Debian's, where it is."""
    found = sorted(path.parent for path in DEBIAN.glob("*/bin/initdb"))
    return found[-1] if found else None


@contextmanager
def sealed_ledger(programs: Path, folder: Path, certificate: Path) -> Iterator[str]:
    """A server in that folder, on localhost, which takes clients only with TLS; the URL of its database."""
    account, port = unprivileged(), reserved_port()
    own = {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
    data, key = folder / "data", folder / "server.key"
    folder.mkdir()
    shutil.copy(certificate.with_name("key.pem"), key)
    if account:
        os.chown(folder, account.uid, account.gid)
        os.chown(key, account.uid, account.gid)
    key.chmod(0o600)
    subprocess.run([programs / "initdb", "-D", data, "-U", "windlass", "-A", "trust", "-E", "UTF8", "--no-sync"],
                   check=True, capture_output=True, **own)  # fmt: skip
    (data / "pg_hba.conf").write_text("hostssl all all all trust\n")
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "ssl": "on",
                "ssl_cert_file": certificate, "ssl_key_file": key}  # fmt: skip
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([programs / "postgres", "-D", data, *options], stderr=log, **own)
    try:
        yield f"postgresql://windlass@localhost:{port}/postgres"
    finally:
        server.terminate()
        server.wait(30)


def make_certificate(folder: Path) -> Path:
    """A certificate for localhost, signed by itself."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    words = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", *words, *names, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    return certificate
