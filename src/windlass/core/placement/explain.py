"""Why a task waits, node by node with numbers: the plan's own filters, put in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from windlass.core.placement.filters import misfits, never
from windlass.core.placement.snapshot import Node, Shape


@dataclass(frozen=True, slots=True)
class NodeVerdict:
    """One node's answer to one shape."""

    node: str
    fits: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer in one sentence, and each node's."""

    summary: str
    nodes: tuple[NodeVerdict, ...]


def explain(shape: Shape, nodes: Sequence[Node], ahead: int) -> Explanation:
    """Why a queued task of this shape is not running yet, with `ahead` tasks before it in line."""
    verdicts = tuple(_verdict(node, shape) for node in sorted(nodes, key=lambda n: n.name))
    return Explanation(_summary(shape, nodes, verdicts, ahead), verdicts)


def impossible(shape: Shape, nodes: Sequence[Node]) -> str | None:
    """Why no node there is could ever hold this shape; None when one could, or when no node has registered yet."""
    if not nodes or any(not list(never(node, shape)) for node in nodes):
        return None
    tightest = min(nodes, key=lambda node: (len(list(never(node, shape))), -node.capacity.millis, node.name))
    which = f"the best of {len(nodes)}, {tightest.name}," if len(nodes) > 1 else f"the one node, {tightest.name},"
    return f"no node could ever hold it: {which} " + " and ".join(never(tightest, shape))


def stranded(node_name: str) -> str:
    """Why an exclusive task whose node is lost goes nowhere, and what ends that."""
    return (
        f"its node {node_name} is lost; exclusive: waits until the old copy is proven gone; "
        f"if the machine is off for good: windlass forget {node_name}"
    )


def _verdict(node: Node, shape: Shape) -> NodeVerdict:
    reasons = tuple(misfits(node, shape))
    return NodeVerdict(node.name, not reasons, reasons)


def _summary(shape: Shape, nodes: Sequence[Node], verdicts: Sequence[NodeVerdict], ahead: int) -> str:
    place = f"{ahead} ahead of it in line" if ahead else "first in line"
    if not nodes:
        return f"no node has registered yet; {place}. Start one with `windlass worker`"
    fitting = sum(verdict.fits for verdict in verdicts)
    if fitting:
        return f"room on {fitting} of {len(nodes)} nodes; {place}"
    if not any(shape.driver in node.drivers for node in nodes):
        return f"no node offers the driver {shape.driver}; {place}"
    sole = f": {verdicts[0].node} {' and '.join(verdicts[0].reasons)}" if len(verdicts) == 1 else ""
    none = "the one node has no" if len(nodes) == 1 else f"none of {len(nodes)} nodes has"
    return f"{none} room now{sole}; {place}"
