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
_REDRAW = "\x1b[H\x1b[2J"


async def watch(
    fetch: Callable[[], Awaitable[Sequence[T]]],
    view: View[T],
    form: Format,
    done: Callable[[Sequence[T]], bool] = lambda _: False,
    page: Callable[[T], list[str]] | None = None,
) -> int:
    """Show what `fetch` gives again and again until `done`: a pipe gets the changed items only, a terminal is redrawn,
    with the `page` of the first item where there is one.

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
            if page is not None:
                print("\n".join(page(items[0])))
            else:
                emit(items, view, form)
        elif changed:
            emit(changed, view, form)
        sys.stdout.flush()
        seen = {view.name(item): item for item in items}
        if done(items):
            return Code.OK
        await asyncio.sleep(EVERY_S)
