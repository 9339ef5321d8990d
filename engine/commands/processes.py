"""Programs, started in an environment that is stated, held to limits, and ended with all that they start.

Every program runs below a supervisor (`supervisor.py`), a process that outlives this one by the moment it needs to end
the program and to remove its folder: also where this process is killed. A supervisor costs a start of Python and runs
one program after another, so that idle ones are kept.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from uuid import uuid4

from lanelock.engine.commands import supervisor
from lanelock.policies import EngineError, WorkspaceError
from lanelock.policies.files import open_file

WORK, STDOUT, STDERR = "work", "stdout", "stderr"  # in a program's folder: what it sees as its own, what it printed
LARGEST_DETAILS = 1 << 20  # bytes of stderr that an error carries
_LONGEST_REASON = 300  # characters
_LAST_LINES = 3
_PATIENCE = 10.0  # seconds for a supervisor to end
_SECRET = re.compile("TOKEN|SECRET|PASS|KEY|CREDENTIAL", re.IGNORECASE)  # in the name of a variable
Kept = TypeVar("Kept")
_UNSHOWN = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[^\x20-\x7e\xa0-\U0010ffff]|[\x80-\x9f]")


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a program with all its descendants. None: no limit."""

    seconds: float | None
    memory: int | None  # bytes, resident
    file: int  # bytes of each file that it writes, stdout and stderr included


@dataclass(frozen=True, slots=True)
class Program:
    """A program that can be started."""

    path: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    limits: Limits


@dataclass(frozen=True, slots=True)
class Ended:
    """How a program ended."""

    code: int  # exit code; negative: the number of the signal that killed it
    over: str  # the limit for which it was killed: "seconds", "memory", or ""
    peak: int  # bytes of memory of its largest process
    seconds: float


@dataclass(frozen=True, slots=True)
class Ran:
    """A program that has ended, while its folder exists."""

    program: Program
    folder: Path
    ended: Ended

    @property
    def work(self) -> Path:
        return self.folder / WORK

    def hold(self, where: str) -> None:
        """Raises EngineError, with the end of its stderr, unless the program ended well and within its limits."""
        if why := reason(self.ended, self.program.limits):
            printed = self.said()
            raise EngineError(where, ": ".join(filter(None, (why, in_short(printed)))), printed)

    def said(self) -> str:
        """Returns its stderr, or its stdout where that is empty."""
        return self.log(STDERR) or self.log(STDOUT)

    def log(self, name: str) -> str:
        """Returns what it printed there: the last MiB, without secrets."""
        return masked(tail(self.folder / name), self.program.environment)


@contextmanager
def ran(program: Program, files: Mapping[str, bytes], folder_in_it: str = "") -> Iterator[Ran]:
    """Runs a program in a folder of its own that holds `files` and a folder; it exists until the block ends."""
    with _at_hand() as keeper:
        folder = keeper.place(files, folder_in_it)
        try:
            keeper.begin(program, folder, ("/dev/null", str(folder / STDOUT), str(folder / STDERR)))
            yield Ran(program, folder, keeper.ended())
        finally:
            supervisor.remove(str(folder))


@contextmanager
def _at_hand() -> Iterator[Supervisor]:
    """Lends a supervisor that waits for a program, or a new one."""
    keeper = next((kept for kept in taken(_idle) if kept.ready), None) or Supervisor()
    try:
        yield keeper
    finally:
        _idle.append(keeper) if keeper.ready else keeper.close()


def taken(idle: list[Kept]) -> Iterator[Kept]:
    """Takes what others may take as well, the last first, until nothing is left."""
    with suppress(IndexError):
        while True:
            yield idle.pop()


