"""Retention: what a workspace need not keep, and the proof that nothing refers to it.

Kept for ever: locks, records of moves, of campaigns and of runs, the study, and every metric, parameter and tag.
What may go is what takes room and can be made again: published runs and exports, evidence, artifacts of trials,
states in the cache. It goes only where nothing that is kept refers to it:

    an alias     its lock, and every lock that a rollback would lead to, with evidence, published runs and trials
    a lock       its sweep's and its trial's own artifacts
    a campaign   its newest run: the locks and evidence of its phases
    a lane       its newest sweep, and the lock it left
    every lock   the published runs of the authority it was tuned from

`survey` decides and touches nothing; `apply` removes what a survey named, and writes down what it did.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lanelock.engine.keep.published import RECEIPT
from lanelock.engine.keep.receipts import read_receipt
from lanelock.policies import IntegrityError, LanelockError
from lanelock.policies.documents import read_json
from lanelock.sweeps.campaign.records import records_in
from lanelock.sweeps.proof.evidence import evidence_in
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE
from lanelock.sweeps.proof.moves import moves, stack
from lanelock.sweeps.workspace import Workspace, size_of, write_document, writing

if TYPE_CHECKING:
    from lanelock.sweeps.record.shelf import SweepRecord  # the record's door: who surveys without it spares MLflow

_GONE = ".pruned-"  # what a folder is called while it is being removed: no reader takes it for a whole one
_SWEEP = re.compile(r"(?P<series>.+)-(?P<number>\d+)(?P<phase>\..+)?")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that takes room."""

    kind: str  # "run", "export", "evidence", "trials" or "cache"
    name: str
    bytes: int
    why: str  # why it goes, or what refers to it


@dataclass(frozen=True, slots=True)
class Survey:
    """What would go and what stays."""

    remove: tuple[Item, ...]
    keep: tuple[Item, ...]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.remove)

    def as_document(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "bytes": self.bytes,
            "remove": [asdict(item) for item in self.remove],
            "keep": [asdict(item) for item in self.keep],
        }


@dataclass(slots=True)
class _References:
    """Names that something kept refers to, with what refers to them."""

    runs: dict[str, str] = field(default_factory=dict)  # run id
    evidence: dict[str, str] = field(default_factory=dict)  # folder
    sweeps: dict[str, str] = field(default_factory=dict)  # all trials
    packs: dict[str, str] = field(default_factory=dict)  # digest: every published run of it
    tracked: set[str] = field(default_factory=set)  # MLflow runs: their own artifacts


def survey(workspace: Workspace, recorded: Iterable[SweepRecord] = ()) -> Survey:
    """What may go. `recorded`: the sweeps of the tracking record, with what their trials' artifacts take.

    Raises IntegrityError where a lock or a record of a move was changed: what cannot be read cannot be weighed.
    """
    held = _references(workspace)
    remove: list[Item] = []
    keep: list[Item] = []

    def weigh(item: Item, kept_by: str | None) -> None:
        if kept_by is None:
            remove.append(item)
        else:
            keep.append(Item(item.kind, item.name, item.bytes, kept_by))

    for kind, root in (("run", workspace.runs), ("export", workspace.exports)):
        for folder in _folders(root):
            kept_by = held.runs.get(folder.name) or _kept_by_its_pack(folder, held.packs)
            weigh(Item(kind, folder.name, size_of(folder), "no lock that is kept refers to it"), kept_by)
    for folder in _folders(workspace.evidence):
        superseded = "no name, nor any campaign's newest run, stands on its lock"
        weigh(Item("evidence", folder.name, size_of(folder), superseded), held.evidence.get(folder.name))
    newest = _newest([sweep.name for sweep in recorded])
    for sweep in recorded:
        follower = newest[_series(sweep.name)]
        kept_by = held.sweeps.get(sweep.name) or (
            f"the newest of {_series(sweep.name)}" if follower == sweep.name else None
        )
        mine = sum(size for run, size in sweep.artifacts.items() if run not in held.tracked)
        if mine or (kept_by is None and not sweep.superseded):
            weigh(Item("trials", sweep.name, mine, f"superseded by {follower}"), kept_by)
    if (cache := size_of(workspace.cache)) > 0:
        remove.append(Item("cache", workspace.cache.name, cache, "states are computed again when they are asked for"))
    return Survey(tuple(remove), tuple(keep))


