"""The demo's own `windlass up`, on a temporary folder: start it, talk to it by its command line, end it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

START_S, STOP_S, CALL_S = 60.0, 30.0, 120.0
WINDLASS = (sys.executable, "-P", "-m", "windlass")


class Trouble(Exception):
    """The demo can't go on."""


class Cluster:
    """One `windlass up` that lets jobs mount the folders in `allowed`."""

    def __init__(self, allowed: Sequence[Path]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="windlass-demo-"))
        self.folder.chmod(0o711)  # for root the servers run as another user, who must get through
        self._config = self.folder / "windlass.toml"
        self._config.write_text(f"[worker]\nvolumes_allowed = {json.dumps([str(path) for path in allowed])}\n")
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("WINDLASS_")}
        self._up: subprocess.Popen[str] | None = None
        self._ready = threading.Event()
        self._reader: threading.Thread | None = None
        self._node_id = ""

    def start(self) -> None:
        """Start it, and return when it is ready. Raises Trouble."""
        options = ("--data", str(self.folder / "data"), "--port", "0", "--config", str(self._config))
        self._up = subprocess.Popen(
            [*WINDLASS, "up", *options],
            env=self._env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends it in order
        )
        self._reader = threading.Thread(target=self._listen, args=(self._up,), daemon=True)
        self._reader.start()
        if not self._ready.wait(START_S) or "WINDLASS_URL" not in self._env:
            raise Trouble("`windlass up` did not start; its words are above")

    def _listen(self, up: "subprocess.Popen[str]") -> None:
        """Repeat what `up` says, and learn from it where the API is."""
        assert up.stdout is not None
        for line in up.stdout:
            print(f"  {line}", end="", flush=True)
            if found := re.search(r"API +(http://\S+)", line):
                self._env["WINDLASS_URL"] = found[1]
            if "Ctrl-C stops" in line:
                self._ready.set()
        self._ready.set()

    def windlass(self, *args: str, shown: str = "", ok: int | None = 0) -> str:
        """What this command prints; `shown` is how it is shown to whoever watches. Raises Trouble when its exit code
        is not `ok`, where that matters."""
        if shown:
            print(f"$ windlass {shown}", flush=True)
        done = subprocess.run([*WINDLASS, *args], env=self._env, capture_output=True, text=True, timeout=CALL_S)
        if ok is not None and done.returncode != ok:
            raise Trouble(f"`windlass {' '.join(args)}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def show(self, *args: str) -> None:
        """Run this command with its output on the terminal."""
        print(f"$ windlass {' '.join(args)}", flush=True)
        subprocess.run([*WINDLASS, *args], env=self._env, timeout=CALL_S, check=False)

    def node(self) -> dict[str, Any]:
        """The one node there is."""
        (node,) = json.loads(self.windlass("nodes", "-o", "json"))
        self._node_id = node["id"]
        return node

    def stop(self) -> list[str]:
        """End it and remove its folder; what went wrong, or was left behind."""
        faults: list[str] = []
        if self._up is not None:
            early = self._up.poll()
            if early is not None:
                faults.append(f"`windlass up` had ended by itself, with {early}")
            else:
                faults += self._end(self._up)
        if self._reader is not None:
            self._reader.join(5)
        faults += [f"left running: {command}" for command in self._processes()]
        faults += [f"left behind: container {name}" for name in self._containers()]
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.exists():
            faults.append(f"left behind: {self.folder}")
        return faults

    @staticmethod
    def _end(up: "subprocess.Popen[str]") -> list[str]:
        up.send_signal(signal.SIGINT)
        try:
            code = up.wait(STOP_S)
        except subprocess.TimeoutExpired:
            up.kill()
            up.wait()
            return [f"`windlass up` did not stop within {STOP_S:g} s and was killed"]
        return [f"`windlass up` ended with {code}"] if code else []

    def _processes(self) -> list[str]:
        """Command lines of living processes that work below the demo's folder."""
        found: list[str] = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    if Path(os.readlink(entry / "cwd")).is_relative_to(self.folder):
                        found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
                except OSError:  # gone meanwhile, or another user's
                    continue
        return found

    def _containers(self) -> list[str]:
        if not self._node_id or shutil.which("docker") is None:
            return []
        order = ["docker", "ps", "--all", "--format", "{{.Names}}", "--filter", f"label=windlass.node={self._node_id}"]
        return subprocess.run(order, capture_output=True, text=True, timeout=CALL_S, check=False).stdout.split()
