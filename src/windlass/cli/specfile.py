"""Job files: YAML with one or more documents, JSON, JSON lines; a list stands for its items.

Each job keeps its place, so that a refusal can name the document and the line.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import yaml

from windlass.cli.exits import UsageFault


@dataclass(frozen=True, slots=True)
class Document:
    """One job as written: which file, the how-manieth job in it (from 1), on which line it begins."""

    file: str
    number: int
    line: int
    spec: Any
    node: yaml.Node | None = None

    def place(self, pointer: str = "") -> str:
        """Where a field of it, by JSON Pointer, was written: `jobs.yaml, job 3, line 41`."""
        return f"{self.file}, job {self.number}, line {self._line_of(pointer)}"

    def _line_of(self, pointer: str) -> int:
        node, line = self.node, self.line
        for key in pointer.split("/")[1:]:
            inner = _inner(node, key.replace("~1", "/").replace("~0", "~"))
            if inner is None:
                break
            node, line = inner
        return line


def _inner(node: yaml.Node | None, key: str) -> tuple[yaml.Node, int] | None:
    """The value under a key or index, and the line it is written on."""
    if isinstance(node, yaml.MappingNode):
        for name, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            if name.value == key:
                return value, _line(name)
    if isinstance(node, yaml.SequenceNode) and key.isdigit():
        items = cast("list[yaml.Node]", node.value)
        if int(key) < len(items):
            return items[int(key)], _line(items[int(key)])
    return None


def _line(node: yaml.Node) -> int:
    return node.start_mark.line + 1 if node.start_mark else 1


def read(text: str, file: str) -> list[Document]:
    """The jobs in a file's text. Raises UsageFault with line and column where it cannot be read."""
    found = list(_from_json(text, file) if text.lstrip()[:1] in ("{", "[") else _from_yaml(text, file))
    if not found:
        raise UsageFault(f"{file} holds no job", 'write one, such as {"image": "ubuntu", "command": ["ls"]}')
    return found


def _from_json(text: str, file: str) -> Iterator[Document]:
    """JSON values one after the other: one, a list, or JSON lines. Falls back to YAML, whose flow style looks alike."""
    decoder, at, number = json.JSONDecoder(), 0, 0
    line = 1
    values: list[tuple[int, Any]] = []
    try:
        while (start := _skip_space(text, at)) < len(text):
            line += text.count("\n", at, start)
            value, end = decoder.raw_decode(text, start)
            values.append((line, value))
            line += text.count("\n", start, end)
            at = end
    except json.JSONDecodeError as fault:
        try:
            yield from _from_yaml(text, file)
        except UsageFault:
            where = f"{file}, line {fault.lineno}, column {fault.colno}"
            raise UsageFault(f"{where}: {fault.msg}", "correct the JSON there") from None
        return
    for line, value in values:
        for item in cast("list[Any]", value) if isinstance(value, list) else [value]:
            number += 1
            yield Document(file, number, line, item)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n,":
        at += 1
    return at


class _Loader(yaml.CSafeLoader):
    """YAML as JSON knows it: a date stays the text that was written."""


def _as_written(loader: _Loader, node: yaml.ScalarNode) -> str:
    return str(loader.construct_scalar(node))


_Loader.add_constructor("tag:yaml.org,2002:timestamp", _as_written)


def _from_yaml(text: str, file: str) -> Iterator[Document]:
    loader, number = _Loader(text), 0
    try:
        while loader.check_node():
            node = cast("yaml.Node", loader.get_node())
            value = cast("Any", loader.construct_document(node))
            if value is None:  # an empty document, such as after a last ---
                continue
            items: list[tuple[yaml.Node, Any]] = [(node, value)]
            if isinstance(node, yaml.SequenceNode):
                items = list(zip(cast("list[yaml.Node]", node.value), cast("list[Any]", value), strict=True))
            for inner, spec in items:
                number += 1
                yield Document(file, number, _line(inner), spec, inner)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        where = f"{file}, line {mark.line + 1}, column {mark.column + 1}" if mark else file
        raise UsageFault(f"{where}: {fault.problem or fault.context}", "correct the YAML there") from None
    except yaml.YAMLError as fault:
        raise UsageFault(f"{file}: {fault}", "correct the YAML there") from None
    finally:
        loader.dispose()
