"""A worker whose streams do not serve it: it takes its work from the API, tells it how that went, and returns."""

import asyncio
from pathlib import Path

import pytest

from tests.api.serving import Api
from tests.builders import a_node
from tests.support import HANG_S, wait_until
from tests.worker.site import Leader
from tests.worker.test_serve import leader, settings_of
from windlass.core.ids import NodeId
from windlass.embedded.folder import DataFolder
from windlass.embedded.valkey import Valkey
from windlass.store import inbox
from windlass.stream import wire
from windlass.worker import exchange
from windlass.worker.serve import serve

__all__ = ["leader"]


class Ledgers:
    """What the leader would read in the inbox."""

    def __init__(self, api: Api, term: int) -> None:
        self.api, self.term = api, term
        self.told: list[wire.Report] = []

    async def hear(self) -> list[wire.Report]:
        found = await inbox.take(self.api.ledger.conn, term=self.term, suspect=10**6)
        await inbox.clear(self.api.ledger.conn, [letter.id for letter in found], term=self.term)
        self.told += wire.reports().read([letter.body for letter in found])
        return self.told

    async def hears(self, kind: type[wire.Message], count: int = 1) -> list[wire.Report]:
        async def found() -> list[wire.Report]:
            mine = [report for report in await self.hear() if isinstance(report, kind)]
            return mine if len(mine) >= count else []

        return await wait_until(found, f"{count} {kind.__name__} by exchange; {self.told}")


async def _work(api: Api, node_id: NodeId) -> None:
    """A job for this node goes its way over the exchange alone."""
    job = await api.submit(driver="mock")
    await api.ledger.place(job, a_node(node_id.removeprefix("node_")))


async def test_without_redis_all_goes_by_exchange(roomy_folder: Path, tmp_path: Path, api: Api) -> None:
    ledger = Ledgers(api, await api.ledger.lead())
    with DataFolder(roomy_folder / "exchange") as folder:
        valkey = Valkey(folder)
        url = await valkey.start()
        await valkey.stop()
        stop = asyncio.Event()
        running = asyncio.create_task(serve(settings_of(tmp_path, url, api), stop))
        try:
            [hello, *_] = await ledger.hears(wire.Hello)
            assert isinstance(hello, wire.Hello)
            await _work(api, hello.node_id)
            [ended, *_] = await ledger.hears(wire.Exited)
            assert isinstance(ended, wire.Exited)
            assert (ended.cause, ended.started_ago is None) == (None, False)
            beats = await ledger.hears(wire.Beat, 5)
            assert len({beat.at for beat in beats if isinstance(beat, wire.Beat)}) == len(beats)
            await valkey.start()
            back = Leader(url)
            try:
                await back.hears(wire.Beat)
                await wait_until(lambda: _silent(ledger), "the exchange has ended")
            finally:
                await back.close()
        finally:
            stop.set()
            await asyncio.wait_for(running, HANG_S)
            await valkey.stop()


async def _silent(ledger: Ledgers) -> bool:
    before = len(await ledger.hear())
    await asyncio.sleep(3 * exchange.POLL_S)
    return len(await ledger.hear()) == before


@pytest.mark.usefixtures("leader")
async def test_unheard_it_says_all_twice(
    tmp_path: Path, redis_url: str, api: Api, leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis takes its reports, and nobody answers: the leader's own way may be the broken one."""
    monkeypatch.setattr(exchange, "UNHEARD_S", 0.5)
    ledger = Ledgers(api, await api.ledger.lead())
    stop = asyncio.Event()
    running = asyncio.create_task(serve(settings_of(tmp_path, redis_url, api), stop))
    try:
        hello = await leader.hears(wire.Hello)
        await ledger.hears(wire.Beat)
        await _work(api, hello.node_id)
        await ledger.hears(wire.Exited)
        await leader.hears(wire.Exited)
        done = asyncio.Event()

        async def answer() -> None:
            while not done.is_set():
                await leader.order(hello.node_id, wire.Heard())
                await asyncio.sleep(0.1)

        answering = asyncio.create_task(answer())
        await wait_until(lambda: _silent(ledger), "a leader is heard")
        done.set()
        await answering
    finally:
        stop.set()
        await asyncio.wait_for(running, HANG_S)
