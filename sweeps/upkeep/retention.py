"""Retention: what a workspace may remove, because it can be made again and nothing that is kept refers to it.

Always kept: locks, the records of moves, campaigns and runs, the study, and every metric, parameter and tag. May be
removed: published runs and exports, evidence, artifacts of trials, cached states. These refer to what they need:

    an alias     its lock, and every lock that a rollback would lead to, with evidence, published runs and trials
    a lock       its sweep's and its trial's own artifacts, and certifications that fall short, which stand against it
    a campaign   its newest run: the locks and evidence of its phases
    a lane       its newest sweep, and the lock it left
    every lock   the published runs of the authority it was tuned from

Nothing outside the workspace is removed: a link is removed, never what it leads to, and a part of the workspace that is
itself a link to another place is left alone.

`survey` decides and changes nothing; `apply` removes what a survey names and writes a summary.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lanelock.engine.keep.published import RECEIPT, receipt_in
from lanelock.policies import IntegrityError, LanelockError
from lanelock.policies.canonical import quick_digest
from lanelock.policies.documents import LARGEST
from lanelock.policies.files import read_bytes
from lanelock.policies.names import inside
from lanelock.sweeps.campaign.records import records_in
from lanelock.sweeps.proof.evidence import evidence_in, gates_of, seed_in, verdict_in
from lanelock.sweeps.proof.lock import FORMAT, Lock
from lanelock.sweeps.proof.lock_files import FILE
from lanelock.sweeps.proof.moves import moves, stack
from lanelock.sweeps.proof.signatures import beside
from lanelock.sweeps.workspace import Workspace, erase, size_of, write_document, writing

if TYPE_CHECKING:
    from lanelock.sweeps.record.shelf import SweepRecord  # a survey without tracking does not import MLflow

_GONE = ".pruned-"  # prefix of a folder that is being removed, so that no reader takes it for a whole one
_SWEEP = re.compile(r"(?P<series>.+)-(?P<number>\d+)(?P<phase>\..+)?")


@dataclass(frozen=True, slots=True)
class Item:
    """A folder or a sweep's artifacts, and their size."""

    kind: str  # "run", "export", "evidence", "trials" or "cache"
    name: str
    bytes: int
    why: str  # why it is removed, or what refers to it


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
    """Names that something kept refers to; each maps to what refers to it."""

    runs: dict[str, str] = field(default_factory=dict)  # run id
    evidence: dict[str, str] = field(default_factory=dict)  # folder
    sweeps: dict[str, str] = field(default_factory=dict)  # with all trials
    packs: dict[str, str] = field(default_factory=dict)  # digest: every published run of it


def survey(workspace: Workspace, recorded: Iterable[SweepRecord] = ()) -> Survey:
    """Returns what may be removed. `recorded` are the sweeps on the tracking server, with the size of their artifacts.

    Raises IntegrityError if a lock or a record of a move was changed: its references are not known.
    """
    references = _references(workspace)
    remove: list[Item] = []
    keep: list[Item] = []

    def weigh(item: Item, kept_by: str | None) -> None:
        if kept_by is None:
            remove.append(item)
        else:
            keep.append(Item(item.kind, item.name, item.bytes, kept_by))

    for kind, root in (("run", workspace.runs), ("export", workspace.exports), ("evidence", workspace.evidence)):
        if root.is_symlink():
            keep.append(Item(kind, root.name, 0, f"is a link to {root.readlink()}: what lies outside is not removed"))
    for kind, root in (("run", workspace.runs), ("export", workspace.exports)):
        for folder in _pruned(root):
            kept_by = references.runs.get(folder.name) or _kept_by_its_pack(folder, references.packs)
            weigh(Item(kind, folder.name, size_of(folder), "no lock that is kept refers to it"), kept_by)
    for folder in _pruned(workspace.evidence):
        why = "no alias, and no campaign's newest run, refers to its lock"
        weigh(Item("evidence", folder.name, size_of(folder), why), references.evidence.get(folder.name))
    newest = _newest([sweep.name for sweep in recorded])
    for sweep in recorded:
        follower = newest[_series(sweep.name)]
        is_newest = f"the newest of {_series(sweep.name)}" if follower == sweep.name else None
        kept_by = references.sweeps.get(sweep.name, is_newest)
        room = sum(size for run, size in sweep.artifacts.items() if run not in sweep.locked)
        if room or (kept_by is None and not sweep.superseded):
            weigh(Item("trials", sweep.name, room, f"superseded by {follower}"), kept_by)
    if (cache := size_of(workspace.cache)) > 0:
        remove.append(Item("cache", workspace.cache.name, cache, "states are computed again when they are needed"))
    return Survey(tuple(remove), tuple(keep))


