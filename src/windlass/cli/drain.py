"""What operators want of nodes: cordon, uncordon, drain, forget."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated

import typer

from windlass.cli.exits import Code, UsageFault
from windlass.cli.nodes import NODES
from windlass.cli.options import Format, Out, Url, seconds
from windlass.cli.render import emit, emit_value, span
from windlass.cli.session import connect, go
from windlass.cli.terminal import complain, talk
from windlass.client import Client, Node, Unreachable

#: A wish is taken up by then at the latest: before, an empty node may still be given work.
_TAKEN_UP_S = 1.5
_EVERY_S = 0.5

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="A node's name or id.")]


def cordon(node: NodeArgument, output: Out = Format.NAME, url: Url = None) -> int:
    """Place nothing more on a node; what runs there goes on."""
    return _wish(lambda client: client.nodes.cordon(node), output, url)


def uncordon(node: NodeArgument, output: Out = Format.NAME, url: Url = None) -> int:
    """Place on a node again; ends a cordon or a drain."""
    return _wish(lambda client: client.nodes.uncordon(node), output, url)


def drain(
    node: NodeArgument,
    deadline: Annotated[
        str, typer.Option(help="When what still runs there is stopped and runs elsewhere: 10m, 0 or never.")
    ] = "1h",
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Do not wait until the node is empty.")] = False,
    timeout: Annotated[str | None, typer.Option(help="Longest wait, such as 2m; the drain goes on.")] = None,
    output: Out = Format.NAME,
    url: Url = None,
) -> int:
    """Clear a node: place nothing more there, let what runs end, stop the rest at the deadline; wait until it is empty.

    What is stopped runs elsewhere and pays no retry for it. The node stays cordoned until `windlass uncordon`.
    """
    within_s = None if deadline == "never" else seconds("--deadline", deadline)
    limit_s = seconds("--timeout", timeout)
    if detach and timeout is not None:
        raise UsageFault("--detach waits for nothing, so --timeout means nothing", "drop one of them")

    async def work() -> int:
        async with connect(url) as client:
            found = await client.nodes.drain(node, within_s)
            code = Code.OK
            if not detach:
                found, code = await _empty(client, found, limit_s)
        _show(found, output)
        return code

    return go(work())


def forget(node: NodeArgument, url: Url = None) -> int:
    """Declare a lost node gone for good: exclusive jobs that wait for it run elsewhere."""

    async def work() -> int:
        async with connect(url) as client:
            await client.nodes.forget(node)
        print(node)
        return Code.OK

    return go(work())


def _wish(ask: Callable[[Client], Awaitable[Node]], output: Format, url: str | None) -> int:
    async def work() -> int:
        async with connect(url) as client:
            found = await ask(client)
        _show(found, output)
        return Code.OK

    return go(work())


def _show(node: Node, output: Format) -> None:
    if output in (Format.JSON, Format.YAML):
        emit_value(node, output)
    else:
        emit([node], NODES, output)


async def _empty(client: Client, node: Node, limit_s: float | None) -> tuple[Node, Code]:
    """The node once nothing runs there, said on stderr as it gets less; the code tells why the waiting ended."""
    began, told = time.monotonic(), -1
    while True:
        if node.attempts != told:
            told = node.attempts
            talk(f"{node.name}: {told} left{_until(node)}")
        waited = time.monotonic() - began
        if not node.attempts and waited >= _TAKEN_UP_S:
            return node, Code.OK
        if limit_s is not None and waited >= limit_s:
            complain([f"{node.name} is not empty after {limit_s:g} s"], "the drain goes on; run it again to wait on")
            return node, Code.TIMEOUT
        await asyncio.sleep(_EVERY_S)
        try:
            node = await client.nodes.get(node.id)
        except Unreachable:
            continue
        if not node.draining:
            complain([f"{node.name} is drained no more"], "somebody uncordoned it meanwhile")
            return node, Code.CONFLICT


def _until(node: Node) -> str:
    if not node.attempts or node.drain_until is None:
        return ""
    left = (node.drain_until - datetime.now(UTC)).total_seconds()
    return f", stopped in {span(left)}" if left > 0 else ", being stopped"
