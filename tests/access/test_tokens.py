"""Tokens: their form, who may make them, their end, and how little the ledger is asked and told of them."""

import asyncio
from collections import Counter
from itertools import count

import pytest

from tests.access.conftest import Guarded, guarded_settings
from tests.api.serving import assert_problem, serving
from tests.support import wait_until
from windlass.api import keyring as keyring_module
from windlass.api.keyring import Keyring, Refused
from windlass.core.access import LADDER, LETTERS, PREFIXES, RANDOM_LETTERS, Role, digest, make_token, sound
from windlass.mint import new_token
from windlass.settings import Api
from windlass.store.db import make_pool


def test_a_token_is_a_prefix_at_least_160_random_bits_and_a_checksum() -> None:
    assert len(LETTERS) ** RANDOM_LETTERS > 2**160
    for role, prefix in PREFIXES.items():
        token = new_token(role)
        assert token.startswith(prefix)
        assert sound(token)
    made = [new_token(Role.ADMIN) for _ in range(200)]
    assert len(set(made)) == 200
    seen = Counter(letter for token in made for letter in token[3:-6])
    assert set(seen) == set(LETTERS), "every letter comes up"
    assert make_token(Role.NODE, [0] * RANDOM_LETTERS) == make_token(Role.NODE, [0] * RANDOM_LETTERS)


@pytest.mark.parametrize(
    "spoil", [lambda t: t[:-1], lambda t: t + "0", lambda t: t[:9] + t[10:] + "0", lambda t: t[1:]]
)
def test_a_token_that_is_not_whole_is_known_as_such(spoil) -> None:
    assert not sound(spoil(new_token(Role.ADMIN)))


def test_every_single_wrong_letter_is_noticed() -> None:
    token = new_token(Role.VIEWER)
    for place in range(3, len(token)):
        other = "0" if token[place] != "0" else "1"
        assert not sound(token[:place] + other + token[place + 1 :])


async def test_a_token_is_shown_once_and_kept_as_its_hash(guarded: Guarded) -> None:
    answer = await guarded.ask(guarded.admin, "POST", "/v1/tokens", json={"name": "ci", "role": "submitter"})
    made = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    kept = await guarded.api.ledger.one("SELECT hash FROM tokens WHERE id = %s", made["id"])
    assert bytes(kept) == digest(made["token"])
    whole = await guarded.api.ledger.one("SELECT string_agg(t::text, ' ') FROM tokens t")
    listed = await guarded.ask(guarded.admin, "GET", "/v1/tokens")
    recorded = await guarded.ask(guarded.admin, "GET", "/v1/audit")
    for text in (whole, listed.text, recorded.text):
        assert made["token"] not in text
    [one] = listed.json()["tokens"]
    assert (one["name"], one["role"], one["created_by"], one["expires_at"]) == (
        "ci", "submitter", "admin token file", None,
    )  # fmt: skip
    me = (await guarded.ask(made["token"], "GET", "/v1/whoami")).json()
    assert me == {"name": "ci", "role": "submitter", "token_id": made["id"], "anonymous": False}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"role": "viewer"}, "name"),
        ({"name": "x\n", "role": "viewer"}, "name"),
        ({"name": "x", "role": "root"}, "role"),
        ({"name": "x", "role": "node"}, "role"),
        ({"name": "x", "role": "viewer", "expires_in": "soon"}, "expires_in"),
        ({"name": "x", "role": "viewer", "expires_in": 0}, "expires_in"),
        ({"name": "x", "role": "viewer", "uses": 3}, "uses"),
        ({"name": "x", "role": "join", "uses": 0}, "uses"),
        ({"name": "x", "role": "viewer", "scope": "all"}, "scope"),
        ([], "name"),
    ],
)
async def test_a_wish_that_makes_no_token_is_told_its_fault(guarded: Guarded, body, field: str) -> None:
    problem = assert_problem(await guarded.ask(guarded.admin, "POST", "/v1/tokens", json=body), 422)
    assert field in [error["field"] for error in problem["errors"]]
    assert await guarded.api.ledger.one("SELECT count(*) FROM tokens") == 0


async def test_a_token_ends(guarded: Guarded) -> None:
    token = await guarded.make(Role.VIEWER, "brief", expires_in=60)
    assert (await guarded.ask(token, "GET", "/v1/jobs")).status_code == 200
    await guarded.api.ledger.conn.execute("UPDATE tokens SET expires_at = now() - interval '1 s'")
    refused = await wait_until(lambda: refusal(guarded, token), "it opens nothing any more")
    assert "'brief'" in refused
    assert "expired at" in refused


async def refusal(guarded: Guarded, token: str) -> str:
    answer = await guarded.ask(token, "GET", "/v1/jobs")
    return answer.text if answer.status_code == 401 else ""


