"""How a container ended, from the Engine's words to an Outcome; and whose fault a refused start is."""

import re
import signal
from datetime import datetime

import aiodocker
import msgspec

from windlass.core.states import Cause
from windlass.driver.base import DriverFault, EngineUnavailable, Outcome

SIGNALS = {128 + member.value: member for member in signal.Signals}
_INIT = re.compile(rb"\[FATAL tini \(\d+\)\] exec (.+) failed: ([^\n]+)")
_OF_THE_SPEC = ("oci runtime", "unable to find user", "unable to find group")  # told with a 500 all the same
_NODE_IS_FULL = ("no space left on device", "resource temporarily unavailable", "cannot allocate memory")


class State(msgspec.Struct):
    """The part of a container's inspected state that tells its end."""

    status: str = msgspec.field(name="Status")
    exit_code: int = msgspec.field(name="ExitCode", default=0)
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)
    error: str = msgspec.field(name="Error", default="")
    started_at: str = msgspec.field(name="StartedAt", default="")
    finished_at: str = msgspec.field(name="FinishedAt", default="")

    @property
    def over(self) -> bool:
        return self.status in ("exited", "dead")


class Inspected(msgspec.Struct):
    """The answer to GET /containers/{id}/json."""

    id: str = msgspec.field(name="Id")
    state: State = msgspec.field(name="State")


def outcome_of(state: State) -> Outcome:
    """The outcome as the engine tells it. A code over 128 that names a signal counts as that signal, as in shells."""
    code, started, ended = state.exit_code, clock(state.started_at), clock(state.finished_at)
    ran_s = None if started is None or ended is None else ended - started
    if state.oom_killed and code != 0:
        return Outcome(code, Cause.OOM, "killed: out of memory (its limit is resources.memory_max, or memory)", ran_s)
    if code == 0:
        return Outcome(0, None, "", ran_s)
    if code in SIGNALS:
        return Outcome(code, Cause.SIGNAL, f"ended by {SIGNALS[code].name}", ran_s)
    return Outcome(code, Cause.EXIT_CODE, state.error or f"exited with code {code}", ran_s)


def clock(stamp: str) -> float | None:
    """The Engine's time of something as seconds of the wall clock; None when the engine does not know it."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return None
    return moment.timestamp() if moment.year > 1 else None


def init_refusal(stderr: bytes) -> str:
    """What the container's init says when it cannot run the command; "" when it says nothing of the kind.

    With an init as first process, the engine sees a start that went well and an exit with 126 or 127.
    """
    match = _INIT.search(stderr)
    if match is None:
        return ""
    command, why = (part.decode(errors="replace") for part in match.groups())
    return _not_runnable(command, why)


def start_fault(refusal: aiodocker.DockerError) -> Exception:
    """The exception for a refused create or start: the spec's fault, or the engine's own trouble."""
    words, lower = refusal.message, refusal.message.lower()
    if any(sign in lower for sign in _NODE_IS_FULL):
        return EngineUnavailable(f"the node cannot start a container now: {words}")
    if refusal.status < 500 or any(sign in lower for sign in _OF_THE_SPEC):
        missing = re.search(r'exec: "([^"]+)": ([^:\n]+)', words)
        return DriverFault(Cause.START_FAILED, _not_runnable(*missing.groups()) if missing else words)
    return EngineUnavailable(f"the Docker Engine could not start a container: {words}")


def _not_runnable(command: str, why: str) -> str:
    return f"cannot run {command!r}: {why.strip()}; is it in the image, on its PATH and executable?"
