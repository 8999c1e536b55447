"""One trace from POST to exit, as a collector sees it, and as the job itself does."""

import secrets
from typing import Any

import pytest

from tests.support import wait_until
from tests.system.cluster import Cluster
from tests.tracing.collector import Collector, Kept
from windlass.core.ids import JobId, task_of
from windlass.core.trace import attempt_span, place_span

CLIENT = "00f067aa0ba902b7"
ENV = 'env >>"$0"; test $WINDLASS_ATTEMPT = 2'


def submit(cluster: Cluster, spec: dict[str, Any], *, flags: str = "01", **headers: str) -> tuple[str, str]:
    """(the job's id, the trace's), of a client that has a trace of its own."""
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-{CLIENT}-{flags}"} | headers
    answer = cluster.http.post("/v1/jobs", json=spec, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.json()["trace_id"] == trace_id
    return answer.json()["id"], trace_id


def variables(text: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]


async def spans(collector: Collector, trace_id: str, attempts: int) -> list[Kept]:
    """Those of a trace once so many attempts have been told of."""
    await wait_until(lambda: len(collector.of(trace_id, "attempt")) >= attempts, f"{attempts} attempts are told of")
    return collector.of(trace_id)


async def test_one_trace_from_post_to_exit(traced: Cluster, collector: Collector) -> None:
    seen = traced.folder / "seen"
    spec = traced.spec("told", driver="process") | {"command": ["sh", "-c", ENV, str(seen)]}
    job_id, trace_id = submit(traced, spec, tracestate="rojo=1,congo=t61")
    (job,) = await traced.over(job_id)
    assert (job["state"], len(job["status"]["attempts"])) == ("succeeded", 2)
    await spans(collector, trace_id, 2)
    await wait_until(lambda: collector.of(trace_id, "POST /v1/jobs"), "the request is told of")
    await wait_until(lambda: len(collector.of(trace_id)) == 9, "all of it is told")

    (post,) = collector.of(trace_id, "POST /v1/jobs")
    places, attempts = collector.of(trace_id, "place"), collector.of(trace_id, "attempt")
    prepares, runs = collector.of(trace_id, "prepare"), collector.of(trace_id, "run")
    assert (post.service, post.kind, post.parent, post.failed) == ("windlass-api", "server", CLIENT, "")
    assert [(p.service, p.kind, p.parent) for p in places] == [("windlass-scheduler", "producer", post.id)] * 2
    assert [(a.service, a.kind, a.parent) for a in attempts] == [("windlass-worker", "consumer", p.id) for p in places]
    assert [child.parent for child in (*prepares, *runs)] == [a.id for a in attempts] * 2
    assert [a.links for a in attempts] == [(), (attempts[0].id,)], "the second try links to the first"
    assert [a.failed for a in attempts] == ["exit_code", ""]
    assert [a.about["process.exit.code"] for a in attempts] == [1, 0]
    ids = [attempt["id"] for attempt in job["status"]["attempts"]]
    assert [s.about["windlass.attempt.id"] for s in (*places, *attempts)] == ids * 2
    assert all(post.began <= p.ended <= a.ended + 1 for p, a in zip(places, attempts, strict=True))

    text = seen.read_text()
    assert variables(text, "TRACEPARENT") == [f"00-{trace_id}-{a.id}-01" for a in attempts]
    assert variables(text, "TRACESTATE") == ["rojo=1,congo=t61"] * 2
    about = [
        f"windlass.job.id={job_id},windlass.attempt.id={a},windlass.attempt.number={n}" for n, a in enumerate(ids, 1)
    ]
    assert variables(text, "OTEL_RESOURCE_ATTRIBUTES") == about


async def test_without_a_client_s_trace_the_api_begins_one(traced: Cluster, collector: Collector) -> None:
    answer = traced.http.post("/v1/jobs", json=traced.spec("own"), headers={"traceparent": "00-nonsense"})
    trace_id = answer.json()["trace_id"]
    await traced.over(answer.json()["id"])
    await spans(collector, trace_id, 1)
    await wait_until(lambda: collector.of(trace_id, "POST /v1/jobs"), "the request is told of")
    (post,) = collector.of(trace_id, "POST /v1/jobs")
    assert post.parent == ""
    assert post.about["windlass.request.id"] == answer.headers["x-request-id"]


async def test_what_its_client_does_not_keep_nobody_keeps(traced: Cluster, collector: Collector) -> None:
    seen = traced.folder / "seen unsampled"
    spec = traced.spec("quiet") | {"command": ["sh", "-c", 'env >"$0"', str(seen)]}
    job_id, trace_id = submit(traced, spec, flags="00")
    await traced.over(job_id)
    loud_id, loud = submit(traced, traced.spec("loud"))
    await traced.over(loud_id)
    await spans(collector, loud, 1)
    assert collector.of(trace_id) == []
    place = attempt_span(task_of(JobId(job_id)), 1)
    assert variables(seen.read_text(), "TRACEPARENT") == [f"00-{trace_id}-{place}-00"], "the job may know all the same"


async def test_a_restarted_worker_goes_on_with_the_same_span(traced: Cluster, collector: Collector) -> None:
    go = traced.folder / "go"
    spec = traced.spec("adopted", 'until [ -e "$GO" ]; do sleep 0.1; done', env={"GO": str(go)})
    job_id, trace_id = submit(traced, spec)
    await wait_until(lambda: traced.starts("adopted"), "it runs")
    worker = traced.started[-1]
    worker.kill()
    worker.start()
    await wait_until(lambda: '"adopted"' in worker.said(), "the job is taken over")
    go.touch()
    (job,) = await traced.over(job_id)
    assert len(job["status"]["attempts"]) == 1
    await spans(collector, trace_id, 1)
    (attempt,) = collector.of(trace_id, "attempt")
    task = task_of(JobId(job_id))
    assert (attempt.id, attempt.parent) == (attempt_span(task, 1), place_span(task, 1))


async def test_a_job_run_again_links_to_the_one_it_repeats(traced: Cluster, collector: Collector) -> None:
    job_id, trace_id = submit(traced, traced.spec("first"))
    await traced.over(job_id)
    again = traced.http.post(f"/v1/jobs/{job_id}/retry").json()
    await traced.over(again["id"])
    await spans(collector, again["trace_id"], 1)
    route = "POST /v1/jobs/{job_id}/retry"
    await wait_until(lambda: collector.of(again["trace_id"], route), "the request is told of")
    (post,) = collector.of(again["trace_id"], route)
    (first,) = collector.of(trace_id, "POST /v1/jobs")
    assert post.links == (first.id,)


@pytest.mark.docker
async def test_a_container_knows_its_place(traced: Cluster, collector: Collector) -> None:
    spec = traced.spec("boxed", 'env >>"$OUT"', driver="docker", env={"OUT": str(traced.proofs / "boxed env")})
    job_id, trace_id = submit(traced, spec)
    (job,) = await traced.over(job_id)
    assert job["state"] == "succeeded", job
    await spans(collector, trace_id, 1)
    (attempt,) = collector.of(trace_id, "attempt")
    assert variables((traced.proofs / "boxed env").read_text(), "TRACEPARENT") == [f"00-{trace_id}-{attempt.id}-01"]
