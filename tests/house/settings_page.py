"""docs/reference/settings.md, made from the settings' own classes and the comments beside their fields."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo, fields

from windlass.settings import Api, Database, Log, Metrics, Redis, Scheduler, Settings, Tracing, Worker
from windlass.sources import variable

SECTIONS: dict[str, type[Struct]] = {
    "database": Database, "redis": Redis, "api": Api, "scheduler": Scheduler, "worker": Worker,
    "metrics": Metrics, "log": Log, "tracing": Tracing,
}  # fmt: skip

_HEAD = """\
# Settings

Made from the code by `make docs`; a test keeps it current.

Every role (`windlass up`, `api`, `scheduler`, `worker`, `migrate`) reads the same settings. Later ones win: the
default, a TOML file (`--config FILE` or `WINDLASS_CONFIG`), a variable, an option of the command. A key nobody knows,
or a value that does not fit, stops the start with a line that says what to write instead. In a variable a list is
written `a,b` and a map `k=v,k2=v2`. Names that end in `_s` are seconds.

Every variable may name a file that holds the value instead: `WINDLASS_REDIS_URL_FILE=/run/secrets/redis-url` for
`WINDLASS_REDIS_URL`. That is the way for secrets: a file has an owner and a mode, and its content is never shown in a
message. A newline at its end is not part of the value.

```toml
cluster = "lab"

[worker]
cpu = "6"
memory = "24Gi"
volumes_allowed = ["/srv/data"]
```

`windlass up` itself sets the addresses of its servers, its workers' folders, that its workers stop their jobs at the
end, and that it allows processes (with `--no-process`: does not). The commands for jobs read `WINDLASS_URL` and
`WINDLASS_TOKEN`, and nothing of this page: see [where they connect](cli.md#where-it-connects).
"""


@dataclass(frozen=True)
class Row:
    """One setting."""

    key: str
    default: str
    words: str

    def __str__(self) -> str:
        return f"| `{self.key.rpartition('.')[2]}` | `{variable(self.key)}` | {self.default} | {self.words} |"


def rows(section: str, kind: type[Struct]) -> Iterator[Row]:
    """The settings of one section; those of the top are in the section ""."""
    words = dict(re.findall(r"#: (.*)\n    (\w+):", inspect.getsource(kind)))
    words = {name: text for text, name in words.items()}
    for field in fields(kind):
        if field.name not in SECTIONS:
            yield Row(f"{section}.{field.name}".strip("."), _default(field), words[field.name])


def _default(field: FieldInfo) -> str:
    if field.default is NODEFAULT:  # made afresh, often of what the machine has: the words say of what
        made = field.default_factory() if field.default_factory in (dict, list) else None
        return "" if made is None else str(made)
    shown = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    if isinstance(shown, bool):
        shown = str(shown).lower()
    elif isinstance(shown, float):
        shown = f"{shown:g}"
    return f"`{shown}`" if shown != "" else ""


def settings() -> str:
    """docs/reference/settings.md."""
    parts = [_HEAD]
    for section, kind in ("", Settings), *SECTIONS.items():
        table = ["| key | variable | default | |", "|---|---|---|---|", *map(str, rows(section, kind))]
        title = [f"## [{section}]", "", (inspect.getdoc(kind) or "").splitlines()[0], ""] if section else []
        parts.append("\n".join([*title, *table, ""]))
    return "\n".join(parts)
