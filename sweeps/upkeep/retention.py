"""Retention: what a workspace may remove, because it can be made again and no slot keeps it.

What is kept is data: the slots of `retention.json` in the workspace, or of the file that is shipped, in order of
precedence. A slot names sources: an alias, the newest sweep of each lane, what the newest run of each campaign carried
on, what a rollback would lead to, and the published runs of the packs that locks were tuned from. What a source names
stays with its active evidence, its published runs and its trials' artifacts. No file can give up these:

    locks, studies and the records of moves, notes, campaigns and runs, with every metric, parameter and tag
    a lock's own artifacts: those of its sweep and of its trial
    evidence that falls short, which stands against its lock
    what a freeze stands on

All else that is published, exported, certified, tracked or cached is removed. Nothing outside the workspace is: a link
is removed, never what it leads to, and a part of the workspace that is itself a link to another place is left alone.

`survey` decides and changes nothing; `apply` removes what a survey names and writes a summary; `prune_before` does both
as a step of its own before something is run.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lanelock.engine.keep.published import RECEIPT, receipt_in
from lanelock.policies import IntegrityError, LanelockError, PolicyError
from lanelock.policies.canonical import quick_digest
from lanelock.policies.documents import LARGEST, ROOT, read_json, shipped_schema, validate
from lanelock.policies.files import read_bytes
from lanelock.policies.names import inside
from lanelock.sweeps.proof.checks import whole
from lanelock.sweeps.proof.evidence import evidence_in, gates_of, seed_in, verdict_in
from lanelock.sweeps.proof.freezes import freezes_in
from lanelock.sweeps.proof.grading import gates_of_engine
from lanelock.sweeps.proof.lock import FORMAT, Lock
from lanelock.sweeps.proof.lock_files import FILE
from lanelock.sweeps.proof.moves import moves, stack
from lanelock.sweeps.proof.signatures import beside
from lanelock.sweeps.proof.weighing import counting, evidence_of
from lanelock.sweeps.workspace import Workspace, erase, phase_files, size_of, write_document, writing

if TYPE_CHECKING:
    from lanelock.sweeps.record.shelf import SweepRecord  # a survey without tracking does not import MLflow

_TUNED_FROM = "tuned-from"  # the source that names packs, not locks
_ALWAYS, _AGAINST = "always", "stands against its lock"  # slots that no file can give up
_GONE = ".pruned-"  # prefix of a folder that is being removed, so that no reader takes it for a whole one
SHIPPED = ROOT.joinpath("retention.json")  # the slots of a workspace that has no file of its own
_SWEEP = re.compile(r"(?P<series>.+)-(?P<number>\d+)(?P<phase>\..+)?")


@dataclass(frozen=True, slots=True)
class Slot:
    """One thing that a workspace keeps, and the sources that say what it is."""

    name: str
    keeps: tuple[str, ...]  # an alias, "newest-sweep", "campaign", "rollback" or "tuned-from"
    why: str


def slots_of(workspace: Workspace) -> tuple[Slot, ...]:
    """Returns the slots in the workspace's `retention.json`, or the shipped ones. Raises PolicyError off its schema."""
    path = workspace.retention if os.path.lexists(workspace.retention) else SHIPPED
    document = read_json(path)
    validate(document, shipped_schema("retention"), str(path))
    return tuple(Slot(row["slot"], tuple(row["keeps"]), row["why"]) for row in document["slots"])


@dataclass(frozen=True, slots=True)
class Kept:
    """Which slot keeps a thing, and what in it refers to the thing."""

    slot: str
    why: str


@dataclass(frozen=True, slots=True)
class Item:
    """A folder or a sweep's artifacts, and their size."""

    kind: str  # "run", "export", "evidence", "trials" or "cache"
    name: str
    bytes: int
    why: str  # why it is removed, or what refers to it
    slot: str = ""  # which keeps it


@dataclass(frozen=True, slots=True)
class Survey:
    """The items to remove and to keep."""

    remove: tuple[Item, ...]
    keep: tuple[Item, ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.remove)

    def as_document(self) -> dict[str, Any]:
        return {"bytes": self.bytes, "remove": [*map(asdict, self.remove)], "keep": [*map(asdict, self.keep)]}


@dataclass(slots=True)
class _References:
    """Names that something kept refers to; each maps to the first slot that keeps it."""

    runs: dict[str, Kept] = field(default_factory=dict)  # run id
    evidence: dict[str, Kept] = field(default_factory=dict)  # folder
    sweeps: dict[str, Kept] = field(default_factory=dict)  # with all trials
    packs: dict[str, Kept] = field(default_factory=dict)  # digest: every published run of it


