"""The spec: every field's rules, all faults at once, and no input that breaks the parser."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from windlass.core.fields import BACKOFF, FIELDS, RESOURCES, VOLUME, parse_spec, spec_schema
from windlass.core.parsers import ENV_LIMIT, FAULTS_LIMIT
from windlass.core.spec import Backoff, FieldError, JobSpec, Resources, Volume
from windlass.core.states import Driver

PROCESS = {"command": ["true"]}
DOCKER = {"image": "ubuntu"}


def parsed(**raw: Any) -> JobSpec:
    spec = parse_spec(raw)
    assert isinstance(spec, JobSpec), spec
    return spec


def faults(raw: object) -> dict[str, FieldError]:
    errors = parse_spec(raw)
    assert isinstance(errors, list)
    return {e.field: e for e in errors}


def test_the_seed_form_is_a_whole_job() -> None:
    spec = parsed(image="ubuntu", command=["bash", "-c", "ls -la && echo done"])
    assert spec == JobSpec(image="ubuntu", command=("bash", "-c", "ls -la && echo done"), driver=Driver.DOCKER)
    assert (spec.max_retries, spec.resources, spec.backoff) == (3, Resources(1.0, 512 * 2**20), Backoff())


def test_every_field_in_the_fields_notation() -> None:
    spec = parsed(
        name="nightly report",
        image="registry.example/app:1@sha256:00",
        command=["a"],
        args=["b", ""],
        env={"MODE": "fast", "x.y-z": ""},
        workdir="/work/../app/",
        user="1000:1000",
        driver="docker",
        resources={"cpu": "500m", "memory": "1Gi", "memory_max": "2Gi", "pids": 10, "shm_size": "64Mi"},
        max_retries=0,
        backoff={"initial": "2s", "factor": 3, "max": "1m", "jitter": 0},
        attempt_timeout="5m",
        job_deadline="1h",
        queue_timeout=60,
        start_timeout="90s",
        stop_grace=0,
        priority=-5,
        queue="gpu",
        labels={"team": "data", "example.org/tier": "1"},
        volumes=[{"source": "/data", "target": "/in", "read_only": True}],
        network="none",
        exclusive=True,
        ttl_after_finished="1d",
    )
    assert spec.resources == Resources(0.5, 2**30, 2**31, 10, 64 * 2**20)
    assert spec.backoff == Backoff(2, 3, 60, 0)
    assert spec.workdir == "/app"
    assert spec.volumes == (Volume("/data", "/in", True),)
    times = (spec.attempt_timeout, spec.job_deadline, spec.queue_timeout, spec.start_timeout, spec.stop_grace)
    assert times == (300, 3600, 60, 90, 0)
    assert spec.ttl_after_finished == 86_400


def test_the_driver_follows_the_image() -> None:
    assert parsed(**PROCESS).driver is Driver.PROCESS
    assert parsed(**DOCKER).driver is Driver.DOCKER
    assert parsed(**PROCESS, image=None).driver is Driver.PROCESS, "null is the same as not given"


BAD: list[tuple[str, Any, str]] = [
    ("name", "-x", "must start with a letter or digit"),
    ("name", "x" * 129, "up to 128"),
    ("image", "has space", 'such as "python:3.12-slim"'),
    ("image", "UP\x00", "such as"),
    ("command", [], "non-empty list of strings"),
    ("command", "true", "non-empty list of strings"),
    ("command", [1], "non-empty list of strings"),
    ("command", ["a\x00"], "NUL"),
    ("command", ["\ud800"], "Unicode"),
    ("args", {}, "non-empty list of strings"),
    ("env", [], "map of names to strings"),
    ("env", {"A": "x" * ENV_LIMIT}, "limit is 131072"),
    ("workdir", "work", "absolute path"),
    ("user", "Root!", 'such as "1000:1000"'),
    ("driver", "podman", "one of docker, kubernetes, process"),
    ("driver", [], "one of docker, kubernetes, process"),
    ("resources", 1, "must be an object with fields such as cpu, memory, memory_max"),
    ("max_retries", -1, "whole number from 0 to 100"),
    ("max_infra_losses", 101, "whole number from 0 to 100"),
    ("max_retries", True, "whole number"),
    ("max_retries", 1.0, "whole number"),
    ("backoff", [], "must be an object"),
    ("attempt_timeout", 0, "more than 0"),
    ("job_deadline", "soon", 'such as "90s"'),
    ("queue_timeout", -1, "at least 0"),
    ("start_timeout", "11y", 'such as "90s"'),
    ("stop_grace", "-1s", 'such as "90s"'),
    ("priority", 1001, "from -1000 to 1000"),
    ("queue", "Default", "lower-case"),
    ("labels", "team=data", 'such as {"team": "data"}'),
    ("labels", {f"k{n}": "" for n in range(65)}, "has 65 entries; the limit is 64"),
    ("volumes", {}, "must be a list"),
    ("network", "host", "one of bridge, none"),
    ("exclusive", "yes", "true or false"),
    ("ttl_after_finished", "x", 'such as "90s"'),
    ("not_before", "tomorrow", "RFC 3339"),
    ("start_delay", 0, "more than 0"),
]
DEEP: list[tuple[dict[str, Any], str, str]] = [
    ({"env": {"1A": "x"}}, "env.1A", "starts with a letter"),
    ({"env": {"A": 1}}, "env.A", 'must be a string; write "1" in quotes'),
    ({"env": {"A": "\x00"}}, "env.A", "NUL"),
    ({"resources": {"cpu": 0}}, "resources.cpu", "more than 0"),
    ({"resources": {"memory": "lots"}}, "resources.memory", 'such as "512Mi"'),
    ({"resources": {"memory": "2Gi", "memory_max": "1Gi"}}, "resources.memory_max", "below memory (2Gi)"),
    ({"resources": {"pids": 0}}, "resources.pids", "from 1 to"),
    ({"resources": {"cpus": 1}}, "resources.cpus", "did you mean 'cpu'?"),
    ({"backoff": {"factor": 0.5}}, "backoff.factor", "from 1 to 100"),
    ({"backoff": {"jitter": float("nan")}}, "backoff.jitter", "from 0 to 1"),
    ({"labels": {"-": "x"}}, "labels.-", "up to 63 letters"),
    ({"labels": {"k": "a b"}}, "labels.k", "a value is up to 63"),
    ({"volumes": [1]}, "volumes[0]", "must be an object"),
    ({"volumes": [{"source": "/a", "target": "/b"}, {"source": "/a"}]}, "volumes[1].target", "is missing"),
    ({"volumes": [{"source": "a", "target": "/b"}]}, "volumes[0].source", "absolute path"),
    ({"comand": ["x"]}, "comand", "did you mean 'command'?"),
    ({"zzz": 1}, "zzz", "is not a field; known: name, image"),
    ({"command": None}, "command", "name an image or a command"),
    ({"user": "app"}, "user", "needs a container"),
    ({"network": "none"}, "network", "needs the docker driver"),
    ({"image": "a", "driver": "process"}, "image", "drop driver: process"),
    ({"volumes": [{"source": "/a", "target": "/b"}]}, "volumes", "needs a container; name an image, or drop it"),
    ({"driver": "docker"}, "image", "is missing"),
    ({"driver": "kubernetes"}, "image", "the kubernetes driver needs one"),
    ({"driver": "kubernetes", "image": "a", "volumes": [{"source": "/a", "target": "/b"}]}, "volumes", "drop them"),
]


@pytest.mark.parametrize(("field", "value", "fix"), [pytest.param(*b, id=f"{b[0]}{i}") for i, b in enumerate(BAD)])
def test_a_bad_value_is_told_with_field_value_and_fix(field: str, value: Any, fix: str) -> None:
    found = faults(DOCKER | PROCESS | {field: value})
    assert fix in found[field].message
    assert found[field].value is not None
    assert len(found[field].value) <= 80
    assert found[field].pointer == f"/{field}"


@pytest.mark.parametrize(("raw", "field", "fix"), [pytest.param(*d, id=f"{d[1]}{i}") for i, d in enumerate(DEEP)])
def test_a_fault_inside_is_told_by_its_path(raw: dict[str, Any], field: str, fix: str) -> None:
    assert fix in faults(PROCESS | raw)[field].message


def test_the_pointer_of_a_path() -> None:
    assert FieldError("volumes[1].target", "").pointer == "/volumes/1/target"
    assert FieldError("", "").pointer == ""


def test_all_faults_are_told_at_once() -> None:
    found = faults({"image": "a b", "comand": [], "resources": {"cpu": 0, "memory": 0}, "priority": "high"})
    assert set(found) == {"image", "comand", "resources.cpu", "resources.memory", "priority"}


def test_faults_without_end_are_not_told() -> None:
    found = parse_spec({f"field{n}": n for n in range(100_000)})
    assert isinstance(found, list)
    assert len(found) == FAULTS_LIMIT


@pytest.mark.parametrize("raw", [None, [], "x", 1, True])
def test_what_is_no_object_is_refused(raw: object) -> None:
    assert "must be an object" in faults(raw)[""].message


def test_every_field_is_described_and_tried_here() -> None:
    tried = {field for field, _, _ in BAD}
    assert tried == set(FIELDS), "each field has a bad value above"
    properties = spec_schema()["properties"]
    assert set(properties) == set(FIELDS)
    assert set(properties["resources"]["properties"]) == set(RESOURCES)
    assert set(properties["backoff"]["properties"]) == set(BACKOFF)
    assert set(properties["volumes"]["items"]["properties"]) == set(VOLUME)
    for table in (FIELDS, RESOURCES, BACKOFF, VOLUME):
        assert all(row.doc for row in table.values())
    json.dumps(spec_schema())


def test_the_defaults_described_are_the_defaults() -> None:
    def agrees(table: Any, default: object) -> None:
        for name, row in table.items():
            if "default" in row.schema:
                assert row.parse(row.schema["default"]) == getattr(default, name), name

    agrees(FIELDS, JobSpec())
    agrees(RESOURCES, Resources())
    agrees(BACKOFF, Backoff())
    agrees(VOLUME, Volume("/a", "/b"))


def test_the_examples_described_are_valid() -> None:
    for example in spec_schema()["examples"]:
        parsed(**example)
    for table in (FIELDS, RESOURCES, BACKOFF):
        for row in table.values():
            for example in row.schema.get("examples", []):
                row.parse(example)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = "1 500m 512Mi 1Gi 0.5 90s 1h default ubuntu /a/../b docker process none"
LIKELY = st.sampled_from([*WORDS.split(), "\ud800", "a b"])
SCALAR = JSON | LIKELY | st.integers(0, 100) | st.lists(LIKELY, min_size=1, max_size=2)


def table(names: Any, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(sorted(names)), values, max_size=4)


NESTED = (
    table(RESOURCES, SCALAR)
    | table(BACKOFF, SCALAR)
    | st.lists(table(VOLUME, SCALAR), max_size=2)
    | st.dictionaries(st.sampled_from(["A", "b.c", "x/y", "", "\ud800"]), LIKELY, max_size=2)
)
RAW = JSON | table([*FIELDS, "typo", "\ud800"], SCALAR | NESTED)
VALID = st.fixed_dictionaries(
    {"command": st.lists(st.text("ab \n'\"é☃", min_size=1), min_size=1, max_size=3)},
    optional={
        "image": st.sampled_from(["ubuntu", "python:3.12-slim", None]),
        "name": st.sampled_from(["a", "nightly report", None]),
        "env": st.dictionaries(st.sampled_from(["A", "b_c"]), st.text("aé\t", max_size=4)),
        "labels": st.dictionaries(st.sampled_from(["team", "x.io/y"]), st.sampled_from(["", "a", "B-1"])),
        "resources": st.fixed_dictionaries(
            {}, optional={"cpu": st.sampled_from(["250m", 0.001, 3]), "memory": st.sampled_from(["1.3Gi", 1, "5M"])}
        ),
        "backoff": st.fixed_dictionaries({}, optional={"initial": st.floats(0, 1e6), "jitter": st.floats(0, 1)}),
        "attempt_timeout": st.sampled_from(["1h30m", "250ms", 0.1]) | st.floats(0.001, 1e6),
        "max_retries": st.integers(0, 100),
        "max_infra_losses": st.integers(0, 100),
        "priority": st.integers(-1000, 1000),
        "exclusive": st.booleans(),
        "stop_grace": st.floats(0, 100),
    },
)


@settings(max_examples=500, deadline=None)
@given(RAW)
def test_no_input_breaks_the_parser(raw: Any) -> None:
    result = parse_spec(raw)
    if isinstance(result, JobSpec):
        again(result)
        return
    assert result
    for error in result:
        assert error.message
        msgspec.json.encode([error.field, error.message, error.value, error.pointer])


@settings(max_examples=200, deadline=None)
@given(VALID)
def test_a_valid_spec_in_canonical_form_is_itself(raw: dict[str, Any]) -> None:
    again(parsed(**raw))


def again(spec: JobSpec) -> None:
    canonical = msgspec.json.encode(spec)
    assert parse_spec(msgspec.json.decode(canonical)) == spec
    assert msgspec.json.decode(canonical, type=JobSpec) == spec
    assert msgspec.json.encode(parse_spec(json.loads(canonical))) == canonical


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("2026-12-01T06:00:00Z", "2026-12-01T06:00:00Z"),
        ("2026-12-01t08:00:00+02:00", "2026-12-01T06:00:00Z"),
        ("2026-12-01T06:00:00.25-00:30", "2026-12-01T06:30:00.250000Z"),
    ],
)
def test_a_scheduled_start_is_kept_in_utc(given: str, kept: str):
    spec = parse_spec({"image": "x", "not_before": given})
    assert isinstance(spec, JobSpec)
    assert spec.not_before == kept
    again = parse_spec({"image": "x", "not_before": kept})
    assert isinstance(again, JobSpec)
    assert again.not_before == kept


@pytest.mark.parametrize(
    "given", ["2026-12-01", "2026-12-01T06:00:00", "tomorrow", 5, "2026-13-01T06:00:00Z", "0001-01-01T00:00:00Z"]
)
def test_a_start_without_an_offset_is_none(given: object):
    errors = parse_spec({"image": "x", "not_before": given})
    assert isinstance(errors, list)
    assert errors[0].field == "not_before"


def test_one_start_only_and_before_the_deadline():
    both = parse_spec({"image": "x", "not_before": "2026-12-01T06:00:00Z", "start_delay": "10m"})
    assert isinstance(both, list)
    assert [e.field for e in both] == ["start_delay"]
    late = parse_spec({"image": "x", "start_delay": "10m", "job_deadline": "5m"})
    assert isinstance(late, list)
    assert [e.field for e in late] == ["job_deadline"]
