"""Images for the demo: a public one where it can be had, else one made of this machine's own files, else none."""

import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import IO, Any

import host_image

PUBLIC = "python:3.12-slim"
#: Seconds a registry gets for its first word, and for the whole image.
FIRST_WORD_S, PULL_S = 10.0, 180.0


class Images:
    """What stands in for the images that the examples name. `prepare` finds out, and says so in a sentence."""

    def __init__(self, examples: Path) -> None:
        self._examples = examples
        self._names: dict[str, str] = {}
        self._made: list[str] = []

    def of(self, image: str) -> str | None:
        """The image to use for the one named in a job file; None where there is none."""
        return self._names.get(image)

    def prepare(self, node: dict[str, Any]) -> None:
        """Bring or make the images, if this node runs containers."""
        if "docker" not in node["drivers"]:
            print("  No containers here: the same work runs as plain processes.", flush=True)
            return
        if shutil.which("docker") is None:
            print("  There is no docker command to make images with: the same work runs as plain processes.")
            return
        base = PUBLIC if _local(PUBLIC) or _pulled(PUBLIC) else self._from_host()
        if base is None:
            return
        self._names[PUBLIC] = base
        self._build(base)

    def _from_host(self) -> str | None:
        tag = f"windlass-demo/base:{os.getpid()}"
        self._made.append(tag)
        with tempfile.TemporaryFile() as root:
            try:
                host_image.pack(root)
            except host_image.NoHostImage as error:
                print(f"  No {PUBLIC} can be had, and none made here ({error}): the same work runs as plain processes.")
                return None
            root.seek(0)
            code, words = _finished(["docker", "import", "--change", "ENV PATH=/usr/local/bin", "-", tag], root)
        if code:
            print(f"  No {PUBLIC} can be had, and none made here ({words}): the same work runs as plain processes.")
            return None
        print(f"  No {PUBLIC} can be had: an image made of this machine's own Python stands in for it.", flush=True)
        return tag

    def _build(self, base: str) -> None:
        """The application image, by its Dockerfile."""
        tag = f"windlass-demo/delivery:{os.getpid()}"
        order = ["docker", "build", "--quiet", "--build-arg", f"BASE={base}", "--tag", tag]
        order.append(str(self._examples / "delivery"))
        self._made.append(tag)
        code, words = _finished(order)
        if code:
            print(f"  The application image can't be built ({words}): that example runs as a process.", flush=True)
            return
        self._names["windlass-example/delivery"] = tag

    def remove(self) -> list[str]:
        """Remove what was made, last first; what could not be."""
        faults: list[str] = []
        for tag in reversed(self._made):
            done = subprocess.run(["docker", "rmi", tag], capture_output=True, text=True, check=False)
            if done.returncode and _local(tag):
                faults.append(f"left behind: image {tag}: {done.stderr.strip()}")
        self._made.clear()
        return faults


def _local(image: str) -> bool:
    order = ["docker", "image", "inspect", image]
    return subprocess.run(order, capture_output=True, check=False).returncode == 0


def _finished(order: list[str], stdin: IO[bytes] | int = subprocess.DEVNULL) -> tuple[int, str]:
    """Exit code and last words of a command that is seen to its end even when the demo is interrupted: what it makes
    must be there, or not be there, when it comes to removing it."""
    process = subprocess.Popen(
        order,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C is for the demo
    )
    with process:
        try:
            words = process.communicate()[0]
        finally:
            process.wait()
    return process.returncode, (words.strip().splitlines() or ["no word of why"])[-1]


def _pulled(image: str) -> bool:
    """Pull the image; gives up early on a registry that does not even begin to answer."""
    order = ["docker", "pull", image]
    with subprocess.Popen(order, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as pull:
        patience = threading.Timer(FIRST_WORD_S, pull.kill)
        patience.start()
        assert pull.stdout is not None
        if pull.stdout.readline():
            patience.cancel()
            print(f"  pulling {image} …", flush=True)
            patience = threading.Timer(PULL_S, pull.kill)
            patience.start()
            pull.stdout.read()
        code = pull.wait()
        patience.cancel()
    return code == 0
