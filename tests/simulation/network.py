"""Between a program and a server: latency, partitions, and the moment at which each half of a call happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.simulation.process import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

#: How often a packet is sent again while a link is cut.
AGAIN_S = 0.3


@dataclass(eq=False)
class Call:
    """One request and its answer. `answer` is told in the caller's process, if that still lives."""

    process: Process
    server: str
    serve: Callable[[Call], Any]
    answer: Callable[[Any, Exception | None], None]
    sent: float
    patience_s: float
    given_up: bool = False
    served: bool = False


class Network:
    """Carries calls between hosts and the servers `ledger`, `stream` and `api`."""

    def __init__(self, world: World) -> None:
        self._world, self._loop, self._random = world, world.loop, world.random.random
        #: latencies are multiplied with this
        self.slowness = 1.0

    def latency(self) -> float:
        """Seconds one way: mostly well below a millisecond, now and then a few."""
        draw = self._random()
        return (0.0002 + 0.004 * draw**4) * self.slowness

    def send(self, call: Call) -> None:
        """Let it be served after a while, and answered after another."""
        self._loop.at(self._loop.now + self.latency(), self._arrive, call)

    def _blocked(self, call: Call, again: Callable[..., None], *args: Any) -> bool:
        """Whether the link is cut: then the packet goes again, until the caller has no more patience."""
        if call.server not in call.process.host.cut:
            return False
        if self._loop.now - call.sent > call.patience_s:
            self._tell(call, None, TimeoutError("the link is cut"))
        else:
            self._loop.at(self._loop.now + AGAIN_S, again, call, *args)
        return True

    def _arrive(self, call: Call) -> None:
        if self._blocked(call, self._arrive) or call.given_up:
            return
        call.served = True
        result, error = None, None
        try:
            result = call.serve(call)
        except Exception as fault:
            error = fault
        if result is not LATER:
            self.reply(call, result, error)

    def reply(self, call: Call, result: Any, error: Exception | None) -> None:
        """Send the answer on its way."""
        self._loop.at(self._loop.now + self.latency(), self._back, call, result, error)

    def _back(self, call: Call, result: Any, error: Exception | None) -> None:
        if not self._blocked(call, self._back, result, error):
            self._tell(call, result, error)

    def _tell(self, call: Call, result: Any, error: Exception | None) -> None:
        self._loop.call_soon(call.answer, result, error, context=call.process.context)


#: What `serve` returns when the answer comes later, through `reply`.
LATER = object()
