"""What a connection may take before there is a request."""

import asyncio
from contextlib import suppress

import httpx2
import pytest

from tests.api.serving import Api, assert_problem
from tests.support import HANG_S, wait_until
from windlass.api import door

HEAD = b"POST /v1/jobs HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n"
WHOLE = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(door, "HEAD_S", 0.3)
    monkeypatch.setattr(door, "BODY_S", 0.6)


@pytest.fixture
def wound(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """What the clocks of connections are wound to, one after the other."""
    seen: list[float | None] = []
    wind = door.Door._wind

    def noted(connection: door.Door, seconds: float | None) -> None:
        seen.append(seconds)
        wind(connection, seconds)

    monkeypatch.setattr(door.Door, "_wind", noted)
    return seen


async def cut(reader: asyncio.StreamReader) -> bool:
    """Whether the other side ends the connection."""
    try:
        await asyncio.wait_for(reader.read(), HANG_S)
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


async def answered(reader: asyncio.StreamReader) -> httpx2.Response:
    """The last answer on a connection that the other side ends."""
    head, _, body = (await asyncio.wait_for(reader.read(), HANG_S)).partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    headers = dict(field.split(": ", 1) for field in rest)
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    return httpx2.Response(int(line.split()[1]), headers=headers, content=body)


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /li",
        HEAD,
        HEAD + b"\r\n",
        HEAD + b"\r\n{",
        WHOLE + b"GET /li",
        WHOLE + HEAD + b"\r\n",
    ],
    ids=[
        "nothing",
        "half a line",
        "half a head",
        "no body",
        "half a body",
        "half a next",
        "a next's head",
    ],
)
@pytest.mark.usefixtures("hasty")
async def test_who_never_comes_to_an_end_is_cut_off(api: Api, caplog: pytest.LogCaptureFixture, said: bytes):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(said)
    assert await cut(reader)
    await leave(writer)
    assert not [r for r in caplog.records if r.levelname == "ERROR"]


async def test_a_head_without_end_is_cut_off(api: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(door, "HEAD_S", 3600.0)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(b"GET /livez HTTP/1.1\r\n" + b"x: " + b"y" * 200_000)
    assert await cut(reader), "long before the clock would"
    await leave(writer)


async def test_a_quiet_connection_between_requests_is_kept(api: Api, wound: list[float | None]):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    for _ in range(2):
        writer.write(WHOLE)
        assert b" 200 " in await reader.readuntil(b"}}")
        assert wound[-1] is None
    await leave(writer)


async def test_an_empty_line_buys_no_time(api: Api, monkeypatch: pytest.MonkeyPatch):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(WHOLE)
    await reader.readuntil(b"}}")
    monkeypatch.setattr(door, "HEAD_S", 0.3)
    writer.write(b"\r\n")
    assert await cut(reader)
    await leave(writer)


async def test_an_answer_may_take_longer_than_the_question(api: Api, wound: list[float | None]):
    job_id = await api.submit()
    waiting = asyncio.create_task(api.http.get(f"/v1/jobs/{job_id}?wait=30"))
    await wait_until(lambda: api.listeners == 1, "the request waits")
    assert wound[-1] is None
    await api.http.post(f"/v1/jobs/{job_id}/cancel")
    assert (await waiting).status_code == 200


async def test_whoever_leaves_in_the_middle_is_no_error(api: Api, capsys: pytest.CaptureFixture[str]):
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(HEAD + b"\r\n{")
        await writer.drain()
        await leave(writer)
    await wait_until(lambda: _left(api), "their requests are over")
    assert "request_failed" not in capsys.readouterr().err


async def _left(api: Api) -> bool:
    text = (await api.http.get("/metrics")).text
    return 'route="/v1/jobs",status="4xx"' in text


@pytest.mark.parametrize(
    "said",
    [
        b"NONSENSE\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ],
    ids=["no request", "no such HTTP", "no header", "TLS"],
)
async def test_what_is_no_http_gets_a_problem_with_an_id(api: Api, said: bytes):
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(said)
    document = assert_problem(await answered(reader), 400, "no HTTP")
    assert document["request_id"].startswith("req_")
    await leave(writer)
    text = (await api.http.get("/metrics")).text
    assert 'requests_total{method="OTHER",route="none",status="4xx"}' in text


async def test_one_connection_too_many_gets_a_problem_with_an_id(api: Api, monkeypatch: pytest.MonkeyPatch):
    await api.http.get("/livez")  # its connection stays
    monkeypatch.setattr(door, "CONNECTIONS", 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
    writer.write(WHOLE.replace(b"\r\n\r\n", b"\r\nx-request-id: mine\r\n\r\n"))
    answer = await answered(reader)
    document = assert_problem(answer, 503, "connections")
    assert (document["request_id"], answer.headers["retry-after"]) == ("mine", "1")
    await leave(writer)
    monkeypatch.undo()
    assert (await api.http.get("/livez")).status_code == 200
