"""One input: its file is changed, something reads it, the file is put back, and the answer is judged."""

from __future__ import annotations

import io
import json
import os
import random
import resource
import shutil
import signal
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lanelock.policies import LanelockError
from lanelock.sweeps.terminal.cli import cli, main

from . import FOLDER, lines
from .changes import changed, proposed
from .ground import Ground, copied
from .judge import Answer, fault, stated
from .subjects import BY_NAME, Reader, Subject, paths_of

PATIENCE = float(os.environ.get("FUZZ_PATIENCE", "20"))  # seconds that an answer may take
MEMORY = 4 << 30  # bytes of address space that an input may ask for: a pool of threads alone has one
COMMANDS = 0.07  # the share of inputs of a document that go to a command, which takes longer than a function
VOLATILE = {"seconds", "bytes", "at_ms"}  # in the JSON of an answer
PARTS = ("workspace", "files")  # of the ground: where nothing may be written
KINDS = (*BY_NAME, lines.KIND)


class Hang(BaseException):
    """An answer took too long."""


@dataclass(frozen=True)
class Input:
    """One input, whole: what is changed how, and what reads it."""

    kind: str
    file: int  # which of the subject's files, modulo their number
    reader: str
    changes: tuple[Any, ...]
    name: str = ""  # kind:number, of what was drawn

    @classmethod
    def drawn(cls, kind: str, seed: int, number: int, ground: Ground) -> Input:
        """Returns input `number` of a kind: it follows from these alone."""
        chance, name = random.Random(f"{kind} {seed} {number}"), f"{kind}:{number}"
        if kind == lines.KIND:
            return cls(kind, 0, "", tuple(lines.drawn(chance)), name)
        subject = BY_NAME[kind]
        paths = paths_of(kind, ground)
        file = chance.randrange(len(paths))
        functions = [reader for reader in subject.readers if not reader.command]
        commands = [reader for reader in subject.readers if reader.command]
        few = commands and (not functions or chance.random() < COMMANDS)
        reader = chance.choice(commands if few else functions)
        return cls(kind, file, reader.name, tuple(proposed(chance, paths[file].read_bytes(), subject.form)), name)

    @classmethod
    def read(cls, text: str, name: str = "") -> Input:
        row = json.loads(text)
        return cls(row["kind"], row.get("file", 0), row.get("reader", ""), tuple(row["changes"]), name)

    @property
    def recipe(self) -> str:
        """One line, as the corpus holds them. Law: `Input.read(input.recipe)` is the input."""
        row = {"kind": self.kind, "file": self.file, "reader": self.reader, "changes": self.changes}
        return json.dumps({key: value for key, value in row.items() if value not in ("", 0)})


@dataclass(frozen=True)
class Outcome:
    """What came of an input: how it was answered, and what was wrong with that."""

    how: str  # "exit 2", "exit 3", "equal", "another valid input", "crash", "hang"
    fault: str | None
    message: str = ""


