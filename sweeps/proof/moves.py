"""Which lock each alias points to: append-only records of moves, each chained to the record before it.

The records are the truth; the model registry follows them. A record is one file, numbered without gaps and created
exclusively: if two processes move an alias at once, one is first and the other notices. A rollback is a record too;
no record is ever removed.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from uuid import uuid4

from lanelock.engine.keep.receipts import file_digest, text_of
from lanelock.policies import IntegrityError
from lanelock.sweeps.proof.checks import whole
from lanelock.sweeps.workspace import Workspace, writing

PROMOTE, ROLLBACK = "promote", "rollback"


@dataclass(frozen=True, slots=True)
class Standing:
    """The target of a move: a lock, and what was known about it at that time."""

    lock_id: str
    sweep: str
    engine: str
    pack: str  # digest of the candidate's pack
    verdict: str  # of the certification, or of the lane without a certification
    evidence: str | None  # name of the evidence pack's folder

    def __str__(self) -> str:
        return f"{self.sweep} ({self.lock_id[:12]}, {self.verdict})"


@dataclass(frozen=True, slots=True)
class Move:
    """One move of an alias."""

    number: int  # from 1, without gaps
    at: str  # UTC, ISO 8601
    who: str
    kind: str  # PROMOTE or ROLLBACK
    alias: str
    held: str | None  # lock_id that the alias pointed to before
    to: Standing
    forced: bool  # the rule that the lock's parent is the alias's present lock was overridden
    why: str
    before: str | None  # SHA-256 of the record before this one

    @property
    def name(self) -> str:
        return f"{self.number:06d}.json"


def moves(workspace: Workspace) -> tuple[Move, ...]:
    """Returns every move, oldest first. Raises IntegrityError if a record is missing or was changed."""
    history: list[Move] = []
    before = None
    for number, path in enumerate(sorted(workspace.promotions.glob("[0-9]*.json")), start=1):
        document = whole(path, "move", "record")
        move = Move(**{**document, "to": Standing(**document["to"])})
        if move.number != number or move.name != path.name:
            raise IntegrityError(f"{path}: the record before it is missing: moves are numbered without gaps")
        if move.before != before:
            raise IntegrityError(f"{path}: /before: states {move.before}, the record before it digests to {before}")
        history.append(move)
        before = file_digest(path)
    return tuple(history)


def holders(workspace: Workspace) -> dict[str, Move]:
    """Returns alias -> its last move."""
    return {move.alias: move for move in moves(workspace)}


def stack(history: Sequence[Move], alias: str) -> list[Standing]:
    """Returns the target of an alias, last, after those that rollbacks lead to; empty if it was never moved."""
    targets: list[Standing] = []
    for move in history:
        if move.alias == alias:
            if move.kind == ROLLBACK:
                targets.pop()
            else:
                targets.append(move.to)
    return targets


def new_move(
    history: Sequence[Move], workspace: Workspace, kind: str, alias: str, to: Standing, *, forced: bool, why: str
) -> Move:
    """Returns the record that would follow `history`, not yet written."""
    targets = stack(history, alias)
    present = targets[-1].lock_id if targets else None
    before = file_digest(workspace.promotions / history[-1].name) if history else None
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Move(len(history) + 1, at, _who(), kind, alias, present, to, forced, why, before)


def append(workspace: Workspace, move: Move) -> bool:
    """Writes a record whole and durably. Returns False if another process wrote this number first."""
    folder = workspace.promotions
    with writing(workspace.root):
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / f".{move.name}.{uuid4().hex}"
        try:
            with staged.open("w", encoding="utf-8") as file:
                file.write(text_of(asdict(move)))
                file.flush()
                os.fsync(file.fileno())
            os.link(staged, folder / move.name)  # atomic, and fails if the name is taken
        except FileExistsError:
            return False
        finally:
            staged.unlink(missing_ok=True)
    return True


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return str(os.getuid())


def as_line(move: Move) -> str:
    """Returns a move as a line of text."""
    before = "nothing" if move.held is None else move.held[:12]
    forced = ", forced" if move.forced else ""
    why = f": {move.why}" if move.why else ""
    return f"{move.number}  {move.at}  {move.who}  {move.kind} {move.alias}: {before} -> {move.to}{forced}{why}"
