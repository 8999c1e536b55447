"""Who may do what: roles, and the form of tokens.

A token is a prefix that says what it is for, 32 random letters and digits (190 bits), and 6 more that are the CRC-32 of
what stands before them: a token that was cut or mistyped is known as such without asking anybody, and one that leaked
is found by its form. Only its SHA-256 is ever stored.
"""

import hashlib
import string
import zlib
from collections.abc import Sequence
from enum import StrEnum


class Role(StrEnum):
    """What a token allows. Each of the first four may all that those before it may; `node` and `join` are for workers,
    and allow nothing else."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    OPERATOR = "operator"
    ADMIN = "admin"
    NODE = "node"
    JOIN = "join"


#: The roles of people and programs, from the least to the most.
LADDER = (Role.VIEWER, Role.SUBMITTER, Role.OPERATOR, Role.ADMIN)
#: What each kind of token begins with.
PREFIXES = {Role.NODE: "wln_", Role.JOIN: "wlj_"} | dict.fromkeys(LADDER, "wl_")
LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_LETTERS, CHECK_LETTERS = 32, 6


def may(held: Role, least: Role) -> bool:
    """Whether the role held is enough where `least` is asked."""
    if held not in LADDER or least not in LADDER:
        return held is least
    return LADDER.index(held) >= LADDER.index(least)


def make_token(role: Role, numbers: Sequence[int]) -> str:
    """A token of this role's kind out of 32 random numbers below 62."""
    body = PREFIXES[role] + "".join(LETTERS[number] for number in numbers)
    return body + _check(body)


def sound(token: str) -> bool:
    """Whether this has a token's form: prefix, length, and a checksum that fits."""
    body, check = token[:-CHECK_LETTERS], token[-CHECK_LETTERS:]
    known = any(len(body) == len(p) + RANDOM_LETTERS and body.startswith(p) for p in set(PREFIXES.values()))
    return known and check == _check(body)


def digest(token: str) -> bytes:
    """What is stored of a token."""
    return hashlib.sha256(token.encode()).digest()


def _check(body: str) -> str:
    number, letters = zlib.crc32(body.encode()), ""
    for _ in range(CHECK_LETTERS):
        number, place = divmod(number, len(LETTERS))
        letters = LETTERS[place] + letters
    return letters
