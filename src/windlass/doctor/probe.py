"""A job that tries what no job may do: what the profile and the engine really deny, told from inside a container.

The capability names are those of Linux' capabilities(7), by their numbers."""

import asyncio
from importlib import resources
from typing import Any

from windlass.client import Client, ClientError, Job, WaitTimeout
from windlass.client.models import LogChunk
from windlass.doctor.findings import Notes, Severity
from windlass.doctor.ways import Ways
from windlass.driver.docker_profile import KEPT_CAPABILITIES

#: Seconds the job gets to be placed, and its image to be pulled, and to end; for the probe in all.
JOB_S, ALL_S = 120.0, 150.0
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
)  # fmt: skip
#: What is denied for want of a capability, where the image has nothing to try it with.
NEEDS = {"mount": "SYS_ADMIN", "mknod": "MKNOD", "namespaces": "SYS_ADMIN", "raw_socket": "NET_RAW"}
#: What each attempt is called, where that is not its name.
TITLES = {
    "mount": "mounting a file system", "mknod": "making a device file", "namespaces": "making namespaces",
    "raw_socket": "opening a raw socket", "kernel_settings": "writing to /proc/sys", "sysrq": "writing to sysrq",
    "kernel_memory": "writing to the kernel's memory", "cgroups": "making control groups", "disks": "seeing disks",
    "engine_socket": "reaching the engine", "host_processes": "seeing the host's processes",
    "setuid": "becoming another by a setuid file", "system_calls": "calling all of the kernel",
    "metadata": "reaching a cloud's metadata, and credentials in it",
}  # fmt: skip
FIX = "see what starts containers there: the worker's version and profile, and the engine's own settings"
FIX_METADATA = (
    "have the host's firewall drop 169.254.169.254 from containers (chain DOCKER-USER), or the cloud ask for a token "
    "and a hop limit of 1; a job can say network: none"
)


async def examine(ways: Ways, image: str, notes: Notes) -> None:
    """Run the probe as a job of this image, through the API, and tell what it could do."""
    try:
        client = Client(ways.api_url, token=ways.token() or None, ca_file=ways.ca_file or None, timeout=10.0)
    except ValueError as fault:
        return notes.error("job", str(fault), "see WINDLASS_URL, WINDLASS_TOKEN_FILE and WINDLASS_CA_FILE")
    async with client:
        try:
            await _run(client, image, notes)
        except ClientError as fault:
            fix = "see what `windlass doctor` says of the API; who submits needs a token of the role submitter"
            notes.error("job", f"the probe did not run: {fault}", fix)


def spec(image: str) -> dict[str, Any]:
    """The job."""
    script = (resources.files("windlass.doctor") / "probe.sh").read_text()
    return {
        "name": "windlass-doctor-probe",
        "image": image,
        "command": ["sh", "-c", script],
        "resources": {"cpu": 0.1, "memory": "32Mi", "pids": 64},
        "max_retries": 0,
        "queue_timeout": JOB_S / 2,
        "attempt_timeout": JOB_S / 2,
    }


async def _run(client: Client, image: str, notes: Notes) -> None:
    """Submit it, wait for its end, judge what it said, and forget it. Raises ClientError."""
    made = await client.jobs.create(spec(image))
    try:
        job = await client.jobs.wait(made.id, timeout=JOB_S)
    except (WaitTimeout, asyncio.CancelledError):
        await client.jobs.cancel(made.id)
        raise
    said = b"".join([item.data async for item in client.jobs.logs(job.id) if isinstance(item, LogChunk)])
    judge(job, said.decode(errors="replace"), notes)
    await client.jobs.delete(job.id)


def judge(job: Job, said: str, notes: Notes) -> None:
    """Tell what the probe found, by what it said."""
    told = [line.split(" ", 3)[1:] for line in said.splitlines() if line.startswith("probe ")]
    found = {words[0]: (words[1], words[2] if len(words) > 2 else "") for words in told if len(words) > 1}
    last, image = job.last_attempt, job.spec.get("image")
    if "done" not in found or "capabilities" not in found:
        why = (last.message or last.cause if last else None) or job.status.reason or said[-200:]
        fix = "give an --image that has sh, and that its nodes can pull; see `windlass nodes` for one with docker"
        return notes.error("job", f"the probe of {image!r} ended {job.state}: {why}", fix)
    notes.ok("job", f"it ran on node {last.node if last else None!r} in {image!r}")
    bounding = _names(found["capabilities"][1].partition(" ")[0])
    _capabilities(bounding, notes)
    for name, title in TITLES.items():
        result, why = found.get(name, ("untried", "the probe did not get there"))
        needed = NEEDS.get(name)
        if result == "untried" and needed is not None and needed not in bounding:
            result, why = "denied", f"no CAP_{needed}"
        _tell(name, title, result, why, notes)
    alone = found.get("host_processes", ("", ""))[0] == "denied" and "SYS_PTRACE" not in bounding
    why = "it sees none of them, and has no CAP_SYS_PTRACE" if alone else "it sees them, or has CAP_SYS_PTRACE"
    _tell("ptrace", "tracing processes of others", "denied" if alone else "allowed", why, notes)


def _tell(name: str, title: str, result: str, why: str, notes: Notes) -> None:
    if result == "untried":
        return notes.skipped(name, f"{title} was not tried: {why}")
    metadata = name == "metadata"
    fix, severity = (FIX_METADATA, Severity.WARNING) if metadata else (FIX, Severity.ERROR)
    notes.judge(name, result == "denied", f"{title} is denied: {why}", f"{title} is allowed: {why}", fix, severity)


def _capabilities(bounding: set[str], notes: Notes) -> None:
    more = sorted(bounding - set(KEPT_CAPABILITIES))
    held = ", ".join(sorted(bounding)) or "none"
    told = f"a job can get more capabilities than its profile gives: {', '.join(more)}"
    notes.judge("capabilities", not more, f"capabilities: {held}", told, FIX)


def _names(mask: str) -> set[str]:
    """The capabilities in a mask of /proc/PID/status; those this kernel knows and we do not by their number."""
    number = int(mask or "0", 16)
    bits = (bit for bit in range(number.bit_length()) if number >> bit & 1)
    return {CAPABILITIES[bit] if bit < len(CAPABILITIES) else str(bit) for bit in bits}
