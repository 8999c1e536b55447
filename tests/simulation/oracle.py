"""The oracle: what must be true of every world, whatever its faults. It believes the containers, not the ledger.

Some is checked at each write of the one door, the rest when the world has become quiet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec

from tests.simulation import disk
from tests.simulation.driver import LINE, Container
from tests.simulation.ledger import LIVE, OVER, Row, Session
from tests.simulation.process import EPOCH
from windlass.core.ids import task_of
from windlass.core.retry import MAX_NODE_LOSSES
from windlass.core.spec import JobSpec

if TYPE_CHECKING:
    from tests.simulation.world import Machine, World

#: Most seconds two copies of a job that is not exclusive may live at the same time.
OVERLAP_S = 15.0
#: What clocks, reports of ages and latencies may add up to.
SLACK_S = 0.6
#: What came this many seconds ago may just be being dealt with.
JUST_S = 3.0


class Oracle:
    """Watches one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.broken: list[str] = []
        self._fences: dict[str, int] = {}
        world.database.ledger.watchers.append(self._written)

    def _say(self, what: str) -> None:
        self._world.note("promise broken", what)
        self.broken.append(f"at {self._world.loop.now:.3f} s: {what}")

    # -- at each write ------------------------------------------------------------------------------------------------

    def _written(
        self, session: Session, term: int | None, before: dict[str, Row], attempts: dict[str, Row | None]
    ) -> None:
        ledger = self._world.database.ledger
        for task_id, old in before.items():
            new = ledger.tasks[task_id]
            if old["state"] in OVER:
                self._say(f"task {task_id} was {old['state']} and became {new['state']}")
            if new["version"] != old["version"] + 1:
                self._say(f"task {task_id} went from version {old['version']} to {new['version']}")
        for attempt_id, known in attempts.items():
            new = ledger.attempts[attempt_id]
            if known is None:
                self._placed(new, term)
            elif known["state"] not in LIVE:
                self._say(f"attempt {attempt_id} was {known['state']} and became {new['state']}")
            elif new["state"] not in LIVE:
                self._ended(new)

    def _placed(self, attempt: Row, term: int | None) -> None:
        last = self._fences.get(attempt["task_id"], 0)
        if attempt["fence"] < last or attempt["fence"] != term:
            self._say(f"attempt {attempt['id']} has fence {attempt['fence']} under term {term}, after {last}")
        self._fences[attempt["task_id"]] = attempt["fence"]

    def _ended(self, attempt: Row) -> None:
        """Output is stored before an end that tells of one is shown."""
        container = self._world.engine.containers.get(attempt["id"])
        if container is None or attempt["state"] not in ("succeeded", "failed") or attempt["cause"] == "timeout":
            return
        chunks = self._world.database.ledger.chunks
        mine = sorted((start, row["data"]) for (owner, _, start), row in chunks.items() if owner == attempt["id"])
        stored = b""
        for start, data in mine:
            stored = stored[:start] + data
        if stored != LINE * container.lines:
            self._say(f"attempt {attempt['id']} is shown {attempt['state']} with {len(stored)} bytes of its output")

    # -- at the end ---------------------------------------------------------------------------------------------------

    def quiet(self) -> list[str]:
        """What still keeps the world from being quiet."""
        return list(self._unrest())

    def _unrest(self) -> Iterator[str]:
        world, ledger = self._world, self._world.database.ledger
        for wish in world.wishes:
            if not wish.accepted:
                yield f"{wish.key} was not accepted"
        for task in ledger.tasks.values():
            if task["state"] not in OVER:
                yield f"task {task['id']} is {task['state']} ({task['reason']})"
        for container in world.engine.containers.values():
            if container.running or not container.removed:
                yield f"container of {container.attempt_id} on {container.host.name} is left"
        if ledger.outbox:
            yield f"{len(ledger.outbox)} rows in the outbox"
        if any(row["created_at"] < ledger.now() - JUST_S for row in ledger.inbox.values()):
            yield f"{len(ledger.inbox)} rows in the inbox"
        for key, stream in world.streams.streams.items():
            for group in stream.groups.values():
                if group.pending and self._old(group.pending):
                    yield f"{len(group.pending)} entries pending in {key}"
        for machine in world.machines.values():
            kept = journal(machine) if machine.role == "worker" else set[str]()
            if kept and not disk.disk_of(str(machine.root)).was_full:  # what it could not write is in memory alone
                yield f"the journal of {machine.host.name} keeps {sorted(kept)}"

    def _old(self, pending: Iterable[tuple[int, int]]) -> bool:
        """Whether one is older than what is just being read."""
        return min(pending)[0] < (self._world.loop.now - JUST_S) * 1000

    def judge(self) -> list[str]:
        """Every promise, once all is quiet. Returns what is broken."""
        world, ledger = self._world, self._world.database.ledger
        self.broken += [f"still: {what}" for what in self.quiet()]
        self.broken += ledger.trespasses[:3] + world.complaints + world.loop.faults
        self._accepted()
        for task in ledger.tasks.values():
            self._task(task)
        runs: dict[str, list[Container]] = {}
        for container in world.engine.containers.values():
            if container.started is not None:
                runs.setdefault(container.job_id, []).append(container)
                if container.attempt_id not in ledger.attempts:
                    self._say(f"a container ran for attempt {container.attempt_id}, which the ledger does not know")
        for job_id, containers in runs.items():
            if job_id in ledger.jobs:
                self._overlaps(msgspec.json.decode(ledger.jobs[job_id]["spec"], type=JobSpec), containers)
        return self.broken

    def _accepted(self) -> None:
        ledger, promised = self._world.database.ledger, set[str]()
        for wish in self._world.wishes:
            ids = set(wish.accepted)
            promised |= ids
            if len(ids) > 1:
                self._say(f"{wish.key} is {len(ids)} jobs")
            if wish.cancelled and not all(ledger.tasks[task_of(i)]["cancel_requested"] for i in ids):
                self._say(f"the cancel of {wish.key} was taken and is lost")
            if not ids <= ledger.jobs.keys():
                self._say(f"{wish.key} was accepted and is lost")
        for job_id in ledger.jobs.keys() - promised:
            self._say(f"job {job_id} is nobody's")

    def _task(self, task: Row) -> None:
        ledger = self._world.database.ledger
        spec = msgspec.json.decode(ledger.jobs[task["job_id"]]["spec"], type=JobSpec)
        tries = [a for a in ledger.attempts.values() if a["task_id"] == task["id"]]
        tries.sort(key=lambda a: a["number"])
        if [a["number"] for a in tries] != list(range(1, task["attempts"] + 1)):
            self._say(f"task {task['id']} counts {task['attempts']} attempts and has {len(tries)}")
        states = [a["state"] for a in tries]
        failed, lost = states.count("failed"), states.count("lost")
        if failed > spec.max_retries + 1 or task["retries"] > spec.max_retries:
            self._say(f"task {task['id']} failed {failed} times with max_retries {spec.max_retries}")
        if task["infra_losses"] != lost and not task["cancel_requested"]:
            self._say(f"task {task['id']} counts {task['infra_losses']} losses and has {lost}")
        if task["node_losses"] > min(lost, MAX_NODE_LOSSES):
            self._say(f"task {task['id']} took {task['node_losses']} nodes with it and was tried again")
        if task["node_losses"] == MAX_NODE_LOSSES and task["state"] not in ("failed", "cancelled"):
            self._say(f"task {task['id']} took {MAX_NODE_LOSSES} nodes with it and is {task['state']}")
        if states.count("succeeded") != (task["state"] == "succeeded"):
            self._say(f"task {task['id']} is {task['state']} after {states}")
        if task["state"] == "cancelled" and not task["cancel_requested"]:
            self._say(f"task {task['id']} is cancelled and nobody asked for it")
        for attempt in tries:
            self._attempt(task, attempt, spec)

    def _attempt(self, task: Row, attempt: Row, spec: JobSpec) -> None:
        ledger = self._world.database.ledger
        told = [
            e for e in ledger.events if (e["data"] or {}).get("attempt_id") == attempt["id"] and "outcome" in e["data"]
        ]
        if attempt["state"] not in LIVE and len(told) != 1:
            self._say(f"the end of attempt {attempt['id']} is told {len(told)} times")
        container = self._world.engine.containers.get(attempt["id"])
        wrong = self._contradiction(task, attempt, container, spec)
        if wrong:
            self._say(f"attempt {attempt['id']} is {attempt['state']} ({attempt['cause']}): {wrong}")

    def _contradiction(self, task: Row, attempt: Row, container: Container | None, spec: JobSpec) -> str:
        """What the evidence says against an outcome."""
        ran = container is not None and container.started is not None
        by = container.ended_by if container is not None else ""
        match attempt["state"], attempt["cause"]:
            case ("succeeded", _):
                fine = ran and by == "itself" and container is not None and container.exit_code == 0
                return "" if fine else f"its container ended by {by or 'nothing'}"
            case ("failed", "exit_code"):
                fine = container is not None and by == "itself" and container.exit_code == attempt["exit_code"]
                return "" if fine else f"its container ended by {by or 'nothing'}"
            case ("failed", "timeout"):
                return "" if self._overdue(task, attempt, container, spec) else "no limit of it had passed"
            case ("failed", _):
                return f"nothing of the job's own was wrong; its container ended by {by or 'nothing'}"
            case ("cancelled", "drained") if self._world.machines[attempt["node_name"]].drained:
                return ""
            case ("cancelled", _):
                return "" if task["cancel_requested"] else "nobody asked for it"
            case ("rejected", _):
                return "it ran" if ran else ""
            case ("lost", _) if spec.exclusive and attempt["message"] == "the node's lease lapsed":
                return "it is exclusive, and nobody had proven it gone"
            case ("lost", _) if "no longer knows" in attempt["message"] and ran and by == "itself":
                machine = self._world.machines[attempt["node_name"]]
                forgetful = machine.host.boots > 1 or disk.disk_of(str(machine.root)).was_full
                return "" if forgetful else "its node forgot how it ended"
            case _:
                return ""

    def _overdue(self, task: Row, attempt: Row, container: Container | None, spec: JobSpec) -> bool:
        ledger_end = attempt["finished_at"]
        if spec.job_deadline is not None and ledger_end >= task["created_at"] + spec.job_deadline - SLACK_S:
            return True
        if container is None or container.started is None:
            return ledger_end >= attempt["placed_at"] + spec.start_timeout - SLACK_S
        end = container.ended or self._world.loop.now
        if attempt["stop_cause"] == "timeout":  # as far as the ledger knew: no report of its end had come
            end = max(end, attempt["finished_at"] - EPOCH)
        return spec.attempt_timeout is not None and end - container.started >= spec.attempt_timeout - SLACK_S

    def _overlaps(self, spec: JobSpec, runs: list[Container]) -> None:
        runs.sort(key=lambda c: c.started or 0.0)
        attempts = self._world.database.ledger.attempts
        for i, first in enumerate(runs):
            for second in runs[i + 1 :]:
                until = min(first.ended or self._world.loop.now, second.ended or self._world.loop.now)
                both = until - (second.started or 0.0)
                if both <= 0:
                    continue
                self._world.see(True, "overlap")
                if spec.exclusive:
                    self._say(f"two copies of exclusive {first.job_id} for {both:.3f} s")
                elif both > OVERLAP_S:
                    self._say(f"two copies of {first.job_id} for {both:.1f} s")
                elif attempts.get(min(first, second, key=lambda c: c.number).attempt_id, {}).get("state") != "lost":
                    self._say(f"two copies of {first.job_id}, and the earlier was not lost")


class _Line(msgspec.Struct):
    launch: dict[str, object] | None = None
    forget: tuple[str, ...] = ()


_decode = msgspec.json.Decoder(_Line).decode


def journal(machine: Machine) -> set[str]:
    """The attempts a worker's journal keeps."""
    file = disk.disk_of(str(machine.root)).files.get(str(machine.data / "journal.jsonl"))
    kept: set[str] = set()
    for raw in bytes(file.data).splitlines() if file else ():
        try:
            line = _decode(raw)
        except msgspec.MsgspecError:
            continue
        if line.launch is not None:
            kept.add(str(line.launch["attempt_id"]))
        kept.difference_update(line.forget)
    return kept
