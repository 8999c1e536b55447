"""A base image made of this machine's own files: its Python, a shell and a few tools, with the libraries they load.

For a machine with a Docker Engine and no way to an image registry. Every file lies in the image where it lies here, so
that nothing needs to be told where things are. Works where programs are linked as on GNU/Linux; elsewhere it says no.
"""

import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path
from typing import BinaryIO

TOOLS = ("sh", "awk", "cat", "date", "echo", "env", "grep", "head", "ls", "sed", "seq", "sleep", "sort", "tail", "wc")
#: Parts of the standard library that no example needs and that would make up most of the image.
_LEFT_OUT = {"__pycache__", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test",
             "tkinter", "turtledemo"}  # fmt: skip


class NoHostImage(Exception):
    """No image can be made of this machine's files, and why."""


def pack(file: BinaryIO) -> None:
    """Write the image's file system to the file as a tar, for `docker import`; PATH in it is /usr/local/bin.

    Raises NoHostImage.
    """
    python = Path(sys.executable).resolve()  # the one behind a virtual environment
    stdlib = Path(sysconfig.get_path("stdlib"))
    tools = {f"/usr/local/bin/{name}": found for name in TOOLS if (found := shutil.which(name))}
    if not {"/usr/local/bin/sh", "/usr/local/bin/awk"} <= tools.keys():
        raise NoHostImage("there is no sh or no awk here")
    try:
        extensions = [str(path) for path in (stdlib / "lib-dynload").iterdir()]
        needed = libraries([str(python), *extensions, *tools.values()])
        with tarfile.open(fileobj=file, mode="w", dereference=True) as tar:
            _fill(tar, python, stdlib, tools, needed)
    except OSError as error:
        raise NoHostImage(str(error)) from error


def _fill(tar: tarfile.TarFile, python: Path, stdlib: Path, tools: dict[str, str], libraries: set[str]) -> None:
    for folder, mode in (("tmp", 0o1777), ("etc", 0o755), ("usr/local/bin", 0o755), ("bin", 0o755)):
        entry = tarfile.TarInfo(folder)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        tar.addfile(entry)
    passwd = b"root:x:0:0::/:/bin/sh\n"
    entry = tarfile.TarInfo("etc/passwd")
    entry.size = len(passwd)
    tar.addfile(entry, io.BytesIO(passwd))
    for place, target in (("usr/local/bin/python3", str(python)), ("bin/sh", "/usr/local/bin/sh")):
        link = tarfile.TarInfo(place)
        link.type, link.linkname = tarfile.SYMTYPE, target
        tar.addfile(link)
    files = {str(python): str(python), **tools, **{library: library for library in sorted(libraries)}}
    for place, source in files.items():
        tar.add(source, place, recursive=False, filter=_open_to_all)
    tar.add(stdlib, str(stdlib), filter=_open_to_all)


def _open_to_all(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = os.path.basename(entry.name)
    if name in _LEFT_OUT or name.startswith("config-") or name.endswith((".a", ".pyc")):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode |= 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
    return entry


def libraries(programs: list[str]) -> set[str]:
    """Paths of all shared libraries these programs load, the loader itself among them."""
    told = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    found = {path for path in re.findall(r"(?:=> |^\s)(/\S+) \(0x", told, re.MULTILINE) if os.path.exists(path)}
    if not any("ld-" in os.path.basename(path) or "ld64" in path for path in found):
        raise NoHostImage("ldd does not name the libraries of this machine's programs")
    return found
