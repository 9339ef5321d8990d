"""Promotion: moving an alias to a lock, by rule.

What each alias asks of a lock:

    candidate   the lock verifies, and agrees with the study of its sweep where that is here
    authority   and its lane closed GO, graded by the engine's own gates
    last-good   and it is certified, at any band, on held-out seeds (4, if the engine's gate file states no number)
    certified   and it is certified at the highest band, on more of them (16)

Where the gate file has profiles, `last-good` and `certified` ask for a certification of the profile that it names for
them, or of its strongest. Gates, bands, profiles and numbers are those of the installed engine, whatever the lock
carries; `weighing` says which certification counts.

With a `trust.json` an alias may also ask for signatures (`trust.py`): its moves must be signed, and a promotion needs
those of so many people on the lock or its evidence; the record carries them.

Every alias also asks that the lock's parent (the authority it was tuned from) is the pack of the alias's present
lock, so that nobody promotes past an unseen candidate. An engine that is frozen (`freezes`) refuses every promotion
until it is reopened; a rollback stays possible, since going back is how an accident is ended. An unmet rule is a result
(`Promotion.refusals`), not an error; a lock or evidence that does not verify raises IntegrityError.

The order is: verify, write the record, update the model registry. The records are the truth and the registry is a view
of them: after a kill in between, or if the registry was away, the next call of `follow` updates it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lanelock.engine.keep.receipts import file_digest, text_of
from lanelock.engine.keep.staging import place, staging
from lanelock.engine.protocol import Publishing
from lanelock.policies import LaneError
from lanelock.policies.documents import shipped
from lanelock.policies.names import inside
from lanelock.scoring.gates import GateSet, Profile
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.proof.checks import Watch, hold
from lanelock.sweeps.proof.envelopes import SigningKey, approvers
from lanelock.sweeps.proof.evidence import INDEX, check_files, verify_evidence
from lanelock.sweeps.proof.freezes import refusal
from lanelock.sweeps.proof.grading import gates_of_engine
from lanelock.sweeps.proof.lock import BEFORE_WHOLE_RUNS, FORMAT, Lock
from lanelock.sweeps.proof.lock_files import FILE, carry_world, promoted
from lanelock.sweeps.proof.moves import PROMOTE, ROLLBACK, Move, Standing, append, following, moves, new_move, stack
from lanelock.sweeps.proof.signatures import approvals_of, carry_signatures
from lanelock.sweeps.proof.trust import Key, Trust, trust_of
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.proof.weighing import Evidence, counting, evidence_of
from lanelock.sweeps.workspace import Workspace, writing


@dataclass(frozen=True, slots=True)
class Rule:
    """What an alias asks of a lock besides that it verifies."""

    accepted: bool  # its lane closed GO, by the engine's own gates
    holdout_seeds: int  # of its certification, where the engine's gate file states no number; 0: it needs none
    highest: bool  # the certification passes the highest band

    @property
    def certified(self) -> bool:
        return self.holdout_seeds > 0


ALIASES: Mapping[str, Rule] = {
    "candidate": Rule(accepted=False, holdout_seeds=0, highest=False),
    "authority": Rule(accepted=True, holdout_seeds=0, highest=False),
    "last-good": Rule(accepted=True, holdout_seeds=4, highest=False),
    "certified": Rule(accepted=True, holdout_seeds=16, highest=True),
}


def aliases_beyond(profile: Profile | None, gates: GateSet) -> tuple[str, ...]:
    """Returns the aliases that ask for a stronger profile than one, whatever else they ask."""
    order = [*gates.profiles]
    met = -1 if profile is None else order.index(profile.name)
    asked = ((alias, gates.asked_profile(alias)) for alias, rule in ALIASES.items() if rule.certified)
    return tuple(alias for alias, needs in asked if needs is not None and order.index(needs.name) > met)


@dataclass(frozen=True, slots=True)
class Promotion:
    """The result of asking for a move."""

    move: Move  # as written, or as it would be
    refusals: tuple[str, ...]  # unmet rules
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
    key: SigningKey | None = None,
    trust: Trust | None = None,
    proved: set[str] | None = None,
    watch: Watch = lambda check: None,
) -> Promotion:
    """Moves `alias` to the lock at `path`, if the rules allow, and signs the move if there is a key.

    `trust` defaults to the workspace's own. `force` overrides only the rule on the parent. `proved` holds the ids of
    locks and the digests of evidence that the same caller has proved, and gets what this call proves. Raises
    IntegrityError if the lock, its evidence or a signature was changed, PolicyError if its imported world is not given,
    LaneError for an unknown alias.
    """
    trust = trust_of(workspace) if trust is None else trust
    rule, lock, history = _rule(alias), Lock.read(path), moves(workspace, trust)
    gates = gates_of_engine(lock.engine)
    certified = evidence_of(lock, workspace, gates)
    counted = _counting(rule, certified, gates)
    to, evidence = _standing(lock, counted)
    unmet = [*_unaccepted(lock, rule, gates), *_uncertified(alias, rule, gates, counted, _name(path, workspace))]
    passed = (
        row.folder for row in certified if row.own and row.verdict.passed and (row.strength or not gates.profiles)
    )
    move = new_move(history, workspace, PROMOTE, alias, to, forced=force, why=why)
    move = replace(move, approvals=approvals_of(path, _copy(lock, workspace), *passed), signed_by=_signer(key, trust))
    closed = refusal(workspace, lock.engine, "promotion")
    refusals = [*filter(None, [closed]), *unmet, *_stale(lock, alias, history, force), *_unsigned(move, trust)]
    if refusals:
        return Promotion(move, tuple(refusals), False)
    proved = set() if proved is None else proved
    if lock.lock_id not in proved:
        hold(path, "lock", verify_lock(path, world, watch, workspace))
        proved.add(lock.lock_id)
    if evidence is not None and (index := file_digest(evidence / INDEX)) in proved:
        check_files(evidence)
    elif evidence is not None:
        hold(evidence, "evidence", verify_evidence(evidence, watch, with_lock=False))
        proved.add(index)
    if dry_run:
        return Promotion(move, (), False)
    _carry(lock, workspace, world)
    with writing(workspace.root):
        carry_signatures(move.approvals, _copy(lock, workspace))
    return _move(workspace, move, history, trust, key)


def rollback(
    alias: str,
    workspace: Workspace,
    *,
    why: str = "",
    dry_run: bool = False,
    key: SigningKey | None = None,
    trust: Trust | None = None,
) -> Promotion:
    """Moves `alias` back to the lock it pointed to before the present one was promoted; signed if there is a key.

    The lock's id is checked, but nothing is run: a rollback must work even if the installed code is what broke.
    """
    _rule(alias)
    trust = trust_of(workspace) if trust is None else trust
    history = moves(workspace, trust)
    targets = stack(history, alias)
    if not targets:
        raise LaneError(f"{alias}: it points to no lock in {workspace.root}; promote a lock to it first")
    to = targets[-2] if len(targets) > 1 else targets[-1]
    move = new_move(history, workspace, ROLLBACK, alias, to, forced=False, why=why)
    move = replace(move, signed_by=_signer(key, trust))
    if len(targets) == 1:
        return Promotion(move, (f"{alias} pointed to no lock before {to.sweep}: nothing to roll back to",), False)
    if refusals := _unsigned(move, trust):
        return Promotion(move, refusals, False)
    Lock.read(promoted(to.lock_id, workspace))
    return Promotion(move, (), False) if dry_run else _move(workspace, move, history, trust, key)


def _rule(alias: str) -> Rule:
    if alias not in ALIASES:
        raise LaneError(f"{alias}: not an alias; the aliases are {', '.join(ALIASES)}")
    return ALIASES[alias]


def _counting(rule: Rule, certified: Sequence[Evidence], gates: GateSet) -> Evidence | None:
    """Returns the certification that counts for an alias; None without any, or if the alias asks for none."""
    asked = gates.verdicts[-1] if rule.highest else gates.of_band(gates.bands[0])
    return counting(certified, asked) if rule.certified else None


def _standing(lock: Lock, counted: Evidence | None) -> tuple[Standing, Path | None]:
    """Returns a lock as the target of a move, and the evidence to prove before it; the record states no other."""
    verdict, folder = (lock.verdict, None) if counted is None else (str(counted.verdict), counted.folder)
    name, profile = (None, None) if counted is None else (counted.folder.name, counted.profile)
    return Standing(lock.lock_id, lock.sweep, lock.engine, lock.candidate_pack.digest, verdict, name, profile), folder


def _unaccepted(lock: Lock, rule: Rule, gates: GateSet) -> Iterator[str]:
    """Yields why a lock stands on `candidate` at most: gates that are not the engine's, or a lane that closed NO_GO."""
    if rule.accepted and not gates.grades_as(lock.gates):
        yield (
            f"it was graded by gates {lock.gates['id']} that are not those of the installed engine {lock.engine} "
            f"({gates.document['id']}): it can stand on candidate at most"
        )
    if rule.accepted and lock.decision != "GO":
        yield f"its lane closed {lock.decision}: {lock.reason}"
    if rule.accepted and lock.format == BEFORE_WHOLE_RUNS and isinstance(engine_named(lock.engine).own, Publishing):
        yield f"it states no whole runs of its candidate, which {FORMAT} does: play the sweep again"
    if rule.accepted and (failed := [str(seed) for seed, run in lock.whole.items() if run.audit is False]):
        yield f"its candidate, run to the last state, fails the engine's own audit on seeds {', '.join(failed)}"