def apply(found: Survey, workspace: Workspace, supersede: Callable[[str, str, frozenset[str]], None]) -> Path:
    """Removes what `found` names and writes a summary; its path.

    `supersede(sweep, by, spared)` marks a sweep's runs in the tracking record and reclaims their artifacts, less those
    of the runs in `spared`. Interrupted, what is gone is gone and the rest is found by the next survey.
    """
    tracked = frozenset(_references(workspace).tracked)
    roots = {
        "run": workspace.runs,
        "export": workspace.exports,
        "evidence": workspace.evidence,
        "cache": workspace.root,
    }
    with writing(workspace.root):
        for root in roots.values():
            for left in root.glob(f"{_GONE}*"):  # by one that was interrupted
                shutil.rmtree(left)
        for item in found.remove:
            if item.kind == "trials":
                supersede(item.name, item.why.removeprefix("superseded by "), tracked)
            else:
                gone = (roots[item.kind] / item.name).rename(roots[item.kind] / f"{_GONE}{item.name}")
                shutil.rmtree(gone)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    path = workspace.prunes / f"{at.replace(':', '')}.json"
    write_document(path, {"at": at, **found.as_document()})
    return path


def _references(workspace: Workspace) -> _References:
    """Follows every reference from what is kept."""
    held = _References()
    locks = {lock.lock_id: lock for lock in _locks(workspace)}
    for lock in locks.values():
        held.tracked |= {run for run in lock.runs.values() if run is not None}
        held.packs.setdefault(lock.authority.digest, f"{lock.sweep} was tuned from its pack")
    evidence = defaultdict[str, list[Path]](list)
    for folder, document in evidence_in(workspace):
        evidence[document["lock_id"]].append(folder)
    newest = _newest([lock.sweep for lock in locks.values()]).values()
    kept = {lock.lock_id: f"the newest of {_series(lock.sweep)}" for lock in locks.values() if lock.sweep in newest}
    for lock_id, why in (kept | _roots(workspace)).items():
        if lock_id not in locks:
            raise IntegrityError(f"{workspace.root}: {why}: its lock {lock_id[:12]} is missing")
        lock = locks[lock_id]
        held.sweeps.setdefault(lock.sweep, why)
        for proof in lock.proof.values():
            held.runs.setdefault(proof.run_id, why)
        held.packs.setdefault(lock.candidate_pack.digest, why)
        for folder in evidence.get(lock_id, ()):
            held.evidence.setdefault(folder.name, why)
            for seed in folder.glob("seeds/*.json"):
                held.runs.setdefault(read_json(seed)["run_id"], why)
    return held


def _roots(workspace: Workspace) -> dict[str, str]:
    """lock_id -> what stands on it: names, what a rollback would lead to, the newest run of each campaign."""
    found: dict[str, str] = {}
    history = moves(workspace)
    for alias in dict.fromkeys(move.alias for move in history):
        *below, held = stack(history, alias)
        for standing in below:
            found.setdefault(standing.lock_id, f"a rollback of {alias} would lead to it")
        found[held.lock_id] = f"{alias} stands on it"
    campaigns = [path.name for path in _folders(workspace.campaigns)]
    newest = set(_newest(campaigns).values())
    for run in sorted(newest):
        for record in records_in(workspace.campaigns / run):
            if record.holder is not None and record.holder.lock is not None:
                lock = Lock.read(workspace.locks / record.holder.lock)
                found.setdefault(lock.lock_id, f"campaign {run} carried it on")
    return found


def _locks(workspace: Workspace) -> Iterator[Lock]:
    """Every lock of the workspace, promoted ones as they are served."""
    for path in [*sorted(workspace.locks.glob("*.json")), *sorted(workspace.promoted.glob(f"*/{FILE}"))]:
        yield Lock.read(path)


def _newest(names: Iterable[str]) -> dict[str, str]:
    """Series -> its member with the highest number."""
    found: dict[str, str] = {}
    for name in names:
        series = _series(name)
        if series not in found or _number(found[series]) < _number(name):
            found[series] = name
    return found


def _series(name: str) -> str:
    """`p3` of `p3-2`, and `cycle.p3` of `cycle-2.p3`: what is played again and again."""
    match = _SWEEP.fullmatch(name)
    return name if match is None else match["series"] + (match["phase"] or "")


def _number(name: str) -> int:
    match = _SWEEP.fullmatch(name)
    return 0 if match is None else int(match["number"])


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("*") if path.is_dir() and not path.name.startswith("."))


def _kept_by_its_pack(folder: Path, packs: Mapping[str, str]) -> str | None:
    """What keeps a published run for the pack it was made with, or because its receipt does not hold.

    A run that is damaged is not known to be of no use. An export has no receipt and is kept by no pack.
    """

    if not (folder / RECEIPT).is_file():
        return None
    try:
        return packs.get(str(read_receipt(folder / RECEIPT).get("parameter_hash", "")))
    except LanelockError:
        return "its receipt does not hold: see lanelock verify"