def apply(surveyed: Survey, workspace: Workspace, supersede: Callable[[str, str], None]) -> Path:
    """Removes what a survey names, writes a summary and returns its path.

    `supersede(sweep, by)` marks a sweep's tracking runs and deletes the artifacts of those without a lock. After an
    interruption the next survey finds what is left.
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
    path = workspace.prunes / f"{at.replace(':', '')}.json"
    write_document(path, {"at": at, **surveyed.as_document()})
    return path


def _references(workspace: Workspace) -> _References:
    """Returns every reference from what is kept."""
    references = _References()
    locks = {lock.lock_id: lock for lock in _locks(workspace)}
    for held in locks.values():
        references.packs.setdefault(held.authority, f"{held.sweep} was tuned from its pack")
    evidence = defaultdict[str, list[Path]](list)
    for folder, document in evidence_in(workspace):
        evidence[document["lock_id"]].append(folder)
        if verdict_in(folder) != gates_of(folder).verdicts[-1]:
            references.evidence[folder.name] = f"it says {document['verdict']}, which stands against its lock"
    newest = _newest([lock.sweep for lock in locks.values()]).values()
    kept = {lock.lock_id: f"the newest of {_series(lock.sweep)}" for lock in locks.values() if lock.sweep in newest}
    for lock_id, why in (kept | _roots(workspace)).items():
        if lock_id not in locks:
            raise IntegrityError(f"{workspace.root}: {why}: its lock {lock_id[:12]} is missing")
        lock = Lock.read(locks[lock_id].path)
        references.sweeps.setdefault(lock.sweep, why)
        for proof in lock.proof.values():
            references.runs.setdefault(proof.run_id, why)
        references.packs.setdefault(lock.candidate_pack.digest, why)
        for folder in evidence.get(lock_id, ()):
            references.evidence.setdefault(folder.name, why)
            for seed in folder.glob("seeds/*.json"):
                references.runs.setdefault(seed_in(seed)["run_id"], why)
    return references


def _roots(workspace: Workspace) -> dict[str, str]:
    """Returns lock_id -> what refers to it: an alias, a possible rollback, or the newest run of a campaign."""
    roots: dict[str, str] = {}
    history = moves(workspace)
    for alias in dict.fromkeys(move.alias for move in history):
        *below, present = stack(history, alias)
        for standing in below:
            roots.setdefault(standing.lock_id, f"a rollback of {alias} would lead to it")
        roots[present.lock_id] = f"{alias} points to it"
    for run in sorted(_newest(path.name for path in _folders(workspace.campaigns)).values()):
        for record in records_in(workspace.campaigns / run):
            if record.holder is not None and record.holder.lock is not None:
                lock = Lock.read(inside(workspace.locks, record.holder.lock))
                roots.setdefault(lock.lock_id, f"campaign {run} carried it on")
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


def _kept_by_its_pack(folder: Path, packs: Mapping[str, str]) -> str | None:
    """Returns what keeps a published run: the pack it was made with, or a damaged receipt, since its pack is unknown.

    An export has no receipt, so no pack keeps it.
    """
    if not (folder / RECEIPT).is_file():
        return None
    try:
        return packs.get(receipt_in(folder)["parameter_hash"])
    except LanelockError:
        return "its receipt does not hold: see lanelock verify"
