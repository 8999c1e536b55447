"""What the leader's page tells of the whole cluster."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace

import psycopg
import pytest

from tests.builders import GIB, a_spec
from tests.scheduler.conftest import KEYS, N1, N2, Office
from windlass.core.states import NodeState
from windlass.metrics import fleet
from windlass.scheduler.survey import Survey
from windlass.stream import wire

Figures = dict[tuple[str, str], float]


@pytest.fixture
async def survey(office: Office, database_url: str, redis_url: str) -> AsyncIterator[Survey]:
    made = Survey(office.desk.picture, KEYS, database_url, redis_url)
    async with aclosing(made._redis):
        yield made
        await made._close()


def told(survey: Survey) -> Figures:
    """Figures by name and label; each only once, or Prometheus would take none of them."""
    found: Figures = {}
    for name, labels, value in survey.figures():
        key = (name, "".join(labels))
        assert key not in found
        found[key] = value
    return found


async def test_what_waits_and_what_is_live(office: Office, survey: Survey):
    jobs = await office.ledger.submit(*[a_spec(2)] * 5)
    await office.node(cpu=4)
    await office.place(jobs[0])
    await survey.look()
    found = told(survey)
    assert (found[fleet.QUEUE_DEPTH, "process"], found[fleet.QUEUE_DEPTH, "docker"]) == (3, 0)
    assert found[fleet.LIVE, "placed"] == 2
    assert found[fleet.NEEDED_WORKERS, ""] == 3  # five tasks of two cores on nodes of four
    assert 0 < found[fleet.OLDEST_WAIT, ""] < 60
    assert found[fleet.OUTBOX, ""] == 1
    assert (found[fleet.NODE_CPU, N1], found[fleet.NODE_CPU_USED, N1], found[fleet.NODE_ATTEMPTS, N1]) == (4, 4, 2)
    assert found[fleet.NODE_MEMORY, N1] == 8 * GIB


async def test_what_nobody_has_read_is_lag(office: Office, survey: Survey):
    jobs = await office.ledger.submit()
    await office.node()
    await office.place(jobs[0])
    await office.desk.flush()
    await office.desk.producer.report([wire.Bell("jobs")])
    await survey.look()
    found = told(survey)
    assert (found[fleet.STREAM_ENTRIES, "leader"], found[fleet.STREAM_ENTRIES, "nodes"]) == (1, 1)
    assert 0 <= found[fleet.STREAM_LAG, "leader"] < 60
    await office.orders()
    await survey.look()
    assert told(survey)[fleet.STREAM_ENTRIES, "nodes"] == 0


async def test_each_node_has_one_state(office: Office, survey: Survey):
    await office.node(N1)
    await office.node(N2)
    nodes = office.desk.picture.nodes
    nodes[N2] = replace(nodes[N2], cordoned=True, draining=True)
    found = told(survey)
    assert [found[fleet.NODES, state] for state in fleet.NODE_STATES] == [0, 0, 0, 1, 0, 1]
    nodes[N1] = replace(nodes[N1], state=NodeState.LOST)
    found = told(survey)
    assert (found[fleet.NODES, "lost"], found[fleet.NODE_UP, N1], found[fleet.NODE_UP, N2]) == (1, 0, 1)


async def test_of_two_nodes_of_one_name_the_one_that_lives_is_told_of(office: Office, survey: Survey):
    await office.node(N1, cpu=4)
    await office.node(N2, cpu=2)
    nodes = office.desk.picture.nodes
    nodes[N1] = replace(nodes[N1], name="same", state=NodeState.LOST)
    nodes[N2] = replace(nodes[N2], name="same")
    found = told(survey)
    assert (found[fleet.NODE_UP, "same"], found[fleet.NODE_CPU, "same"]) == (1, 2)


async def test_a_deep_line_is_counted_less_often(office: Office, survey: Survey):
    await survey.look()
    assert survey._counted is not None
    survey._counted = replace(survey._counted, took_s=10.0)
    before = survey._counted.at
    await survey.look()
    assert survey._counted.at == before
    survey._counted = replace(survey._counted, took_s=0.0)
    await survey.look()
    assert survey._counted.at > before


async def test_an_outage_leaves_what_was_known(office: Office, survey: Survey, database_url: str):
    await office.ledger.submit()
    await survey.look()
    assert survey._counted is not None
    before = survey._counted = replace(survey._counted, took_s=0.0)
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'windlass-survey'"
        )
    await survey.look()
    assert survey._counted == before
    assert told(survey)[fleet.QUEUE_DEPTH, "process"] == 1
    await survey.look()
    assert survey._counted.at > before.at