def _uncertified(alias: str, rule: Rule, gates: GateSet, evidence: Evidence | None, name: str) -> Iterator[str]:
    """Yields what the certification that counts lacks, and what to run."""
    if not rule.certified:
        return
    count, asked = gates.holdout_seeds(alias, rule.holdout_seeds), gates.asked_profile(alias)
    run = f"run: lanelock certify {name} --holdout-seeds {count}"
    if evidence is None:
        yield f"it was never certified here by the gates of its engine; {run}"
    elif not evidence.verdict.passed:
        says = f"its certification {evidence.folder.name} says {evidence.verdict}"
        yield f"{says}, which stands against this lock: tune again for another"
    elif rule.highest and evidence.verdict != gates.verdicts[-1]:
        below = next((name for name, other in ALIASES.items() if other.certified and not other.highest), alias)
        yield f"its certification says {evidence.verdict}, {gates.verdicts[-1]} is needed; {below} takes any band"
    elif asked is not None and evidence.strength <= [*gates.profiles].index(asked.name):
        met = f"meets profile {evidence.profile}" if evidence.profile else "is on seeds that meet no profile"
        yield f"its certification {met}, {alias} needs {asked.name}; {run}"
    elif evidence.holdout_seeds < count:
        yield f"it is certified on {evidence.holdout_seeds} held-out seeds, {alias} needs {count}; {run}"
    elif evidence.left_out:
        seeds = ", ".join(map(str, evidence.left_out))
        yield f"its certification leaves out seeds of the lock: {seeds}; {run}"


