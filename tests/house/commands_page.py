"""docs/reference/commands.md, made from the commands themselves: what each takes, and what exit codes mean."""

from collections.abc import Iterator
from typing import Any

from windlass.cli import exits
from windlass.cli.main import COMMANDS, load

_HEAD = """\
# Commands

Made from the code by `make docs`; a test keeps it current. Every command with all it takes. How they connect, print and
behave: [the command line](cli.md). What they are used for: [how-to](../README.md#how-to-do-one-thing).

Every command has `-h` and `--help`. `windlass` itself has `--url URL` for all of them, `--version`, and
`--install-completion` for the shell that runs it.
"""
_TAIL = """\
## Exit codes

| code | meaning |
|---|---|
{codes}

`run`, `wait` and `submit --wait` pass on the job's own code; a line on stderr tells whose it was.
"""
#: What a value is called where its option says no name of its own.
_KINDS = {"int": "N", "int range": "N", "integer range": "N", "float": "N", "path": "PATH"}


def commands() -> str:
    """docs/reference/commands.md."""
    parts = [_HEAD]
    for panel in dict.fromkeys(entry.panel for entry in COMMANDS.values()):
        parts.append(f"## {panel}\n")
        for name in (name for name, entry in COMMANDS.items() if entry.panel == panel):
            parts += [_section(path, command) for path, command in every(f"windlass {name}", load(name))]
    codes = "\n".join(f"| {code.value} | {meaning} |" for code, meaning in exits.MEANING.items())
    return "\n".join([*parts, _TAIL.format(codes=codes)])


def every(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """The command with its words, or those of its group."""
    inner: dict[str, Any] = getattr(command, "commands", {})
    if not inner:
        yield path, command
    for name, one in inner.items():
        yield from every(f"{path} {name}", one)


def _section(path: str, command: Any) -> str:
    shown = [one for one in command.params if not getattr(one, "hidden", False) and one.name != "help"]
    arguments = [one for one in shown if one.param_type_name == "argument"]
    options = [one for one in shown if one.param_type_name == "option"]
    words = " ".join([path, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)])
    parts = [f"### {path}\n", f"```text\n{words}\n```\n", _prose(command.help or "")]
    rows = [f"| `{_argument(one)}` | {_help(one)} |" for one in arguments if one.help]
    rows += [f"| {_option(one)} | {_help(one)} |" for one in options]
    if rows:
        parts.append("\n".join(["| | |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _prose(text: str) -> str:
    """The help's paragraphs; one that is a command line is shown as code."""
    parts = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(f"    {part}" if part.startswith("windlass ") else part for part in parts) + "\n"


def _argument(one: Any) -> str:
    word = one.metavar or one.name.upper()
    return word if one.required else f"[{word}]"


def _option(one: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*one.opts, *one.secondary_opts])
    if one.is_flag:
        return names
    choices = getattr(one.type, "choices", None)
    value = " \\| ".join(map(str, choices)) if choices else one.metavar or _KINDS.get(one.type.name, one.name.upper())
    return f"{names} {value}"


def _help(one: Any) -> str:
    text = (one.help or "").replace("|", "\\|")
    default = one.show_default if isinstance(one.show_default, str) else one.default
    if default not in (None, False, ()) and one.show_default:
        default = getattr(default, "value", default)
        text += f" Default: {default if isinstance(one.show_default, str) else f'`{default}`'}."
    return text + (f" Variable: `{one.envvar}`." if isinstance(one.envvar, str) else "")
