"""The outbox: letters to the record, waiting in the workspace until they are delivered.

One box a sweep and record. A box is a file of lines, one letter each, only appended to; beside it stands how far
it was delivered. A line without its end is what a killed writer left: it is never read, and is cut off before the
next one is written. The mark may lag behind the record, never run ahead of it, and since a letter may be delivered
twice, lagging does no harm. A box goes when its last letter, the sweep's close, is delivered.

What is appended outlives its process, killed or not. Should the machine itself go down, the last letters may be lost:
the study holds what they said, and a resumed sweep puts them again. A refusal, which has no study behind it, is synced
to the disk, and so is a close, since after it nobody resumes.

One process at a time delivers from a box. Appending and removing exclude each other, so nothing is put into a box
that goes.
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
from lanelock.sweeps.record.letters import Heading, Letter
from lanelock.sweeps.workspace import Workspace, shown, writing


@dataclass(frozen=True, slots=True)
class Box:
    """The letters of one sweep to one record."""

    path: Path

    def put(self, letters: Sequence[Letter], *, synced: bool = False) -> None:
        """Appends letters, whole. Raises WorkspaceError where the disk refuses."""
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
        """The first letter: it opens the sweep. Raises IntegrityError where it does not."""
        for letter, _ in self._letters(0):
            if letter.heading is not None:
                return letter
            break
        raise IntegrityError(f"{self.path}: its first letter does not open a sweep; it was changed by hand")

    def trials(self) -> frozenset[int]:
        """The trials that were put here, delivered or not."""
        return frozenset(
            letter.trial for letter, _ in self._letters(0) if letter.kind == "trial" and letter.trial is not None
        )

    def waiting(self) -> Iterator[tuple[Letter, int]]:
        """Letters not yet delivered, in order, each with the mark that says it was."""
        return self._letters(self._mark())

    def waits(self) -> int:
        """How many letters wait."""
        if not self.path.exists():
            return 0
        with self.path.open("rb") as file:
            file.seek(self._mark())
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def delivered(self, mark: int) -> None:
        """Notes that everything before `mark` is in the record."""
        with writing(self.path.parent):
            staged = self._marked.with_suffix(".new")
            staged.write_text(str(mark))
            staged.replace(self._marked)

    def remove(self, mark: int) -> bool:
        """Removes the box if nothing was put after `mark`; whether it did."""
        with self._alone():
            if self.path.stat().st_size != mark:
                return False
            self._marked.unlink(missing_ok=True)  # first: a box without a mark is delivered again, never skipped
            self.path.unlink()
            return True

    @contextmanager
    def delivering(self, seconds: float = 0) -> Iterator[bool]:
        """Holds the box for delivery; False where another process held it all that time."""
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

    def _alone(self) -> FileLock:
        return FileLock(self.path.with_name(".lock"))

    def _mark(self) -> int:
        try:
            mark = int(self._marked.read_text())
        except (FileNotFoundError, ValueError):  # none yet, or torn: everything is delivered again
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
                yield self._letter(line), mark

    def _letter(self, line: bytes) -> Letter:
        try:
            return Letter.read(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{self.path}: not a letter: {error}; it was changed by hand") from None


class Outbox:
    """All boxes of a workspace."""

    def __init__(self, workspace: Workspace) -> None:
        self._folder = workspace.outbox

    def box(self, heading: Heading) -> Box:
        """The box of a sweep's letters to a record, whether or not there is anything in it."""
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        meant = hashlib.sha256(f"{heading.study} {heading.record}".encode()).hexdigest()[:12]
        return Box(self._folder / f"{heading.sweep}.{meant}.jsonl")

    def boxes(self) -> tuple[Box, ...]:
        """Those with anything in them, the sweep begun first in front."""
        found = [Box(path) for path in self._folder.glob("*.jsonl") if _end_of_lines(path)]
        return tuple(sorted(found, key=lambda box: (box.opening().entry.at_ms, box.path.name)))


def _end_of_lines(path: Path) -> int:
    """Where the last whole line ends."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - (1 << 16))
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def record_uri(workspace: Workspace) -> str:
    """Returns the address of the record: what the workspace names, else its own database."""
    return workspace.tracking_uri or own_record(workspace)


def own_record(workspace: Workspace) -> str:
    """The workspace's own database."""
    return f"sqlite:///{workspace.tracking_database}"


def meant_for(workspace: Workspace, uri: str) -> str:
    """How a letter names its record: without a password, and the same wherever the workspace is moved."""
    return "workspace" if uri == own_record(workspace) else shown(uri)
