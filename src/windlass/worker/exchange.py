"""The exchange: how this node stays in touch when the streams do not serve it.

It takes over while Redis fails here, or while no leader has said for long that it hears this node: the leader's own
way to Redis may be the broken one. Then it posts to the API, twice a second and faster while there is work, what the
reporter could not send, with a beat, and obeys the answer: all the ledger says this node should be told. It ends as
soon as Redis serves again and a leader is heard.
"""

import asyncio
from collections.abc import Callable

import httpx2
import structlog

from windlass.stream import wire
from windlass.worker import clock
from windlass.worker.agent import Agent

log = structlog.get_logger("worker")

PATH = "/v1/internal/exchange"
#: Seconds without a word of any leader, at least, before the streams count as broken.
UNHEARD_S = 5.0
#: Seconds between two looks whether it is needed, between two posts, and between two while there is work.
LOOK_S, POLL_S, BUSY_S = 0.1, 0.5, 0.1
#: An API that does not answer is asked more slowly, up to this.
POLL_MOST_S = 2.0
ANSWER_S = 5.0


class Exchange:
    """One per worker; `run` lasts until cancelled. `broken` says whether commands can't be read from the stream;
    `contact` is told when the API has answered: the moment before it was asked."""

    def __init__(
        self,
        agent: Agent,
        http: httpx2.AsyncClient,
        broken: Callable[[], bool],
        heartbeat_s: float,
        contact: Callable[[float], None] = lambda at: None,
    ) -> None:
        self._agent, self._http, self._broken, self._contact = agent, http, broken, contact
        self._patience_s = max(UNHEARD_S, 2.5 * heartbeat_s)
        self._reader = wire.commands()
        self._pause = POLL_S
        self._refused = 0
        self.on = False

    async def run(self) -> None:
        """Look for ever whether it is needed, and do it while it is."""
        while True:
            needed = self._needed()
            if needed != self.on:
                self.on = needed
                self._agent.bench.reporter.copying(needed)
                log.info("exchange_begins" if needed else "exchange_ends")
            if needed:
                await self._post()
            await asyncio.sleep(self._pause if needed else LOOK_S)

    def _needed(self) -> bool:
        unheard = clock.now() - self._agent.heard_at > self._patience_s
        return unheard or self._broken() or self._agent.bench.reporter.down

    async def _post(self) -> None:
        agent, reporter = self._agent, self._agent.bench.reporter
        batch, asked_at = reporter.offered(), clock.now()
        beat = agent.beat()
        body = wire.encode([*batch.messages(agent.me.id, asked_at), beat])
        try:
            answer = await self._http.post(
                PATH, content=body, headers={"content-type": "application/json"}, timeout=ANSWER_S
            )
            if answer.status_code != 200:
                raise httpx2.HTTPError(f"the API answered {answer.status_code}: {answer.text[:200]}")
        except httpx2.HTTPError as error:
            self._failed(error)
            return
        self._refused = 0
        self._contact(asked_at)
        reporter.delivered(batch)
        commands = self._reader.read([answer.content])
        agent.obey(commands)
        busy = batch.begun or batch.ends or any(isinstance(command, wire.Launch) for command in commands)
        self._pause = BUSY_S if busy else POLL_S

    def _failed(self, error: httpx2.HTTPError) -> None:
        if not self._refused:
            log.warning("exchange_waits", error=str(error) or type(error).__name__)
        self._refused += 1
        self._pause = min(POLL_S * 2 ** min(self._refused - 1, 4), POLL_MOST_S)