class Supervisor:
    """A supervisor, and the folder below which its programs run. `pipes` are handed to it for a program."""

    def __init__(self, pipes: Sequence[int] = ()) -> None:
        self.folder = Path(tempfile.gettempdir()) / f"lanelock-{uuid4().hex}"
        script = str(Path(supervisor.__file__).resolve())
        kept = {name: value for name, value in os.environ.items() if name == "LD_LIBRARY_PATH"}  # Python's own
        self._process = subprocess.Popen(
            [sys.executable, "-ISB", script, str(self.folder), str(os.getpid())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=kept, pass_fds=pipes,
            start_new_session=True, bufsize=0,
        )  # fmt: skip
        self._busy = False
        self.close = weakref.finalize(self, _close, self._process, self.folder, os.getpid())
        if not self._process.stdout.readline():  # type: ignore[union-attr]  # a pipe, as asked above
            raise WorkspaceError(f"{self.folder}: no program can be run: this folder could not be made")

    @property
    def pid(self) -> int:
        """The id of its process: what it runs descends from that."""
        return self._process.pid

    def terminate(self) -> None:
        """Ends it with all that it runs, at once: whoever waits for it is told so."""
        self._process.terminate()

    @property
    def ready(self) -> bool:
        """Whether it waits for a program."""
        return not self._busy and self._process.poll() is None

    def place(self, files: Mapping[str, bytes] = MappingProxyType({}), folder_in_it: str = "") -> Path:
        """Makes a folder for a program, with what it finds in it."""
        folder = self.folder / uuid4().hex
        (folder / WORK / folder_in_it).mkdir(parents=True)
        for name, data in files.items():
            path = folder / WORK / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        return folder

    def begin(self, program: Program, folder: Path, streams: Sequence[str | int]) -> None:
        """Starts a program in a folder. `streams`: files or passed pipes, for its standard input, output and error."""
        work, limits = str(folder / WORK), program.limits
        job = {
            "program": program.path, "argv": [program.path, *program.arguments], "cwd": work, "streams": streams,
            "env": {"HOME": work, "TMPDIR": work, **program.environment},
            "seconds": limits.seconds, "memory": limits.memory, "file": limits.file,
        }  # fmt: skip
        self._busy = True
        with suppress(BrokenPipeError):  # `ended` says so
            self._process.stdin.write(json.dumps(job).encode() + b"\n")  # type: ignore[union-attr]

    def has_ended(self, within: float) -> bool:
        """Waits for at most `within` seconds, and returns whether the program has ended."""
        waiting = select.poll()
        waiting.register(self._process.stdout, select.POLLIN)  # type: ignore[arg-type]
        return bool(waiting.poll(within * 1000))

    def ended(self) -> Ended:
        """Waits for the program's end, and returns how it ended. Raises EngineError if it could not be started."""
        answer = self._process.stdout.readline()  # type: ignore[union-attr]
        if not answer:
            raise EngineError("supervisor", "the process that supervises the program was killed")
        self._busy, document = False, json.loads(answer)
        if "refused" in document:
            raise EngineError("supervisor", f"cannot be started: {document['refused']}")
        return Ended(**document)


def _close(process: subprocess.Popen[bytes], folder: Path, owner: int) -> None:
    """Ends a supervisor with all that it runs, unless this process is a copy of the one that started it."""
    if os.getpid() != owner:
        return
    for stream in (process.stdin, process.stdout):
        with suppress(OSError):
            stream.close()  # type: ignore[union-attr]
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    supervisor.remove(str(folder))  # is already gone, unless the supervisor was killed


_idle: list[Supervisor] = []  # as many as programs ever ran at once
os.register_at_fork(after_in_child=_idle.clear)


def reason(ended: Ended, limits: Limits) -> str:
    """Returns why a program failed, in words; empty if it did not."""
    if ended.over == "seconds":
        return f"ran longer than {limits.seconds:g} s, killed"
    if ended.over == "memory":
        return f"used more than {(limits.memory or 0) >> 20} MiB of memory, killed"
    if ended.code == -signal.SIGXFSZ:
        return f"wrote a file larger than {limits.file >> 20} MiB, killed"
    if ended.code < 0:
        return f"killed by {_name_of(-ended.code)}"
    return f"exit {ended.code}" if ended.code else ""


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def tail(path: Path) -> str:
    """Returns the end of a file, with a line on what was left out; empty if there is no such file."""
    try:
        with open_file(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LARGEST_DETAILS))
            text = file.read(LARGEST_DETAILS).decode(errors="replace")
    except OSError:
        return ""
    return text if size <= LARGEST_DETAILS else f"({size - LARGEST_DETAILS:,} bytes before this are left out)\n{text}"


def in_short(text: str) -> str:
    """Returns the last lines of what a program printed as one line that a terminal can show."""
    lines = [" ".join(_UNSHOWN.sub(" ", line).split()) for line in text.splitlines()[-100:]]
    short = " | ".join([line for line in lines if line.strip("~^ ")][-_LAST_LINES:])  # Python underlines with ~^
    return short if len(short) <= _LONGEST_REASON else f"…{short[-_LONGEST_REASON:]}"


def masked(text: str, environment: Mapping[str, str]) -> str:
    """Returns a text without the values of variables whose names say that they are secret."""
    for name, value in environment.items():
        if value and _SECRET.search(name):
            text = text.replace(value, "***")
    return text
