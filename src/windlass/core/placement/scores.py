"""Which of the nodes that fit is best: a number per node, the lowest wins, ties by name."""

from enum import StrEnum

from windlass.core.placement.snapshot import Node, Room


class Policy(StrEnum):
    BEST_FIT = "best_fit"  # fill the fullest node that fits: keeps room for big tasks
    SPREAD = "spread"  # use the emptiest node: keeps neighbours apart


def score(policy: Policy, free: Room, node: Node) -> tuple[float, str]:
    """The share of the node left free, its scarcer dimension weighing as much as the other; sign by policy."""
    left = free.millis / max(node.capacity.millis, 1) + free.memory / max(node.capacity.memory, 1)
    return (left if policy is Policy.BEST_FIT else -left, node.name)