@dataclass
class Bench:
    """Tries inputs on a copy of the ground, which is as it was after each."""

    ground: Ground
    kept: Ground  # untouched
    _before: dict[tuple[str, str], Answer] = field(default_factory=dict)
    _listing: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    @classmethod
    def at(cls, kept: Ground, root: Path) -> Bench:
        bench = cls(copied(kept, root), kept)
        bench._listing = bench._listed()
        return bench

    def tried(self, one: Input) -> Outcome:
        if one.kind == lines.KIND:
            return self._line(one)
        subject = BY_NAME[one.kind]
        reader = next(row for row in subject.readers if row.name == one.reader)
        before = self._unchanged(subject, reader)
        paths = paths_of(one.kind, self.ground)
        path = paths[one.file % len(paths)]
        names = (path.name, path.stem, path.parent.name, *subject.named(self.ground))
        with _put_aside(path) as content:
            states = _changed(path, content, one.changes, subject.form, self.ground)
            after = answer(reader, self.ground)
        law = "loose" if states == "gone" else reader.law
        found = fault(law, states, before, after, names)
        if one.kind == "cache":
            self._again("workspace/cache")
        elif (reader.command or after.kind == "crash") and (written := self._written()):
            found = found or f"wrote {written}"
        return Outcome(_how(before, after), found, after.message)

    def shrunk(self, one: Input, outcome: Outcome) -> Input:
        """Returns the input with one of its changes alone, where that fails in the same way."""
        for change in one.changes if len(one.changes) > 1 and one.kind != lines.KIND else ():
            alone = replace(one, changes=(change,))
            if self.tried(alone).fault == outcome.fault:
                return alone
        return one

    def _unchanged(self, subject: Subject, reader: Reader) -> Answer:
        """Returns the answer to the file as it was, which is no refusal."""
        key = subject.name, reader.name
        if key not in self._before:
            before = answer(reader, self.ground, 30 * PATIENCE)  # it may have to compile first
            assert before.kind == "value", (key, before)
            assert not self._written(), (key, self._written())
            self._before[key] = before
        return self._before[key]

    def _line(self, one: Input) -> Outcome:
        with lines.standing(self.ground) as words:
            after = command(words(one.changes))
        self._written()  # a command may write where its line is right; it is undone
        return Outcome(_how(after, after), lines.fault(one.changes, after), after.message)

    def _written(self) -> str:
        """Returns what a command that only reads has written; and undoes it."""
        now = self._listed()
        if now == self._listing:
            return ""
        names = sorted(name for name in now.keys() | self._listing.keys() if now.get(name) != self._listing.get(name))
        for part in PARTS:
            self._again(part)
        return ", ".join(names[:3])

    def _again(self, part: str) -> None:
        shutil.rmtree(self.ground.root / part)
        shutil.copytree(self.kept.root / part, self.ground.root / part, symlinks=True)

    def _listed(self) -> dict[str, tuple[Any, ...]]:
        found, folders, above = {}, [str(self.ground.root / part) for part in PARTS], len(str(self.ground.root)) + 1
        while folders:
            for entry in os.scandir(folders.pop()):
                row = entry.stat(follow_symlinks=False)
                folder = entry.is_dir(follow_symlinks=False)
                found[entry.path[above:]] = () if folder else (row.st_size, row.st_mtime_ns)
                if folder:
                    folders.append(entry.path)
        return found


def answer(reader: Reader, ground: Ground, patience: float = PATIENCE) -> Answer:
    """Returns what a reader says of the ground as it is now."""
    if reader.command:
        return command([*reader.call(ground), "--workspace", str(ground.workspace.root), "--json"], patience)
    try:
        with _watched(patience):
            return Answer("value", reader.call(ground))
    except LanelockError as error:
        return Answer("refused", error.exit_code, str(error))
    except OSError as error:
        return Answer("refused", 2, f"{error.filename}: {error.strerror}")
    except Hang:
        return Answer("hang", where=reader.name)
    except Exception as error:
        return Answer("crash", where=_place(error), message="")


def command(words: Sequence[str], patience: float = PATIENCE) -> Answer:
    """Returns what a command line answers, run in this process."""
    out, err = _stream("strict"), _stream("backslashreplace")
    try:
        with _watched(patience), redirect_stdout(out), redirect_stderr(err):
            main([*words])
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0
    except Hang:
        return Answer("hang", where=words[0] if words else "")
    except BaseException as error:
        return Answer("crash", where=f"{_place(error)} leaves main", message="")
    stdout, stderr = _text(out), _text(err)
    if code not in (0, 1, 2, 3):
        return Answer("crash", code=code, where=f"exit {code}: {_again(words)}", message=stderr)
    if code == 3 and not stderr.startswith("lanelock: "):  # a proof that ran lists what differs, each on a line
        return Answer("refused", 3, stderr, code=3, listed=True)
    if code in (2, 3):
        return Answer("refused", code, stderr, code=code)
    return Answer("value", (code, _document(stdout)), stderr, code=code)


def _document(stdout: str) -> Any:
    try:
        return _steady(json.loads(stdout))
    except ValueError:
        return stdout