async def test_a_revoked_token_opens_nothing_here_at_once_and_elsewhere_within_five_seconds(
    guarded: Guarded, tmp_path
) -> None:
    name = guarded.settings.database.url
    elsewhere, _ = guarded_settings(name, guarded.settings.redis.url, tmp_path)
    token = await guarded.make(Role.VIEWER, "leaver")
    async with serving(elsewhere) as other:
        theirs = Guarded(other, "", elsewhere)
        follow = {"authorization": f"Bearer {token}", "accept": "text/event-stream"}
        async with other.http.stream("GET", "/v1/events", headers=follow) as stream:
            for one in (guarded, theirs):
                assert (await one.ask(token, "GET", "/v1/jobs")).status_code == 200
            gone = await guarded.ask(guarded.admin, "DELETE", "/v1/tokens/leaver")
            assert gone.status_code == 204
            assert "was revoked at" in await refusal(guarded, token)
            assert "was revoked at" in await wait_until(lambda: refusal(theirs, token), "elsewhere too")
            async with asyncio.timeout(5):  # what it followed ends too
                _ = [line async for line in stream.aiter_lines()]
    again = await guarded.ask(guarded.admin, "DELETE", "/v1/tokens/leaver")
    assert_problem(again, 404, "leaver")


async def test_tokens_of_files_are_read_again_when_they_change(guarded: Guarded, tmp_path) -> None:
    settings, admin = guarded_settings(guarded.settings.database.url, guarded.settings.redis.url, tmp_path)
    async with serving(settings) as api:
        mine = Guarded(api, admin, settings)
        assert (await mine.ask(admin, "GET", "/v1/tokens")).status_code == 200
        fresh = new_token(Role.ADMIN)
        (tmp_path / "new").write_text(fresh)
        (tmp_path / "new").replace(tmp_path / "admin")
        answer = lambda token: mine.ask(token, "GET", "/v1/tokens")  # noqa: E731
        await wait_until(lambda: opens(answer, fresh), "the new one opens")
        assert (await answer(admin)).status_code == 401
        (tmp_path / "admin").write_text("short")
        await wait_until(lambda: closed(answer, fresh), "a file that holds no token opens nothing")


async def opens(answer, token: str) -> bool:
    return (await answer(token)).status_code == 200


async def closed(answer, token: str) -> bool:
    return (await answer(token)).status_code == 401


class Asked:
    """Counts what the keyring asks and tells the ledger."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.found = self.used = 0
        find, used = keyring_module.tokens.find, keyring_module.tokens.used

        async def counting_find(conn, mark):
            self.found += 1
            return await find(conn, mark)

        async def counting_used(conn, ids):
            self.used += 1
            return await used(conn, ids)

        monkeypatch.setattr(keyring_module.tokens, "find", counting_find)
        monkeypatch.setattr(keyring_module.tokens, "used", counting_used)


async def test_the_ledger_is_asked_for_a_token_once_in_a_while(guarded: Guarded, monkeypatch) -> None:
    now, asked = 100.0, Asked(monkeypatch)
    pool = make_pool(guarded.settings.database.url, "test", 2)
    ring = Keyring(pool, Api(), clock=lambda: now)
    token = await guarded.make(Role.VIEWER)
    await asyncio.gather(*(ring.caller(token) for _ in range(50)))
    assert asked.found == 1, "those who ask at once share the question"
    now += keyring_module.SOON_S
    for _ in range(20):
        assert (await ring.caller(token)).role is Role.VIEWER
    await wait_until(lambda: asked.found == 2, "asked again, beside those who use it")
    bad = new_token(Role.ADMIN)
    for _ in range(20):
        with pytest.raises(Refused):
            await ring.caller(bad)
    assert asked.found == 3, "that a token is unknown is remembered too"
    for n in range(20):
        with pytest.raises(Refused, match="mistyped"):
            await ring.caller(f"wl_{n:038}")
    assert asked.found == 3, "what has not a token's form is not asked for"
    await pool.close()


async def test_use_is_written_down_now_and_then(guarded: Guarded, monkeypatch) -> None:
    asked, ticks = Asked(monkeypatch), count(0, 20)
    monkeypatch.setattr(keyring_module, "FILES_EVERY_S", 0.001)
    pool = make_pool(guarded.settings.database.url, "test", 2)
    ring = Keyring(pool, Api(), clock=lambda: float(next(ticks)))
    token = await guarded.make(Role.VIEWER, "used")
    await ring.caller(token)
    running = asyncio.create_task(ring.run())
    when = "SELECT last_used_at FROM tokens WHERE name = 'used'"
    try:
        first = await wait_until(lambda: guarded.api.ledger.one(when), "its use is written")
        await ring.caller(token)
        written = asked.used
        await wait_until(lambda: asked.used > written, "its use comes to the ledger again")
        assert await guarded.api.ledger.one(when) == first, "within half a minute nothing is written"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await pool.close()


async def test_names_need_not_be_unique_and_ids_are(guarded: Guarded) -> None:
    for _ in range(2):
        await guarded.make(Role.VIEWER, "twin")
    found = (await guarded.ask(guarded.admin, "GET", "/v1/tokens")).json()["tokens"]
    assert (await guarded.ask(guarded.admin, "DELETE", f"/v1/tokens/{found[0]['id']}")).status_code == 204
    state = {
        one["id"]: one["revoked_at"] for one in (await guarded.ask(guarded.admin, "GET", "/v1/tokens")).json()["tokens"]
    }
    assert [state[one["id"]] is None for one in found] == [False, True]


def test_the_ladder_is_what_the_issue_says() -> None:
    assert [role.value for role in LADDER] == ["viewer", "submitter", "operator", "admin"]
