"""The Docker Engine from outside: the containers of one cluster, and an end for them by hand."""

import json
from typing import Any

import aiodocker

from windlass.driver.docker_engine import Engine
from windlass.driver.docker_profile import CLUSTER


async def containers(cluster: str, *, running: bool = False) -> list[str]:
    """Ids of the cluster's containers. Raises EngineUnavailable."""
    wanted = {"label": [f"{CLUSTER}={cluster}"]} | ({"status": ["running"]} if running else {})
    found = await _ask("GET", "/containers/json", list[dict[str, Any]], all="true", filters=json.dumps(wanted))
    return [one["Id"] for one in found]


async def kill(container: str) -> bool:
    """SIGKILL, as `docker kill` does it; false when it had ended. Raises EngineUnavailable."""
    try:
        await _ask("POST", f"/containers/{container}/kill", None)
    except aiodocker.DockerError:
        return False
    return True


async def remove(container: str) -> None:
    """Remove it, whatever it does. Raises EngineUnavailable."""
    await _ask("DELETE", f"/containers/{container}", None, force="true")


async def _ask(method: str, path: str, answer: Any, **params: str) -> Any:
    engine = Engine()
    await engine.open()
    try:
        return await engine.call(method, path, answer, params=params)
    finally:
        await engine.close()
