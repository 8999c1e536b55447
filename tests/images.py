"""Tiny local images for tests, made from the node's own static busybox: no registry is needed."""

import hashlib
import io
import shutil
import struct
import subprocess
import tarfile
from functools import cache
from pathlib import Path

_APPLETS = """awk cat cut dd echo env false grep head hostname id kill ls mkdir printf ps pwd
seq sh sleep stat tail touch tr true wc yes"""
BUSYBOX = "windlass-test/busybox"


@cache
def docker_missing() -> str:
    """Why no Docker test can run here; "" when they can."""
    if shutil.which("docker") is None:
        return "no docker command on this machine"
    asked = subprocess.run(
        ["docker", "version", "-f", "{{.Server.Version}}"], capture_output=True, text=True, timeout=20
    )
    if asked.returncode:
        return f"no Docker Engine answers: {asked.stderr.strip().splitlines()[-1]}"
    return "" if _busybox() else "no static busybox to make an image from (Debian: busybox-static)"


@cache
def busybox_image(host: str | None = None) -> str:
    """The name of an image with busybox's applets in /bin, /tmp, and a user `app` (1000), made on that engine."""
    return build_image(BUSYBOX, host=host)


def build_image(name: str, *changes: str, host: str | None = None) -> str:
    """The image with Dockerfile lines such as "USER 1000" applied, tagged by its content; made if it is not there."""
    root, lines = root_tar(), ("ENV PATH=/bin", *changes)
    image = f"{name}:{hashlib.sha256(root + repr(lines).encode()).hexdigest()[:12]}"
    docker = ["docker", *(["-H", host] if host else [])]
    if subprocess.run([*docker, "image", "inspect", image], capture_output=True, timeout=60).returncode:
        options = [part for line in lines for part in ("--change", line)]
        subprocess.run(
            [*docker, "import", *options, "-", image], input=root, check=True, capture_output=True, timeout=60
        )
    return image


def _busybox() -> Path | None:
    """A busybox that needs no shared library."""
    for found in map(shutil.which, ("busybox", "/bin/busybox", "/usr/lib/busybox/busybox-static")):
        if found and _is_static(Path(found).read_bytes()):
            return Path(found)
    return None


def _is_static(elf: bytes) -> bool:
    """Whether this 64-bit ELF file asks for no program interpreter (segment type 3)."""
    if elf[:5] != b"\x7fELF\x02":
        return False
    (table,), (size, count) = struct.unpack_from("<Q", elf, 32), struct.unpack_from("<HH", elf, 54)
    return all(struct.unpack_from("<I", elf, table + n * size)[0] != 3 for n in range(count))


def root_tar() -> bytes:
    """The image's file system as a tar."""
    busybox = _busybox()
    assert busybox is not None
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777), ("work", 0o755)):
            tar.addfile(_entry(folder, mode, tarfile.DIRTYPE))
        _add_file(tar, "bin/busybox", busybox.read_bytes(), 0o755)
        _add_file(tar, "etc/passwd", b"root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n", 0o644)
        for applet in _APPLETS.split():
            link = _entry(f"bin/{applet}", 0o777, tarfile.SYMTYPE)
            link.linkname = "busybox"
            tar.addfile(link)
    return packed.getvalue()


def _entry(name: str, mode: int, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.type = mode, kind
    return entry


def _add_file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    entry = _entry(name, mode, tarfile.REGTYPE)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))
