"""The command line: the table of commands, and the place where an error becomes one line and an exit code.

A command reads arguments, calls one function, and prints a table or one JSON object. Its module is imported when it is
called, so that help and completion answer at once.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from lanelock.policies.errors import EngineError, LanelockError, cause
from lanelock.sweeps.interrupts import Interrupted, answered
from lanelock.sweeps.secrets import without_secrets
from lanelock.sweeps.terminal import net
from lanelock.sweeps.terminal.streams import say, say_all, streams

_READ = 8_000  # characters of an error that are looked at; fewer are printed
COMMANDS: Mapping[str, tuple[str, str]] = {  # name -> its module in commands/, and its line in the help
    "audit": ("audit", "Propose and run trials of a sweep again."),
    "campaign": ("campaigns", "Play a campaign from baseline to freeze."),
    "certify": ("certify", "Grade a lock's candidate on whole runs."),
    "check": ("projects", "Run a project's start, and show what is in force."),
    "compare": ("compare", "What changed between two runs, trials, locks or packs."),
    "completion": ("completion", "Print the completion script of a shell."),
    "contract": ("runs", "Every surface: its columns, types, units and order."),
    "copy": ("projects", "Copy a pack, a lane or a gate file to change it."),
    "eject": ("projects", "Write the documents that lanelock.toml stands for."),
    "explain": ("proofs", "Why each state of a run was computed or reused."),
    "export": ("export", "A sweep's trials as a table; a run in another layout."),
    "feasibility": ("lanes", "The best that each gate can reach in a lane."),
    "gate": ("gate", "Prove what a change to a repository impacts."),
    "init": ("projects", "Write lanelock.toml for an engine of your own."),
    "key": ("keys", "Make a key to sign with."),
    "lock": ("locks", "Read and prove locks, or lock a trial by hand."),
    "note": ("notes", "Keep a note in the decision trail, or print it."),
    "perf": ("perf", "Measure what runs cost, and compare versions of code."),
    "policy": ("policies", "Check, digest, compare, import and export packs."),
    "promote": ("promotions", "Point an alias to a lock."),
    "prune": ("prune", "Show what a workspace need not keep, or remove it."),
    "reopen": ("freezes", "Go on with an engine that was frozen."),
    "replay": ("proofs", "Execute a published run again and compare its bytes."),
    "report": ("reports", "A page on a run, a lock or a sweep."),
    "rollback": ("promotions", "Point an alias back to its previous lock."),
    "run": ("runs", "Run the engine once."),
    "score": ("runs", "Score a published run again, from its files."),
    "sensitivity": ("sensitivity", "Which knob moves which gate, before a sweep or after it."),
    "sign": ("keys", "Verify a lock, a freeze or an evidence pack, and sign it."),
    "status": ("status", "What the workspace holds and what is running."),
    "sweep": ("lanes", "Spend a lane's budget: search, track, decide, lock."),
    "sync": ("sync", "Deliver what still has to reach MLflow."),
    "ui": ("ui", "Open the live page of sweeps, candidates and locks."),
    "verify": ("locks", "Recompute a run, a lock, an evidence pack or a freeze."),
    "webhook": ("webhooks", "Who is told of what happens here."),
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

    def invoke(self, ctx: click.Context) -> Any:
        """Keeps from click what it would answer by itself: with an empty line, as an interrupt, or with exit code 1."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, BrokenPipeError, EOFError, SystemExit) as error:
            raise _Kept from error


class _Kept(Exception):
    """Carries, as its cause, what click must not see."""


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
      70   an unexpected error: one line on stderr says where its traceback was written
      130  interrupted by Ctrl-C (143 by SIGTERM, 129 by SIGHUP); every finished trial is kept

    Every command takes --json (one object on stdout, nothing else), --quiet and --workspace DIR.
    """


def main(arguments: list[str] | None = None) -> None:
    """Runs the command and exits. Whatever is raised is printed as one line; nothing but an answer exits with 1."""
    given = sys.argv[1:] if arguments is None else arguments
    code = net.UNEXPECTED
    if sys.stderr is sys.__stderr__:  # in a process of its own
        net.hold_threads_and_exit()
        net.hold_warnings()
    with streams() as after:
        try:
            with answered():
                code = after(_run(given))
        except BaseException as error:  # a signal that came late, or an error about an error
            code = _refused(error, given)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        code = cli.main(arguments, "lanelock", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except _Kept as kept:
        return _refused(kept.__cause__ or kept, arguments)
    except SystemExit as left:  # click's own, after a shell asked for names
        return left.code if isinstance(left.code, int) else net.UNEXPECTED
    except BaseException as error:
        return _refused(error, arguments)


def _refused(error: BaseException, arguments: list[str]) -> int:
    """Prints an error as one line. Returns its exit code."""
    try:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            say_all(error.format_message())
            return error.exit_code
        line, code = _said(error, arguments)
        say(f"lanelock: {line}")
    except Exception:  # no memory, for instance: the code is what counts
        return net.UNEXPECTED
    return code


def _said(error: BaseException, arguments: list[str]) -> tuple[str, int]:
    """Returns what is said of an error, and its exit code."""
    match error:
        case KeyboardInterrupt() | click.exceptions.Abort():
            signal = error if isinstance(error, Interrupted) else Interrupted()
            return f"interrupted{signal.kept and ': '}{signal.kept}", signal.exit_code
        case click.ClickException():
            context = getattr(error, "ctx", None)
            more = "" if context is None else f" (see {context.command_path} --help)"
            return error.format_message() + more, error.exit_code
        case LanelockError():
            if not _of_engine(error):
                return without_secrets(str(error)[:_READ]), error.exit_code
            return f"{net.bounded(str(error))}; {net.noted(error, arguments)}", error.exit_code
        case OSError() if not isinstance(error, BrokenPipeError):
            return f"{error.filename or 'input/output'}: {error.strerror or error}", 2
        case _:
            return f"unexpected error: {net.bounded(cause(error))}; {net.noted(error, arguments)}", net.UNEXPECTED


def _of_engine(error: BaseException | None) -> bool:
    """Returns whether an error says what an engine raised, whose traceback its author will want."""
    if isinstance(error, EngineError):
        return error.__cause__ is not None
    return error is not None and _of_engine(error.__cause__)
