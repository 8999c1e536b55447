"""A real cluster for tests: every role a process of its own that can be killed, frozen and started again.

Jobs write evidence: a line at their start and one at their end, into a file each, with the node's clock. What is
proven, is proven from these files; our own tables are only compared with them.
"""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2

from tests.images import busybox_image, docker_missing
from tests.ports import reserved_port
from tests.support import HANG_S, wait_until
from windlass.embedded.child import last_words
from windlass.sources import variable

OVER = ("succeeded", "failed", "cancelled")
Job = dict[str, Any]


class Role:
    """One Windlass process."""

    def __init__(self, role: str, env: Mapping[str, str], log: Path) -> None:
        self.role, self.env, self.log = role, dict(env), log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, **more: str) -> Self:
        """Start it, once more if it has ended; `more` are variables for this time only."""
        assert self.process is None or self.process.poll() is not None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "windlass", self.role],
                env=self.env | more,
                cwd=self.log.parent,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def code(self) -> int | None:
        """How it ended, None while it runs."""
        assert self.process is not None
        return self.process.poll()

    def _send(self, number: signal.Signals) -> None:
        if self.code is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9; returns when it is gone."""
        self._send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(HANG_S)

    def freeze(self) -> None:
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)

    def stop(self) -> str:
        """Ask it to end; kill it when it does not, and say so."""
        self.thaw()
        self._send(signal.SIGTERM)
        assert self.process is not None
        try:
            self.process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"{self.log.stem} did not end within {HANG_S:g} s of SIGTERM"
        return ""

    def memory(self, kind: str = "VmRSS") -> float:
        """Resident memory now, or its highest mark (VmHWM), in MiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(kind))

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@dataclass(frozen=True)
class Line:
    """One line of evidence. `at` is seconds since boot, in hundredths; containers don't know their node."""

    what: str
    attempt: int
    at: float
    node: str


