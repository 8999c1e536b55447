"""A whole worker: what it says, what it keeps on its folder, and what it leaves behind."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from tests.api.serving import Api
from tests.support import HANG_S, wait_until
from tests.worker.site import KEYS, NOWHERE, Leader, a_launch, a_stop, base_of
from windlass.core.states import Cause, Driver
from windlass.driver.base import EngineUnavailable, Facts
from windlass.driver.mock import MockDriver
from windlass.errors import SettingsError, WindlassError
from windlass.settings import Api as ApiSettings
from windlass.settings import Redis, Settings, Worker
from windlass.stream import wire
from windlass.watchdog.protocol import FENCED
from windlass.worker import serve as module
from windlass.worker.serve import serve


@pytest.fixture
async def leader(redis_url: str, anyio_backend: str) -> AsyncIterator[Leader]:
    leading = Leader(redis_url)
    yield leading
    await leading.close()


def settings_of(folder: Path, redis_url: str, api: Api, **fields: Any) -> Settings:
    plain: dict[str, Any] = {"name": "n1", "cpu": 2.0, "memory": 2**30, "drivers": ("mock",), "heartbeat_s": 0.1}
    plain["on_exit"] = "leave"
    worker = Worker(data=folder, **plain | {"allow_process": True} | fields)
    return Settings(cluster=KEYS.cluster, redis=Redis(redis_url), api=ApiSettings(url=base_of(api)), worker=worker)


@asynccontextmanager
async def serving_worker(settings: Settings, leader: Leader) -> AsyncIterator[wire.Hello]:
    """A worker while inside; its end is asked for, and must come in time."""
    stop = asyncio.Event()
    running = asyncio.create_task(serve(settings, stop))
    before = sum(isinstance(r, wire.Hello) for r in leader.heard)
    try:
        hears = asyncio.create_task(leader.hears(wire.Hello, count=before + 1))
        await asyncio.wait([hears, running], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            hears.cancel()
            running.result()
        yield await hears
    finally:
        stop.set()
        await asyncio.wait_for(running, HANG_S)


async def test_it_introduces_itself_beats_obeys_and_goes(tmp_path: Path, redis_url: str, api: Api, leader: Leader):
    async with serving_worker(settings_of(tmp_path, redis_url, api), leader) as hello:
        assert (hello.name, hello.millis, hello.memory) == ("n1", 2000, 2**30)
        assert hello.drivers == ("mock", "process")
        launch = a_launch(env={"run_for": "0.5"})
        await leader.order(hello.node_id, launch)
        await leader.hears(wire.Started, launch.attempt_id)
        beats = sum(isinstance(r, wire.Beat) for r in leader.heard)
        beat = await leader.hears(wire.Beat, count=beats + 2)
        assert beat.attempts == (launch.attempt_id,)
        await leader.hears(wire.Exited, launch.attempt_id)
        await leader.order(hello.node_id, wire.Forget((launch.attempt_id,)), wire.Introduce())
        await leader.hears(wire.Hello, count=2)

        async def holds_nothing() -> bool:
            await leader.listen()
            return [r for r in leader.heard if isinstance(r, wire.Beat)][-1].attempts == ()

        await wait_until(holds_nothing, "a beat without attempts")


@pytest.mark.parametrize("name", ["journal.jsonl", "lease", "lock"])
async def test_a_data_folder_that_cannot_be_used_is_told(
    tmp_path: Path, redis_url: str, api: Api, leader: Leader, name: str
):
    (tmp_path / name).mkdir()
    with pytest.raises(WindlassError, match=rf"worker.data .* can't be used: .*{name}"):
        async with serving_worker(settings_of(tmp_path, redis_url, api), leader):
            pass


async def test_a_data_folder_is_one_workers(tmp_path: Path, redis_url: str, api: Api, leader: Leader):
    settings = settings_of(tmp_path, redis_url, api)
    async with serving_worker(settings, leader):
        with pytest.raises(SettingsError, match="another worker uses"):
            await serve(settings, asyncio.Event())
    async with serving_worker(settings, leader):
        pass


async def test_the_nodes_id_is_kept(tmp_path: Path, redis_url: str, api: Api, leader: Leader):
    settings = settings_of(tmp_path, redis_url, api)
    ids: list[str] = []
    for _ in range(2):
        async with serving_worker(settings, leader) as hello:
            ids.append(hello.node_id)
    assert ids[0] == ids[1]
    (tmp_path / "node_id").write_text("torn")
    async with serving_worker(settings, leader) as hello:
        assert hello.node_id != ids[0]


async def test_a_worker_told_to_stop_its_jobs_leaves_nothing(tmp_path: Path, redis_url: str, api: Api, leader: Leader):
    settings = settings_of(tmp_path, redis_url, api, on_exit="stop", stop_within_s=2.0)
    mark = tmp_path / "pid"
    process = a_launch(driver=Driver.PROCESS, command=("sh", "-c", f"echo $$ > '{mark}'; exec sleep 60"))
    played = a_launch(env={"run_for": "60"})
    async with serving_worker(settings, leader) as hello:
        await leader.order(hello.node_id, process, played)
        await leader.hears(wire.Started, count=2)
        pid = int(await wait_until(lambda: mark.exists() and mark.read_text(), "it runs"))
    for launch in (process, played):
        assert (await leader.hears(wire.Exited, launch.attempt_id)).cause is Cause.DRAINED
    assert not os.path.exists(f"/proc/{pid}")
    assert list((tmp_path / "mock").iterdir()) == []


async def test_a_worker_told_to_leave_its_jobs_finds_them_again(
    tmp_path: Path, redis_url: str, api: Api, leader: Leader
):
    settings = settings_of(tmp_path, redis_url, api, on_exit="leave")
    mark = tmp_path / "pid"
    process = a_launch(driver=Driver.PROCESS, command=("sh", "-c", f"echo $$ >> '{mark}'; exec sleep 60"))
    played = a_launch(env={"run_for": "60"})
    async with serving_worker(settings, leader) as hello:
        await leader.order(hello.node_id, process, played)
        await leader.hears(wire.Started, count=2)
        pid = int(await wait_until(lambda: mark.exists() and mark.read_text(), "it runs"))
    assert os.path.exists(f"/proc/{pid}")
    assert [r for r in await leader.listen() if isinstance(r, wire.Exited)] == []
    async with serving_worker(settings, leader) as hello:
        await leader.order(hello.node_id, process, played)  # a leader that is not sure says it again
        await leader.order(hello.node_id, a_stop(process), a_stop(played))
        for launch in (process, played):
            assert (await leader.hears(wire.Exited, launch.attempt_id)).cause is Cause.CANCELLED
    assert mark.read_text().split() == [str(pid)], "it was not started again"
    await wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "it has ended, and was reaped")


async def test_a_worker_that_is_cut_off_tells_what_its_watchdog_ended_once_it_can(
    tmp_path: Path, redis_url: str, api: Api, leader: Leader
):
    settings = settings_of(tmp_path, redis_url, api, self_fence_s=1.0)
    settings = msgspec.structs.replace(settings, api=ApiSettings(url=NOWHERE))
    job = a_launch(driver=Driver.PROCESS, command=("sleep", "60"))
    async with serving_worker(settings, leader) as hello:
        await leader.order(hello.node_id, job)
        await leader.hears(wire.Started, job.attempt_id)
        with redis.Redis.from_url(redis_url) as client:
            client.client_pause(2000)
            fenced = tmp_path / FENCED
            await wait_until(lambda: fenced.exists() and job.attempt_id in fenced.read_text(), "its watchdog has acted")
            await asyncio.to_thread(client.ping)
        exited = await leader.hears(wire.Exited, job.attempt_id)
        assert (exited.cause, exited.exit_code) == (Cause.NODE_LOST, 137)
        assert exited.message == "ended by the watchdog: no word from Redis or the API for 1 s"
        again = a_launch(driver=Driver.PROCESS, command=("true",))
        await leader.order(hello.node_id, again)
        assert (await leader.hears(wire.Exited, again.attempt_id)).cause is None


async def test_drivers_come_and_go(
    tmp_path: Path, redis_url: str, api: Api, leader: Leader, monkeypatch: pytest.MonkeyPatch
):
    up = asyncio.Event()

    class Shaky(MockDriver):
        async def open(self) -> None:
            if not up.is_set():
                raise EngineUnavailable("not there yet")
            await super().open()

        async def facts(self) -> Facts:
            return Facts(up.is_set(), "" if up.is_set() else "gone")

    monkeypatch.setattr(module, "FACTS_S", 0.05)
    monkeypatch.setattr(module, "_drivers", lambda *_: {Driver.MOCK: Shaky(tmp_path / "mock")})
    async with serving_worker(settings_of(tmp_path, redis_url, api), leader) as hello:
        assert hello.drivers == ()
        assert hello.facts["mock"] == {"available": False, "detail": "not there yet"}
        launch = a_launch()
        await leader.order(hello.node_id, launch)
        assert "mock" in (await leader.hears(wire.Refused, launch.attempt_id)).message
        up.set()
        assert (await leader.hears(wire.Hello, count=2)).drivers == ("mock",)
        launch = a_launch()
        await leader.order(hello.node_id, launch)
        assert (await leader.hears(wire.Exited, launch.attempt_id)).cause is None
        up.clear()
        assert (await leader.hears(wire.Hello, count=3)).drivers == ()


async def test_commands_that_were_read_and_not_done_are_read_again(
    tmp_path: Path, redis_url: str, api: Api, leader: Leader
):
    """An empty stream server in between: the group is made again, and nothing is done twice."""
    settings = settings_of(tmp_path, redis_url, api)
    async with serving_worker(settings, leader) as hello:
        first = a_launch(env={"run_for": "60"})
        await leader.order(hello.node_id, first)
        await leader.hears(wire.Started, first.attempt_id)
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
        second = a_launch()
        await leader.order(hello.node_id, first, second)
        await leader.hears(wire.Exited, second.attempt_id)
        await leader.order(hello.node_id, a_stop(first))
        assert (await leader.hears(wire.Exited, first.attempt_id)).cause is Cause.CANCELLED
        assert sum(isinstance(r, wire.Started) and r.attempt_id == first.attempt_id for r in leader.heard) == 1


async def test_rubbish_on_the_stream_is_skipped(tmp_path: Path, redis_url: str, api: Api, leader: Leader):
    async with serving_worker(settings_of(tmp_path, redis_url, api), leader) as hello:
        with redis.Redis.from_url(redis_url) as client:
            for rubbish in (b"", b"\xff", b"{}", b"[1]", b'[{"type":"dance"}]', b'[{"type":"launch"}]'):
                client.xadd(KEYS.node(hello.node_id), {"m": rubbish})
            client.xadd(KEYS.node(hello.node_id), {"other": "x"})
        launch = a_launch()
        await leader.order(hello.node_id, launch)
        assert (await leader.hears(wire.Exited, launch.attempt_id)).cause is None


async def test_output_reaches_the_store_before_the_end_is_told(
    tmp_path: Path, redis_url: str, api: Api, leader: Leader
):
    attempt = await api.start(await api.submit())
    async with serving_worker(settings_of(tmp_path, redis_url, api), leader) as hello:
        launch = a_launch(attempt, driver=Driver.PROCESS, command=("sh", "-c", "echo out; echo err >&2; exit 5"))
        await leader.order(hello.node_id, launch)
        assert (await leader.hears(wire.Exited, attempt)).exit_code == 5
        rows = await api.ledger.conn.execute("SELECT stream, data FROM log_chunks WHERE attempt_id = %s", (attempt,))
        assert {stream: bytes(data) for stream, data in await rows.fetchall()} == {
            "stdout": b"out\n",
            "stderr": b"err\n",
        }