def survey(workspace: Workspace, recorded: Iterable[SweepRecord] = (), in_use: Collection[str] = ()) -> Survey:
    """Returns what may be removed. `recorded` are the sweeps on the tracking server, with the size of their artifacts.

    `in_use`: file names of locks that stay with all they refer to, whatever the slots say.

    Raises IntegrityError if a lock or a record of a move was changed: its references are not known.
    """
    slots = slots_of(workspace)
    references = _references(workspace, slots, in_use)
    remove: list[Item] = []
    keep: list[Item] = []

    def weigh(item: Item, kept: Kept | None) -> None:
        if kept is None:
            remove.append(item)
        else:
            keep.append(replace(item, why=kept.why, slot=kept.slot))

    for kind, root in (("run", workspace.runs), ("export", workspace.exports), ("evidence", workspace.evidence)):
        if root.is_symlink():
            outside = Kept(_ALWAYS, f"is a link to {root.readlink()}: what lies outside is not removed")
            weigh(Item(kind, root.name, 0, ""), outside)
    for kind, root in (("run", workspace.runs), ("export", workspace.exports)):
        for folder in _pruned(root):
            kept = references.runs.get(folder.name.partition(".")[0]) or _kept_by_its_pack(folder, references.packs)
            weigh(Item(kind, folder.name, size_of(folder), "no lock that a slot keeps refers to it"), kept)
    for folder in _pruned(workspace.evidence):
        why = "no slot keeps its lock, or a more demanding certification of it counts"
        weigh(Item("evidence", folder.name, size_of(folder), why), references.evidence.get(folder.name))
    newest = _newest([sweep.name for sweep in recorded])
    by_newest = next((slot.name for slot in slots if "newest-sweep" in slot.keeps), None)
    for sweep in recorded:
        follower = newest[_series(sweep.name)]
        is_newest = follower == sweep.name and by_newest is not None
        kept = Kept(by_newest or "", f"the newest of {_series(sweep.name)}") if is_newest else None
        kept = references.sweeps.get(sweep.name, kept)
        room = sum(size for run, size in sweep.artifacts.items() if run not in sweep.locked)
        if room or (kept is None and not sweep.superseded):
            weigh(Item("trials", sweep.name, room, f"superseded by {follower}"), kept)
    if (cache := size_of(workspace.cache)) > 0:
        remove.append(Item("cache", workspace.cache.name, cache, "states are computed again when they are needed"))
    return Survey(tuple(remove), tuple(keep))


def apply(
    surveyed: Survey, workspace: Workspace, supersede: Callable[[str, str], None], before: str | None = None
) -> Path:
    """Removes what a survey names, writes a summary and returns its path.

    `supersede(sweep, by)` marks a sweep's tracking runs and deletes the artifacts of those without a lock. `before`:
    what it makes room for. After an interruption the next survey finds what is left.
    """
    roots = {
        "run": workspace.runs,
        "export": workspace.exports,
        "evidence": workspace.evidence,
        "cache": workspace.root,
    }
    with writing(workspace.root):
        for root in (root for root in roots.values() if not root.is_symlink()):
            for left in root.glob(f"{_GONE}*"):  # by an interrupted call
                erase(left)
        for item in surveyed.remove:
            if item.kind == "trials":
                supersede(item.name, item.why.removeprefix("superseded by "))
            else:
                gone = (roots[item.kind] / item.name).rename(roots[item.kind] / f"{_GONE}{item.name[:200]}")
                erase(gone)
                beside(roots[item.kind] / item.name).unlink(missing_ok=True)  # the signatures on evidence
    at = datetime.now(UTC).isoformat(timespec="seconds")
    path = _unused(workspace.prunes, at.replace(":", ""))
    write_document(path, {"at": at, "before": before, **surveyed.as_document()})
    return path


def _unused(folder: Path, stem: str) -> Path:
    """Returns the path of a new summary: two of one second do not replace each other."""
    for number in count(1):
        path = folder / f"{stem}{'' if number == 1 else f'-{number}'}.json"
        if not path.exists():
            break
    return path


def prune_before(workspace: Workspace, before: str, *, keep: Collection[str] = (), track: bool = True) -> Path:
    """Removes what no slot keeps, before the run that `before` names. Returns the path of the summary.

    `keep`: file names of locks that it goes on with. Without `track`, or where the tracking server is away, the
    artifacts of trials stay until the next time.
    """
    with workspace.alone("prune"):
        supersede, recorded = _tracked(workspace) if track else (_nothing, ())
        return apply(survey(workspace, recorded, keep), workspace, supersede, before)


