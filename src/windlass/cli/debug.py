"""`windlass debug`: one archive with what somebody needs who helps from afar, and no secret."""

import asyncio
import os
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from windlass.cli.doctor import Config, Data, RoleName
from windlass.cli.exits import Code, UsageFault
from windlass.cli.options import Format, Out, Url, seconds
from windlass.cli.render import emit_value
from windlass.cli.terminal import printable

if TYPE_CHECKING:
    from windlass.doctor.support import Bundle

File = Annotated[
    Path | None, typer.Option("--file", "-f", help="The archive to make, or the folder for it.", show_default="here")
]
Since = Annotated[str, typer.Option("--since", help="How far back events and logs go, such as 90m or 7d.")]


def debug(
    file: File = None,
    since: Since = "24h",
    role: RoleName = "any",
    config: Config = None,
    data: Data = None,
    output: Out = Format.TABLE,
    url: Url = None,
) -> int:
    """Write a support bundle: what is set, found, logged and counted here, without secrets. Look at it, then send it.

    It takes whatever can be got in a minute, however much is down, and says what is missing. The archive is only for
    the user who made it (mode 0600), and never takes the place of another file.
    """
    from windlass.doctor.site import site_of
    from windlass.doctor.support import collect, name_of

    within_s, now = seconds("--since", since) or 0.0, datetime.now(UTC)
    site = site_of(role, config, data, url, stopped=True)
    path = file or Path()
    path = path / f"{name_of(now)}.tar.gz" if path.is_dir() else path
    _fresh(path).close()
    path.unlink()  # it can be made: that is known before a minute's work, and nothing lies there meanwhile
    bundle, content = asyncio.run(collect(site, within_s, now))
    with _fresh(path) as archive:
        try:
            archive.write(content)
        except BaseException:
            path.unlink()
            raise
    _tell(path, len(content), bundle, output)
    return Code.OK


def _fresh(path: Path) -> BinaryIO:
    """A new file that nobody else can read. Raises UsageFault where there is one already, or none can be made."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
    except FileExistsError:
        raise UsageFault(f"{str(path)!r} is there already", "give another --file, or remove that one") from None
    except OSError as fault:
        hint = "give --file a place this user may write to"
        raise UsageFault(f"{str(path)!r} can't be written: {fault.strerror}", hint) from None


def _tell(path: Path, size: int, bundle: "Bundle", output: Format) -> None:
    from windlass.core.quantity import show_size
    from windlass.doctor.support import line_of

    if output is Format.NAME:
        print(path)
    elif output is not Format.TABLE:
        import msgspec

        emit_value({"file": str(path), "bytes": size} | msgspec.to_builtins(bundle), output)
    else:
        told = [f"{str(path)!r}, {show_size(size)}B, holds:", ""]
        told += [f"  {paper.name:<28} {line_of(paper)}" for paper in bundle.files]
        told += ["", "left out:", ""]
        told += [f"  {one.what}: {one.why}" for one in bundle.left_out]
        print("\n".join(printable(line) if line.strip() == line else f"  {printable(line)}" for line in told))
        print("\nPasswords and tokens are hidden; names of jobs, images, hosts, users and folders are not.")
        print(f"Look it through before you send it: tar -xzOf {shlex.quote(str(path))} | less")
