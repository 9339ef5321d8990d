"""Faults, and commands run under them in forked children.

A fault at an exact point is raised from Python's audit events: the n-th time that a command opens for writing, renames,
removes or makes a file. So a kill falls between any two of them, also where they are microseconds apart. The other
faults come from outside, after a part of the time that the command takes undisturbed.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

EXACT = ("kill", "full", "read-only", "broken disk")  # at a file operation
TIMED = ("kill at any time", "SIGTERM", "SIGINT", "tracking killed")  # from outside, by time
WHOLE = ("clock", "small disk", "read-only disk")  # while the command runs
KILLS = ("kill", "kill at any time", "tracking killed")
_ERRORS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "broken disk": errno.EIO}
_CHANGES = frozenset(("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink", "os.link"))
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended: exit code (negative: the signal), what it said, its file operations, its seconds."""

    code: int
    out: str
    err: str
    operations: int
    seconds: float


def run(
    arguments: Sequence[str],
    *,
    arm: Callable[[Callable[[], None]], None] = lambda count: None,
    outside: Callable[[int], None] = lambda process: None,
    limit: float = 300.0,
) -> Ended:
    """Runs a command in a forked child. `arm` sets its fault up in there; `outside` acts on it from here.

    Raises TimeoutError where it runs beyond `limit` seconds: a hang.
    """
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        said = Path(folder)
        began = time.monotonic()
        process = os.fork()
        if process == 0:
            _play(arguments, said, arm)
        outside(process)
        code = _waited(process, began + limit)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)  # what a killed command left running
        texts = [(said / name).read_text(errors="replace") if (said / name).exists() else "" for name in ("out", "err")]
        operations = (said / "operations").stat().st_size if (said / "operations").exists() else 0
        return Ended(code, *texts, operations, time.monotonic() - began)


def exact(fault: str, at: int, root: Path) -> Callable[[Callable[[], None]], None]:
    """Returns what sets up a fault at the `at`-th file operation below `root` (0: none, they are counted)."""

    def arm(count: Callable[[], None]) -> None:
        places, number = (str(root),), itertools.count(1)

        def hook(event: str, values: tuple[object, ...]) -> None:
            if not _touches(event, values, places):
                return
            count()
            reached = next(number)
            if fault == "kill" and reached == at:
                os.kill(os.getpid(), signal.SIGKILL)
            if (
                fault in _ERRORS
                and 0 < at <= reached
                and (fault != "broken disk" or reached == at)
                and _hits(fault, event)
            ):
                raise OSError(_ERRORS[fault], os.strerror(_ERRORS[fault]), str(values[0]))

        sys.addaudithook(hook)

    return arm


def timed(fault: str, after: float) -> Callable[[int], None]:
    """Returns what does a fault to a command after some seconds, or to the processes that it started."""
    number = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}.get(fault, signal.SIGKILL)

    def act(process: int) -> None:
        time.sleep(after)
        targets = _children(process) if fault == "tracking killed" else [process]
        for target in targets:
            with contextlib.suppress(ProcessLookupError):
                os.kill(target, number)

    return act


def backwards(count: Callable[[], None]) -> None:
    """Lets the clock jump back an hour at every seventh look at it."""
    looks, real, real_ns = itertools.count(), time.time, time.time_ns

    def late() -> float:
        return 3600.0 * (next(looks) // 7)

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:  # type: ignore[override]
            return datetime.datetime.fromtimestamp(real() - late(), tz)

    time.time, time.time_ns = lambda: real() - late(), lambda: real_ns() - int(late() * 1e9)
    for name, module in list(sys.modules.items()):
        if name.startswith("lanelock") and getattr(module, "datetime", None) is datetime.datetime:
            module.datetime = Jumping  # type: ignore[attr-defined]


@contextlib.contextmanager
def disk(folder: Path, options: str):  # type: ignore[no-untyped-def]
    """Mounts a file system in memory at a folder."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)
    try:
        yield
    finally:
        tries = 0  # a killed command's process may hold it an instant longer
        while subprocess.run(["umount", folder], capture_output=True).returncode:
            if (tries := tries + 1) > 50:
                raise OSError(f"{folder}: still mounted")
            time.sleep(0.1)


def may_mount(folder: Path) -> bool:
    """Returns whether this user may mount a file system."""
    try:
        with disk(folder, "size=64k"):
            return True
    except (subprocess.CalledProcessError, OSError):
        return False


def _play(arguments: Sequence[str], said: Path, arm: Callable[[Callable[[], None]], None]) -> None:
    """Runs the command in this forked process, and leaves."""
    from lanelock.sweeps.terminal.cli import main

    code: object = 70
    try:
        os.setsid()
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(said / name, os.O_WRONLY | os.O_CREAT), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))
        counter = os.open(said / "operations", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        arm(lambda: os.write(counter, b"."))
        main([*arguments])
    except SystemExit as left:
        code = left.code
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush(), sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 0)


def _waited(process: int, until: float) -> int:
    while time.monotonic() < until:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise TimeoutError("the command hangs")


def _touches(event: str, values: tuple[object, ...], places: tuple[str, ...]) -> bool:
    if event == "open":
        path, mode, flags = values
        changes = (isinstance(flags, int) and bool(flags & _WRITES)) or (isinstance(mode, str) and mode[:1] in "wax")
    else:
        path, changes = (values[0] if values else None), event in _CHANGES
    return changes and isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(places)


def _hits(fault: str, event: str) -> bool:
    """A full disk refuses what takes room, and nothing else."""
    return fault != "full" or event in ("open", "os.mkdir", "os.symlink")


def _children(process: int) -> list[int]:
    try:
        text = Path(f"/proc/{process}/task/{process}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in text.split()]
