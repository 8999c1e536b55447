"""An Idempotency-Key given before an upgrade still finds its job after it."""

from windlass.api.submit import new_job
from windlass.core.fields import parse_spec
from windlass.core.spec import JobSpec

JOB = {
    "name": "x",
    "image": "busybox",
    "command": ["true"],
    "env": {"A": "b"},
    "resources": {"cpu": "500m"},
    "job_deadline": "1h",
}
#: What 0.2 kept for this job.
MARK_0_2 = "42392995502aa89c58c2c1279a236c2d254589e95bf2280ddd7dc767dfcf9d60"


def mark(raw: dict) -> str | None:
    spec = parse_spec(raw)
    assert isinstance(spec, JobSpec), spec
    return new_job(spec, "key").fingerprint


def test_fields_that_came_later_count_only_where_they_are_set() -> None:
    assert mark(JOB) == mark(JOB | {"max_infra_losses": 5}) == MARK_0_2
    assert mark(JOB | {"max_infra_losses": 6}) != MARK_0_2
    assert mark(JOB | {"start_delay": "10s"}) != MARK_0_2
