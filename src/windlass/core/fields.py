"""Spec validity, said once: the tables FIELDS, RESOURCES, BACKOFF and VOLUME, and the rules that see two fields.

`parse_spec` reads the tables to turn what a user wrote into a JobSpec in canonical numbers (cores, bytes, seconds),
`spec_schema` to describe it to OpenAPI. All faults of a spec are told at once, each with the field, the value and the
fix.
"""

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, cast

from windlass.core.parsers import (
    LABEL_LIMIT,
    Faults,
    Field,
    container_path,
    env,
    flag,
    labels,
    one_of,
    positive,
    read,
    real,
    short,
    text,
    whole,
    words,
)
from windlass.core.quantity import parse_cpu, parse_duration, parse_moment, parse_size, show_size
from windlass.core.spec import Backoff, FieldError, JobSpec, Resources, Volume
from windlass.core.states import Driver


def _resources(value: object) -> Resources:
    return Resources(**read(RESOURCES, value, "resources"))


def _backoff(value: object) -> Backoff:
    return Backoff(**read(BACKOFF, value, "backoff"))


def _volumes(value: object) -> tuple[Volume, ...]:
    if not isinstance(value, list):
        raise ValueError('must be a list, such as [{"source": "/data", "target": "/data"}]')
    volumes: list[Volume] = []
    for i, item in enumerate(cast("list[object]", value)):
        try:
            given = read(VOLUME, item, "volumes")
        except Faults as nested:
            raise Faults([FieldError(f"[{i}].{e.field}", e.message, e.value) for e in nested.errors]) from None
        except ValueError as fault:
            raise Faults([FieldError(f"[{i}]", str(fault), short(item))]) from None
        for needed in ("source", "target"):
            if needed not in given:
                raise Faults([FieldError(f"[{i}].{needed}", "is missing")])
        volumes.append(Volume(**given))
    return tuple(volumes)


_NAME = r"[A-Za-z0-9][A-Za-z0-9 ._:/@+-]*"
_IMAGE = r"[A-Za-z0-9][A-Za-z0-9._:/@-]*"
_QUEUE = r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?"

_STRINGS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_SIZE_SCHEMA = {"type": ["string", "integer"], "examples": ["512Mi", 536870912]}
_TIME_SCHEMA = {"type": ["string", "number"], "examples": ["90s", 90]}

RESOURCES: Mapping[str, Field] = {
    "cpu": Field(parse_cpu, {"type": ["string", "number"], "default": 1, "examples": ["500m", 0.5]}, "Cores."),
    "memory": Field(
        parse_size,
        _SIZE_SCHEMA | {"default": "512Mi"},
        "Reserved on the node; also the hard limit unless memory_max is given.",
    ),
    "memory_max": Field(parse_size, _SIZE_SCHEMA, "Hard limit, when it may exceed what is reserved."),
    "pids": Field(
        whole(1, 32_768), {"type": "integer", "minimum": 1, "maximum": 32768, "default": 256}, "Processes and threads."
    ),
    "shm_size": Field(parse_size, _SIZE_SCHEMA, "Size of /dev/shm in the container."),
}

BACKOFF: Mapping[str, Field] = {
    "initial": Field(parse_duration, _TIME_SCHEMA | {"default": 1}, "Delay before the first retry."),
    "factor": Field(real(1, 100), {"type": "number", "minimum": 1, "default": 2}, "Growth from retry to retry."),
    "max": Field(parse_duration, _TIME_SCHEMA | {"default": 300}, "No delay is longer."),
    "jitter": Field(real(0, 1), {"type": "number", "default": 0.2}, "Spread, as a share of the delay."),
}

VOLUME: Mapping[str, Field] = {
    "source": Field(container_path, {"type": "string"}, "A path on the node, on the operator's allow-list."),
    "target": Field(container_path, {"type": "string"}, "Where the container sees it."),
    "read_only": Field(flag, {"type": "boolean", "default": False}, "Whether writing is denied."),
}


