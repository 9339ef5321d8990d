"""The study, the outbox and MLflow compared, field by field, without writing anything.

The study is the truth. What should stand in MLflow is what `sweep_letters` would write of it now, so that no second
list of fields exists. Letters that wait are pending, and no difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from glob import escape
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from lanelock.policies import IntegrityError, PolicyError
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.locations import as_notice, moved_from
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.record import registry
from lanelock.sweeps.record.letters import MEASURED, Entry, Heading
from lanelock.sweeps.record.limits import tag_taken, taken
from lanelock.sweeps.record.mlflow_store import (
    KIND,
    LOCK,
    NOTE,
    PARENT,
    STUDY,
    SUPERSEDED,
    SWEEP,
    TRIAL,
    Store,
    placed,
    tagged,
)
from lanelock.sweeps.record.outbox import Box, Outbox, meant_for, own_record, record_uri
from lanelock.sweeps.record.sweep_letters import Entries
from lanelock.sweeps.record.views import LOCKED, PAGE, RANK, WHY_NOT
from lanelock.sweeps.search.recorded import recorded_in
from lanelock.sweeps.search.study import Studies, Study
from lanelock.sweeps.secrets import shown
from lanelock.sweeps.workspace import Workspace

_NOTE = 7000  # characters of a note that are compared: MLflow keeps 8000, and that of a lock has more in front
_OURS = "lanelock."  # how our tags begin
_CODE = "lanelock.code"  # of the engine that played: the study has it, the installed engine may be another
_ELSEWHERE = {  # tags that do not follow from the study: of MLflow's own runs, of later, of where it was played
    KIND, SWEEP, STUDY, TRIAL, LOCK, LOCKED, SUPERSEDED, "lanelock.model_version", _CODE, "lanelock.version",
    "lanelock.diff",
}  # fmt: skip

_FORMER = ("lanelock.policy.", "lanelock.world.")  # how the tags begin that trials of earlier versions have


@dataclass(frozen=True, slots=True)
class Compared:
    """The result of comparing study, outbox and MLflow."""

    uri: str
    trials: int  # that were compared
    differences: tuple[str, ...]
    pending: Mapping[str, int]  # sweep -> letters that wait
    behind: tuple[str, ...]  # what MLflow's database and model registry do not have yet
    left_out: tuple[str, ...]  # sweeps that were never delivered, or cannot be read, and why


def compare(workspace: Workspace) -> Compared:
    """Compares every sweep, every letter and the model registry. Raises Away where the server does not answer."""
    uri = record_uri(workspace)
    there = uri != own_record(workspace) or workspace.tracking_database.exists()
    store = Store(workspace, uri, reading=True) if there else None
    studies = Studies(workspace.study_storage, reading=True)
    trials, differences, left_out = 0, list[str](), list[str]()
    for name in studies.names():
        try:
            sweep = _opened(name, studies, workspace, uri)
        except IntegrityError as error:
            differences.append(str(error))
            continue
        except PolicyError as error:  # of an older version, or of an engine that is not installed
            left_out.append(f"{name}: {error}")
            continue
        runs = [] if store is None else sweep.runs(store)
        if not runs and not sweep.box.path.exists() and not sweep.box.was_delivered():
            left_out.append(f"{name}: MLflow has no run of it, and nothing here says that it had")
            continue
        trials += len(sweep.study.trials)
        try:
            differences += [*sweep.differing_letters(), *sweep.differing_runs(runs, store)]
        except IntegrityError as error:  # a line of its box that is no letter
            differences.append(str(error))
    boxes, unknown = Outbox(workspace).addressed()
    differences += [*_strangers(boxes, studies.names()), *unknown.values()]
    waiting = {heading.sweep: box.waits() for box, heading in boxes.items() if box.waits()}
    rows = registry.compare(workspace)
    differences += (row.text for row in rows if row.changed)
    behind = tuple(row.text for row in rows if not row.changed)
    if notice := as_notice(moved_from(workspace)):
        behind = (f"the workspace was {notice}", *behind)
    return Compared(shown(uri), trials, tuple(differences), waiting, behind, tuple(left_out))


def _strangers(boxes: Mapping[Box, Heading], sweeps: tuple[str, ...]) -> Iterator[str]:
    """Yields the boxes of sweeps without a study; a refusal and a measurement have none."""
    for heading in boxes.values():
        studied = heading.sweep != f"{heading.experiment}-refused" and not heading.experiment.endswith(MEASURED)
        if studied and heading.sweep not in sweeps:
            yield f"outbox: letters of sweep {heading.sweep}, which has no study"


@dataclass(frozen=True, slots=True)
class _Sweep:
    study: Study
    entries: Entries
    box: Box
    locks: Mapping[str, Lock]  # by id: one each time that it closed

    def differing_letters(self) -> Iterator[str]:
        """Yields what letters say of trials and the study does not, delivered or not."""
        trials = {trial.number: trial for trial in self.study.trials}
        for letter in self.box.letters():
            if letter.kind != "trial" or letter.trial is None:
                continue
            where = f"outbox: {self.study.name}/{letter.trial}"
            if letter.trial not in trials:
                yield f"{where}: the study has no such trial"
                continue
            said = letter.entry
            entry = self._as_written(trials[letter.trial], said.tags)
            yield from _differing(f"{where}: metric", entry.metrics, said.metrics)
            yield from _differing(f"{where}: param", entry.params, said.params)
            yield from _differing(f"{where}: tag", _ours(entry.tags), _ours(said.tags))

    def runs(self, store: Store) -> list[Run]:
        """Returns every run of the sweep that MLflow has."""
        with store.explained():
            experiment = store.client.get_experiment_by_name(self.entries.lane.id)
            if experiment is None or experiment.lifecycle_stage != "active":
                return []
            return store.search(str(experiment.experiment_id), tagged(SWEEP, self.study.name))

    def differing_runs(self, runs: Sequence[Run], store: Store | None) -> Iterator[str]:
        """Yields what MLflow's runs say and the study does not. What still waits in the outbox is left out."""
        waiting = [*self.box.waiting()]
        own = [run for run in runs if run.data.tags.get(STUDY, self.entries.identity) == self.entries.identity]
        parents = [run for run in own if run.data.tags.get(KIND) == "sweep"]
        if not parents and any(letter.kind == "sweep" for letter in waiting):
            return
        if len(parents) != 1 or store is None:
            yield f"{self.study.name}: MLflow has {len(parents)} runs of the sweep, 1 was written"
            return
        (parent,) = parents
        closes = bool(self.locks) and all(letter.kind != "close" for letter in waiting)
        yield from self._of_sweep(parent, closes, store)
        lock = self.locks.get(parent.data.tags.get(LOCK, "")) if closes and not waiting else None
        order = None if lock is None else _Order(lock.trial, self.entries)
        rows: dict[int, list[Run]] = {}
        for run in runs:
            if run.data.tags.get(PARENT) == parent.info.run_id:
                rows.setdefault(int(run.data.tags.get(TRIAL, -1)), []).append(run)
        pending = {letter.trial for letter in waiting if letter.kind == "trial"}
        for trial in self.study.trials:
            found = rows.pop(trial.number, [])
            if len(found) == 1:
                yield from self._of_trial(trial, found[0], closes and not waiting, order)
            elif trial.number not in pending:
                yield f"{self.study.name}/{trial.number}: MLflow has {len(found)} runs of the trial, 1 was written"
        yield from (f"{self.study.name}: MLflow has a run of trial {number}, the study has none" for number in rows)

    def _of_sweep(self, run: Run, closes: bool, store: Store) -> Iterator[str]:
        where, entry = self.study.name, self.entries.begun()
        lock = self.locks.get(run.data.tags.get(LOCK, ""))
        if closes and lock is None:
            yield f"{where}: tag {LOCK}: MLflow has {run.data.tags.get(LOCK)}, which is none of its locks"
        if not closes or lock is None:
            yield from _differing(f"{where}: param", taken(entry).params, run.data.params)
            return
        closed = self.entries.closed(lock)
        yield from _differing(f"{where}:", {"status": "FINISHED"}, {"status": run.info.status})
        tags = {**entry.tags, NOTE: "", **closed.tags}  # its note depends on figures that would have to be drawn
        entry = replace(closed, params=entry.params, tags=tags)
        yield from _run_differs(where, entry, run, {})
        if SUPERSEDED not in run.data.tags and _stored(store, run, "lock.json") != lock.document:
            yield f"{where}: artifact lock.json: is not the lock {lock.short_id} that the workspace has"

    def _of_trial(self, trial: Trial, run: Run, closed: bool, order: _Order | None) -> Iterator[str]:
        where, entry = f"{self.study.name}/{trial.number}", self._as_written(trial, run.data.tags)
        entry = _unranked(entry, run) if order is None else order.of(trial.number, entry, run)
        status = "FAILED" if entry.failed else "FINISHED"
        yield from _differing(f"{where}:", {"status": status}, {"status": run.info.status})
        ids = {"$EXPERIMENT": run.info.experiment_id, "$PARENT": run.data.tags[PARENT], "$RUN": run.info.run_id}
        yield from _run_differs(where, entry, run, ids)
        played = self.study.attributes.get("played_by", {}).get("engine")  # older studies lack it
        if played not in (None, run.data.tags.get(_CODE)):
            yield f"{where}: tag {_CODE}: {run.data.tags.get(_CODE)} is recorded, the study gives {played}"
        newest = [lock.lock_id for lock in self.locks.values() if lock.trial == trial.number]
        if (tag := run.data.tags.get(LOCK)) not in [*newest, *([] if closed and newest else [None])]:
            yield f"{where}: tag {LOCK}: MLflow has {tag}, the workspace's locks of it are {newest or 'none'}"
        if order is not None and LOCKED in run.data.tags and trial.number != order.locked:
            yield f"{where}: tag {LOCKED}: MLflow has it, the sweep locked trial {order.locked}"

    def _as_written(self, trial: Trial, tags: Mapping[str, str]) -> Entry:
        """Returns the entry of a trial in the form in which it was written: earlier versions had other tags."""
        former = WHY_NOT not in tags or any(name.startswith(_FORMER) for name in tags)
        return self.entries.former(trial) if former else self.entries.trial(trial)