@dataclass
class Cluster:
    """Roles over one database, one stream prefix, one folder; `started` holds all that must be ended."""

    folder: Path
    name: str
    database_url: str
    redis_url: str
    port: int = field(default_factory=reserved_port)
    started: list[Role] = field(default_factory=list[Role])

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}"
        self.proofs = self.folder / "evidence"
        self.proofs.mkdir(parents=True, exist_ok=True)
        self.http = httpx2.Client(base_url=self.url, timeout=HANG_S)

    def _role(self, role: str, name: str, settings: Mapping[str, object]) -> Role:
        own = {key: value for key, value in os.environ.items() if not key.startswith("WINDLASS_")}
        given = {"cluster": self.name, "redis.url": self.redis_url, "log.format": "json", **settings}
        env = own | {variable(key): str(value) for key, value in given.items()}
        made = Role(role, env, self.folder / f"{name}.log")
        self.started.append(made)
        return made.start()

    def api(self, **settings: object) -> Role:
        """Settings are of this role, or have a dot in their key."""
        ledger = {"database.url": self.database_url, "api.port": self.port, "api.allow_anonymous": "true"}
        return self._role("api", "api", ledger | _dotted("api", settings))

    def scheduler(self, name: str = "scheduler", **settings: object) -> Role:
        return self._role("scheduler", name, {"database.url": self.database_url} | _dotted("scheduler", settings))

    def worker(self, name: str = "n1", links: Mapping[str, object] | None = None, **settings: object) -> Role:
        """A worker that is never told where the database is. Many more cores than there are: jobs here mostly wait.
        `links` says how it reaches the others, where that is not the plain way."""
        drivers = "process" if docker_missing() else "docker,process"
        mine = {"name": name, "data": self.folder / name, "cpu": 8, "memory": "16Gi", "drivers": drivers}
        mine |= {"allow_process": "true", "volumes_allowed": self.proofs, "on_exit": "leave"} | settings
        return self._role(
            "worker",
            name,
            {"api.url": self.url} | {f"worker.{key}": value for key, value in mine.items()} | dict(links or {}),
        )

    async def ready(self, nodes: int = 1) -> None:
        """The API answers and so many nodes take work."""
        await wait_until(lambda: len(self.nodes("ready")) >= nodes, f"{nodes} nodes are ready")

    def nodes(self, state: str | None = None) -> list[Job]:
        try:
            answer = self.http.get("/v1/nodes")
        except httpx2.TransportError:
            return []
        found = answer.json()["nodes"] if answer.status_code == 200 else []
        return [node for node in found if state in (None, node["state"])]

    def stream_of(self, node: str) -> str:
        """The key of the commands to this node."""
        return f"{self.name}:node:{next(one['id'] for one in self.nodes() if one['name'] == node)}"

    def close(self) -> None:
        self.http.close()
        complaints = [role.stop() for role in reversed(self.started)]
        assert not any(complaints), (complaints, self.words())

    def words(self) -> str:
        return "\n".join(f"-- {role.log.name}\n{last_words(role.log, 15)}" for role in self.started)

    def spec(self, name: str, script: str = "true", *, driver: str = "process", **fields: Any) -> dict[str, Any]:
        """A job that leaves evidence around its script. Ended by a signal, it leaves no `end`."""
        file = self.proofs / name
        say = (
            f"say() {{ read t _ </proc/uptime; echo $1 $WINDLASS_ATTEMPT $t ${{WINDLASS_NODE_ID:--}} >>'{file}'; }}\n"
            f"say start\ntrap 'code=$?; say end; exit $code' EXIT\n{script}"
        )
        job: dict[str, Any] = {"name": name, "command": ["sh", "-c", say], "driver": driver}
        job |= {"resources": {"cpu": 0.1, "memory": "32Mi"}, "backoff": {"initial": 0.05, "jitter": 0}}
        if driver == "docker":
            job |= {"image": busybox_image(), "network": "none"}
            job["volumes"] = [{"source": str(self.proofs), "target": str(self.proofs)}]
        return job | fields

    def evidence(self, name: str) -> list[Line]:
        """What the job of this name wrote, in order."""
        try:
            rows = [row.split() for row in (self.proofs / name).read_text().splitlines()]
        except FileNotFoundError:
            return []
        return [Line(what, int(attempt), float(at), node) for what, attempt, at, node in rows]

    def starts(self, name: str) -> list[int]:
        """The attempts that began, in order of their beginning."""
        return [line.attempt for line in self.evidence(name) if line.what == "start"]

    def submit(self, spec: Mapping[str, Any], key: str | None = None) -> str:
        """The id of a new job."""
        answer = self.http.post("/v1/jobs", json=spec, headers={"Idempotency-Key": key} if key else {})
        assert answer.status_code in (200, 201), answer.text
        return answer.json()["id"]

    def submit_all(self, specs: Sequence[Mapping[str, Any]]) -> list[str]:
        """The ids of new jobs, accepted in one request."""
        answer = self.http.post("/v1/jobs/batch", json={"jobs": list(specs)})
        assert answer.status_code == 200, answer.text
        return [result["id"] for result in answer.json()["results"]]

    def job(self, job_id: str) -> Job:
        answer = self.http.get(f"/v1/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def jobs(self, **query: str) -> list[Job]:
        """All jobs that the query finds."""
        found: list[Job] = []
        cursor: dict[str, str] = {}
        while True:
            page = self.http.get("/v1/jobs", params={"limit": "1000"} | query | cursor).json()
            found += page["jobs"]
            if page["next_cursor"] is None:
                return found
            cursor = {"cursor": page["next_cursor"]}

    async def over(self, *job_ids: str) -> list[Job]:
        """These jobs once all are over. While the API is away, it waits."""

        def look() -> list[Job] | None:
            try:
                found = [self.job(job_id) for job_id in job_ids]
            except (httpx2.TransportError, AssertionError):
                return None
            return found if all(job["state"] in OVER for job in found) else None

        found = await wait_until(look, f"these are over: {job_ids}")
        assert found is not None
        return found

    async def all_over(self, count: int, **query: str) -> list[Job]:
        """Return so many jobs that the query finds, once all are over. Only a standstill is a failure."""
        done, found = -1, list[Job]()

        def look() -> bool:
            nonlocal found
            with contextlib.suppress(httpx2.TransportError, KeyError):
                found = self.jobs(**query)
            return sum(job["state"] in OVER for job in found) > done

        while done < count:
            await wait_until(look, f"more than {done} of {count} jobs are over")
            done = sum(job["state"] in OVER for job in found)
        assert len(found) == count
        return found

    async def state(self, job_id: str, state: str) -> Job:
        """The job once its latest attempt, or it itself, is in this state."""

        def look() -> Job | None:
            job = self.job(job_id)
            tried = job["status"]["attempts"]
            return job if state in (job["state"], tried[-1]["state"] if tried else None) else None

        found = await wait_until(look, f"{job_id} is {state}")
        assert found is not None
        return found

    def log(self, job_id: str, **query: str) -> bytes:
        return self.http.get(f"/v1/jobs/{job_id}/logs", params=query).content

    def reconcile(self, jobs: Iterable[Job]) -> None:
        """Hold what is recorded against the evidence: every attempt is over, has one outcome, began once at most;
        what succeeded ran to its end; nothing ran that is not recorded; and no two of a job at a time."""
        for job in jobs:
            tried = job["status"]["attempts"]
            numbers = [attempt["number"] for attempt in tried]
            assert numbers == list(range(1, len(tried) + 1)), job
            assert all(attempt["finished_at"] for attempt in tried), job
            lines, began = self.evidence(job["name"]), self.starts(job["name"])
            assert began == sorted(set(began)), (job, lines)
            tries = [line.attempt for line in lines]
            assert tries == sorted(tries), (job, lines)
            assert set(began) <= set(numbers), (job, lines)
            done = [line.attempt for line in lines if line.what == "end"]
            good = [attempt["number"] for attempt in tried if attempt["state"] == "succeeded"]
            assert good == ([numbers[-1]] if job["state"] == "succeeded" else []), job
            assert all(done.count(number) == 1 for number in good), (job, lines)
            outcomes = [event["data"]["attempt"] for event in self.events(job["id"]) if "outcome" in event["data"]]
            assert outcomes == numbers, (job, outcomes)

    def events(self, job_id: str) -> list[Job]:
        return self.http.get(f"/v1/jobs/{job_id}/events").json()["events"]

    def cli(self, *args: str) -> subprocess.CompletedProcess[str]:
        """The command line against this cluster."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("WINDLASS_")}
        return subprocess.run(
            [sys.executable, "-m", "windlass", *args],
            env=env | {"WINDLASS_URL": self.url},
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )


def _dotted(section: str, settings: Mapping[str, object]) -> dict[str, object]:
    return {key if "." in key else f"{section}.{key}": value for key, value in settings.items()}
