"""The command line: its commands, and the one place where an error becomes a line and an exit code.

A command reads arguments, calls one function, prints a table or one JSON object. Its module is imported when it is
called, so that help and completion answer at once.
Exit codes: 0 ok or GO; 1 NO_GO or a failing verdict; 2 bad input or usage; 3 integrity; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from lanelock.policies.errors import LanelockError

COMMANDS: Mapping[str, tuple[str, str]] = {  # name -> module.function, and what stands beside it in the help
    "campaign": ("campaigns.campaign", "Play a campaign from baseline to freeze."),
    "certify": ("certify.certify", "Grade a lock's candidate on whole runs."),
    "compare": ("compare.compare", "What changed between two runs, trials, locks or packs."),
    "completion": ("completion.completion", "Print the completion script of a shell."),
    "contract": ("runs.contract", "Every surface: its columns, types, units and order."),
    "explain": ("proofs.explain", "Why each state of a run was computed or reused."),
    "feasibility": ("lanes.feasibility", "The best that each gate can reach in a lane."),
    "lock": ("locks.lock", "Read and prove locks."),
    "policy": ("policies.policy", "Check, digest and compare packs."),
    "promote": ("promotions.promote", "Move a name onto a lock."),
    "prune": ("prune.prune", "Show what a workspace need not keep, or remove it."),
    "replay": ("proofs.replay", "Execute a published run again and compare its bytes."),
    "report": ("reports.report", "A page on a run, a lock or a sweep."),
    "rollback": ("promotions.rollback", "Move a name back onto the lock before."),
    "run": ("runs.run", "Run the engine once."),
    "score": ("runs.score", "Score a published run again, from its files."),
    "status": ("status.status", "What the workspace holds and what is running."),
    "sweep": ("lanes.sweep", "Spend a lane's budget: search, record, decide, lock."),
    "sync": ("sync.sync", "Deliver what could not be written to the record."),
    "ui": ("ui.ui", "Open the MLflow comparison page."),
    "verify": ("locks.verify", "Recompute a published run, a lock or an evidence pack."),
    "world": ("worlds.world", "Build, import or describe a world."),
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
        """Returns the command that stands in the command's own module, not the table's stand-in for it."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, _imported(name) if name else listed, rest


def _imported(name: str) -> click.Command:
    module, _, function = COMMANDS[name][0].partition(".")
    command: click.Command = getattr(import_module(f"lanelock.sweeps.terminal.commands.{module}"), function)
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
      130  interrupted; what was told so far is kept

    Every command takes --json (one object on stdout, nothing else), --quiet and --workspace DIR.
    """


def main(arguments: list[str] | None = None) -> None:
    """The console entry point. Whatever is expected to go wrong is told in one line."""
    try:
        code = cli.main(arguments, standalone_mode=False)
    except LanelockError as error:
        click.echo(f"lanelock: {' '.join(str(error).split())}", err=True)
        code = error.exit_code
    except click.exceptions.Abort:
        code = 130
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        see = f" (see {context.command_path} --help)" if context is not None else ""
        click.echo(f"lanelock: {' '.join(error.format_message().split())}{see}", err=True)
        code = error.exit_code
    except OSError as error:
        click.echo(f"lanelock: {error.filename or 'input/output'}: {error.strerror or error}", err=True)
        code = 2
    sys.exit(code if isinstance(code, int) else 0)