class _Order:
    """The order of a closed sweep's trials, as its close wrote it."""

    def __init__(self, locked: int | None, entries: Entries) -> None:
        self.locked, self._parts = locked, tuple(entries.ranks(locked))

    def of(self, number: int, entry: Entry, run: Run) -> Entry:
        """Returns a trial's entry with its place. A sweep that an earlier version closed has none."""
        part = next((part for part in self._parts if str(number) in part.metrics), None)
        if part is None or (RANK not in run.data.metrics and WHY_NOT not in entry.tags):
            return entry
        metrics = {**entry.metrics, RANK: part.metrics[str(number)]}
        return replace(entry, metrics=metrics, tags={**entry.tags, WHY_NOT: part.tags[str(number)]})


def _unranked(entry: Entry, run: Run) -> Entry:
    """Returns the entry of a trial whose sweep has not closed: places are of an earlier close, and not compared."""
    metrics = {name: value for name, value in run.data.metrics.items() if name == RANK}
    tags = {name: tag for name, tag in run.data.tags.items() if name == WHY_NOT}
    return replace(entry, metrics={**entry.metrics, **metrics}, tags={**entry.tags, **tags})


def _opened(name: str, studies: Studies, workspace: Workspace, uri: str) -> _Sweep:
    of = recorded_in(studies, name, name, workspace)
    read = (Lock.read(path) for path in sorted(workspace.locks.glob(f"{escape(name)}.*.json")))
    locks = {lock.lock_id: lock for lock in read if lock.sweep == name and lock.chosen_by_hand is None}
    authority = next((lock.authority_metrics for lock in locks.values()), None)  # spares running it again
    ground = of.ground() if authority is None else Ground(of.lane, of.world, authority, of.reach)
    study = studies.open(name, of.lane)
    entries = Entries(study, Ledger(ground))
    heading = Heading(meant_for(workspace, uri), of.lane.id, {}, name, entries.identity)
    return _Sweep(study, entries, Outbox(workspace).as_it_stands(heading), locks)


