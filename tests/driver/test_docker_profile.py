"""Volumes: what the operator's list lets through, and what no list does."""

import socket
from pathlib import Path

import pytest

from windlass.core.spec import Volume
from windlass.core.states import Cause
from windlass.driver.base import DriverFault
from windlass.driver.docker_profile import bind_mounts


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    for name in ("allowed/data", "allowed-too/data", "secret"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path.resolve()


def mounted(source: Path | str, *allowed: Path, sockets: tuple[str, ...] = ()) -> str:
    binds = bind_mounts((Volume(str(source), "/data"),), tuple(map(str, allowed)), sockets)
    return binds[0]["Source"]


def refused(source: Path | str, *allowed: Path, sockets: tuple[str, ...] = ()) -> str:
    with pytest.raises(DriverFault) as fault:
        mounted(source, *allowed, sockets=sockets)
    assert fault.value.cause is Cause.START_FAILED
    return fault.value.message


def test_a_folder_on_the_list_or_below_it(ground: Path):
    assert mounted(ground / "allowed", ground / "allowed") == str(ground / "allowed")
    assert mounted(ground / "allowed/data", ground / "allowed") == str(ground / "allowed/data")


def test_nothing_is_allowed_by_default(ground: Path):
    assert "allows (empty)" in refused(ground / "allowed")


@pytest.mark.parametrize("way_out", ["secret", "allowed/../secret", "allowed-too", "allowed-too/data", "."])
def test_a_path_beside_the_list(ground: Path, way_out: str):
    assert "is not in the folders" in refused(ground / way_out, ground / "allowed")


def test_a_symlink_out_of_the_list(ground: Path):
    (ground / "allowed/link").symlink_to(ground / "secret")
    assert "is not in the folders" in refused(ground / "allowed/link", ground / "allowed")


def test_a_symlink_within_the_list_is_mounted_by_its_real_path(ground: Path):
    (ground / "allowed/link").symlink_to(ground / "allowed/data")
    assert mounted(ground / "allowed/link", ground / "allowed") == str(ground / "allowed/data")


def test_what_is_not_there_is_named(ground: Path):
    assert "No such file" in refused(ground / "allowed/none", ground / "allowed")


def test_sockets_are_never_mounted(ground: Path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(ground / "allowed/engine.sock"))
        engine = (str(ground / "allowed/engine.sock"),)
        assert "neither a folder nor a plain file" in refused(ground / "allowed/engine.sock", ground / "allowed")
        assert "engine's socket" in refused(ground / "allowed", ground / "allowed", sockets=engine)
        assert mounted(ground / "allowed/data", ground / "allowed", sockets=engine)
