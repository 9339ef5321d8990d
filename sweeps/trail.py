"""The decision trail: free notes, numbered, with time and author; reports print those that concern them, in order.

A note is one small document, `notes/000001.json`, written whole and never changed. Nothing is derived from it and
nothing proves it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import read_json, shipped_schema, validate
from lanelock.sweeps.pages.page import Block, Heading, Points
from lanelock.sweeps.pages.text import one_line, printable
from lanelock.sweeps.provenance import user
from lanelock.sweeps.workspace import Workspace, write_new, writing

FORMAT = "lanelock.note/1"


@dataclass(frozen=True, slots=True)
class Subject:
    """What a note is about."""

    kind: str  # "sweep", "campaign" or "lock"
    name: str  # of a lock its id, of a campaign its run


@dataclass(frozen=True, slots=True)
class Note:
    """One entry of the trail."""

    number: int  # from 1
    at: str  # UTC, ISO 8601
    who: str
    text: str
    on: Subject | None  # None: the workspace as a whole

    @property
    def document(self) -> dict[str, Any]:
        """JSON under `note.schema.json`."""
        return {"format": FORMAT, **asdict(self)}

    def __str__(self) -> str:
        about = "" if self.on is None else f" on {self.on.kind} {self.on.name}"
        return printable(f"{self.number}  {self.at}  {one_line(self.who)}{about}: {one_line(self.text)}")


def add_note(workspace: Workspace, text: str, on: Subject | None = None, who: str | None = None) -> Note:
    """Writes a note after all that there are, and returns it."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    with writing(workspace.root):
        workspace.notes.mkdir(parents=True, exist_ok=True)
        while True:
            note = Note(1 + max(map(_number, _files(workspace)), default=0), at, who or user(), text, on)
            validate(note.document, shipped_schema("note"), "note")
            if write_new(workspace.notes / f"{note.number:06d}.json", f"{json.dumps(note.document, indent=2)}\n"):
                return note


def notes(workspace: Workspace, concerns: Callable[[Subject | None], bool] = lambda on: True) -> tuple[Note, ...]:
    """Returns the notes whose subject `concerns` takes, in order. Raises IntegrityError for one that is not whole."""
    return tuple(note for note in map(_read, _files(workspace)) if concerns(note.on))


def trail(found: tuple[Note, ...]) -> Iterator[Block]:
    """Yields the section of a report that holds these notes; nothing without any."""
    if found:
        yield Heading(2, "Notes")
        yield Points(tuple(map(str, found)))


def _files(workspace: Workspace) -> list[Path]:
    return sorted(workspace.notes.glob("[0-9]*.json"), key=_number)


def _number(path: Path) -> int:
    return int(path.stem) if path.stem.isdigit() else 0


def _read(path: Path) -> Note:
    try:
        row = read_json(path)
        validate(row, shipped_schema("note"), str(path))
    except PolicyError as error:
        raise IntegrityError(f"not a whole note: {error}") from None
    if row["number"] != _number(path):
        raise IntegrityError(f"{path}: /number: states {row['number']}, another than its file")
    on = None if row["on"] is None else Subject(**row["on"])
    return Note(row["number"], row["at"], row["who"], row["text"], on)
