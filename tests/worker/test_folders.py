"""Workers that share a data folder: each a node of its own, and none whose containers nobody minds."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from tests.driver.conftest import DockerStage
from tests.driver.play import opened
from tests.support import HANG_S
from windlass.driver.keeper import Keeper
from windlass.errors import SettingsError
from windlass.settings import Settings, Worker
from windlass.watchdog.protocol import FENCED, LEASE
from windlass.worker import clock, neighbours
from windlass.worker.folders import held, node_of
from windlass.worker.neighbours import Neighbours


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


def sharing(folder: Path, *, shared: bool = True) -> Settings:
    return Settings(worker=Worker(name="worker", data=folder, shared_data=shared))


def test_each_takes_a_folder_and_a_name_of_its_own(tmp_path: Path, stack: ExitStack):
    first, second = (stack.enter_context(held(sharing(tmp_path))).worker for _ in range(2))
    assert [first.name, second.name] == ["worker-1", "worker-2"]
    assert [first.data, second.data] == [tmp_path / "1", tmp_path / "2"]
    assert node_of(first.data) != node_of(second.data)


def test_who_comes_after_one_that_ended_takes_its_folder_and_is_its_node(tmp_path: Path, stack: ExitStack):
    with held(sharing(tmp_path)) as gone:
        node = node_of(gone.worker.data)
        stack.enter_context(held(sharing(tmp_path)))
    third = stack.enter_context(held(sharing(tmp_path))).worker
    assert third.name == "worker-1"
    assert node_of(third.data) == node


def test_a_folder_of_ones_own_is_taken_once(tmp_path: Path, stack: ExitStack):
    own = stack.enter_context(held(sharing(tmp_path, shared=False))).worker
    assert (own.data, own.name) == (tmp_path, "worker")
    with pytest.raises(SettingsError, match="another worker uses"):
        stack.enter_context(held(sharing(tmp_path, shared=False)))


@pytest.mark.docker
@pytest.mark.parametrize("lease_ahead_s", [-5, 3600], ids=["of this boot", "of another boot"])
async def test_what_a_dead_neighbour_left_running_is_ended_once_its_lease_has_run_out(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch, lease_ahead_s: int
):
    """Its container took its watchdog with it: here it has none to begin with."""
    monkeypatch.setattr(neighbours, "LOOK_S", 0.1)
    dead, mine = (stack.enter_context(held(sharing(tmp_path))).worker for _ in range(2))
    mine = msgspec.structs.replace(mine, self_fence_s=2.0)
    stage = DockerStage(tmp_path / "attempts", node=node_of(dead.data))
    stage.root.mkdir()
    keeper = Keeper(mine.data, node_of(mine.data), mine.self_fence_s)
    own = DockerStage(tmp_path, cluster=stage.cluster, node=keeper.node)
    async with opened(own.driver(guard=keeper.guard)), opened(stage.driver()) as driver:
        ticket = stage.ticket(stage.sleeps(60))
        await driver.prepare(ticket)
        await driver.start(ticket)
        (dead.data / LEASE).write_text(f"{clock.now() + lease_ahead_s:.3f}\n")
        minding = asyncio.create_task(Neighbours(mine, keeper).run())
        ended = await asyncio.wait_for(driver.wait(ticket), HANG_S)
        minding.cancel()
        assert ended.exit_code == 137
        assert ticket.attempt_id in (dead.data / FENCED).read_text()
        await driver.remove(ticket)