def _object(table: Mapping[str, Field]) -> dict[str, Any]:
    properties = {name: dict(row.schema) | {"description": row.doc} for name, row in table.items()}
    return {"type": "object", "additionalProperties": False, "properties": properties}


_DRIVERS = [Driver.DOCKER.value, Driver.KUBERNETES.value, Driver.PROCESS.value]


def _driver(value: object) -> Driver:
    if value == Driver.MOCK:  # for tests of Windlass itself
        return Driver.MOCK
    return Driver(one_of(*_DRIVERS)(value))


FIELDS: Mapping[str, Field] = {
    "name": Field(
        text(_NAME, "must start with a letter or digit; up to 128 letters, digits, spaces and ._:/@+-", 128),
        {"type": "string", "maxLength": 128, "examples": ["nightly-report"]},
        "A label for people; it need not be unique.",
    ),
    "image": Field(
        text(_IMAGE, 'must be an image reference, such as "python:3.12-slim"', 512),
        {"type": "string", "maxLength": 512, "examples": ["python:3.12-slim"]},
        "The container image. With none, the job runs as a process of the node, where operators allow it.",
    ),
    "command": Field(words, _STRINGS, "Replaces the image's ENTRYPOINT, as in Kubernetes."),
    "args": Field(words, _STRINGS, "Replaces the image's CMD, as in Kubernetes."),
    "env": Field(
        env, {"type": "object", "additionalProperties": {"type": "string"}}, "Environment variables, 128 KiB in all."
    ),
    "workdir": Field(container_path, {"type": "string", "pattern": "^/"}, "The directory the command starts in."),
    "user": Field(
        text(r"[a-z0-9_][a-z0-9_.-]*(:[a-z0-9_][a-z0-9_.-]*)?", 'must be a user, such as "1000:1000" or "app"', 64),
        {"type": "string", "examples": ["1000:1000"]},
        "User and group in the container.",
    ),
    "driver": Field(
        _driver,
        {"type": "string", "enum": _DRIVERS},
        "What runs it: when an image is named, docker, or what the setting api.container_driver says; else process.",
    ),
    "resources": Field(_resources, _object(RESOURCES), "What it needs."),
    "max_retries": Field(
        whole(0, 100), {"type": "integer", "minimum": 0, "maximum": 100, "default": 3}, "3 means at most 4 attempts."
    ),
    "max_infra_losses": Field(
        whole(0, 100),
        {"type": "integer", "minimum": 0, "maximum": 100, "default": 5},
        "Attempts it may lose to nodes and engines; those cost no retries.",
    ),
    "backoff": Field(_backoff, _object(BACKOFF), "The delay between attempts."),
    "attempt_timeout": Field(positive(parse_duration), _TIME_SCHEMA, "Run limit of each attempt."),
    "job_deadline": Field(positive(parse_duration), _TIME_SCHEMA, "Limit from submit to the end, retries included."),
    "queue_timeout": Field(positive(parse_duration), _TIME_SCHEMA, "Longest wait in the queue."),
    "start_timeout": Field(
        positive(parse_duration),
        _TIME_SCHEMA | {"default": 600},
        "Limit from placement to the start: pull and create.",
    ),
    "stop_grace": Field(parse_duration, _TIME_SCHEMA | {"default": 10}, "Between the stop signal and the kill."),
    "priority": Field(
        whole(-1000, 1000),
        {"type": "integer", "minimum": -1000, "maximum": 1000, "default": 0},
        "Higher goes first; equals go in order of arrival.",
    ),
    "queue": Field(
        text(_QUEUE, 'must be lower-case letters, digits and ._-, such as "default"', 63),
        {"type": "string", "default": "default"},
        "The line it waits in.",
    ),
    "labels": Field(
        labels,
        {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": LABEL_LIMIT},
        "For filters: up to 64.",
    ),
    "volumes": Field(_volumes, {"type": "array", "items": _object(VOLUME)}, "Folders of the node."),
    "network": Field(
        one_of("bridge", "none"), {"type": "string", "enum": ["bridge", "none"], "default": "bridge"}, "Its network."
    ),
    "exclusive": Field(
        flag, {"type": "boolean", "default": False}, "Never two live copies, even after a node is lost."
    ),
    "ttl_after_finished": Field(parse_duration, _TIME_SCHEMA, "Delete the job this long after it finished."),
    "not_before": Field(
        parse_moment,
        {"type": "string", "format": "date-time", "examples": ["2026-12-01T06:00:00Z"]},
        "Start no sooner than this moment (RFC 3339, with an offset).",
    ),
    "start_delay": Field(positive(parse_duration), _TIME_SCHEMA, "Start no sooner than this long after its submit."),
}


def parse_spec(raw: object, containers: Driver = Driver.DOCKER) -> JobSpec | list[FieldError]:
    """What a user wrote as a JobSpec, or every fault in it. `containers` runs images where no driver is named."""
    try:
        given = read(FIELDS, raw, "the job's fields")
    except Faults as faults:
        return faults.errors
    except ValueError as fault:
        return [FieldError("", str(fault), short(raw))]
    if "driver" not in given:
        given["driver"] = containers if "image" in given else Driver.PROCESS
    spec = JobSpec(**given)
    errors = list(_contradictions(spec, given))
    return errors or spec


def _contradictions(spec: JobSpec, given: Mapping[str, Any]) -> Iterator[FieldError]:
    """Faults that take two fields to see."""
    needs, driver = spec.resources, spec.driver
    if needs.memory_max is not None and needs.memory_max < needs.memory:
        yield FieldError(
            "resources.memory_max",
            f"is below memory ({show_size(needs.memory)}); raise it or lower memory",
            show_size(needs.memory_max),
        )
    if spec.not_before is not None and spec.start_delay is not None:
        yield FieldError("start_delay", "contradicts not_before; give one of them", f"{spec.start_delay:g}")
    if spec.start_delay is not None and spec.job_deadline is not None and spec.job_deadline <= spec.start_delay:
        yield FieldError(
            "job_deadline",
            f"passes before it may start ({spec.start_delay:g} s after its submit); raise it or lower start_delay",
            f"{spec.job_deadline:g}",
        )
    if driver in (Driver.DOCKER, Driver.KUBERNETES) and spec.image is None:
        yield FieldError("image", f"is missing: the {driver} driver needs one")
    if driver is Driver.KUBERNETES and spec.volumes:
        yield FieldError("volumes", "are folders of a node, which the kubernetes driver does not give; drop them")
    if driver is Driver.PROCESS:
        if spec.command is None:
            yield FieldError("command", "is missing: with no image there is nothing to run; name an image or a command")
        way = "name an image" if spec.image is None else "drop driver: process"
        for name in ("image", "user", "volumes"):
            if value := given.get(name):
                yield FieldError(name, f"needs a container; {way}, or drop it", value if name != "volumes" else None)
        if given.get("network") == "none":
            yield FieldError("network", "none needs the docker driver; a process shares the node's network", "none")


def spec_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a job's spec as users write it, for OpenAPI 3.1 and editors."""
    return _object(FIELDS) | {
        "title": "JobSpec",
        "description": "What is asked. One of image and command is needed.",
        "examples": [
            {"image": "ubuntu", "command": ["bash", "-c", "ls -la && echo done"]},
            {
                "image": "python:3.12-slim",
                "command": ["python3", "-c", "print(6 * 7)"],
                "resources": {"cpu": "500m", "memory": "256Mi"},
                "attempt_timeout": "5m",
                "labels": {"team": "data"},
            },
        ],
    }


assert [f.name for f in fields(JobSpec)] == list(FIELDS), "the table and the dataclass name the same fields"
