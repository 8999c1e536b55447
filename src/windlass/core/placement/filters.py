"""Fit, said once: why a node can't take a shape. Submit check, plan, explanation and worker admission all ask here."""

from collections.abc import Iterator

from windlass.core.placement.snapshot import Node, Room, Shape
from windlass.core.quantity import show_cpu, show_size
from windlass.core.states import NodeState


def never(node: Node, shape: Shape) -> Iterator[str]:
    """Reasons that no waiting will change: the node as a whole is too small."""
    yield from _short("has only {has} ({need} needed)", node.capacity, shape.need)


def misfits(node: Node, shape: Shape) -> Iterator[str]:
    """Every reason why this node can't take the shape now, with numbers; none when it fits."""
    if node.state is not NodeState.READY:
        yield f"is {node.state}"
    if node.draining or node.leaving:
        yield "is draining"
    elif node.cordoned:
        yield "is cordoned"
    if shape.driver not in node.drivers:
        offers = ", ".join(sorted(node.drivers)) or "none"
        yield f"offers no driver {shape.driver} (offers: {offers})"
    too_small = list(never(node, shape))
    yield from too_small or _short("has {has} free ({need} needed)", node.free, shape.need)


def fits(node: Node, shape: Shape) -> bool:
    """Whether the node can take the shape now: misfits without the words, for the hot path."""
    return node.open and shape.driver in node.drivers and node.free.holds(shape.need)


def could_fit(node: Node, shape: Shape) -> bool:
    """Whether the node could take the shape once others have ended."""
    return node.open and shape.driver in node.drivers and node.capacity.holds(shape.need)


def _short(words: str, has: Room, need: Room) -> Iterator[str]:
    if need.millis > has.millis:
        yield words.format(has=f"{show_cpu(has.millis / 1000)} cpu", need=show_cpu(need.millis / 1000))
    if need.memory > has.memory:
        yield words.format(has=f"{show_size(has.memory)} memory", need=show_size(need.memory))
