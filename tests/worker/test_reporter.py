"""Reports on their way: in batches, with ages, none lost while Redis is away."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support import HANG_S, wait_until
from tests.worker.site import KEYS, Leader, a_launch
from windlass.core.ids import NODE, NodeId
from windlass.core.states import Cause
from windlass.embedded.folder import DataFolder
from windlass.embedded.valkey import Valkey
from windlass.mint import new_id
from windlass.stream import wire
from windlass.stream.produce import Producer, Receipt, connect
from windlass.worker import clock
from windlass.worker.journal import Ended
from windlass.worker.reporter import Reporter, exited

ME = NodeId(new_id(NODE))


class Posting:
    """A reporter, running, and the leader it reports to."""

    def __init__(self, redis_url: str) -> None:
        self.redis = connect(redis_url)
        self.reporter = Reporter(Producer(self.redis, KEYS), ME)
        self.leader = Leader(redis_url)
        self.loop = asyncio.create_task(self.reporter.run())

    async def close(self) -> None:
        self.loop.cancel()
        await asyncio.gather(self.loop, return_exceptions=True)
        await self.redis.aclose()
        await self.leader.close()


@pytest.fixture
async def posting(redis_url: str, anyio_backend: str) -> AsyncIterator[Posting]:
    posting = Posting(redis_url)
    yield posting
    await posting.close()


async def entries(posting: Posting) -> int:
    """How many messages the stream took, however many reports are in each."""
    return await posting.redis.xlen(KEYS.leader)


async def test_reports_of_one_moment_are_one_message(posting: Posting):
    launches = [a_launch() for _ in range(20)]
    for launch in launches:
        posting.reporter.prepared(launch.attempt_id)
        posting.reporter.started(launch.attempt_id, clock.now())
    for launch in launches[:10]:
        posting.reporter.ended(launch.attempt_id, Ended(clock.now(), None, 0))
    await wait_until(lambda: entries(posting), "the message is there")
    assert await entries(posting) == 1
    await posting.leader.hears(wire.Exited, count=10)
    kinds = [type(r) for r in posting.leader.heard]
    assert kinds == [wire.Started] * 10 + [wire.Exited] * 10


async def test_ages_are_told_not_moments(posting: Posting):
    now, launch = clock.now(), a_launch()
    posting.reporter.ended(launch.attempt_id, Ended(now - 5, Cause.EXIT_CODE, 1, "m", now - 8))
    told = await posting.leader.hears(wire.Exited, launch.attempt_id)
    assert told.ago == pytest.approx(5, abs=1)
    assert told.started_ago == pytest.approx(8, abs=1)
    assert (told.cause, told.exit_code, told.message) == (Cause.EXIT_CODE, 1, "m")


def test_an_age_is_never_negative():
    """A moment of another boot, or of a clock that was set back, is now."""
    told = exited(ME, a_launch().attempt_id, Ended(1e12, None, 0, started_at=1e12), 5.0)
    assert isinstance(told, wire.Exited)
    assert (told.ago, told.started_ago) == (0.0, 0.0)


async def test_a_start_waits_a_moment_and_is_told(posting: Posting):
    launch = a_launch()
    posting.reporter.prepared(launch.attempt_id)
    await posting.leader.hears(wire.Prepared, launch.attempt_id)
    posting.reporter.started(launch.attempt_id, clock.now())
    await posting.leader.hears(wire.Started, launch.attempt_id)


async def test_nothing_is_lost_while_redis_is_away(roomy_folder: Path):
    with DataFolder(roomy_folder / "reporter") as folder:
        valkey = Valkey(folder)
        url = await valkey.start()
        posting = Posting(url)
        try:
            first, second = a_launch(), a_launch()
            posting.reporter.say(wire.Hello(ME, "n", 1, 1, (), "1"))
            await posting.leader.hears(wire.Hello)
            await valkey.stop()
            read = Receipt("orders", "worker", [b"1-1"])
            posting.reporter.receipt(read)
            posting.reporter.started(second.attempt_id, clock.now())
            posting.reporter.ended(first.attempt_id, Ended(clock.now(), None, 0))
            for _ in range(5):
                posting.reporter.say(wire.Beat(ME))
            await wait_until(lambda: not posting.reporter._some.is_set(), "it tried")
            posting.reporter.ended(second.attempt_id, Ended(clock.now(), Cause.OOM, 137))
            assert first.attempt_id not in posting.reporter.sent_at
            assert posting.reporter._receipts == [read], "or what was taken up would be read again"
            await valkey.start()
            await posting.leader.close()
            posting.leader = Leader(url)
            assert (await posting.leader.hears(wire.Exited, first.attempt_id)).exit_code == 0
            assert (await posting.leader.hears(wire.Exited, second.attempt_id)).cause is Cause.OOM
            assert first.attempt_id in posting.reporter.sent_at
            assert sum(isinstance(r, wire.Beat) for r in posting.leader.heard) <= 5, "old beats say nothing"
        finally:
            await posting.close()
            await valkey.stop()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("steps", range(0, 24, 2))
async def test_it_ends_whenever_it_is_told_to(redis_url: str, steps: int):
    posting = Posting(redis_url)
    posting.reporter.say(wire.Beat(ME))
    for _ in range(steps):
        await asyncio.sleep(0)
    posting.loop.cancel()
    done, _ = await asyncio.wait([posting.loop], timeout=HANG_S)
    assert done, "a cancel was swallowed"
    await posting.close()
