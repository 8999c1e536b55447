"""How a worker ends: it drains, or leaves what runs to the next."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.api.serving import Api
from tests.support import HANG_S, wait_until
from tests.worker.site import Leader, a_launch
from tests.worker.test_serve import serving_worker, settings_of
from windlass.core.states import Cause
from windlass.stream import wire
from windlass.worker.serve import serve


@pytest.fixture
async def leader(redis_url: str, anyio_backend: str) -> AsyncIterator[Leader]:
    leading = Leader(redis_url)
    yield leading
    await leading.close()


async def _take_leave(leader: Leader, count: int = 1) -> wire.Hello:
    """Hear that a node drains, and tell it so."""
    hello = await leader.hears(wire.Hello, count=count + 1)
    assert hello.draining
    await leader.order(hello.node_id, wire.Heard(draining=True))
    return hello


async def test_a_drain_lets_jobs_end_and_takes_no_more(tmp_path: Path, redis_url: str, api: Api, leader: Leader):
    settings = settings_of(tmp_path, redis_url, api, on_exit="drain", drain_deadline_s=3600.0)
    first, late = a_launch(env={"run_for": "1"}), a_launch()
    stop = asyncio.Event()
    running = asyncio.create_task(serve(settings, stop))
    node = (await leader.hears(wire.Hello)).node_id
    await leader.order(node, first)
    await leader.hears(wire.Started, first.attempt_id)
    stop.set()
    await _take_leave(leader)
    await leader.order(node, late)
    assert (await leader.hears(wire.Exited, late.attempt_id)).cause is Cause.DRAINED
    assert (await leader.hears(wire.Exited, first.attempt_id)).cause is None
    assert not running.done(), "it waits until the ledger has the outcomes"
    await leader.order(node, wire.Forget((first.attempt_id, late.attempt_id)))
    await leader.hears(wire.Bye)
    await asyncio.wait_for(running, HANG_S)


async def test_at_the_deadline_the_rest_is_stopped(tmp_path: Path, redis_url: str, api: Api, leader: Leader):
    settings = settings_of(tmp_path, redis_url, api, on_exit="drain", drain_deadline_s=0.3)
    stuck = a_launch(env={"run_for": "60", "ignore_stop": "1"}, stop_grace=0.2)
    async with serving_worker(settings, leader) as hello:
        await leader.order(hello.node_id, stuck)
        await leader.hears(wire.Started, stuck.attempt_id)
    told = await leader.hears(wire.Exited, stuck.attempt_id)
    assert (told.cause, told.message) == (Cause.DRAINED, "its worker was stopped")
    assert [r for r in leader.heard if isinstance(r, wire.Bye)] == [], "nobody has confirmed the outcome"


async def test_an_idle_worker_ends_at_once(tmp_path: Path, redis_url: str, api: Api, leader: Leader):
    settings = settings_of(tmp_path, redis_url, api, on_exit="drain", drain_deadline_s=3600.0)
    stop = asyncio.Event()
    running = asyncio.create_task(serve(settings, stop))
    await leader.hears(wire.Hello)
    stop.set()
    await _take_leave(leader)
    await asyncio.wait_for(running, HANG_S)
    await leader.hears(wire.Bye)


async def test_sighup_leaves_jobs_running_also_while_it_drains(
    tmp_path: Path, redis_url: str, api: Api, leader: Leader
):
    settings = settings_of(tmp_path, redis_url, api, on_exit="drain", drain_deadline_s=3600.0)
    mark = tmp_path / "pid"
    job = a_launch(driver="process", command=("sh", "-c", f"echo $$ > '{mark}'; exec sleep 60"))
    for drains in (False, True):
        stop = asyncio.Event()
        running = asyncio.create_task(serve(settings, stop))
        node = (await leader.hears(wire.Hello, count=1 + drains)).node_id
        await leader.order(node, job)
        await wait_until(lambda: mark.exists() and mark.read_text(), "it runs")
        await leader.hears(wire.Started, job.attempt_id, count=1 + drains)
        if drains:
            stop.set()
            await _take_leave(leader, count=2)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(running, HANG_S)
        assert os.path.exists(f"/proc/{int(mark.read_text())}")
    async with serving_worker(settings_of(tmp_path, redis_url, api, on_exit="stop", stop_within_s=2.0), leader):
        pass
    assert (await leader.hears(wire.Exited, job.attempt_id)).cause is Cause.DRAINED
