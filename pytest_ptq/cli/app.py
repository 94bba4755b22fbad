"""The command group: which commands there are, and what becomes of their errors."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence

import click

from pytest_ptq import __version__
from pytest_ptq.errors import PTQError, UnknownNameError, UsageError
from pytest_ptq.report.printable import printable

FAILED, INTERRUPTED, USAGE = 1, 2, 4
"""Exit codes, as pytest has them: what was asked for could not be done, or a regression was to be told; somebody
interrupted it; it was asked for in the wrong way."""

COMMANDS: Mapping[str, str] = {
    "list": "listing:list_",
    "show": "show:show",
    "compare": "compare:compare_",
    "history": "history:history",
    "report": "report:report",
    "baseline": "baseline:baseline",
    "prune": "keeping:prune",
    "import": "keeping:import_",
    "noise": "noise:noise",
    "profile": "profile:profile",
}
"""Command -> `module:function`, below `pytest_ptq.cli`; in the order of the help. A module is imported when needed."""


class Commands(click.Group):
    """Commands that are imported when somebody asks for one; an unknown one is told with the nearest."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        found = getattr(importlib.import_module(f"pytest_ptq.cli.{module}"), name)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not ctx.resilient_parsing:
            raise UnknownNameError("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


@click.group(cls=Commands, no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pytest-ptq", message="%(prog)s %(version)s")
def app() -> None:
    """int8 models: what there is, what runs found, since when, and where time goes.

    Runs are read from .ptq/history, where test runs write them. Every command takes --json.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0, 1 when it failed, 2 when interrupted, 4 when it was asked in a wrong way."""
    try:
        status = app.main(args=None if argv is None else list(argv), prog_name="pytest-ptq", standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.UsageError as error:
        where = error.ctx.command_path if error.ctx is not None else "pytest-ptq"
        return _complain(f"usage: {error.format_message().rstrip('.')}. See {where} --help.", USAGE)
    except UsageError as error:
        return _complain(str(error), USAGE)
    except (PTQError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # whoever read has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FAILED
        return _complain(str(error), FAILED)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _complain(sentence: str, status: int) -> int:
    sys.stderr.write(f"ERROR: {printable(sentence)}\n")
    return status
