"""Which lock each alias points to: append-only records of moves, each chained to the record before it.

The records are the truth; the model registry follows them. A record is one file, numbered without gaps and created
exclusively: if two processes move an alias at once, one is first and the other notices. A rollback is a record too;
no record is ever removed.

Each record holds the digest of the one before, and the head holds how many there are and the digest of the newest, so
that no record can be edited or removed alone. Before a record is written its head is staged; afterwards that takes the
place of the old one. Whenever a process is killed, one of the two fits. Where a key is configured, it signs the record
and the head. Whoever may write here can still put an older state back whole: `moves` in `trust.json` and the registry
hold the head outside.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lanelock.engine.keep.receipts import file_digest, text_of
from lanelock.policies import IntegrityError
from lanelock.sweeps.proof.checks import whole
from lanelock.sweeps.proof.trust import Head, Key, Trust, trust_of
from lanelock.sweeps.provenance import user
from lanelock.sweeps.workspace import Workspace, folder_locked, write_new, write_whole, writing

if TYPE_CHECKING:
    from lanelock.sweeps.proof.envelopes import SigningKey

PROMOTE, ROLLBACK = "promote", "rollback"
FORMAT, HEAD_FORMAT = "lanelock.move/2", "lanelock.head/1"
HEAD, STAGED = "head.json", "head.next.json"


@dataclass(frozen=True, slots=True)
class Standing:
    """The target of a move: a lock, and what was known about it at that time."""

    lock_id: str
    sweep: str
    engine: str
    pack: str  # digest of the candidate's pack
    verdict: str  # of the certification, or of the lane without a certification
    evidence: str | None  # name of the evidence pack's folder
    profile: str | None = None  # of the certification; None: without one, or its gates have no profiles

    def __str__(self) -> str:
        profile = "" if self.profile is None else f" by profile {self.profile}"
        return f"{self.sweep} ({self.lock_id[:12]}, {self.verdict}{profile})"

    @property
    def document(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None or name != "profile"}


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
    approvals: tuple[Mapping[str, Any], ...] = ()  # the envelopes over the lock and its evidence
    signed_by: Key | None = None
    format: str | None = None  # None: made before moves had a head

    @classmethod
    def of(cls, document: Mapping[str, Any], where: str) -> Move:
        """Returns the move in a record. Raises IntegrityError if its signature does not hold."""
        fields = {name: value for name, value in document.items() if name != "envelope"}
        to, approvals = Standing(**document["to"]), tuple(document.get("approvals", ()))
        signer = signer_of(document, "move", _name(document["number"]), where)
        return cls(**{**fields, "to": to, "approvals": approvals, "signed_by": signer})

    @property
    def name(self) -> str:
        return _name(self.number)

    def as_document(self, key: SigningKey | None = None) -> dict[str, Any]:
        """Returns JSON under `move.schema.json`, signed if there is a key."""
        body = {name: value for name, value in asdict(self).items() if value is not None or name in ("held", "before")}
        body["to"] = self.to.document
        body["approvals"] = [dict(envelope) for envelope in self.approvals]
        return _sealed(body, "move", self.name, self.signed_by, key)


def moves(workspace: Workspace, trust: Trust | None = None) -> tuple[Move, ...]:
    """Returns every move, oldest first.

    Raises IntegrityError if a record is missing or was changed, or if `trust` (default: the workspace's own) asks for
    signatures that a move does not have.
    """
    return _read(workspace, trust_of(workspace) if trust is None else trust)[0]


def head(workspace: Workspace) -> Head | None:
    """Returns how many moves there are and the digest of the newest; None if there are none. Raises as `moves` does."""
    return _read(workspace, trust_of(workspace))[1]


def _read(workspace: Workspace, trust: Trust) -> tuple[tuple[Move, ...], Head | None]:
    folder = workspace.promotions
    if not os.path.lexists(folder):
        _check_anchor(workspace, trust, [])
        return (), None
    if not folder.is_dir():
        raise IntegrityError(f"{folder}: not a folder; it holds the moves of the aliases")
    history: list[Move] = []
    digests: list[str] = []
    stacks: dict[str, list[Standing]] = {}  # alias -> its targets, as `stack` gives them
    with folder_locked(folder, shared=True):
        for path in sorted(folder.glob("[0-9]*.json")):
            history.append(_following(stacks, digests, path))
            digests.append(file_digest(path))
        _check_head(folder, history, digests)
    _check_anchor(workspace, trust, digests)
    for move in history[trust.moves.count if trust.moves else 0 :]:
        _check_signatures(folder / move.name, move, trust)
    return tuple(_named(move, trust) for move in history), Head(len(digests), digests[-1]) if digests else None


def _following(stacks: dict[str, list[Standing]], digests: Sequence[str], path: Path) -> Move:
    """Returns the move in the next file, and moves its alias in `stacks`. Raises IntegrityError if it cannot follow."""
    move = Move.of(whole(path, "move", "record"), str(path))
    before = digests[-1] if digests else None
    if move.number != len(digests) + 1 or move.name != path.name:
        raise IntegrityError(f"{path}: the record before it is missing: moves are numbered without gaps")
    if move.before != before:
        raise IntegrityError(f"{path}: /before: states {move.before}, the record before it digests to {before}")
    targets = stacks.setdefault(move.alias, [])
    held = targets[-1].lock_id if targets else None
    if move.held != held:
        raise IntegrityError(f"{path}: /held: states {move.held}, but {move.alias} pointed to {held}")
    if move.kind == ROLLBACK and (len(targets) < 2 or move.to != targets[-2]):
        raise IntegrityError(f"{path}: /to: a rollback leads to the lock before the present one, and this is another")
    _push(targets, move)
    return move


def _check_head(folder: Path, history: Sequence[Move], digests: Sequence[str]) -> None:
    """Raises IntegrityError if neither the head nor the staged one is that of these records."""
    present = folder / HEAD
    if not os.path.lexists(present) and all(move.format is None for move in history):
        return  # made before there was a head; the next move writes it
    stated = [_head_in(path) for path in (present, folder / STAGED) if os.path.lexists(path)]
    newest = history[-1] if history else None
    if newest is not None and (Head(newest.number, digests[-1]), newest.signed_by) in stated:
        return
    found = f"there are {len(digests)} moves here" + (f", the newest digests to {digests[-1]}" if digests else "")
    if stated:
        (count, digest), signer = (stated[0][0].count, stated[0][0].newest), stated[0][1]
        by = "" if signer is None else f", signed by {signer.called}"
        raise IntegrityError(
            f"{present}: states {count} moves, the newest {digest}{by}; {found}: a record was changed or removed"
        )
    raise IntegrityError(f"{present}: no such file; {found}, and the head is written with them: it was removed")


def _head_in(path: Path) -> tuple[Head, Key | None]:
    document = whole(path, "head", "head of moves")
    return Head(document["count"], document["newest"]), signer_of(document, "head", HEAD, str(path))


def _check_anchor(workspace: Workspace, trust: Trust, digests: Sequence[str]) -> None:
    """Raises IntegrityError if the moves do not begin as the trust file states."""
    if (anchor := trust.moves) is None:
        return
    found = digests[anchor.count - 1] if anchor.count <= len(digests) else "missing"
    if found != anchor.newest:
        raise IntegrityError(
            f"{workspace.promotions / _name(anchor.count)}: {trust.where} states, at /moves, that it digests to "
            f"{anchor.newest}; it is {found}"
        )


def _check_signatures(path: Path, move: Move, trust: Trust) -> None:
    """Raises IntegrityError if a move lacks the signatures that its alias asks for."""
    if move.alias not in trust.aliases:
        return
    from lanelock.sweeps.proof.envelopes import approvers  # Ed25519 takes a while, which unsigned moves need not pay

    approved = approvers(move.approvals, move.to.lock_id, trust, str(path)) if move.kind == PROMOTE else None
    if (lacking := trust.unmet(move.alias, move.signed_by, approved)) is not None:
        older = f"if the move is older than {trust.where}, state there, at /moves, what {HEAD} states"
        raise IntegrityError(f"{path}: the move was not allowed: {lacking} ({older})")


def _named(move: Move, trust: Trust) -> Move:
    """Returns a move whose signer has the name and the roles that `trust` gives, not those that the record claims."""
    return move if move.signed_by is None else replace(move, signed_by=trust.known(move.signed_by.public))


def signer_of(document: Mapping[str, Any], kind: str, name: str, where: str) -> Key | None:
    """Returns who signed a record; None if nobody did. Raises IntegrityError if the signature does not hold."""
    if "signed_by" not in document and "envelope" not in document:
        return None
    from lanelock.sweeps.proof import envelopes  # as above

    return envelopes.sealed_by(document, kind, name, where)


def _sealed(body: dict[str, Any], kind: str, name: str, signer: Key | None, key: SigningKey | None) -> dict[str, Any]:
    body.pop("signed_by", None)
    if key is None or signer is None:
        return body
    from lanelock.sweeps.proof import envelopes  # as above

    return envelopes.sealed(body, kind, name, key, signer.name)


def holders(workspace: Workspace) -> dict[str, Move]:
    """Returns alias -> its last move."""
    return {move.alias: move for move in moves(workspace)}


def stack(history: Sequence[Move], alias: str) -> list[Standing]:
    """Returns the target of an alias, last, after those that rollbacks lead to; empty if it was never moved."""
    targets: list[Standing] = []
    for move in history:
        if move.alias == alias:
            _push(targets, move)
    return targets


def _push(targets: list[Standing], move: Move) -> None:
    """Moves an alias from the last of its targets to another."""
    if move.kind == ROLLBACK:
        targets.pop()
    else:
        targets.append(move.to)


def new_move(
    history: Sequence[Move], workspace: Workspace, kind: str, alias: str, to: Standing, *, forced: bool, why: str
) -> Move:
    """Returns the record that would follow `history`, not yet written."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    move = Move(0, at, user(), kind, alias, None, to, forced, why, None, format=FORMAT)
    return following(history, workspace, move)


def following(history: Sequence[Move], workspace: Workspace, move: Move) -> Move:
    """Returns a move as it would follow `history`."""
    targets = stack(history, move.alias)
    held = targets[-1].lock_id if targets else None
    before = file_digest(workspace.promotions / history[-1].name) if history else None
    return replace(move, number=len(history) + 1, held=held, before=before)


def append(workspace: Workspace, move: Move, key: SigningKey | None = None) -> bool:
    """Writes a record and the head, whole and durably, signed if `move.signed_by` and its `key` are there.

    Returns False if another process wrote this number first.
    """
    folder = workspace.promotions
    text = text_of(move.as_document(key))
    newest = {"format": HEAD_FORMAT, "count": move.number, "newest": hashlib.sha256(text.encode()).hexdigest()}
    staged = folder / STAGED
    with writing(workspace.root):
        folder.mkdir(parents=True, exist_ok=True)
        with folder_locked(folder) as handle:
            if (folder / move.name).exists():
                return False
            if staged.is_file() and _head_in(staged)[0].count == move.number - 1:
                staged.replace(folder / HEAD)  # the process that wrote the newest record was killed
            write_whole(staged, text_of(_sealed(newest, "head", HEAD, move.signed_by, key)))
            if not write_new(folder / move.name, text):
                return False
            staged.replace(folder / HEAD)
            with suppress(OSError):  # not every file system syncs folders
                os.fsync(handle)
    return True


def _name(number: int) -> str:
    return f"{number:06d}.json"


def signature_of(move: Move) -> str:
    """Returns who signed a move, for a person."""
    return "unsigned" if move.signed_by is None else f"signed by {move.signed_by}"


def as_line(move: Move) -> str:
    """Returns a move as a line of text."""
    before = "nothing" if move.held is None else move.held[:12]
    forced = ", forced" if move.forced else ""
    why = f": {' '.join(move.why.split())}" if move.why else ""
    who = f"{move.who} ({signature_of(move)})"
    return f"{move.number}  {move.at}  {who}  {move.kind} {move.alias}: {before} -> {move.to}{forced}{why}"