def _tracked(workspace: Workspace) -> tuple[Callable[[str, str], None], Sequence[SweepRecord]]:
    """Returns how to supersede a tracked sweep, and those that there are; none where the tracking server is away."""
    from lanelock.sweeps.record.mlflow_store import Away  # MLflow: a second that untracked runs are spared
    from lanelock.sweeps.record.shelf import Shelf

    try:
        shelf = Shelf(workspace)
        recorded = {sweep.name: sweep for sweep in shelf.sweeps()}
    except Away:
        return _nothing, ()
    return lambda name, by: shelf.supersede(recorded[name], by), tuple(recorded.values())


def _nothing(name: str, by: str) -> None:
    """Leaves the artifacts of a sweep."""


def _references(workspace: Workspace, slots: Sequence[Slot], in_use: Collection[str]) -> _References:
    """Returns every reference from what is kept."""
    references = _References()
    locks = {lock.lock_id: lock for lock in _locks(workspace)}
    evidence = defaultdict[str, list[Path]](list)
    for folder, document in evidence_in(workspace):
        evidence[document["lock_id"]].append(folder)
        if verdict_in(folder) != gates_of(folder).verdicts[-1]:
            references.evidence[folder.name] = Kept(_AGAINST, f"it says {document['verdict']}")
    roots, named = _roots(workspace, locks.values()), _named(workspace)

    def keep(lock_id: str, kept: Kept) -> None:
        lock = _held_lock(lock_id, kept.why, locks)
        outdone = _outdone(lock, evidence[lock_id], workspace)
        _keep(references, lock, kept, [row for row in evidence[lock_id] if row.name in named or row not in outdone])

    for slot, source in [(row, source) for row in slots for source in row.keeps]:
        if source == _TUNED_FROM:
            for held in locks.values():
                kept = Kept(slot.name, f"{held.sweep} was tuned from its pack")
                references.packs.setdefault(held.authority, kept)
        for lock_id, why in roots.get(source, {}).items():
            keep(lock_id, Kept(slot.name, why))
    for lock_id, why in _always(workspace, in_use):
        keep(lock_id, Kept(_ALWAYS, why))
    return references


def _held_lock(lock_id: str, why: str, locks: Mapping[str, _Held]) -> Lock:
    """Returns a lock that is kept. Raises IntegrityError if it is missing."""
    if lock_id not in locks:
        raise IntegrityError(f"{why}: its lock {lock_id[:12]} is missing")
    return Lock.read(locks[lock_id].path)


def _keep(references: _References, lock: Lock, kept: Kept, evidence: Sequence[Path]) -> None:
    """Adds what a lock that is kept refers to, with that evidence of it which stays."""
    references.sweeps.setdefault(lock.sweep, kept)
    for proof in lock.proof.values():
        references.runs.setdefault(proof.run_id, kept)
    references.packs.setdefault(lock.candidate_pack.digest, kept)
    for folder in evidence:
        references.evidence.setdefault(folder.name, kept)
        for seed in folder.glob("seeds/*.json"):
            references.runs.setdefault(seed_in(seed)["run_id"], kept)


def _outdone(lock: Lock, evidence: Sequence[Path], workspace: Workspace) -> tuple[Path, ...]:
    """Returns the certifications of a lock that count for nothing, since a more demanding one passed as high.

    None where that cannot be told: the engine is not installed, say, or a certification was changed.
    """
    if len(evidence) < 2:
        return ()
    try:
        gates = gates_of_engine(lock.engine)
        weighed = [row for row in evidence_of(lock, workspace, gates) if row.own]
    except LanelockError:
        return ()
    counts = counting(weighed, gates.verdicts[-1])
    return tuple(row.folder for row in weighed if row != counts)


def _named(workspace: Workspace) -> set[str]:
    """Returns the evidence that a move, a freeze or the newest run of a campaign names: it stays with its lock."""
    named = {move.to.evidence for move in moves(workspace)}
    named |= {freeze.evidence["folder"] for freeze in freezes_in(workspace) if freeze.evidence is not None}
    for run in _newest(path.name for path in _folders(workspace.campaigns)).values():
        named |= {document.get("evidence") for _, document in _records(run, workspace)}
    return {name for name in named if name is not None}


