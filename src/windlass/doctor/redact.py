"""Takes secrets out of text: those known from settings, files and variables by what they are, others by their form.

Everything the doctor prints and every file of the support bundle goes through here, whatever wrote it. Text is cut only
behind it: half a secret would not be known as one.
"""

import os
import re
import stat
from base64 import b64encode
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import msgspec

from windlass.settings import Settings, masked

HIDDEN = "***"
#: Shorter ones would be found in ordinary words; masked() hides them in URLs all the same.
_LEAST = 4
#: Letters of a line that are looked through: what is longer is cut, or a hostile one would take all the time there is.
_LINE = 4_096
_WORDS = (
    r"(?:password|passwd|passphrase|secret|token|credential|authorization|cookie|api[_-]?key|access[_-]?key"
    r"|private[_-]?key|(?<=[_-])(?:key|pwd|pass))"
)
_SECRET_NAME = re.compile(rf"[\w-]*{_WORDS}[\w-]*", re.IGNORECASE)
#: Keys that have such a name and hold none: where a secret is, or whose.
_HARMLESS = re.compile(r".*(?:_file|_files|_sha256|_left|_at|token_id|key_id)|tokens", re.IGNORECASE)
_BLOCKS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    # the end of one whose head is not there, such as in the tail of a log
    re.compile(r"\A[A-Za-z0-9+/=\\\s]*-----END [A-Z ]*PRIVATE KEY-----"),
)
_FORMS = (
    re.compile(r"\bwl[jn]?_[0-9A-Za-z]{16,}"),
    re.compile(r"(?i)(?<=bearer )[^\s\"',;]+|(?<=bearer%20)[^\s\"',;&]+|(?<=basic )[A-Za-z0-9+/=]{8,}"),
    re.compile(r"(?i)(?:(?<=http://)|(?<=https://))[^\s/?#@\"']+(?=@)"),
    re.compile(r"(?i)(?<=cookie: )[^\"'\r\n]+"),
    re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]+|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_\w{20,}|\bglpat-[\w-]{16,}"),
)
#: In quotes up to their end, also behind backslashes where JSON holds JSON; else rather too much than too little.
_VALUE = r"""(?:"(?:[^"\\]|\\.)*(?:"|$)|\\+"[^"]*(?:"|$)|'(?:[^'\\]|\\.)*(?:'|$)|[^\s&"']+)"""
_ASSIGNED = re.compile(
    rf"(?i)(?P<word>{_WORDS}[\w-]*)(?P<between>\\*[\"']?\s*(?:=|:|%3d|%3a)\s*)"
    rf"(?:(?:bearer|basic|token|digest|negotiate)\s+)?{_VALUE}"
)
_OPTION = re.compile(rf"(?i)(?P<between>(?<!-)--[\w-]{{0,40}}?{_WORDS}[\w-]{{0,40}}[\"',]{{0,3}}\s+){_VALUE}")


class Redactor:
    """Hides these secrets, and whatever looks like one."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = frozenset(secret for secret in secrets if len(secret) >= _LEAST)
        meant = self._secrets | {unquote(one) for one in self._secrets}
        self._known = [re.compile(_written(one)) for one in sorted(meant, key=len, reverse=True)]

    def knowing(self, more: Iterable[str]) -> "Redactor":
        """One that hides these too."""
        return Redactor(self._secrets | frozenset(more))

    def text(self, text: str) -> str:
        """The text without secrets, and with no endless line."""
        for secret in self._known:
            text = secret.sub(HIDDEN, text)
        for block in _BLOCKS:
            text = block.sub(HIDDEN, text)
        return "".join(_line(line) for line in text.splitlines(keepends=True))

    def value(self, value: Any) -> Any:
        """The value, its texts without secrets, and without what stands under a name such as password."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            pairs = cast("Mapping[Any, Any]", value).items()
            return {self.text(str(key)): self._under(str(key), one) for key, one in pairs}
        if isinstance(value, list | tuple):
            return [self.value(one) for one in cast("Iterable[Any]", value)]
        return value

    def _under(self, key: str, value: Any) -> Any:
        return (
            HIDDEN if value and isinstance(value, str | int | list | dict) and secret_name(key) else self.value(value)
        )


