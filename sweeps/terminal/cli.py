"""The command line: its commands by theme, and the one place where an error becomes a line and an exit code.

A command reads arguments, calls one function, prints a table or one JSON object. Heavy modules are
imported by the command that needs them, so that `policy` answers at once.
Exit codes: 0 ok or GO; 1 NO_GO or a failing verdict; 2 bad input or usage; 3 integrity; 130 interrupted.
"""

from __future__ import annotations

import sys

import click

from lanelock.policies import LanelockError
from lanelock.sweeps.terminal.commands import (
    campaigns,
    certify,
    compare,
    completion,
    lanes,
    locks,
    policies,
    promotions,
    proofs,
    prune,
    reports,
    runs,
    status,
    sync,
    ui,
    worlds,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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


for command in (
    policies.policy,
    worlds.world,
    runs.run,
    runs.score,
    runs.contract,
    proofs.explain,
    proofs.replay,
    compare.compare,
    lanes.feasibility,
    lanes.sweep,
    campaigns.campaign,
    certify.certify,
    promotions.promote,
    promotions.rollback,
    locks.lock_group,
    locks.verify,
    reports.report,
    prune.prune,
    status.status,
    sync.sync,
    ui.ui,
    completion.completion,
):
    cli.add_command(command)


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