def _always(workspace: Workspace, in_use: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yields (lock_id, why) of the locks that no slot may give up."""
    for name in in_use:
        yield Lock.read(inside(workspace.locks, name)).lock_id, "what is run next stands on it"
    for freeze in freezes_in(workspace):
        if freeze.lock is not None:
            yield freeze.lock["lock_id"], f"the freeze of {freeze.run} stands on it"


def _roots(workspace: Workspace, locks: Iterable[_Held]) -> dict[str, dict[str, str]]:
    """Returns source -> lock_id -> what refers to it."""
    roots = defaultdict[str, dict[str, str]](dict)
    history = moves(workspace)
    for alias in dict.fromkeys(move.alias for move in history):
        *below, present = stack(history, alias)
        roots[alias][present.lock_id] = f"{alias} points to it"
        for standing in below:
            roots["rollback"].setdefault(standing.lock_id, f"a rollback of {alias} would lead to it")
    newest = set(_newest(lock.sweep for lock in locks).values())
    for lock in (lock for lock in locks if lock.sweep in newest):
        roots["newest-sweep"][lock.lock_id] = f"the newest of {_series(lock.sweep)}"
    for run in sorted(_newest(path.name for path in _folders(workspace.campaigns)).values()):
        for path in _carried(run, workspace):
            roots["campaign"].setdefault(Lock.read(path).lock_id, f"campaign {run} carried it on")
    return roots


@dataclass(frozen=True, slots=True)
class _Held:
    """What every lock refers to. Its id holds, so nothing in its file was changed."""

    path: Path
    lock_id: str
    sweep: str
    authority: str  # digest of its pack


def _locks(workspace: Workspace) -> Iterator[_Held]:
    """Yields every lock of the workspace, then the copies of the promoted locks. Raises as `Lock.read` does."""
    for path in [*sorted(workspace.locks.glob("*.json")), *sorted(workspace.promoted.glob(f"*/{FILE}"))]:
        yield _held(path) or _read(path)


def _held(path: Path) -> _Held | None:
    """Returns a lock whose id is seen to hold without reading the whole lock; None where that needs the whole lock."""
    try:
        document, lock_id = quick_digest(read_bytes(path, LARGEST), "lock_id") or ({}, "")
    except OSError:
        return None  # whoever reads the whole lock says what is wrong with it
    match document:
        case {"lock_id": stated, "format": written, "sweep": str(sweep), "authority": {"digest": str(authority)}}:
            return _Held(path, lock_id, sweep, authority) if (stated, written) == (lock_id, FORMAT) else None
    return None


def _read(path: Path) -> _Held:
    lock = Lock.read(path)
    return _Held(path, lock.lock_id, lock.sweep, lock.authority.digest)


def _newest(names: Iterable[str]) -> dict[str, str]:
    """Returns series -> its member with the highest number."""
    return {_series(name): name for name in sorted(names, key=_number)}


def _series(name: str) -> str:
    """Returns `p3` for `p3-2` and `cycle.p3` for `cycle-2.p3`: the name without the number of the repetition."""
    match = _SWEEP.fullmatch(name)
    return name if match is None else match["series"] + (match["phase"] or "")


def _number(name: str) -> int:
    match = _SWEEP.fullmatch(name)
    return 0 if match is None else int(match["number"])


def _pruned(root: Path) -> list[Path]:
    """Returns what may be pruned in a folder of the workspace: nothing where that is a link to another place."""
    return [] if root.is_symlink() else _folders(root)


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith("."))


def _records(run: str, workspace: Workspace) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yields file and document of a run's phases. Reads plain JSON, since campaigns stand on this room."""
    for path in phase_files(workspace.campaigns / run):
        yield path, whole(path, "campaign_phase", "record")


def _carried(run: str, workspace: Workspace) -> Iterator[Path]:
    """Yields the locks that a run's phases passed on. Raises IntegrityError that names a broken record."""
    for path, document in _records(run, workspace):
        holder = document["holder"]
        if holder is not None and holder["lock"] is not None:
            try:
                yield inside(workspace.locks, holder["lock"])
            except PolicyError as error:
                raise IntegrityError(f"not a whole record: {path}: {error}") from None


def _kept_by_its_pack(folder: Path, packs: Mapping[str, Kept]) -> Kept | None:
    """Returns what keeps a published run: the pack it was made with, or a damaged receipt, since its pack is unknown.

    An export has no receipt, so no pack keeps it.
    """
    if not (folder / RECEIPT).is_file():
        return None
    try:
        return packs.get(receipt_in(folder)["parameter_hash"])
    except LanelockError:
        return Kept(_ALWAYS, "its receipt does not hold: see lanelock verify")
