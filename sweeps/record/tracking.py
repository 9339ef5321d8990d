"""The MLflow store seen as sweeps and trials.

One experiment per lane, one parent run per sweep, one child run per trial. Runs are found again by their tags
`lanelock.sweep` and `lanelock.trial`, and metrics carry the trial's own time, so that writing a trial
twice, after a kill, changes nothing and doubles nothing.
"""

from __future__ import annotations

from lanelock.sweeps.record.letters import Entry, Heading
from lanelock.sweeps.record.mlflow_store import KIND, PAGE, PARENT, STUDY, SWEEP, TITLE, TRIAL, Store, placed
from lanelock.sweeps.workspace import Workspace


class Tracking:
    """Writes and finds the runs of sweeps and trials."""

    def __init__(self, workspace: Workspace, uri: str | None = None) -> None:
        """Opens a store, as `Store` does."""
        self._store = Store(workspace, uri)
        self._client = self._store.client
        self.uri = self._store.uri
        self.doubled = 0  # runs that a request given up as lost had made all the same; they were deleted

    def open_sweep(self, heading: Heading, entry: Entry) -> str:
        """Returns the parent run of a sweep: made at the first call, found again at any later one."""
        with self._store.explained():
            experiment_id = self._store.experiment(heading.experiment, heading.shown)
            parent = self._sweep(experiment_id, heading)
            if parent is None:
                tags = {SWEEP: heading.sweep, STUDY: heading.study, KIND: "sweep"}
                run = self._client.create_run(experiment_id, start_time=entry.at_ms, tags=tags, run_name=entry.name)
                parent = str(run.info.run_id)
            else:
                self._client.update_run(parent, status="RUNNING")
            self._store.write(parent, {"$EXPERIMENT": experiment_id}, entry)
            return parent

    def lanes(self) -> tuple[tuple[str, str, str], ...]:
        """Returns experiment id, name and title of every lane that was played into this record, the newest first."""
        with self._store.explained():
            lanes = self._client.search_experiments(max_results=PAGE, order_by=["last_update_time DESC"])
        return tuple((str(lane.experiment_id), lane.name, lane.tags[TITLE]) for lane in lanes if TITLE in lane.tags)

    def tried(self, experiment_id: str) -> bool:
        """Tells whether any trial of a lane is recorded: one that was refused has sweeps without."""
        with self._store.explained():
            return bool(self._client.search_runs([experiment_id], f"tags.`{KIND}` = 'trial'", max_results=1))

    def trials(self, parent: str) -> dict[int, tuple[str, bool]]:
        """Returns trial number -> (run id, whether it was written to its end).

        Should a request that was given up as lost have made a run after all, all but one are deleted.
        """
        with self._store.explained():
            runs = self._store.search(self._store.experiment_of(parent), f"tags.`{PARENT}` = '{parent}'")
            known: dict[int, tuple[str, bool]] = {}
            for run in sorted(runs, key=lambda run: (run.info.status != "FINISHED", run.info.run_id)):
                number = int(run.data.tags[TRIAL])
                if number in known:
                    self._delete(run.info.run_id)
                else:
                    known[number] = str(run.info.run_id), run.info.status == "FINISHED"
        return known

    def write_trial(self, parent: str, number: int, entry: Entry, run_id: str | None) -> str:
        """Writes a trial's run to its end and returns its id; makes the run where it is not yet known."""
        with self._store.explained():
            ids = self._ids(parent)
            made = {} if run_id is not None else {name: tag for name, tag in entry.tags.items() if "$RUN" not in tag}
            if run_id is None:
                own = {name: placed(tag, ids) for name, tag in made.items()}
                tags = {**own, PARENT: parent, TRIAL: str(number), KIND: "trial"}
                began = entry.at_ms - round(1000 * entry.seconds)
                run = self._client.create_run(ids["$EXPERIMENT"], start_time=began, tags=tags, run_name=entry.name)
                run_id = str(run.info.run_id)
            self._store.write(run_id, ids, entry, made)
            self._client.set_terminated(run_id, "FINISHED", end_time=entry.at_ms)
        return run_id

    def add(self, parent: str, run_id: str, entry: Entry) -> None:
        """Writes more of a trial that is written."""
        with self._store.explained():
            self._store.write(run_id, self._ids(parent), entry)

    def close_sweep(self, heading: Heading, parent: str, best: str | None, entry: Entry) -> None:
        """Writes the decision on the parent run and ends it; `best` is the run of the best trial."""
        with self._store.explained():
            experiment_id = self._store.experiment(heading.experiment, heading.shown)
            self._store.write(parent, {"$EXPERIMENT": experiment_id, "$BEST": best or ""}, entry)
            self._client.set_terminated(parent, "FINISHED")

    def _ids(self, parent: str) -> dict[str, str]:
        """Returns the ids that stand in a trial's tags for their placeholders."""
        return {"$EXPERIMENT": self._store.experiment_of(parent), "$PARENT": parent}

    def _sweep(self, experiment_id: str, heading: Heading) -> str | None:
        """Returns the run of a sweep; the one with trials where a request given up as lost has made another."""
        where = f"tags.`{SWEEP}` = '{heading.sweep}' and tags.`{KIND}` = 'sweep'"
        runs = [
            str(run.info.run_id)
            for run in self._store.search(experiment_id, where)
            if run.data.tags.get(STUDY, heading.study) == heading.study  # sweeps of before have no such tag
        ]
        if len(runs) > 1:
            runs.sort(key=lambda run_id: (-len(self.trials(run_id)), run_id))
            for extra in runs[1:]:
                self._delete(extra)
        return runs[0] if runs else None

    def _delete(self, run_id: str) -> None:
        self._client.delete_run(run_id)
        self.doubled += 1