def _run_differs(where: str, entry: Entry, run: Run, ids: Mapping[str, str]) -> Iterator[str]:
    data, entry = run.data, taken(entry)
    yield from _differing(f"{where}: metric", entry.metrics, data.metrics)
    yield from _differing(f"{where}: param", entry.params, data.params)
    yield from _differing(f"{where}: tag", _ours(entry.tags), _ours(data.tags))
    note, found = (text.replace(PAGE, "") for text in (placed(entry.tags[NOTE], ids), data.tags.get(NOTE, "")))
    if note[:_NOTE] not in found:  # earlier versions linked to runs without it
        yield f"{where}: tag {NOTE}: is not what the study gives"
    stated = {data.name: data.digest[:16] for data in entry.inputs}
    rows = [] if run.inputs is None else run.inputs.dataset_inputs
    named = {row.dataset.name: row.dataset.digest for row in rows}
    yield from _differing(f"{where}: data set", stated, {name: named.get(name) for name in stated})


def _ours(tags: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags that follow from the study."""
    return {name: tag_taken(tag) for name, tag in tags.items() if name.startswith(_OURS) and name not in _ELSEWHERE}


def _differing(where: str, stated: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*stated, *found}):
        if stated.get(name) != found.get(name):
            yield f"{where} {name}: {found.get(name)!r} is recorded, the study gives {stated.get(name)!r}"


def _stored(store: Store, run: Run, name: str) -> Any:
    """Returns a JSON artifact of a run; None where there is none."""
    with suppress(MlflowException, OSError, ValueError):
        return json.loads(store.read_file(run.info.run_id, name))
    return None
