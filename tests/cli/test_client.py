"""The SDK where the command line's tests don't reach: an API that goes away and comes back, and typed answers."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.cli.stub import Serving, Stub, a_job, an_attempt, chunk, problem
from tests.support import HANG_S, wait_until
from windlass.client import ApiError, Client, LogChunk, NotFound, ServerError, Unreachable, WaitTimeout


def restarted(stub: Stub, use: Callable[[Client], Awaitable[object]], then: Callable[[], None]) -> object:
    """What `use` gives when the API stops under it and comes back; what was quiet before does not count as away."""

    async def scenario() -> object:
        server = Serving(stub).__enter__()
        async with Client(stub.url, timeout=HANG_S, patience=HANG_S) as client:
            using = asyncio.ensure_future(use(client))
            await wait_until(lambda: len(stub.requests) >= 2, "its second request, which waits")
            await asyncio.to_thread(server.__exit__)
            seen = len(stub.requests)
            with Serving(stub, server.port):
                await wait_until(lambda: len(stub.requests) > seen, "the request after the restart")
                then()
                return await using

    return asyncio.run(asyncio.wait_for(scenario(), HANG_S))


def test_wait_rides_out_a_restart():
    stub = Stub()
    stub.jobs = {"job_1": a_job(state="running")}
    job = restarted(
        stub, lambda client: client.jobs.wait("job_1"), lambda: stub.jobs["job_1"].update(state="succeeded")
    )
    assert job.state == "succeeded"


def test_logs_go_on_after_a_restart_without_a_repeat():
    stub = Stub()
    stub.jobs, stub.output = {"job_1": a_job(state="running")}, [chunk(b"before ")]

    async def read(client: Client) -> bytes:
        items = [item async for item in client.jobs.logs("job_1", follow=True)]
        return b"".join(item.data for item in items if isinstance(item, LogChunk))

    def finish() -> None:
        stub.jobs["job_1"]["state"] = "succeeded"

    stub.output.append(chunk(b"and after"))
    stub.cut_after = 1
    assert restarted(stub, read, finish) == b"before and after"


def test_an_api_that_stays_away_is_told():
    async def scenario() -> None:
        stub = Stub()
        stub.jobs = {"job_1": a_job(state="running")}
        async with Client("http://127.0.0.1:1", patience=0.5) as client:
            with pytest.raises(Unreachable, match="connection refused"):
                await client.jobs.wait("job_1")
            with pytest.raises(Unreachable):
                _ = [item async for item in client.jobs.logs("job_1")]

    asyncio.run(scenario())


def test_errors_are_typed_and_carry_the_problem():
    async def scenario() -> None:
        stub = Stub()
        with Serving(stub):
            async with Client(stub.url, retries=0) as client:
                with pytest.raises(NotFound) as missing:
                    await client.jobs.get("job_ ?x=1#y")
                assert (missing.value.status, missing.value.request_id) == (404, "req_1")
                assert "job_ ?x=1#y" in str(missing.value)
                stub.fail = lambda request: problem(503, "later", Retry_After="7")
                with pytest.raises(ServerError) as later:
                    await client.nodes.list()
                assert later.value.retry_after == 7

    asyncio.run(scenario())


def test_answers_are_typed():
    async def scenario() -> None:
        stub = Stub()
        stub.jobs = {"job_1": a_job(attempts=[an_attempt(2, exit_code=0), an_attempt(1, "failed", exit_code=1)])}
        with Serving(stub):
            async with Client(stub.url) as client:
                job = await client.jobs.get("job_1")
                assert job.terminal
                assert job.last_attempt is not None
                assert (job.last_attempt.number, job.last_attempt.exit_code) == (2, 0)
                assert job.created_at.utcoffset() is not None
                refused = (await client.jobs.create_many([{}, {"resources": {"cpu": "lots"}}]))[1]
                assert isinstance(refused, ApiError)
                assert refused.errors[0].pointer == "/resources/cpu"
                stub.jobs["job_1"]["state"] = "running"
                with pytest.raises(WaitTimeout):
                    await client.jobs.wait("job_1", timeout=0)

    asyncio.run(scenario())


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://x", "http://"])
def test_a_url_that_is_none_is_refused(url: str):
    with pytest.raises(ValueError, match="is not the URL of an API"):
        Client(url)
