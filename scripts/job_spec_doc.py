"""Writes docs/reference/job-spec.md from the tables that read a spec (core/fields.py), so that it says what they do.

python scripts/job_spec_doc.py > docs/reference/job-spec.md
"""

from collections.abc import Iterator, Mapping
from typing import Any

from windlass.core.fields import BACKOFF, FIELDS, RESOURCES, VOLUME
from windlass.core.parsers import ENV_LIMIT, LABEL_LIMIT, Field
from windlass.core.states import Cause

EXAMPLE = """\
name: nightly-report
image: python:3.12-slim
command: [python3, report.py]
args: [--month, "2026-10"]
env: {MODE: fast}
workdir: /work
resources: {cpu: 500m, memory: 512Mi, memory_max: 1Gi}
max_retries: 2
backoff: {initial: 5s, factor: 3, max: 10m}
attempt_timeout: 30m
job_deadline: 6h
priority: 10
labels: {team: data}
volumes:
  - {source: /srv/reports, target: /work}
network: none
ttl_after_finished: 7d
"""

_HEAD = f"""\
# What a job may say

A job is one object, in JSON or YAML. This is a whole one:

```json
{{"image": "ubuntu", "command": ["bash", "-c", "ls -la && echo done"]}}
```

One of `image` and `command` is needed; everything else has a default. A field nobody knows, a value that makes no sense
and a need no node could ever meet are refused with status 422, which names each field, its value and the fix. With more
said:

```yaml
{EXAMPLE}```

Notation: cores as `0.5` or `500m`; sizes as `512Mi`, `1Gi`, `10M` or a number of bytes; durations as `90s`, `1h30m`,
`250ms` or a number of seconds. The answer to a request always has the numbers: cores, bytes, seconds.
"""

_COMMAND = """\
## What runs

| given | image with ENTRYPOINT `["app"]` and CMD `["--help"]` runs |
|---|---|
| neither | `app --help` |
| `args: [x]` | `app x` |
| `command: [sh, -c, y]` | `sh -c y` |
| both | `sh -c y x` |

With no image (or `driver: process`) `command` and `args` run as a process of the node, in an empty folder unless
`workdir` names another. Such a process sees what the worker's user sees: operators allow it for trusted work only
(`windlass up` does). `image`, `user`, `volumes` and `network: none` need a container, and are refused with it. Of
`resources` it is held to `memory_max`, as address space; `cpu` and `memory` count when it is placed.

Every attempt has these variables: `WINDLASS_JOB_ID`, `WINDLASS_ATTEMPT_ID`, and `WINDLASS_ATTEMPT`, the number of the
try, from 1.
"""

_TIME = """\
## Time limits

```
submit ──── queue_timeout ────► placed ── start_timeout ──► running ── attempt_timeout ──► end
  └──────────────────────── job_deadline, all attempts and waits between them ──────────────┘
```

The worker enforces them, and the scheduler again five seconds later. An attempt past its limit gets the stop signal,
`stop_grace` to end, then the kill; its cause is `timeout`. An attempt that timed out is tried again like any other
failure; a job past its deadline is not.
"""

CAUSES: Mapping[Cause, tuple[str, str]] = {
    Cause.EXIT_CODE: ("it exited with a code other than 0", "a retry"),
    Cause.SIGNAL: ("a signal ended it; the code is 128 + its number", "a retry"),
    Cause.OOM: ("the kernel killed it for lack of memory", "a retry"),
    Cause.TIMEOUT: ("a time limit passed", "a retry"),
    Cause.IMAGE_PULL: ("the image could not be pulled", "a retry"),
    Cause.START_FAILED: ("it could not be started", "a retry"),
    Cause.NODE_LOST: ("its node was lost, or forgot it", "an infrastructure loss, of which a job may have five"),
    Cause.CANCELLED: ("somebody cancelled the job", "nothing: the job is over"),
    Cause.REJECTED: ("the node refused it, such as for lack of room", "nothing: it is placed again"),
    Cause.DRAINED: ("its node was drained and its deadline passed", "nothing: it is placed again"),
}


#: What a quantity is, by the schema's first example.
_QUANTITIES = {"500m": "cores", "512Mi": "size", "90s": "duration"}


def page() -> str:
    """The whole page."""
    parts = [
        _HEAD,
        "## Fields\n\n" + _table(FIELDS),
        "### resources\n\n" + _table(RESOURCES),
        "### backoff\n\n"
        "The delay before retry n, counted from 0, is `initial * factor**n`, at most `max`, give or take `jitter`.\n\n"
        + _table(BACKOFF),
        "### volumes\n\n" + _table(VOLUME),
        _COMMAND,
        _TIME,
        "## How an attempt can fail\n\n| cause | meaning | costs |\n|---|---|---|\n"
        + "".join(f"| `{cause}` | {means} | {costs} |\n" for cause, (means, costs) in CAUSES.items()),
        "## Limits\n\n"
        f"A request may have 1 MiB for one job; `env` {ENV_LIMIT // 1024} KiB; `labels` {LABEL_LIMIT} entries. A batch "
        "has up to 1,000 jobs.\n",
        "*Written by `scripts/job_spec_doc.py` from the tables in `src/windlass/core/fields.py`.*\n",
    ]
    return "\n".join(parts)


def _table(table: Mapping[str, Field]) -> str:
    rows = (f"| `{name}` | {_kind(row.schema)} | {_default(row.schema)} | {row.doc} |" for name, row in table.items())
    return "\n".join(("| field | is | default | |", "|---|---|---|---|", *rows)) + "\n"


def _kind(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return " \\| ".join(f"`{choice}`" for choice in schema["enum"])
    match schema["type"]:
        case "array":
            return "list of strings" if schema["items"]["type"] == "string" else "list of objects"
        case "object":
            return "object" if schema["additionalProperties"] is False else "map of strings"
        case "integer":
            return "whole number" + "".join(_range(schema))
        case "boolean":
            return "true or false"
        case str(simple):
            return simple + _such_as(schema)
        case _:  # a string or a number: a quantity in the field's notation
            return _QUANTITIES[schema["examples"][0]]


def _range(schema: Mapping[str, Any]) -> Iterator[str]:
    if "minimum" in schema:
        yield f" from {schema['minimum']}"
    if "maximum" in schema:
        yield f" to {schema['maximum']}"


def _such_as(schema: Mapping[str, Any]) -> str:
    return f", such as `{schema['examples'][0]}`" if schema.get("examples") else ""


def _default(schema: Mapping[str, Any]) -> str:
    match schema.get("default"):
        case None:
            return ""
        case bool(flag):
            return f"`{str(flag).lower()}`"
        case number if _kind(schema) == "duration":
            return f"`{number}s`"
        case value:
            return f"`{value}`"


if __name__ == "__main__":
    print(page(), end="")
