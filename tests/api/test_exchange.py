"""The exchange: a worker's reports past a broken stream, answered with all that the ledger says it should be told."""

import httpx2
import pytest

from tests.api.serving import Api, assert_problem
from tests.builders import a_node
from windlass.api import internal
from windlass.core.events import CancelRequested, Exited, Started
from windlass.core.ids import ATTEMPT, NODE, AttemptId, NodeId
from windlass.mint import new_id
from windlass.store import inbox
from windlass.stream import orders, wire

NODE_ID = NodeId(new_id(NODE))
HERE = a_node("n1", cpu=8)


async def post(api: Api, *reports: wire.Message) -> httpx2.Response:
    return await api.http.post("/v1/internal/exchange", content=wire.encode(reports))


async def told(api: Api, *held: AttemptId, more: tuple[wire.Report, ...] = ()) -> list[wire.Command]:
    """What a node that holds these is answered."""
    answer = await post(api, wire.Beat(HERE.id, held), *more)
    assert answer.status_code == 200, answer.text
    return wire.commands().read([answer.content])


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal, "is_id", lambda text, kind: text.startswith("node_"))


async def test_reports_are_kept_and_the_answer_is_by_the_ledger(api: Api) -> None:
    term = await api.ledger.lead()
    new, stopping, running, over = [await api.submit() for _ in range(4)]
    placed = {job: (await api.ledger.place(job, HERE)).attempt for job in (new, stopping, running, over)}
    ids = {job: attempt.id for job, attempt in placed.items() if attempt}
    for job in (stopping, running, over):
        now = (await api.ledger.task(job)).task.queued_at
        await api.ledger.move(job, Started(now))
    await api.ledger.move(stopping, CancelRequested())
    await api.ledger.move(over, Exited(0.0, None, 0))
    unknown = AttemptId(new_id(ATTEMPT))
    held = (ids[stopping], ids[running], ids[over], unknown)
    commands = await told(api, *held, more=(wire.Started(HERE.id, ids[running], 1.0),))
    [launch] = [c for c in commands if isinstance(c, wire.Launch)]
    [stop] = [c for c in commands if isinstance(c, wire.Stop)]
    [forget] = [c for c in commands if isinstance(c, wire.Forget)]
    assert (launch.attempt_id, launch.job_id, stop.attempt_id) == (ids[new], new, ids[stopping])
    assert set(forget.attempt_ids) == {ids[over], unknown}
    assert len(commands) == 3
    [letter] = await inbox.take(api.ledger.conn, term=term, suspect=3)
    reports = wire.reports().read([letter.body])
    assert reports == [wire.Beat(HERE.id, held), wire.Started(HERE.id, ids[running], 1.0)]


async def test_the_same_is_answered_until_it_is_so(api: Api) -> None:
    job = await api.submit()
    attempt = (await api.ledger.place(job, HERE)).attempt
    assert attempt is not None
    assert await told(api) == await told(api)
    assert await told(api, attempt.id) == [], "it was taken up a moment ago"


async def test_what_is_held_and_untold_for_long_is_asked_for(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "GRACE_S", 0.0)
    job = await api.submit()
    attempt = (await api.ledger.place(job, HERE)).attempt
    assert attempt is not None
    assert await told(api, attempt.id) == [wire.Tell((attempt.id,))]


async def test_another_nodes_attempts_are_not_told(api: Api) -> None:
    await api.ledger.place(await api.submit(), a_node("n2"))
    assert await told(api) == []


async def test_nonsense_is_refused(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    beat, other = wire.Beat(NODE_ID), wire.Beat(NodeId(new_id(NODE)))
    for content, status, word in (
        (b"", 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"{}", 400, "not a list"),
        (b"[]", 422, "one beat"),
        (b'[{"type": "beat"}]', 422, "one beat"),
        (wire.encode([beat, beat]), 422, "one beat"),
        (wire.encode([wire.Beat(NodeId("x"))]), 422, "one beat"),
        (wire.encode([beat, wire.Bell("jobs")]), 422, "of the node that speaks"),
        (wire.encode([beat, wire.Prepared(other.node_id, AttemptId("att_1"))]), 422, "of the node that speaks"),
    ):
        answer = await api.http.post("/v1/internal/exchange", content=content)
        assert_problem(answer, status, word)
    monkeypatch.setattr(internal, "BODY_LIMIT", 1000)
    assert_problem(await api.http.post("/v1/internal/exchange", content=b"[" + b" " * 2000 + b"]"), 413)
    assert await api.ledger.one("SELECT count(*) FROM inbox") == 0


async def test_a_newer_workers_words_are_kept_for_a_newer_leader(api: Api) -> None:
    news = b'[{"type":"beat","node_id":"' + HERE.id.encode() + b'","mood":"fine"},{"type":"from_the_future"}]'
    assert (await api.http.post("/v1/internal/exchange", content=news)).status_code == 200
    assert await api.ledger.one("SELECT body FROM inbox") == news


async def test_what_nobody_read_for_a_minute_goes(api: Api) -> None:
    await told(api)
    await api.ledger.one("UPDATE inbox SET created_at = now() - interval '2 minutes' RETURNING 1")
    await told(api)
    assert await api.ledger.one("SELECT count(*) FROM inbox") == 1
