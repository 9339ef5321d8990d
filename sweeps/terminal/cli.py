"""The command line: the table of commands, and the place where an error becomes one line and an exit code.

A command reads arguments, calls one function, and prints a table or one JSON object. Its module is imported when it is
called, so that help and completion answer at once.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from lanelock.policies.errors import LanelockError
from lanelock.sweeps.secrets import without_secrets

_UNEXPECTED = 70  # the exit code of an error that is no result and no bad input
COMMANDS: Mapping[str, tuple[str, str]] = {  # name -> its module in commands/, and its line in the help
    "audit": ("audit", "Propose and run trials of a sweep again."),
    "campaign": ("campaigns", "Play a campaign from baseline to freeze."),
    "certify": ("certify", "Grade a lock's candidate on whole runs."),
    "compare": ("compare", "What changed between two runs, trials, locks or packs."),
    "completion": ("completion", "Print the completion script of a shell."),
    "contract": ("runs", "Every surface: its columns, types, units and order."),
    "explain": ("proofs", "Why each state of a run was computed or reused."),
    "export": ("export", "All trials of a sweep as one table."),
    "feasibility": ("lanes", "The best that each gate can reach in a lane."),
    "gate": ("gate", "Prove what a change to a repository impacts."),
    "key": ("keys", "Make a key to sign with."),
    "lock": ("locks", "Read and prove locks, or lock a trial by hand."),
    "policy": ("policies", "Check, digest and compare packs."),
    "promote": ("promotions", "Point an alias to a lock."),
    "prune": ("prune", "Show what a workspace need not keep, or remove it."),
    "replay": ("proofs", "Execute a published run again and compare its bytes."),
    "report": ("reports", "A page on a run, a lock or a sweep."),
    "rollback": ("promotions", "Point an alias back to its previous lock."),
    "run": ("runs", "Run the engine once."),
    "score": ("runs", "Score a published run again, from its files."),
    "sign": ("keys", "Verify a lock or an evidence pack, and sign it."),
    "status": ("status", "What the workspace holds and what is running."),
    "sweep": ("lanes", "Spend a lane's budget: search, track, decide, lock."),
    "sync": ("sync", "Deliver what still has to reach MLflow."),
    "ui": ("ui", "Open the MLflow comparison page."),
    "verify": ("locks", "Recompute a published run, a lock or an evidence pack."),
    "world": ("worlds", "Build, import or describe a world."),
}


class LazyGroup(click.Group):
    """A group that lists `COMMANDS` from the table alone, and imports a command's module when the command is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        for name, (_, sentence) in COMMANDS.items():
            self.add_command(click.Command(name, short_help=sentence))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the command from its own module instead of the placeholder in the table."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        return name, _imported(name) if name else placeholder, rest


def _imported(name: str) -> click.Command:
    module = import_module(f"lanelock.sweeps.terminal.commands.{COMMANDS[name][0]}")
    command: click.Command = getattr(module, name)
    return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lanelock")
def cli() -> None:
    """Tunes a deterministic, policy-driven data engine inside declared bounds, and locks what holds.

    \b
    Exit codes
      0    ok, GO or a passing verdict
      1    NO_GO, a failing verdict, or a refusal by rule
      2    bad input or usage: one line on stderr says which field and what is allowed
      3    integrity: something recorded was changed
      70   an unexpected error
      130  interrupted; every finished trial is kept

    Every command takes --json (one object on stdout, nothing else), --quiet and --workspace DIR.
    """


def main(arguments: list[str] | None = None) -> None:
    """Runs the command and exits. An expected error is printed as one line."""
    try:
        code = cli.main(arguments, standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except (LanelockError, click.ClickException, OSError) as error:
        click.echo(_message(error), err=True)
        code = getattr(error, "exit_code", 2)
    except Exception:  # a mistake of ours: the traceback is what we need, but it may quote an address
        click.echo(without_secrets(traceback.format_exc()), err=True)
        code = _UNEXPECTED
    sys.exit(code if isinstance(code, int) else 0)


def _message(error: Exception) -> str:
    match error:
        case click.exceptions.NoArgsIsHelpError():
            return error.format_message()
        case click.ClickException():
            context = getattr(error, "ctx", None)
            text = error.format_message() + (f" (see {context.command_path} --help)" if context is not None else "")
        case OSError():
            text = f"{error.filename or 'input/output'}: {error.strerror or error}"
        case _:
            text = without_secrets(str(error))
    from lanelock.sweeps.pages.text import printable  # its tables take a while, which help need not pay

    return printable(f"lanelock: {' '.join(text.split())}")
