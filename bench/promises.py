"""Promised ratios, and whether what was measured keeps them: `python -m bench --check`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.report import Row


@dataclass(frozen=True)
class Bounds:
    """What a ratio must not be below, and not above."""

    least: float = 0.0
    most: float = float("inf")


#: By measure. Ratios alone, for both sides are measured in the same run: a slow machine slows both.
PROMISED = {
    "noop": Bounds(least=0.45),
    "containers": Bounds(least=0.90),
    "commands": Bounds(most=1.4),
}


def missed(name: str, rows: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each row of this measure whose ratio is out of its bounds, and one if none was measured."""
    bounds = PROMISED[name]
    if all(row.ratio is None for row in rows):
        yield f"{name}: {rows[0].what}: {rows[0].value}"
    for row in rows:
        if row.ratio is not None and not bounds.least <= row.ratio <= bounds.most:
            yield f"{name}: {row.what}: {row.ratio:.2f} is not within {bounds.least:g} and {bounds.most:g}"
