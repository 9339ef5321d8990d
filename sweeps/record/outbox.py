"""The outbox: letters to the tracking server, kept in the workspace until they are delivered.

There is one box per sweep and server. A box is an append-only file with one letter per line; a mark in a file beside it
states how far it was delivered. A line without its end was left by a killed writer: it is never read, and is cut off
before the next line is written. The mark may lag behind the server but never run ahead of it; a lagging mark does no
harm, because a letter may be delivered twice. A box is removed when its last letter, the sweep's close, is delivered.

Letters outlive their process, even if it is killed. If the machine itself goes down, the last letters may be lost: the
study holds the same, and a resumed sweep puts them again. A refusal, which has no study, is synced to the disk, and so
is a close, because a closed sweep is not resumed.

One process at a time delivers from a box. Appending and removing exclude each other, so no letter is put into a box
that is being removed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from lanelock.policies import IntegrityError
from lanelock.policies.files import open_file, read_bytes
from lanelock.policies.names import inside
from lanelock.sweeps.record.letters import Heading, Letter
from lanelock.sweeps.secrets import shown
from lanelock.sweeps.workspace import Workspace, writing


@dataclass(frozen=True, slots=True)
class Box:
    """The letters of one sweep to one server."""

    path: Path

    def put(self, letters: Sequence[Letter], *, synced: bool = False) -> None:
        """Appends letters, whole or not at all. Raises WorkspaceError if the disk refuses."""
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
        """Returns the first letter. Raises IntegrityError if it does not open a sweep."""
        letter, _ = next(self._letters(0), (None, 0))
        if letter is not None and letter.heading is not None:
            return letter
        raise IntegrityError(f"{self.path}: its first letter does not open a sweep; it was changed by hand")

    def trials(self) -> frozenset[int]:
        """Returns the trials that were put here, delivered or not."""
        return frozenset(
            letter.trial for letter, _ in self._letters(0) if letter.kind == "trial" and letter.trial is not None
        )

    def letters(self) -> Iterator[Letter]:
        """Yields every letter, delivered or not, in order."""
        return (letter for letter, _ in self._letters(0))

    def waiting(self) -> Iterator[tuple[Letter, int]]:
        """Yields the letters that are not delivered, in order, each with its mark for `delivered`."""
        return self._letters(self._mark())

    def waits(self) -> int:
        """Returns how many letters wait."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            file.seek(self._mark())
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def delivered(self, mark: int) -> None:
        """Notes that everything before `mark` is delivered."""
        with writing(self.path.parent):
            staged = self._marked.with_suffix(".new")
            staged.write_text(str(mark))
            staged.replace(self._marked)

    def remove(self, mark: int) -> bool:
        """Removes the box if nothing was put after `mark`. Returns whether it did."""
        with self._alone():
            if self.path.stat().st_size != mark:
                return False
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
    def _closed(self) -> Path:
        return self.path.with_suffix(".closed")

    def _alone(self) -> FileLock:
        return FileLock(self.path.with_name(".lock"))

    def _mark(self) -> int:
        try:
            mark = int(read_bytes(self._marked, 64))
        except (FileNotFoundError, ValueError):  # missing or torn: everything is delivered again
            return 0
        return mark if mark <= self.path.stat().st_size else 0

    def _letters(self, mark: int) -> Iterator[tuple[Letter, int]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(mark)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                mark += len(line)
                try:
                    letter = Letter.read(line)
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise IntegrityError(f"{self.path}: not a letter: {error}; it was changed by hand") from None
                yield letter, mark


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
        """Returns the boxes that are not empty, the oldest sweep first."""
        boxes = [Box(path) for path in self._folder.glob("*.jsonl") if _end_of_lines(path)]
        return tuple(sorted(boxes, key=lambda box: (box.opening().entry.at_ms, box.path.name)))


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