def _name(path: Path, workspace: Workspace) -> str:
    """Returns how a user names the lock at `path`."""
    known = path.parent == workspace.locks or shipped("locks", ".json").get(path.stem) == path
    return path.stem if known else str(path)


def _stale(lock: Lock, alias: str, history: tuple[Move, ...], force: bool) -> list[str]:
    """Returns a refusal if the alias points to the lock already, or to another pack than the lock was tuned from."""
    targets = stack(history, alias)
    if not targets:
        return []
    present = targets[-1]
    if present.lock_id == lock.lock_id:
        return [f"{alias} points to it already"]
    if force or present.pack == lock.authority.digest:
        return []
    if present.engine != lock.engine:
        return [
            f"{alias} points to {present.sweep}, a lock of engine {present.engine}; keep a workspace per engine, or "
            "give --force with --why"
        ]
    parent, pack = lock.authority.digest[:12], present.pack[:12]
    return [
        f"its parent is pack {parent}, but {alias} points to {present.sweep}, pack {pack}; "
        "tune from that, or give --force with --why"
    ]


def _signer(key: SigningKey | None, trust: Trust) -> Key | None:
    return None if key is None else trust.known(key.public)


def _unsigned(move: Move, trust: Trust) -> tuple[str, ...]:
    """Returns what the move lacks of the signatures that its alias asks for."""
    approved = approvers(move.approvals, move.to.lock_id, trust, move.to.sweep) if move.kind == PROMOTE else None
    return tuple(filter(None, [trust.unmet(move.alias, move.signed_by, approved)]))


def _copy(lock: Lock, workspace: Workspace) -> Path:
    """Returns where the workspace keeps a promoted lock, whether or not it is there."""
    return inside(workspace.promoted, lock.lock_id, FILE)


def _carry(lock: Lock, workspace: Workspace, world: Path | None) -> None:
    """Copies what a promoted lock needs to be served, so that the file it came from may go."""
    with writing(workspace.root), staging(workspace.promoted, lock.lock_id) as folder:
        (folder / FILE).write_text(text_of(lock.document), encoding="utf-8")
        if lock.world_source == "imported" and world is not None:
            carry_world(lock, world, folder)
        place(folder, _copy(lock, workspace).parent)


def _move(workspace: Workspace, move: Move, seen: tuple[Move, ...], trust: Trust, key: SigningKey | None) -> Promotion:
    """Writes the record, unless another process has moved the alias since `seen` was read."""
    while not append(workspace, move, key):
        now = moves(workspace, trust)
        if theirs := next((other for other in now[len(seen) :] if other.alias == move.alias), None):
            refusal = f"{theirs.who} moved {move.alias} to {theirs.to.sweep} meanwhile (record {theirs.number})"
            return Promotion(move, (f"{refusal}; look again",), False)
        move = following(now, workspace, move)
    return Promotion(move, (), True)
