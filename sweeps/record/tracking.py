"""The MLflow store as sweeps and trials.

One experiment per lane, one parent run per sweep, one child run per trial. Runs are found by their tags
`lanelock.sweep` and `lanelock.trial`, and metrics carry the trial's own time, so that writing a trial
twice, after a kill, has the effect of writing it once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lanelock.sweeps.record.letters import Entry, Heading
from lanelock.sweeps.record.limits import tag_taken, taken
from lanelock.sweeps.record.mlflow_store import KIND, PAGE, PARENT, STUDY, SWEEP, TITLE, TRIAL, Store, placed, tagged
from lanelock.sweeps.record.views import LOCKED, RANK, WHY_NOT
from lanelock.sweeps.workspace import Workspace

ENDED = ("FINISHED", "FAILED")  # states of a run that was written whole


class Tracking:
    """Writes and finds the runs of sweeps and trials."""

    def __init__(self, workspace: Workspace, uri: str | None = None, *, restore: bool = False) -> None:
        self._store = Store(workspace, uri, restore=restore)
        self._client = self._store.client
        self.uri = self._store.uri
        self.doubled = 0  # deleted duplicates, which lost requests had made

    def open_sweep(self, heading: Heading, entry: Entry) -> str:
        """Returns the parent run of a sweep, which the first call makes."""
        with self._store.explained():
            experiment_id = self._store.experiment(heading.experiment, heading.shown)
            parent = self._sweep(experiment_id, heading)
            if parent is None:
                tags = {SWEEP: heading.sweep, STUDY: heading.study, KIND: "sweep"}
                run = self._client.create_run(experiment_id, start_time=entry.at_ms, tags=tags, run_name=entry.name)
                parent = str(run.info.run_id)
                for deleted in self._deleted(experiment_id, heading):
                    self._delete_trials(experiment_id, deleted)
            else:
                self._client.update_run(parent, status="RUNNING")
            self._store.write(parent, {"$EXPERIMENT": experiment_id}, entry)
            return parent

    def lanes(self) -> tuple[tuple[str, str, str], ...]:
        """Returns experiment id, name and title of every lane in this store, the newest first."""
        with self._store.explained():
            lanes = self._client.search_experiments(max_results=PAGE, order_by=["last_update_time DESC"])
        return tuple((str(lane.experiment_id), lane.name, lane.tags[TITLE]) for lane in lanes if TITLE in lane.tags)

    def tried(self, experiment_id: str) -> bool:
        """Tells whether a lane has any trial; a refused lane has a sweep without trials."""
        with self._store.explained():
            return bool(self._client.search_runs([experiment_id], tagged(KIND, "trial"), max_results=1))

    def found(self, lane: str, sweep: str, number: int | None) -> tuple[str, str] | None:
        """Returns experiment and run id of a sweep, or of its trial `number`; None without one. Changes nothing."""
        with self._store.explained():
            if (experiment := self._client.get_experiment_by_name(lane)) is None:
                return None
            held = str(experiment.experiment_id)
            runs = self._store.search(held, f"{tagged(SWEEP, sweep)} and {tagged(KIND, 'sweep')}")
            if runs and number is not None:
                within = f"{tagged(PARENT, str(runs[0].info.run_id))} and {tagged(TRIAL, str(number))}"
                runs = self._store.search(held, within)
            return (held, str(runs[0].info.run_id)) if runs else None

    def trials(self, parent: str) -> dict[int, tuple[str, bool]]:
        """Returns trial number -> (run id, whether complete). Deletes duplicates made by lost requests."""
        with self._store.explained():
            runs = self._store.search(self._store.experiment_of(parent), tagged(PARENT, parent))
            known: dict[int, tuple[str, bool]] = {}
            for run in sorted(runs, key=lambda run: (run.info.status not in ENDED, run.info.run_id)):
                number = int(run.data.tags[TRIAL])
                if number in known:
                    self._delete(run.info.run_id)
                else:
                    known[number] = str(run.info.run_id), run.info.status in ENDED
        return known

    def write_trial(self, parent: str, number: int, entry: Entry, run_id: str | None) -> str:
        """Writes and completes a trial's run, and returns its id. Makes the run if `run_id` is None."""
        with self._store.explained():
            ids, entry = self._ids(parent), taken(entry)
            made = {} if run_id is not None else {name: tag for name, tag in entry.tags.items() if "$RUN" not in tag}
            if run_id is None:
                own = {name: tag_taken(placed(tag, ids)) for name, tag in made.items()}
                tags = {**own, PARENT: parent, TRIAL: str(number), KIND: "trial"}
                began = entry.at_ms - round(1000 * entry.seconds)
                run = self._client.create_run(ids["$EXPERIMENT"], start_time=began, tags=tags, run_name=entry.name)
                run_id = str(run.info.run_id)
                self._store.knows(run)
            self._store.write(run_id, ids, entry, made)
            self._client.set_terminated(run_id, "FAILED" if entry.failed else "FINISHED", end_time=entry.at_ms)
        return run_id

    def forget(self, parent: str) -> None:
        """Deletes the trials of a run that somebody deleted: they are written again, below another one."""
        with self._store.explained():
            self._delete_trials(self._store.experiment_of(parent), parent)

    def add(self, parent: str, run_id: str, entry: Entry) -> None:
        """Adds an entry to a written trial."""
        with self._store.explained():
            self._store.write(run_id, self._ids(parent), entry)

    def rank(self, runs: Mapping[int, str], entry: Entry) -> None:
        """Writes the places and lacks of trials, as `Entries.ranks` gives them; passes over trials without a run."""
        with self._store.explained():
            for number, place in entry.metrics.items():
                if (run_id := runs.get(int(number))) is not None:
                    self._store.write(
                        run_id, {}, replace(entry, metrics={RANK: place}, tags={WHY_NOT: entry.tags[number]})
                    )

    def close_sweep(self, heading: Heading, parent: str, best: str | None, entry: Entry) -> None:
        """Writes the decision on the parent run and completes it; `best` is the run of the best trial.

        Only that trial keeps a star: the one that an earlier close of the sweep locked loses its own.
        """
        with self._store.explained():
            experiment_id = self._store.experiment(heading.experiment, heading.shown)
            for run in self._store.search(experiment_id, f"{tagged(PARENT, parent)} and tags.`{LOCKED}` != ''"):
                if run.info.run_id != best:
                    self._client.delete_tag(run.info.run_id, LOCKED)
            self._store.write(parent, {"$EXPERIMENT": experiment_id, "$BEST": best or ""}, entry)
            self._client.set_terminated(parent, "FINISHED")

    def _ids(self, parent: str) -> dict[str, str]:
        """Returns the ids for the placeholders in a trial's tags."""
        return {"$EXPERIMENT": self._store.experiment_of(parent), "$PARENT": parent}

    def _sweep(self, experiment_id: str, heading: Heading) -> str | None:
        """Returns the run of a sweep. Deletes duplicates made by lost requests, and keeps the run with trials."""
        where = f"{tagged(SWEEP, heading.sweep)} and {tagged(KIND, 'sweep')}"
        runs = [
            str(run.info.run_id)
            for run in self._store.search(experiment_id, where)
            if run.data.tags.get(STUDY, heading.study) == heading.study  # older sweeps lack this tag
        ]
        if len(runs) > 1:
            runs.sort(key=lambda run_id: (-len(self.trials(run_id)), run_id))
            for extra in runs[1:]:
                self._delete(extra)
        return runs[0] if runs else None

    def _deleted(self, experiment_id: str, heading: Heading) -> list[str]:
        """Returns the deleted runs of a sweep."""
        where = f"{tagged(SWEEP, heading.sweep)} and {tagged(KIND, 'sweep')}"
        runs = self._store.search(experiment_id, where, deleted=True)
        return [str(run.info.run_id) for run in runs if run.data.tags.get(STUDY) == heading.study]

    def _delete_trials(self, experiment_id: str, parent: str) -> None:
        for run in self._store.search(experiment_id, tagged(PARENT, parent)):
            self._client.delete_run(run.info.run_id)

    def _delete(self, run_id: str) -> None:
        self._client.delete_run(run_id)
        self.doubled += 1
