"""The net under every command: what nobody expected becomes one line and a file with the traceback.

The file lies in the workspace if there is one that can be written, else in the temporary folder.
"""

from __future__ import annotations

import os
import platform
import shlex
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from lanelock.policies.errors import cause
from lanelock.sweeps.secrets import without_secrets

UNEXPECTED = 70  # the exit code of an error that is no result and no bad input
_LONGEST = 600  # characters of what is said of an error
_READ = 8_000  # characters of it that are searched for secrets, before it is cut
_place: list[Path] = []  # the workspace of the command that runs


def in_workspace(root: Path) -> None:
    """Names the workspace into which a traceback may be written. It is not created for one."""
    _place[:] = [root]


def bounded(text: str) -> str:
    """Returns what an error says, without secrets and short enough for what follows it on its line."""
    text = without_secrets(text[:_READ])
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text) - _LONGEST} more characters)"


def noted(error: BaseException, arguments: Sequence[str] | None = None) -> str:
    """Writes the traceback of an error to a file. Returns where that is, or why it is nowhere."""
    try:
        text = _document(error, sys.argv[1:] if arguments is None else arguments)
    except Exception as failed:  # memory ran out, or an exception that cannot say what it is
        text = f"the traceback cannot be formatted: {type(failed).__name__}"
    why = ""
    for folder in _folders():
        try:
            return f"traceback: {_written(folder, text)}"
        except (OSError, ValueError) as failed:
            why = str(failed)
    frames = traceback.extract_tb(error.__traceback__)
    where = f"; raised in {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return f"the traceback cannot be written: {why}{where}"


def _document(error: BaseException, arguments: Sequence[str]) -> str:
    from importlib.metadata import version  # needed by no command that ends well

    head = {
        "lanelock": version("lanelock"),
        "command": shlex.join(["lanelock", *arguments]),
        "python": sys.version,
        "platform": platform.platform(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    lines = [f"{name:<9} {value}" for name, value in head.items()]
    return without_secrets("\n".join([*lines, "", *traceback.format_exception(error)]))


def _folders() -> list[Path]:
    from lanelock.sweeps.workspace import Workspace

    places = map(Workspace, _place)
    return [*(place.errors for place in places if place.locks.is_dir()), Path(tempfile.gettempdir())]


def _written(folder: Path, text: str) -> Path:
    """Writes a new file that others cannot read: a message may quote what it was given."""
    folder.mkdir(exist_ok=True)
    handle, name = tempfile.mkstemp(".txt", "lanelock-error-", folder)
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)
    return Path(name)


def hold_threads_and_exit() -> None:
    """Holds the net also under threads and under what runs while the program ends: one line for each error there."""

    def threads(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            _say(f"in thread {args.thread.name if args.thread else '?'}", args.exc_value)

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            _say("on the way out" if args.err_msg is None else args.err_msg, args.exc_value)

    threading.excepthook, sys.unraisablehook = threads, unraisable


def hold_warnings() -> None:
    """Keeps what libraries warn of from the terminal, here and in child processes, and from being raised as errors.

    Such warnings are for developers, and neither a user's policy nor lane can answer them. In an unusual environment
    (`PYTHONOPTIMIZE=2`) they would bury the one line that a command has to say; with `PYTHONWARNINGS=error`, MLflow
    would refuse its own database.
    """
    os.environ["PYTHONWARNINGS"] = "ignore"
    warnings.simplefilter("ignore")


def _say(where: str, error: BaseException) -> None:
    from lanelock.sweeps.pages.text import one_line, printable

    with suppress(Exception):
        line = printable(one_line(f"lanelock: note: {where}: {bounded(cause(error))}; {noted(error)}"))
        os.write(2, line.encode("ascii", "backslashreplace") + b"\n")
