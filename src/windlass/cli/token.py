"""`windlass token`: who may do what. A token is shown once, on stdout, and what to do with it is said on stderr."""

from enum import StrEnum
from typing import Annotated

import typer

from windlass.cli.exits import Code, UsageFault
from windlass.cli.options import Format, Out, Url, seconds
from windlass.cli.render import View, emit, emit_value, since
from windlass.cli.session import connect, go
from windlass.cli.terminal import talk
from windlass.client import NewToken, Token

app = typer.Typer(
    help="Make, list and revoke tokens: who may do what. All but generate and whoami need the role admin.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Made(StrEnum):
    """The roles of people and programs."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    OPERATOR = "operator"
    ADMIN = "admin"


Join = Annotated[bool, typer.Option("--join", help="A token that a worker joins with, instead of one with a role.")]


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What to call it: who or what uses it.", show_default="the role")] = "",
    role: Annotated[Made | None, typer.Option(help="What it allows; each allows what those before it do.")] = None,
    join: Join = False,
    expires: Annotated[
        str | None, typer.Option(help="When it ends: 90d, 1h or never.", show_default="never; with --join 1d")
    ] = None,
    uses: Annotated[
        str | None, typer.Option(help="With --join: how many workers may join with it, or any.", show_default="1")
    ] = None,
    output: Out = Format.TABLE,
    url: Url = None,
) -> int:
    """Make a token, and show it this once."""
    if join is (role is not None):
        raise UsageFault("say what the token is for", "for instance --role submitter, or --join")
    if uses is not None and not join:
        raise UsageFault("--uses is for join tokens", "drop it, or give --join")
    count = None if uses == "any" else _count(uses or "1")

    async def work() -> int:
        async with connect(url) as client:
            if role is not None:
                made = await client.tokens.create(name or role, role, expires_in=_until(expires, None))
            else:
                made = await client.tokens.create_join(name or "join", uses=count, expires_in=_until(expires, 86_400.0))
            _show(made, output, client.url)
        return Code.OK

    return go(work())


@app.command("ls")
def ls(output: Out = Format.TABLE, url: Url = None) -> int:
    """List tokens, newest first, with those that open nothing any more."""

    async def work() -> int:
        async with connect(url) as client:
            emit(await client.tokens.list(), TOKENS, output)
        return Code.OK

    return go(work())


@app.command()
def revoke(
    tokens: Annotated[list[str], typer.Argument(metavar="TOKEN...", help="Ids or names of tokens.")], url: Url = None
) -> int:
    """Revoke tokens: within five seconds they open nothing, on any API process."""

    async def work() -> int:
        async with connect(url) as client:
            for token in tokens:
                await client.tokens.revoke(token)
                print(token, flush=True)
        return Code.OK

    return go(work())


@app.command()
def whoami(output: Out = Format.TABLE, url: Url = None) -> int:
    """Show whose token this is, and its role."""

    async def work() -> int:
        async with connect(url) as client:
            me = await client.whoami()
        if output is Format.TABLE:
            print(f"{me.name}, {me.role}" + ("; nobody needs a token here" if me.anonymous else ""))
        elif output is Format.NAME:
            print(me.name)
        else:
            emit_value(me, output)
        return Code.OK

    return go(work())


@app.command()
def generate(join: Join = False) -> int:
    """Print a fresh token that no API knows: for the file of api.admin_token_file, or with --join of
    api.join_token_file."""
    from windlass.core.access import Role
    from windlass.mint import new_token

    print(new_token(Role.JOIN if join else Role.ADMIN))
    return Code.OK


def _count(uses: str) -> int:
    if not uses.isascii() or not uses.isdigit():
        raise UsageFault(f"--uses {uses!r} is no number", "write a number, or any")
    return int(uses)


def _until(expires: str | None, default: float | None) -> float | None:
    return default if expires is None else None if expires == "never" else seconds("--expires", expires)


def _show(made: NewToken, output: Format, url: str) -> None:
    if output not in (Format.TABLE, Format.NAME):
        emit_value(made, output)
        return
    print(made.token, flush=True)
    if made.role == "join":
        talk(f"on the new node: WINDLASS_API_URL={url} windlass worker --join {made.token}")
    talk(f"{made.name} ({made.id}), {made.role}, ends {_moment(made)}; it is not shown again")


def _moment(token: Token) -> str:
    return "never" if token.expires_at is None else f"{token.expires_at:%Y-%m-%d %H:%M} UTC"


def _state(token: Token) -> str:
    from datetime import UTC, datetime

    if token.revoked_at is not None:
        return "revoked"
    if token.expires_at is not None and token.expires_at <= datetime.now(UTC):
        return "expired"
    return "used up" if token.uses_left == 0 else "valid"


TOKENS: View[Token] = View(
    ("ID", "NAME", "ROLE", "STATE", "ENDS", "USES", "USED", "BY"),
    lambda token: (
        token.id, token.name, token.role, _state(token), _moment(token),
        str(token.uses_left) if token.uses_left is not None else "any" if token.role == "join" else "",
        f"{since(token.last_used_at)} ago" if token.last_used_at else "", token.created_by,
    ),
    lambda token: token.id,
)  # fmt: skip
