"""Shell text taken apart into the commands in it, as far as documents need that."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import typer
from typer.exceptions import TyperException

from windlass.cli.main import load

_HEREDOC = re.compile(r"^(?P<line>[^\n]*<<'?(?P<end>[A-Z]+)'?[^\n]*)\n.*?^(?P=end)$", re.MULTILINE | re.DOTALL)
_BETWEEN = set(";|&()")


def simple_commands(text: str) -> Iterator[list[str]]:
    """Each command's words: pipes, lists and substitutions taken apart, comments and here-documents left out."""
    text = _HEREDOC.sub(r"\g<line>", text).replace("\\\n", " ")
    for line in text.splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        command: list[str] = []
        for word in words:
            if set(word) <= _BETWEEN:
                yield command
                command = []
            else:
                command.append(word)
        yield command


def windlass_lines(text: str) -> Iterator[list[str]]:
    """What `windlass` is given, wherever in a command it stands (`docker-compose exec api windlass ps`)."""
    for words in simple_commands(text):
        if words[:1] == ["kubectl"]:  # what stands before is Kubernetes' matter: `kubectl -n windlass exec ... -- ...`
            words = words[words.index("--") + 1 :] if "--" in words else []
        if "windlass" in words and words[0] not in ("cat", "helm") and "psql" not in words:
            yield _plain(words[words.index("windlass") + 1 :]) + (["ID"] if words[0] == "xargs" else [])


def _plain(words: list[str]) -> list[str]:
    """The words without redirections."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or set(word) <= set("<>"):
            skip = not skip
        else:
            kept.append(word)
    return kept


def fixed_words(text: str) -> set[str]:
    """What whoever runs the commands can't leave out: programs, variables, and of `windlass` its command and options.
    Values and what only shows or shapes output are the reader's own."""
    found: set[str] = set()
    for words in simple_commands(text):
        found |= {word.partition("=")[0] for word in words if re.match(r"[A-Z_]+=", word)}
        words = [word for word in words if not re.match(r"[A-Z_]+=", word)]
        if "windlass" in words:
            words = words[words.index("windlass") + 1 :]
            words = words[: words.index("--")] if "--" in words else words
            found |= set(_names(words)) | {word.partition("=")[0] for word in words if word.startswith("--")}
        elif words[:1] == ["make"]:
            found |= {"make", *words[1:]}
        elif words and words[0] not in ("export", "grep", "cat", "head"):
            found.add(words[0])
    return found


def _names(words: list[str]) -> Iterator[str]:
    """The names of a command and of those within its group."""
    if words and not words[0].startswith("-"):
        yield words[0]
        inner = getattr(load(words[0]), "commands", {})
        yield from (word for word in words[1:2] if word in inner)


def fault(words: list[str]) -> str:
    """What the real command has against these words; nothing when it takes them."""
    while words[:1] and words[0].startswith("--url"):
        words = words[1 if "=" in words[0] else 2 :]
    if not words or words[0] in ("--help", "--version", "--install-completion"):
        return ""
    try:
        _parse(load(words[0]), words[0], words[1:])
    except typer.BadParameter as error:  # a value such as $TOKEN is known to the shell alone
        return "" if "$" in " ".join(words) else error.format_message()
    except TyperException as error:
        return error.format_message()
    except KeyError:
        return f"there is no command {words[0]}"
    return ""


def _parse(command: Any, name: str, args: list[str]) -> None:
    if args and args[0] in getattr(command, "commands", {}):
        _parse(command.commands[args[0]], args[0], args[1:])
    elif not {"-h", "--help"} & set(args):
        command.make_context(name, list(args))
