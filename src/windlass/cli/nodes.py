"""Looking at the cluster: nodes, version."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer

from windlass import __version__
from windlass.cli.exits import Code
from windlass.cli.options import Format, Out, Url, Watch
from windlass.cli.render import View, emit, emit_value, since
from windlass.cli.session import connect, go
from windlass.client import Client, ClientError, Node
from windlass.core.quantity import show_cpu, show_size


def _cells(node: Node) -> Sequence[str]:
    cpu = f"{_number(node.used.cpu)}/{_number(node.capacity.cpu)}"
    memory = f"{show_size(node.used.memory)}/{show_size(node.capacity.memory)}"
    wish = ",draining" if node.draining else ",cordoned" if node.cordoned else ""
    drivers = ",".join(node.drivers)
    return (
        node.name,
        node.state + wish,
        drivers,
        cpu,
        memory,
        str(node.attempts),
        since(node.heartbeat_at),
        node.version or "",
    )


def _number(cores: float) -> str:
    return show_cpu(cores) if cores else "0"


NODES = View(
    ("NODE", "STATE", "DRIVERS", "CPU", "MEMORY", "RUNNING", "HEARD", "VERSION"), _cells, lambda node: node.name
)


def nodes(
    node: Annotated[str | None, typer.Argument(help="Only this one, by name or id.")] = None,
    watch: Watch = False,
    output: Out = Format.TABLE,
    url: Url = None,
) -> int:
    """List nodes with what is used of what they have."""

    async def work() -> int:
        async with connect(url) as client:
            if watch:
                from windlass.cli.watch import watch as watch_

                return await watch_(lambda: _fetch(client, node), NODES, output)
            found = await _fetch(client, node)
        if node is not None and output in (Format.JSON, Format.YAML):
            emit_value(found[0], output)
        else:
            emit(found, NODES, output)
        return Code.OK

    return go(work())


async def _fetch(client: Client, node: str | None) -> list[Node]:
    return await client.nodes.list() if node is None else [await client.nodes.get(node)]


def version(output: Out = Format.TABLE, url: Url = None) -> int:
    """Show the client's and the server's version."""

    async def work() -> int:
        server: str | None = None
        async with connect(url, timeout=2.0, retries=0) as client:
            with suppress(ClientError):
                server = str((await client.version()).get("version"))
        if output is Format.TABLE:
            print(f"client {__version__}\nserver {server or f'(no answer from {client.url})'}")
        elif output is Format.NAME:
            print(__version__)
        else:
            emit_value({"client": __version__, "server": server}, output)
        return Code.OK

    return go(work())
