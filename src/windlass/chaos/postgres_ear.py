"""PostgreSQL's protocol (version 3), as far as the proxy needs it to lose the answer to one statement.

A statement counts when it is executed, not when it is prepared; its answer is complete at ReadyForQuery, which the
server sends after the commit. So whoever loses that answer can't know of a commit that happened.
"""

import struct

_SSL_REQUEST, _GSS_REQUEST, _CANCEL = 80877103, 80877104, 80877102


class _Frames:
    """Messages out of a stream of bytes: a type, a length that counts itself, the body."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes, *, typed: bool = True) -> list[tuple[bytes, bytes]]:
        """The messages this piece completes; untyped, at most one (its type is empty)."""
        self._rest += piece
        head = int(typed)
        found: list[tuple[bytes, bytes]] = []
        while len(self._rest) >= head + 4:
            (length,) = struct.unpack_from("!I", self._rest, head)
            end = head + length
            if len(self._rest) < end:
                break
            found.append((self._rest[:head], self._rest[head + 4 : end]))
            self._rest = self._rest[end:]
            if not typed:
                break
        return found


class PostgresEar:
    """One connection's."""

    def __init__(self) -> None:
        self._up, self._down = _Frames(), _Frames()
        self._started = False
        self._choice = False  # the server owes one bare byte: whether it will encrypt
        self._prepared: dict[bytes, str] = {}

    def asked(self, piece: bytes) -> list[str]:
        """The SQL of the statements that this piece has executed."""
        while not self._started:
            frames = self._up.feed(piece, typed=False)
            if not frames:
                return []
            (code,) = struct.unpack_from("!I", frames[0][1])
            self._choice = code in (_SSL_REQUEST, _GSS_REQUEST)
            self._started = not self._choice and code != _CANCEL
            piece = b""
        return [sql for kind, body in self._up.feed(piece) for sql in self._executed(kind, body)]

    def answered(self, piece: bytes) -> bool:
        """Whether ReadyForQuery has come."""
        if self._choice and piece:
            self._choice, piece = False, piece[1:]
        return any(kind == b"Z" for kind, _ in self._down.feed(piece))

    def _executed(self, kind: bytes, body: bytes) -> list[str]:
        match kind:
            case b"Q":
                return [_text(body.split(b"\0", 1)[0])]
            case b"P":
                name, sql, *_ = body.split(b"\0", 2)
                self._prepared[name] = _text(sql)
            case b"B":
                name = body.split(b"\0", 2)[1]
                return [self._prepared.get(name, "")]
            case _:
                pass
        return []


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
