"""The Docker Engine: whether it answers, can hold jobs to their limits, and is not known to be bad."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiodocker

from windlass.doctor import versions
from windlass.doctor.findings import Notes, Severity
from windlass.doctor.papers import Papers
from windlass.driver.base import EngineUnavailable
from windlass.driver.docker_engine import Engine, Version, filters
from windlass.driver.docker_profile import CLUSTER
from windlass.settings import Worker

FIX_REACH = "start it, add this user to the group docker, or set worker.docker_url; worker.drivers says what is used"
FACTS = ("ServerVersion", "OperatingSystem", "KernelVersion", "Architecture", "NCPU", "MemTotal", "Driver",
         "CgroupDriver", "CgroupVersion", "LiveRestoreEnabled", "SecurityOptions", "DefaultRuntime", "DockerRootDir",
         "MemoryLimit", "CpuCfsQuota", "PidsLimit", "Containers", "ContainersRunning", "Images")  # fmt: skip
#: Of a container; and how many of them.
SHOWN, CONTAINERS = ("Names", "Image", "State", "Status", "Created"), 500
#: What a limit of a job's needs of the engine.
LIMITS = {"MemoryLimit": "memory", "CpuCfsQuota": "cores", "PidsLimit": "processes"}


async def examine(url: str, needed: bool, notes: Notes) -> Path | None:
    """Look at the engine; the folder it keeps its things in, where that is on this host. An engine that does not answer
    is a fault where it is `needed`."""
    engine = Engine(url or None)
    try:
        version = await engine.open()
        info = await engine.call("GET", "/info", dict[str, Any])
    except (EngineUnavailable, aiodocker.DockerError, ValueError) as fault:
        severity = Severity.ERROR if needed else Severity.SKIPPED
        notes.judge("reachable", False, "", str(fault), FIX_REACH if needed else "", severity)
        return None
    finally:
        await engine.close()
    notes.facts |= {name: info.get(name) for name in FACTS}
    _versions(_programs(version), notes)
    _limits(info, notes)
    _guards(info, notes)
    return _root(url, info)


async def gather(settings: Worker, papers: Papers) -> None:
    """The containers of Windlass there are, for the support bundle; without what they run."""
    if "docker" not in settings.drivers:
        return papers.without("containers.json", "worker.drivers has no docker")
    engine = Engine(settings.docker_url or None)
    try:
        await engine.open()
        wanted = {"all": "true", "limit": str(CONTAINERS), "filters": filters(label=[CLUSTER])}
        found = await engine.call("GET", "/containers/json", list[dict[str, Any]], params=wanted, deadline_s=10)
    except (EngineUnavailable, aiodocker.DockerError, ValueError) as fault:
        return papers.without("containers.json", fault)
    finally:
        await engine.close()
    shown = [{name: one.get(name) for name in SHOWN} | {"Labels": _ours(one)} for one in found]
    papers.put("containers.json", "containers of Windlass on this host, without what they run", shown)


def _ours(one: Mapping[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = one.get("Labels") or {}
    return {name: value for name, value in labels.items() if name.startswith("windlass.")}


def _root(url: str, info: Mapping[str, Any]) -> Path | None:
    """The engine's own folder, where it is on this host and this user may look."""
    root = Path(str(info.get("DockerRootDir") or "/"))
    try:
        return root if (not url or url.startswith("unix:")) and root.is_dir() else None
    except OSError:
        return None


def _programs(version: Version) -> dict[str, str]:
    found = {"engine": version.engine}
    for part in version.components:
        name = str(part.get("Name", "")).lower()
        if name in ("runc", "containerd"):
            found[name] = str(part.get("Version", ""))
    return found


def _versions(programs: Mapping[str, str], notes: Notes) -> None:
    notes.facts["versions"] = dict(programs)
    for program, version in programs.items():
        shown = f"{'Docker Engine' if program == 'engine' else program} {version}"
        known = list(versions.flaws(program, version))
        if not known:
            notes.ok(program, shown)
            continue
        what = "; ".join(flaw.what for flaw in known)
        distributed = versions.own(version)
        doubt = ", unless your distribution mended it under this number" if distributed else ""
        fix = f"upgrade {program} to {_good(known)} or later" + (", or see your distribution's notes" if doubt else "")
        grave = any(flaw.grave for flaw in known) and not distributed
        notes.judge(
            program, False, "", f"{shown} has {what}{doubt}", fix, Severity.ERROR if grave else Severity.WARNING
        )
    _age(programs["engine"], notes)


def _good(known: list[versions.Flaw]) -> str:
    return ".".join(map(str, max(flaw.mended[-1] for flaw in known)))


def _age(version: str, notes: Notes) -> None:
    given = versions.numbers(version)
    if given and given < versions.OLDEST_ENGINE:
        notes.error("age", f"Docker Engine {version} is older than 20.10, the oldest that is tested", "upgrade it")
    elif given and given < versions.KEPT_ENGINE:
        notes.note(
            "age", f"Docker no longer mends Engine {version}", "upgrade it, unless your distribution keeps it up"
        )


def _limits(info: Mapping[str, Any], notes: Notes) -> None:
    missing = [what for name, what in LIMITS.items() if info.get(name) is False]
    fix = "turn the cgroup controllers on (kernel command line, systemd's Delegate=), and restart the engine"
    told = f"jobs can't be held to their {', '.join(missing)}"
    notes.judge("limits", not missing, "it can limit memory, cores and processes", told, fix)
    if str(info.get("CgroupVersion")) == "1":
        fix = "boot with systemd.unified_cgroup_hierarchy=1"
        notes.note("cgroups", "it uses cgroups v1, which the kernel's makers leave behind", fix)


def _guards(info: Mapping[str, Any], notes: Notes) -> None:
    options = " ".join(map(str, info.get("SecurityOptions") or ()))
    on = "name=seccomp" in options and "profile=unconfined" not in options
    fix = "use a kernel and an engine with seccomp, and no seccomp-profile of unconfined"
    told = "seccomp is off: a container may call all of the kernel"
    notes.judge("seccomp", on, "seccomp is on", told, fix, Severity.WARNING)
    if not info.get("LiveRestoreEnabled"):
        fix = 'set "live-restore": true in /etc/docker/daemon.json, and reload'
        notes.note("live_restore", "live-restore is off: containers end when the engine does, and jobs run again", fix)
