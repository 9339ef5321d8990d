"""The outbox: letters to the tracking server, kept in the workspace until they are delivered.

There is one box per sweep and server. A box is an append-only file with one letter per line; a mark in a file beside it
states how far it was delivered. A line without its end was left by a killed writer: it is never read, and is cut off
before the next line is written. The mark may lag behind the server but never run ahead of it; a lagging mark does no
harm, because a letter may be delivered twice. A box is removed when its last letter, the sweep's close, is delivered.

A letter that the server refuses is set aside and the next ones are delivered: a third file, the notes, says where each
such letter begins and why it was refused, and why the box as a whole waits. `again` brings what was set aside back by
moving the mark to the first of them. Neither notes nor mark are trusted: where one cannot be read, or the mark is not
the end of a line, all is delivered again.

Letters outlive their process, even if it is killed. If the machine itself goes down, the last letters may be lost: the
study holds the same, and a resumed sweep puts them again. A refusal, which has no study, is synced to the disk, and so
is a close, because a closed sweep is not resumed.

One process at a time delivers from a box. Appending and removing exclude each other, so no letter is put into a box
that is being removed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from lanelock.policies import IntegrityError, LanelockError
from lanelock.policies.files import open_file, read_bytes
from lanelock.policies.names import inside
from lanelock.sweeps.record.letters import Heading, Letter
from lanelock.sweeps.secrets import shown
from lanelock.sweeps.workspace import Workspace, write_whole, writing

_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, RecursionError, LanelockError)  # of a line that is none
_LONGEST = 500  # characters of a reason
_LARGEST = 1 << 26  # bytes of notes: every letter of a large sweep


@dataclass(frozen=True, slots=True)
class Notes:
    """Why letters of a box wait."""

    why: str = ""  # the box as a whole: the server is away, or refuses the sweep
    aside: Mapping[int, str] = field(default_factory=dict)  # where a refused letter begins -> why it was refused

    @property
    def reason(self) -> str:
        """The first reason, or ""."""
        return self.why or next(iter(self.aside.values()), "")


class Lined(Protocol):
    """What is put into a box: one line of bytes, with its end."""

    def line(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Box:
    """The letters of one sweep to one server."""

    path: Path

    def put(self, letters: Sequence[Lined], *, synced: bool = False) -> None:
        """Appends letters, or what else is one line, whole or not at all. Raises WorkspaceError if the disk refuses."""
        lines = b"".join(letter.line() for letter in letters)
        with writing(self.path.parent), self._alone(), self.path.open("ab") as file:
            whole = _end_of_lines(self.path)
            file.truncate(whole)
            try:
                file.write(lines)
                file.flush()
                if synced:
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(whole)
                raise

    def opening(self) -> Letter:
        """Returns the first letter that opens a sweep. Raises IntegrityError if there is none."""
        for _, letter in self._readable():
            if letter.kind == "sweep" and letter.heading is not None:
                return letter
        raise IntegrityError(f"{self.path}: no letter of it opens a sweep; it was changed by hand")

    def trials(self) -> frozenset[int]:
        """Returns the trials that were put here, delivered or not. Passes over lines that are no letters."""
        return frozenset(self._trials().values())

    def trials_before_mark(self) -> frozenset[int]:
        """Returns the trials that were delivered, according to the mark."""
        mark, aside = self._mark(), self.notes().aside
        return frozenset(trial for at, trial in self._trials().items() if at < mark and at not in aside)

    def trials_aside(self) -> frozenset[int]:
        """Returns the trials whose letters were set aside."""
        aside = self.notes().aside
        return frozenset(trial for at, trial in self._trials().items() if at in aside) if aside else frozenset()

    def letters(self) -> Iterator[Letter]:
        """Yields every letter, delivered or not, in order. Raises IntegrityError at a line that is none."""
        return (self.read(line) for _, _, line in self._lines(0))

    def waiting(self) -> Iterator[Letter]:
        """Yields the letters that are not delivered, in order. Raises IntegrityError at a line that is none."""
        mark, aside = self._mark(), self.notes().aside
        rows = self._lines(min(mark, *aside) if aside else mark)
        return (self.read(line) for at, _, line in rows if at >= mark or at in aside)

    def lines_to_deliver(self) -> Iterator[tuple[int, int, bytes]]:
        """Yields (where it begins, its mark for `delivered`, the line) of each letter to deliver; none set aside."""
        aside = self.notes().aside
        return (row for row in self._lines(self._mark()) if row[0] not in aside)

    def lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yields (where it begins, where it ends, the line) of each letter, delivered or not."""
        return self._lines(0)

    def read(self, line: bytes) -> Letter:
        """Returns the letter in a line. Raises IntegrityError if it is none."""
        try:
            return Letter.read(line)
        except _UNREADABLE as error:
            raise IntegrityError(f"{self.path}: not a letter: {error}; it was changed by hand") from None

    def waits(self) -> int:
        """Returns how many letters wait, those set aside included."""
        if not self.path.is_file():
            return 0
        mark = self._mark()
        with open_file(self.path) as file:
            file.seek(mark)
            later = sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
        return later + sum(at < mark for at in self.notes().aside)

    def delivered(self, mark: int) -> None:
        """Notes that everything before `mark` is delivered or set aside; 0: that nothing is."""
        with writing(self.path.parent):
            write_whole(self._marked, str(mark), synced=False)

    def set_aside(self, at: int, mark: int, why: str) -> None:
        """Notes that the letter from `at` to `mark` was refused, and goes on behind it."""
        notes = self.notes()
        self._note(replace(notes, aside={**notes.aside, at: why[:_LONGEST]}))  # first: a kill in between loses nothing
        self.delivered(mark)

    def explain(self, why: str) -> None:
        """Notes why the box as a whole waits; "" where nothing hinders it."""
        notes = self.notes()
        if notes.why != why[:_LONGEST]:
            self._note(replace(notes, why=why[:_LONGEST]))

    def start_over(self) -> None:
        """Has all letters delivered again."""
        self.delivered(0)
        self._note(Notes())

    def mend(self) -> None:
        """Has all letters delivered again where the notes cannot be read: which were set aside is lost."""
        if self._read_notes() is None:
            self.start_over()

    def again(self) -> None:
        """Brings back what was set aside: all from the first such letter on is to be delivered again."""
        if aside := self.notes().aside:
            self.delivered(min(self._mark(), *aside))
            self._note(Notes())

    def notes(self) -> Notes:
        """Returns why letters wait, as of the last delivery."""
        return self._read_notes() or Notes()

    def remove(self, mark: int) -> bool:
        """Removes the box if nothing was put after `mark`. Returns whether it did."""
        with self._alone():
            if self.path.stat().st_size != mark or self.notes().aside:
                return False
            self._noted.unlink(missing_ok=True)
            self._marked.unlink(missing_ok=True)  # first, so that a kill in between leaves a box to deliver again
            self._closed.touch()
            self.path.unlink()
            return True

    def was_delivered(self) -> bool:
        """Tells whether a close was delivered from here: then the server has, or had, the whole sweep."""
        return self._closed.exists()

    @contextmanager
    def delivering(self, seconds: float = 0) -> Iterator[bool]:
        """Locks the box for delivery. Yields False if another process holds it for all those seconds."""
        lock = FileLock(self.path.with_name(f".{self.path.stem}.delivery"), timeout=seconds)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @property
    def _marked(self) -> Path:
        return self.path.with_suffix(".delivered")

    @property
    def _noted(self) -> Path:
        return self.path.with_suffix(".why")

    @property
    def _closed(self) -> Path:
        return self.path.with_suffix(".closed")

    def _alone(self) -> FileLock:
        return FileLock(self.path.with_name(".lock"))

    def _mark(self) -> int:
        """Returns the mark; 0 where it is missing, torn, or not the end of a line of this file."""
        if self._read_notes() is None:  # which letters were set aside is lost
            return 0
        try:
            mark = int(read_bytes(self._marked, 64)) if self._marked.is_file() else 0
            with open_file(self.path) as file:
                file.seek(mark - 1)
                return mark if file.read(1) == b"\n" else 0
        except (OSError, ValueError, OverflowError, LanelockError):
            return 0

    def _read_notes(self) -> Notes | None:
        """Returns the notes, or None where they cannot be read."""
        try:
            if not self._noted.is_file():
                return Notes()
            document = json.loads(read_bytes(self._noted, _LARGEST))
            return Notes(str(document["why"]), {int(at): str(why) for at, why in document["aside"].items()})
        except (OSError, *_UNREADABLE):
            return None

    def _note(self, notes: Notes) -> None:
        with writing(self.path.parent):
            write_whole(self._noted, json.dumps(asdict(notes)), synced=False)

    def _trials(self) -> dict[int, int]:
        """Returns where a letter begins -> its trial, of the letters that write a trial."""
        letters = self._readable()
        return {at: letter.trial for at, letter in letters if letter.kind == "trial" and letter.trial is not None}

    def _readable(self) -> Iterator[tuple[int, Letter]]:
        """Yields where it begins and the letter, of every line that is one."""
        for at, _, line in self._lines(0):
            with suppress(*_UNREADABLE):
                yield at, Letter.read(line)

    def _lines(self, at: int) -> Iterator[tuple[int, int, bytes]]:
        """Yields (where it begins, where it ends, the line) of every whole line from `at` on."""
        if not self.path.is_file():
            return
        with open_file(self.path) as file:
            file.seek(at)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                yield at, at + len(line), line
                at += len(line)


