"""Promotion: moving a name onto a lock, by rule, and letting the model registry follow.

What each name asks of a lock:

    candidate   the lock verifies
    authority   and its lane closed GO
    last-good   and it is certified, at any band
    certified   and it is certified at the highest band

and of all: that the lock's parent, the authority it was tuned from, is the name's present holder, so that nobody
promotes past a candidate he has not seen. A rule that is not met is an answer (`Promotion.refusals`), not an
error; a lock or evidence that does not verify is an IntegrityError.

The order is: verify, write the record, then let the registry follow. The records are the truth and the registry a view
of them: where a process was killed in between, or the registry was away, the next call of `follow` brings it there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lanelock.engine.keep.receipts import text_of
from lanelock.engine.keep.staging import place, staging
from lanelock.engine.protocol import Serving
from lanelock.policies import LaneError
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.proof.checks import Watch, hold
from lanelock.sweeps.proof.evidence import evidence_of, gates_of, verify_evidence
from lanelock.sweeps.proof.lock import Lock, verify_lock
from lanelock.sweeps.proof.lock_files import FILE, carry_world
from lanelock.sweeps.proof.moves import (
    PROMOTE,
    ROLLBACK,
    Move,
    Standing,
    append,
    earlier,
    moves,
    new_move,
    stack,
)
from lanelock.sweeps.workspace import Workspace, writing


@dataclass(frozen=True, slots=True)
class Rule:
    """What a name asks of a lock beyond that it verifies."""

    accepted: bool  # its lane closed GO
    certified: bool  # there is evidence of a pass
    highest: bool  # and of the highest band


ALIASES: Mapping[str, Rule] = {
    "candidate": Rule(accepted=False, certified=False, highest=False),
    "authority": Rule(accepted=True, certified=False, highest=False),
    "last-good": Rule(accepted=True, certified=True, highest=False),
    "certified": Rule(accepted=True, certified=True, highest=True),
}


@dataclass(frozen=True, slots=True)
class Promotion:
    """What came of asking for a move."""

    move: Move  # as written, or as it would be
    refusals: tuple[str, ...]  # rules that are not met
    written: bool


def promote(
    path: Path,
    alias: str,
    workspace: Workspace,
    *,
    force: bool = False,
    why: str = "",
    dry_run: bool = False,
    world: Path | None = None,
    watch: Watch = lambda check: None,
) -> Promotion:
    """Moves `alias` onto the lock at `path`, where the rules allow.

    `force` sets aside the rule on the parent, and that alone. Raises IntegrityError where lock or evidence was changed,
    PolicyError where the world it stands on is not there, LaneError on a name that is none.
    """
    rule, lock, history = _rule(alias), Lock.read(path), moves(workspace)
    if not isinstance(engine_named(lock.engine).own, Serving):
        raise LaneError(f"cannot register a model: engine {lock.engine} has no serve()")
    to, evidence = _standing(lock, workspace)
    refusals = [*_unmet(lock, rule, to, evidence), *_stale(lock, alias, history, force)]
    move = new_move(history, workspace, PROMOTE, alias, to, forced=force, why=why)
    if refusals:
        return Promotion(move, tuple(refusals), False)
    hold(path, "lock", verify_lock(path, world, watch))
    if rule.certified and evidence is not None:
        hold(evidence, "evidence", verify_evidence(evidence, watch))
    if dry_run:
        return Promotion(move, (), False)
    _carry(lock, workspace, world)
    return _move(workspace, move, history)


def rollback(alias: str, workspace: Workspace, *, why: str = "", dry_run: bool = False) -> Promotion:
    """Moves `alias` back onto what it stood on before its present holder was promoted.

    The lock is held to its own id, not run again: a rollback must be possible when the code in place is what broke.
    """
    _rule(alias)
    history = moves(workspace)
    held, to = stack(history, alias), earlier(history, alias)
    if not held:
        raise LaneError(f"{alias}: it stands on nothing in {workspace.root}; promote a lock to it first")
    if to is None:
        move = new_move(history, workspace, ROLLBACK, alias, held[-1], forced=False, why=why)
        return Promotion(
            move, (f"{alias} has stood on nothing before {held[-1].sweep}: there is nothing to go back to",), False
        )
    Lock.read(workspace.promoted / to.lock_id / FILE)
    move = new_move(history, workspace, ROLLBACK, alias, to, forced=False, why=why)
    return Promotion(move, (), False) if dry_run else _move(workspace, move, history)


def _rule(alias: str) -> Rule:
    if alias not in ALIASES:
        raise LaneError(f"{alias}: not a name that can be moved: {', '.join(ALIASES)}")
    return ALIASES[alias]


def _standing(lock: Lock, workspace: Workspace) -> tuple[Standing, Path | None]:
    """What is known of a lock here, and its best evidence."""
    known = evidence_of(lock.lock_id, workspace)
    folder, document = known[0] if known else (None, None)
    verdict = lock.verdict if document is None else document["verdict"]
    name = None if folder is None else folder.name
    return Standing(lock.lock_id, lock.sweep, lock.engine, lock.candidate_pack.digest, verdict, name), folder


def _unmet(lock: Lock, rule: Rule, to: Standing, evidence: Path | None) -> list[str]:
    """The rules on the lock itself that are not met."""
    found = []
    if rule.accepted and lock.decision != "GO":
        found.append(f"its lane closed {lock.decision}: {lock.reason}")
    verdicts = () if evidence is None else gates_of(evidence).verdicts
    passes = [str(verdict) for verdict in verdicts if verdict.passed]
    if rule.certified and to.verdict not in passes:
        graded = "it was never certified here" if evidence is None else f"its certification says {to.verdict}"
        found.append(f"{graded}; see: lanelock certify {lock.sweep}")
    elif rule.highest and to.verdict != passes[-1]:
        found.append(f"its certification says {to.verdict}, {passes[-1]} is needed")
    return found


def _stale(lock: Lock, alias: str, history: tuple[Move, ...], force: bool) -> list[str]:
    """Whether the lock was tuned from something else than what the name stands on."""
    stands = stack(history, alias)
    if not stands:
        return []
    held = stands[-1]
    if held.lock_id == lock.lock_id:
        return [f"{alias} stands on it already"]
    if force or held.pack == lock.authority.digest:
        return []
    parent, there = lock.authority.digest[:12], held.pack[:12]
    return [
        f"its parent is pack {parent}, but {alias} stands on {held.sweep}, pack {there}; "
        "tune from that, or give --force with --why"
    ]


def _carry(lock: Lock, workspace: Workspace, world: Path | None) -> None:
    """Keeps what a promoted lock needs to be served, whatever becomes of the file it was promoted from."""
    with writing(workspace.root), staging(workspace.promoted, lock.lock_id) as folder:
        (folder / FILE).write_text(text_of(lock.document), encoding="utf-8")
        if lock.world_source == "imported" and world is not None:
            carry_world(world, folder)
        place(folder, workspace.promoted / lock.lock_id)


def _move(workspace: Workspace, move: Move, seen: tuple[Move, ...]) -> Promotion:
    """Writes the record, unless the name was moved since it was looked at."""
    while not append(workspace, move):
        now = moves(workspace)
        if theirs := next((other for other in now[len(seen) :] if other.alias == move.alias), None):
            told = (
                f"{theirs.who} moved {theirs.alias} to {theirs.to.sweep} meanwhile (record {theirs.number}); look again"
            )
            return Promotion(move, (told,), False)
        move = new_move(now, workspace, move.kind, move.alias, move.to, forced=move.forced, why=move.why)
    return Promotion(move, (), True)
