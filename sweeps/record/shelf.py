"""The MLflow store as artifacts of sweeps, to weigh and to delete."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lanelock.sweeps.record.mlflow_store import KIND, LOCK, PARENT, SUPERSEDED, SWEEP, Store
from lanelock.sweeps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """A tracked sweep, and the size of its artifacts."""

    name: str
    parent: str  # run id
    superseded: bool
    artifacts: Mapping[str, int]  # run id of the sweep and of each trial -> bytes
    locked: frozenset[str] = frozenset()  # the runs that carry a lock, whose artifacts stay


class Shelf:
    """Weighs and deletes the artifacts of sweeps."""

    def __init__(self, workspace: Workspace, *, reading: bool = False) -> None:
        self._store = Store(workspace, reading=reading)

    def sweeps(self) -> tuple[SweepRecord, ...]:
        """Returns every tracked sweep."""
        records = []
        with self._store.explained():
            for experiment in self._store.client.search_experiments():
                runs = self._store.search(experiment.experiment_id, f"tags.`{KIND}` != 'lock'")
                children = defaultdict[str | None, list[Any]](list)
                for row in runs:
                    children[row.data.tags.get(PARENT)].append(row)
                for run in (run for run in runs if run.data.tags.get(KIND) == "sweep"):
                    trials = children[run.info.run_id]
                    ids = [row.info.run_id for row in (run, *trials)]
                    sizes = {run_id: self._store.bytes_of(run_id) for run_id in ids}
                    name, superseded = run.data.tags[SWEEP], SUPERSEDED in run.data.tags
                    locked = frozenset(row.info.run_id for row in (run, *trials) if LOCK in row.data.tags)
                    records.append(SweepRecord(name, run.info.run_id, superseded, sizes, locked))
        return tuple(records)

    def supersede(self, sweep: SweepRecord, by: str) -> None:
        """Marks a sweep's runs as superseded, and deletes their artifacts except those of locked runs."""
        with self._store.explained():
            for run_id, size in sweep.artifacts.items():
                if size and run_id not in sweep.locked:
                    self._store.delete_artifacts(run_id)
                self._store.client.set_tag(run_id, SUPERSEDED, by)
