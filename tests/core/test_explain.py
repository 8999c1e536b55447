"""Explanations: the plan's own filters, with numbers."""

from tests.builders import GIB, a_node, a_shape
from windlass.core.placement.explain import explain, impossible
from windlass.core.placement.snapshot import Room
from windlass.core.states import Driver, NodeState


def test_each_node_answers_with_numbers() -> None:
    fleet = [
        a_node("b", 4, 8 * GIB, used=Room(3500, 7 * GIB)),
        a_node("a", 1, 8 * GIB),
        a_node("c", cordoned=True),
        a_node("d", state=NodeState.SUSPECT),
        a_node("e", drivers=frozenset({Driver.DOCKER})),
    ]
    told = explain(a_shape(2, 2 * GIB), fleet, 3)
    assert told.summary == "none of 5 nodes has room now; 3 ahead of it in line"
    assert [(n.node, n.fits, n.reasons) for n in told.nodes] == [
        ("a", False, ("has only 1 cpu (2 needed)",)),
        ("b", False, ("has 0.5 cpu free (2 needed)", "has 1Gi memory free (2Gi needed)")),
        ("c", False, ("is cordoned",)),
        ("d", False, ("is suspect",)),
        ("e", False, ("offers no driver process (offers: docker)",)),
    ]


def test_the_summary_says_what_matters_most() -> None:
    shape = a_shape(2)
    assert explain(shape, [], 0).summary == (
        "no node has registered yet; first in line. Start one with `windlass worker`"
    )
    assert explain(shape, [a_node()], 0).summary == "room on 1 of 1 nodes; first in line"
    assert explain(shape, [a_node(drivers=frozenset())], 1).summary == (
        "no node offers the driver process; 1 ahead of it in line"
    )
    assert explain(shape, [a_node(cpu=2, used=Room(500, 0))], 0).summary == (
        "the one node has no room now: n1 has 1.5 cpu free (2 needed); first in line"
    )


def test_what_no_node_could_ever_hold_is_told_at_submit() -> None:
    fleet = [a_node("a", 2, 4 * GIB, used=Room(2000, 0)), a_node("b", 8, GIB)]
    assert impossible(a_shape(2, GIB), fleet) is None
    assert impossible(a_shape(2, GIB), []) is None, "before the first node registers nothing is impossible"
    assert impossible(a_shape(4, 2 * GIB), fleet) == (
        "no node could ever hold it: the best of 2, b, has only 1Gi memory (2Gi needed)"
    )
    assert impossible(a_shape(4, GIB), [a_node("a", 2, 4 * GIB)]) == (
        "no node could ever hold it: the one node, a, has only 2 cpu (4 needed)"
    )
