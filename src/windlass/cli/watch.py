"""--watch: ask again each second and show what changed."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from windlass.cli.exits import Code
from windlass.cli.options import Format
from windlass.cli.render import View, emit
from windlass.client import Unreachable

T = TypeVar("T")
EVERY_S = 1.0
_REDRAW = "\x1b[H\x1b[2J\x1b[3J"


async def watch(
    fetch: Callable[[], Awaitable[Sequence[T]]], view: View[T], form: Format, done: Callable[[Sequence[T]], bool]
) -> int:
    """Show what `fetch` gives again and again until `done`: a terminal is redrawn, a pipe gets the changed items only.

    In a pipe JSON is one line each, whichever JSON format was asked for.
    """
    redraw = sys.stdout.isatty() and form is Format.TABLE
    form = Format.JSONL if form is Format.JSON else form
    seen: dict[str, T] = {}
    while True:
        try:
            items = await fetch()
        except Unreachable:
            if not seen:
                raise
            await asyncio.sleep(EVERY_S)
            continue
        changed = [item for item in reversed(items) if seen.get(view.name(item)) != item]
        if redraw:
            print(_REDRAW, end="")
            emit(items, view, form)
        elif changed:
            emit(changed, view, form)
        sys.stdout.flush()
        seen = {view.name(item): item for item in items}
        if done(items):
            return Code.OK
        await asyncio.sleep(EVERY_S)