def _steady(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _steady(inner) for name, inner in node.items() if name not in VOLATILE}
    return [_steady(inner) for inner in node] if isinstance(node, list) else node


def _again(words: Sequence[str]) -> str:
    """Returns where a command line that ended unexpectedly breaks: it is run again outside of the net."""
    try:
        with _watched(), redirect_stdout(_stream("strict")), redirect_stderr(_stream("backslashreplace")):
            cli.main([*words], standalone_mode=False)
    except BaseException as error:
        return _place(error)
    return "not again"


def _place(error: BaseException) -> str:
    """Returns the kind of an exception and the last line of ours that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if str(FOLDER) not in frame.filename and "/site-packages/" not in frame.filename]
    last = next((frame for frame in reversed(ours) if "/lib/python" not in frame.filename), frames[-1])
    return f"{type(error).__name__} at {'/'.join(Path(last.filename).parts[-2:])}:{last.lineno} {last.name}"


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, newline="", write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    with suppress(ValueError):
        stream.flush()
    return stream.buffer.getvalue().decode("utf-8", "surrogateescape")  # type: ignore[attr-defined]


def _how(before: Answer, after: Answer) -> str:
    if after.kind == "refused":
        return f"exit {after.value}"
    if after.kind != "value":
        return after.kind
    return "equal" if after.value == before.value else "another valid input"


@contextmanager
def _watched(patience: float = PATIENCE) -> Iterator[None]:
    """Ends what takes longer than `patience`, or more than `MEMORY`."""

    def stop(number: int, frame: object) -> None:
        raise Hang

    usual = signal.signal(signal.SIGALRM, stop)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_size() + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, patience, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual or signal.SIG_DFL)  # None: of another library
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _size() -> int:
    """Returns the bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


@contextmanager
def _put_aside(path: Path) -> Iterator[bytes]:
    """Yields a file's bytes, and puts it back as it was, whatever lies there then."""
    content, stat = path.read_bytes(), path.stat()
    try:
        yield content
    finally:
        _cleared(path)
        path.parent.mkdir(parents=True, exist_ok=True)  # a damaged entry of the cache is moved away with its folder
        path.write_bytes(content)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        path.chmod(stat.st_mode & 0o7777)


def _cleared(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _changed(path: Path, content: bytes, changes: Sequence[Any], form: str, ground: Ground) -> str:
    """Changes a file. Returns what it states then: "same", "other", "nothing", or "gone"."""
    if changes and changes[0][0] == "become" and changes[0][1] != "empty":
        _cleared(path)
        _BECOME[changes[0][1]](path, content, ground)
        return {"link": "same", "gone": "gone"}.get(changes[0][1], "nothing")
    after = b"" if changes and changes[0][0] == "become" else changed(content, changes)
    path.write_bytes(after)
    return stated(content, after, form)


def _linked(path: Path, content: bytes, ground: Ground) -> None:
    real = ground.root / "linked"
    real.write_bytes(content)
    path.symlink_to(real)


def _socket(path: Path, content: bytes, ground: Ground) -> None:
    short = ground.root / "s"  # a socket's address is short
    short.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(short))
    short.rename(path)


def _huge(path: Path, content: bytes, ground: Ground) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.truncate(1 << 30)  # it has no blocks on the disk


_BECOME: dict[str, Callable[[Path, bytes, Ground], None]] = {
    "folder": lambda path, *_: path.mkdir(),
    "fifo": lambda path, *_: os.mkfifo(path),
    "loop": lambda path, *_: path.symlink_to(path.name),
    "nowhere": lambda path, *_: path.symlink_to("nowhere"),
    "zero": lambda path, *_: path.symlink_to("/dev/zero"),
    "null": lambda path, *_: path.symlink_to("/dev/null"),
    "random": lambda path, *_: path.symlink_to("/dev/urandom"),
    "socket": _socket,
    "gone": lambda *_: None,
    "link": _linked,
    "huge": _huge,
}
