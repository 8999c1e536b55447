"""GET /v1/cluster: who leads, who stands by, how much there is of what."""

from tests.api.serving import Api
from tests.builders import a_node, a_spec
from windlass.store import leases, schedulers


async def _stands(api: Api, name: str, *, redis_degraded: bool = False) -> None:
    await schedulers.seen(api.ledger.conn, name, "atlas", 7, "1.2", redis_degraded=redis_degraded)


async def test_nobody_is_there(api: Api) -> None:
    found = (await api.http.get("/v1/cluster")).json()
    assert (found["leader"], found["standbys"]) == (None, [])
    assert found["nodes"] == {"ready": 0, "suspect": 0, "lost": 0}
    assert found["jobs"] == {"queued": 0, "running": 0}
    assert (found["redis_degraded"], found["redis_degraded_since"]) == (False, None)


async def test_one_leads_and_others_stand_by(api: Api) -> None:
    for name in "abc":
        await _stands(api, name)
    term = await api.ledger.lead("b")
    await api.register(a_node("n1"))
    await api.ledger.submit(*[a_spec()] * 3)
    found = (await api.http.get("/v1/cluster")).json()
    leader = found["leader"]
    assert (leader["id"], leader["host"], leader["pid"], leader["term"]) == ("b", "atlas", 7, term)
    assert leader["since"]
    assert [one["id"] for one in found["standbys"]] == ["a", "c"]
    assert (found["nodes"]["ready"], found["jobs"]["queued"]) == (1, 3)
    await leases.expire(api.ledger.conn, term)
    found = (await api.http.get("/v1/cluster")).json()
    assert (found["leader"], len(found["standbys"])) == (None, 3)


async def test_who_fell_silent_is_no_standby_and_is_forgotten_in_time(api: Api) -> None:
    for name in "ab":
        await _stands(api, name)
    await api.ledger.one("UPDATE schedulers SET seen_at = now() - interval '6 s' WHERE id = 'a' RETURNING 1")
    standbys = (await api.http.get("/v1/cluster")).json()["standbys"]
    assert [one["id"] for one in standbys] == ["b"]
    await api.ledger.one("UPDATE schedulers SET seen_at = now() - interval '61 min' WHERE id = 'a' RETURNING 1")
    await _stands(api, "b")
    assert await api.ledger.one("SELECT count(*) FROM schedulers") == 1


async def test_since_when_redis_fails_the_leader(api: Api) -> None:
    await _stands(api, "a", redis_degraded=True)
    await api.ledger.lead("a")
    first = (await api.http.get("/v1/cluster")).json()
    await _stands(api, "a", redis_degraded=True)
    second = (await api.http.get("/v1/cluster")).json()
    assert first["redis_degraded"]
    assert first["redis_degraded_since"] == second["redis_degraded_since"]
    await _stands(api, "a")
    assert not (await api.http.get("/v1/cluster")).json()["redis_degraded"]
