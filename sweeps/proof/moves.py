"""Which name stands on which lock: append-only records of moves, each chained to the one before it.

The records are the truth; what a model registry says follows from them. A record is one file, numbered without gaps
and created exclusively, so that of two processes that move a name at once one is first and the other is told. A
rollback is a record too: nothing is ever taken back, only moved on.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from lanelock.engine.keep.receipts import file_digest, text_of
from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import read_json, shipped_schema, validate
from lanelock.sweeps.workspace import Workspace, writing

PROMOTE, ROLLBACK = "promote", "rollback"


@dataclass(frozen=True, slots=True)
class Standing:
    """What a name is moved onto: a lock, and what was known of it."""

    lock_id: str
    sweep: str
    engine: str
    pack: str  # digest of the candidate's pack
    verdict: str  # the certification's, or the lane's where it has none
    evidence: str | None  # folder of the evidence pack

    def __str__(self) -> str:
        return f"{self.sweep} ({self.lock_id[:12]}, {self.verdict})"


@dataclass(frozen=True, slots=True)
class Move:
    """One move of a name."""

    number: int  # from 1, without gaps
    at: str  # UTC, ISO 8601
    who: str
    kind: str  # PROMOTE or ROLLBACK
    alias: str
    held: str | None  # lock_id that the name stood on before
    to: Standing
    forced: bool  # against the rule that the lock's parent is the present holder
    why: str
    before: str | None  # SHA-256 of the record before this one

    @property
    def name(self) -> str:
        return f"{self.number:06d}.json"


def moves(workspace: Workspace) -> tuple[Move, ...]:
    """Every move, oldest first. Raises IntegrityError where one is missing or was changed."""
    found: list[Move] = []
    before = None
    for number, path in enumerate(sorted(workspace.promotions.glob("[0-9]*.json")), start=1):
        move = _read(path)
        if move.number != number or move.name != path.name:
            raise IntegrityError(f"{path}: the record before it is missing: moves are numbered without gaps")
        if move.before != before:
            raise IntegrityError(f"{path}: /before: states {move.before}, the record before it digests to {before}")
        found.append(move)
        before = file_digest(path)
    return tuple(found)


def holders(workspace: Workspace) -> dict[str, Move]:
    """Alias -> the move that put it where it stands."""
    return {move.alias: move for move in moves(workspace)}


def stack(history: Sequence[Move], alias: str) -> list[Standing]:
    """What a name stands on, last, and below it where rollbacks lead, one by one; empty where it was never moved."""
    found: list[Standing] = []
    for move in history:
        if move.alias == alias:
            if move.kind == ROLLBACK:
                found.pop()
            else:
                found.append(move.to)
    return found


def earlier(history: Sequence[Move], alias: str) -> Standing | None:
    """Where a rollback leads: what the name stood on before its present holder was promoted; None where nothing."""
    found = stack(history, alias)
    return found[-2] if len(found) > 1 else None


def new_move(
    history: Sequence[Move], workspace: Workspace, kind: str, alias: str, to: Standing, *, forced: bool, why: str
) -> Move:
    """The record that would follow `history`, not yet written."""
    held = stack(history, alias)
    before = file_digest(workspace.promotions / history[-1].name) if history else None
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Move(len(history) + 1, at, _who(), kind, alias, held[-1].lock_id if held else None, to, forced, why, before)


def append(workspace: Workspace, move: Move) -> bool:
    """Writes a record whole and durably; False where another process wrote one of this number first."""
    folder = workspace.promotions
    with writing(workspace.root):
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / f".{move.name}.{uuid4().hex}"
        try:
            with staged.open("w", encoding="utf-8") as file:
                file.write(text_of(asdict(move)))
                file.flush()
                os.fsync(file.fileno())
            os.link(staged, folder / move.name)  # fails where the name is taken: the one atomic step
        except FileExistsError:
            return False
        finally:
            staged.unlink(missing_ok=True)
    return True


def _read(path: Path) -> Move:
    try:
        document: dict[str, Any] = read_json(path)
        validate(document, shipped_schema("move"), str(path))
    except PolicyError as error:
        raise IntegrityError(f"not a whole record: {error}") from None
    return Move(**{**document, "to": Standing(**document["to"])})


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return str(os.getuid())


def as_line(move: Move) -> str:
    """A move for people."""
    held = "nothing" if move.held is None else move.held[:12]
    forced = ", forced" if move.forced else ""
    why = f": {move.why}" if move.why else ""
    return f"{move.number}  {move.at}  {move.who}  {move.kind} {move.alias}: {held} -> {move.to}{forced}{why}"