class Outbox:
    """The boxes of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._folder = workspace.outbox

    def box(self, heading: Heading) -> Box:
        """Returns the box of a sweep's letters to a server, empty or not."""
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        return self.as_it_stands(heading)

    def as_it_stands(self, heading: Heading) -> Box:
        """Returns the same box for reading, whether or not its folder exists."""
        meant = hashlib.sha256(f"{heading.study} {heading.record}".encode()).hexdigest()[:12]
        return Box(inside(self._folder, f"{heading.sweep}.{meant}.jsonl"))

    def boxes(self) -> tuple[Box, ...]:
        """Returns the boxes that are not empty, the oldest sweep first, those of no known sweep last."""
        found = (Box(path) for path in self._folder.glob("*.jsonl") if path.is_file() and _end_of_lines(path))
        return tuple(sorted(found, key=lambda box: (_age(box), box.path.name)))

    def addressed(self) -> tuple[dict[Box, Heading], dict[Box, str]]:
        """Returns box -> the sweep it belongs to, the oldest first; and box -> why that is not known."""
        known, unknown = dict[Box, Heading](), dict[Box, str]()
        for box in self.boxes():
            try:
                heading = box.opening().heading
                assert heading is not None  # `opening` has checked it
                known[box] = heading
            except IntegrityError as error:
                unknown[box] = str(error)
        strange = (path for path in sorted(self._folder.glob("*.jsonl")) if not path.is_file())
        return known, unknown | {Box(path): f"{path}: is not a regular file; remove it" for path in strange}

    def pending(self) -> tuple[int, str]:
        """Returns how many letters wait in all boxes, and the first reason, or ""."""
        waits = {box: box.waits() for box in self.boxes()}
        reasons = (reason for box, count in waits.items() if count and (reason := box.notes().reason))
        return sum(waits.values()), next(reasons, "")


def _age(box: Box) -> float:
    try:
        return box.opening().entry.at_ms
    except IntegrityError:
        return math.inf


def _end_of_lines(path: Path) -> int:
    """Returns the offset at which the last whole line ends."""
    with open_file(path) as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - (1 << 16))
            file.seek(start)
            last = file.read(end - start).rfind(b"\n")
            if last >= 0:
                return start + last + 1
            end = start
    return 0


def record_uri(workspace: Workspace) -> str:
    """Returns the address of tracking: the server that the workspace names, else its own database."""
    return workspace.tracking_uri or own_record(workspace)


def own_record(workspace: Workspace) -> str:
    """Returns the address of the workspace's own database."""
    return f"sqlite:///{workspace.tracking_database}"


def meant_for(workspace: Workspace, uri: str) -> str:
    """Returns the server's name in letters: without secrets, and unchanged if the workspace is moved."""
    return "workspace" if uri == own_record(workspace) else shown(uri)
