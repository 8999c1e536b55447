"""The `windlass` command: which commands there are, and how an error becomes two lines and an exit code.

A command's module is imported only when that command runs: a client command loads no server, and answers quickly.
"""

import importlib
import os
import sys
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from windlass.cli import exits
from windlass.cli.terminal import complain

_JOBS, _CLUSTER, _SERVER = "Jobs", "Cluster", "Server"


class Lazy(NamedTuple):
    """A command not yet loaded: where its function, or its group of them, is, and what the list of commands says."""

    target: str
    panel: str
    help: str


COMMANDS = {
    "run": Lazy("windlass.cli.run:run", _JOBS, "Run one job and show its output; exits with the job's code."),
    "submit": Lazy("windlass.cli.submit:submit", _JOBS, "Submit jobs from YAML or JSON files."),
    "ps": Lazy("windlass.cli.jobs:ps", _JOBS, "List jobs, newest first."),
    "show": Lazy("windlass.cli.jobs:show", _JOBS, "Show one job with all its attempts."),
    "logs": Lazy("windlass.cli.logs:logs", _JOBS, "Show a job's output; -f follows it."),
    "why": Lazy("windlass.cli.jobs:why", _JOBS, "Say why a job is where it is, node by node."),
    "wait": Lazy("windlass.cli.wait:wait", _JOBS, "Wait until jobs have ended; the exit code says how."),
    "cancel": Lazy("windlass.cli.change:cancel", _JOBS, "Cancel jobs."),
    "retry": Lazy("windlass.cli.change:retry", _JOBS, "Run jobs again."),
    "rm": Lazy("windlass.cli.change:rm", _JOBS, "Forget jobs that have ended, with their logs."),
    "status": Lazy(
        "windlass.cli.status:status", _CLUSTER, "Show who leads, nodes, jobs and Redis; exits 1 without a leader."
    ),
    "nodes": Lazy("windlass.cli.nodes:nodes", _CLUSTER, "List nodes with what is used and free."),
    "cordon": Lazy("windlass.cli.drain:cordon", _CLUSTER, "Place nothing more on a node."),
    "uncordon": Lazy("windlass.cli.drain:uncordon", _CLUSTER, "Place on a node again; ends a drain."),
    "drain": Lazy("windlass.cli.drain:drain", _CLUSTER, "Clear a node, and wait until it is empty."),
    "forget": Lazy("windlass.cli.drain:forget", _CLUSTER, "Declare a lost node gone for good."),
    "token": Lazy("windlass.cli.token:app", _CLUSTER, "Make, list and revoke tokens."),
    "audit": Lazy("windlass.cli.audit:audit", _CLUSTER, "Show who changed what."),
    "doctor": Lazy("windlass.cli.doctor:doctor", _CLUSTER, "Look this host over; say what is wrong and what to do."),
    "debug": Lazy("windlass.cli.debug:debug", _CLUSTER, "Write a support bundle, without secrets."),
    "version": Lazy("windlass.cli.nodes:version", _CLUSTER, "Show the client's and the server's version."),
    "up": Lazy("windlass.cli.up:up", _SERVER, "Start everything on this machine with one command."),
    "api": Lazy("windlass.cli.roles:api", _SERVER, "Start an API server."),
    "scheduler": Lazy("windlass.cli.roles:scheduler", _SERVER, "Start a scheduler."),
    "worker": Lazy("windlass.cli.roles:worker", _SERVER, "Start this node's worker."),
    "chaos": Lazy("windlass.cli.chaos:chaos", _SERVER, "Break a cluster of its own, and check every promise."),
    "migrate": Lazy("windlass.cli.roles:migrate", _SERVER, "Bring the database's schema up to date."),
}

_EPILOG = "\n".join(
    [
        "Exit codes:",
        *(f"{code:>4}  {text}" for code, text in exits.MEANING.items()),
        "run, wait and submit --wait pass on the job's own code; a line on stderr tells whose it was.",
    ]
)


def load(name: str) -> Any:
    """The real command behind a name: imports its module."""
    module, _, function = COMMANDS[name].target.partition(":")
    found = getattr(importlib.import_module(module), function)
    if isinstance(found, typer.Typer):  # a command with commands of its own
        return typer.main.get_command(found)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    # What follows `run`'s first word is the job's command line: its options are not ours.
    settings = {"help_option_names": ["-h", "--help"], "allow_interspersed_args": name != "run"}
    app.command(name, context_settings=settings)(found)
    return typer.main.get_command(app)


class LazyGroup(TyperGroup):
    """A group that lists its commands without importing them."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, entry in COMMANDS.items():
            self.add_command(TyperCommand(name, help=entry.help, rich_help_panel=entry.panel))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The named command, loaded."""
        name, found, rest = super().resolve_command(ctx, args)
        return name, load(name) if found is not None and name is not None else found, rest


_app = typer.Typer(
    name="windlass",
    cls=LazyGroup,
    epilog=_EPILOG,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@_app.callback(invoke_without_command=True)
def windlass(
    ctx: typer.Context,
    url: Annotated[str | None, typer.Option(help="URL of the API.", envvar="WINDLASS_URL")] = None,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    """Run container jobs on your own machines."""
    if url:
        os.environ["WINDLASS_URL"] = url
    if version:
        from windlass import __version__

        print(__version__)
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
        raise typer.Exit


def main(args: list[str]) -> int:
    """Run one command line and give its exit code."""
    try:
        result = _app(args, prog_name="windlass", standalone_mode=False)
        return result if isinstance(result, int) else exits.Code.OK
    except TyperException as fault:
        context = getattr(fault, "ctx", None)
        command = context.command_path if context else "windlass"
        complain(fault.format_message().splitlines() or ["wrong usage"], f"see `{command} --help`")
        return exits.Code.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return exits.Code.INTERRUPT
    except Exception as error:
        return _report(error)


def _report(error: Exception) -> int:
    known = exits.of_error(error)
    if known is not None:
        code, what, hint = known
        complain(what, hint)
        return code
    from windlass.errors import SettingsError, Unavailable, WindlassError

    if isinstance(error, SettingsError):
        complain([str(error)], "correct the setting and start again")
        return exits.Code.USAGE
    if isinstance(error, Unavailable):
        complain([str(error)], "see that PostgreSQL runs and the URL leads to it, and try again; nothing was lost")
        return exits.Code.UNREACHABLE
    if isinstance(error, WindlassError):
        complain([str(error)], "look at the server's log")
        return exits.Code.SYSTEM
    import traceback

    traceback.print_exception(error)
    complain([f"unforeseen: {error}"], "this is a fault in Windlass; please report it with the lines above")
    return exits.Code.SYSTEM


def run() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:]))