def secret_name(name: str) -> bool:
    """Whether what stands under this name is a secret."""
    return bool(_SECRET_NAME.fullmatch(name[:_LINE])) and not _HARMLESS.fullmatch(name)


def _line(line: str) -> str:
    if len(line) > _LINE:
        line = f"{line[:_LINE]}… (the line goes on for {len(line) - _LINE} more)\n"
    for form in _FORMS:
        line = form.sub(HIDDEN, line)
    return masked(_OPTION.sub(rf"\g<between>{HIDDEN}", _ASSIGNED.sub(_without_value, line)))


def _without_value(found: re.Match[str]) -> str:
    before = re.search(r"[\w-]{0,64}\Z", found.string[max(0, found.start() - 64) : found.start()])
    name = (before[0] if before else "") + found["word"]
    return found[0] if _HARMLESS.fullmatch(name) else f"{found['word']}{found['between']}{HIDDEN}"


def _written(secret: str) -> str:
    """A pattern for a secret as it is, as base64 has it, and as URLs, JSON and Python do, also within each other."""
    base64 = b64encode(secret.encode(errors="surrogateescape")).decode().rstrip("=")
    return "".join(map(_letter, secret)) + "|" + re.escape(base64)


def _letter(letter: str) -> str:
    if letter.isascii() and letter.isalnum():
        return letter
    code, raw = ord(letter), letter.encode(errors="surrogateescape")
    ways = [r"\\+" if letter == "\\" else rf"\\*{re.escape(letter)}"]
    ways.append("".join(rf"%(?:25)*(?i:{byte:02x})" for byte in raw))
    ways.append("".join(rf"\\+x(?i:{byte:02x})" for byte in raw))
    if code <= 0xFF:
        ways.append(rf"\\+x(?i:{code:02x})")
    if code <= 0xFFFF:
        ways.append(rf"\\+u(?i:{code:04x})")
    ways += {" ": [r"\+"], "\n": [r"\\+n"], "\t": [r"\\+t"]}.get(letter, [])
    return f"(?:{'|'.join(ways)})"


def redactor(settings: Settings, files: Iterable[Path], environ: Mapping[str, str] | None = None) -> Redactor:
    """One that knows the secrets of these settings, of these files and of the environment's variables."""
    environ = os.environ if environ is None else environ
    secrets = {settings.worker.join}
    for url in (settings.database.url, settings.redis.url, settings.redis.worker_url, settings.api.url):
        secrets |= set(of_url(url))
    secrets |= set(of_url(settings.tracing.endpoint))
    for name, value in environ.items():
        secrets |= set(of_variable(name, value))
    for path in files:
        secrets |= set(of_file(path))
    return Redactor(secrets)


def of_variable(name: str, value: str) -> list[str]:
    """The secrets in a variable of the environment."""
    if secret_name(name):
        return [value]
    if name.endswith("HEADERS"):  # OTEL_EXPORTER_OTLP_HEADERS: api-key=…,other=…
        return [unquote(pair.partition("=")[2].strip()) for pair in value.split(",")]
    return of_url(value) if "://" in value else []


def of_url(url: str) -> list[str]:
    """The secrets in a URL, as they stand there and as they are meant."""
    found: list[str] = []
    # What stands before the last @, also where a / or # in a password makes it no URL any more.
    if rough := re.match(r"[a-z+]+://[^:@/]*:(.+)@", url):
        found.append(rough[1])
    try:
        parts = urlsplit(url)
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        found.append(password or (user if parts.scheme in ("http", "https") else ""))
        found += [value for key, value in parse_qsl(parts.query) if secret_name(key)]
    except ValueError:
        pass
    return [one for secret in found for one in (secret, unquote(secret)) if secret]


def of_file(path: Path) -> list[str]:
    """The secrets in a small file: its lines, and the texts in it when it is JSON."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return []
        with path.open("rb") as file:
            text = file.read(65_536).decode()
    except (OSError, UnicodeDecodeError):
        return []
    try:
        held = msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:  # which a password of digits alone would be none of
        lines = [line.strip() for line in text.splitlines()]
        return [one for line in lines for one in (line, *of_url(line)) if not line.startswith("-----")]
    return [value for key, value in held.items() if isinstance(value, str) and secret_name(key)]
