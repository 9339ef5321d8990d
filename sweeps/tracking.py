"""The record: MLflow runs of a sweep. The only module that imports mlflow.

One experiment a lane, one parent run a sweep, one child run a trial. Runs are found again by their tags
`proofmark.sweep` and `proofmark.trial`, and metrics carry the trial's own time, so that writing a trial
twice, after a kill, changes nothing and doubles nothing.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from policies import WorkspaceError
from sweeps.entry import Entry, Input
from sweeps.workspace import Workspace

for _noisy in ("mlflow", "alembic", "sqlalchemy"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL)  # what they would log is raised as well, and told once

SWEEP, TRIAL, KIND, TITLE = "proofmark.sweep", "proofmark.trial", "proofmark.kind", "proofmark.title"
LOCK, SUPERSEDED = "proofmark.lock", "proofmark.superseded"
_PARENT = "mlflow.parentRunId"
_PAGE = 1000
_MODEL = "model"  # artifact path of a lock's model
_REGISTERED = (
    "One version a lock; it loads as a pyfunc that answers as the locked candidate does. Names are moved by "
    "`proofmark promote` and `proofmark rollback`, which keep a record of every move."
)
_ELSEWHERE = "Promoted locks whose trials are recorded elsewhere."


class Tracking:
    """An MLflow store seen as sweeps and trials."""

    def __init__(self, workspace: Workspace, uri: str | None = None) -> None:
        """Opens the workspace's own database, or the server that `uri` (MLFLOW_TRACKING_URI) names."""
        self.uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{workspace.tracking_database}"
        self._artifacts = None if "://" in self.uri and not self.uri.startswith("sqlite") else workspace.artifacts
        self._experiments: dict[str, str] = {}  # run id -> experiment id, asked once
        with _explained(self.uri):
            if self.uri == f"sqlite:///{workspace.tracking_database}":
                _create_database(workspace.tracking_database)
            self._client = MlflowClient(tracking_uri=self.uri)
            self._client.search_experiments(max_results=1)  # refuses the database now, not in mid-sweep

    def open_sweep(self, experiment: str, shown: Mapping[str, str], sweep: str, entry: Entry) -> str:
        """The parent run of a sweep: made at the first call, found again at any later one.

        `shown`: the tags of its experiment, set again where they changed.
        """
        with _explained(self.uri):
            experiment_id = self.experiment(experiment, shown)
            tags = {SWEEP: sweep, KIND: "sweep"}
            runs = self._search(experiment_id, f"tags.`{SWEEP}` = '{sweep}' and tags.`{KIND}` = 'sweep'")
            if runs:
                self._client.update_run(runs[0].info.run_id, status="RUNNING")
                return str(runs[0].info.run_id)
            run = self._client.create_run(experiment_id, start_time=entry.at_ms, tags=tags, run_name=entry.name)
            self._write(run.info.run_id, experiment_id, "", entry)
            return str(run.info.run_id)

    def lanes(self) -> tuple[tuple[str, str, str], ...]:
        """Experiment id, name and title of every lane that was played into this record, the newest first."""
        with _explained(self.uri):
            found = self._client.search_experiments(max_results=_PAGE, order_by=["last_update_time DESC"])
        return tuple((str(one.experiment_id), one.name, one.tags[TITLE]) for one in found if TITLE in one.tags)

    def trials(self, parent: str) -> dict[int, tuple[str, bool]]:
        """Trial number -> (run id, whether it was written to its end)."""
        with _explained(self.uri):
            experiment_id = self._client.get_run(parent).info.experiment_id
            runs = self._search(experiment_id, f"tags.`mlflow.parentRunId` = '{parent}'")
        return {int(run.data.tags[TRIAL]): (str(run.info.run_id), run.info.status == "FINISHED") for run in runs}

    def open_trial(self, parent: str, number: int, entry: Entry) -> str:
        """Creates the child run of a trial, to be found again by its tags; its id."""
        with _explained(self.uri):
            experiment_id = self._experiment_of(parent)
            tags = {"mlflow.parentRunId": parent, TRIAL: str(number), KIND: "trial"}
            began = entry.at_ms - round(1000 * entry.seconds)
            run = self._client.create_run(experiment_id, start_time=began, tags=tags, run_name=entry.name)
            return str(run.info.run_id)

    def close_trial(self, parent: str, run_id: str, entry: Entry) -> None:
        """Writes a trial's run in one batch and ends it."""
        with _explained(self.uri):
            self._write(run_id, self._experiment_of(parent), parent, entry)
            self._client.set_terminated(run_id, "FINISHED", end_time=entry.at_ms)

    def close_sweep(self, experiment: str, shown: Mapping[str, str], parent: str, entry: Entry) -> None:
        """Writes the decision on the parent run and ends it; `shown` as in `open_sweep`."""
        with _explained(self.uri):
            self._write(parent, self.experiment(experiment, shown), "", entry)
            self._client.set_terminated(parent, "FINISHED")

    def add(self, parent: str, run_id: str, entry: Entry) -> None:
        """Says more of a trial that is kept."""
        with _explained(self.uri):
            self._write(run_id, self._experiment_of(parent), parent, entry)

    def _write(self, run_id: str, experiment_id: str, parent: str, entry: Entry) -> None:
        ids = {"$EXPERIMENT": experiment_id, "$RUN": run_id, "$PARENT": parent}
        metrics = [Metric(key, value, entry.at_ms, 0) for key, value in entry.metrics.items()]
        params = [Param(key, value) for key, value in entry.params.items()]
        tags = [RunTag(key, _placed(value, ids)) for key, value in entry.tags.items()]
        self._client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
        if entry.inputs:
            self._client.log_inputs(run_id, datasets=[_dataset(one) for one in entry.inputs])
        if entry.files:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in entry.files.items():
                    path = Path(folder, name)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
                self._client.log_artifacts(run_id, folder)

    def experiment(self, name: str, shown: Mapping[str, str]) -> str:
        """The id of an experiment, made where there is none; `shown` as in `open_sweep`."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = None if self._artifacts is None else (self._artifacts / name).as_uri()
            found = self._client.get_experiment(self._client.create_experiment(name, location))
        experiment_id = str(found.experiment_id)
        for key, value in shown.items():
            placed = _placed(value, {"$EXPERIMENT": experiment_id})
            if found.tags.get(key) != placed:
                self._client.set_experiment_tag(experiment_id, key, placed)
        return experiment_id

    def _experiment_of(self, run_id: str) -> str:
        if run_id not in self._experiments:
            self._experiments[run_id] = str(self._client.get_run(run_id).info.experiment_id)
        return self._experiments[run_id]

    def _search(self, experiment_id: str, where: str) -> list[Run]:
        runs: list[Run] = []
        token = None
        while True:
            page = self._client.search_runs([experiment_id], where, max_results=_PAGE, page_token=token)
            runs.extend(page)
            token = page.token
            if not token:
                return runs


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """A sweep in the record, and what its artifacts take."""

    name: str
    parent: str  # run id
    superseded: bool
    artifacts: Mapping[str, int]  # run id of the sweep and of each trial -> bytes


class Shelf:
    """The same store seen as what takes room."""

    def __init__(self, workspace: Workspace) -> None:
        self._tracking = Tracking(workspace)
        self._client = self._tracking._client

    def sweeps(self) -> tuple[SweepRecord, ...]:
        """Every sweep of the record."""
        with _explained(self._tracking.uri):
            found = []
            for experiment in self._client.search_experiments():
                runs = self._tracking._search(experiment.experiment_id, f"tags.`{KIND}` != 'lock'")
                for run in (run for run in runs if run.data.tags.get(KIND) == "sweep"):
                    mine = [run, *(one for one in runs if one.data.tags.get(_PARENT) == run.info.run_id)]
                    sizes = {one.info.run_id: self._size(one.info.run_id, "") for one in mine}
                    name, superseded = run.data.tags[SWEEP], SUPERSEDED in run.data.tags
                    found.append(SweepRecord(name, run.info.run_id, superseded, sizes))
            return tuple(found)

    def supersede(self, sweep: SweepRecord, by: str, spared: Collection[str]) -> None:
        """Marks a sweep's runs as superseded, and reclaims their artifacts but those of `spared`."""
        with _explained(self._tracking.uri):
            for run_id, size in sweep.artifacts.items():
                if size and run_id not in spared:
                    uri = self._client.get_run(run_id).info.artifact_uri
                    get_artifact_repository(uri, tracking_uri=self._tracking.uri).delete_artifacts()  # type: ignore[no-untyped-call]
                self._client.set_tag(run_id, SUPERSEDED, by)

    def _size(self, run_id: str, path: str) -> int:
        listed = self._client.list_artifacts(run_id, path)
        return sum(self._size(run_id, file.path) if file.is_dir else int(file.file_size or 0) for file in listed)


class Registry:
    """The same store seen as registered models: a model an engine, a version a lock, names on versions."""

    def __init__(self, workspace: Workspace) -> None:
        self._tracking = Tracking(workspace)
        self._client = MlflowClient(tracking_uri=self._tracking.uri, registry_uri=self._tracking.uri)

    def version(
        self, model: str, lock: Mapping[str, Any], folder: Path, tags: Mapping[str, str], evidence: Path | None
    ) -> str:
        """The version that stands for a lock: made at the first call from the model's `folder`, found at any later one.

        It belongs to the run of the trial that the lock came from, where this store has it, and to a run of its own
        elsewhere; both ways the run says which lock and which version.
        """
        with _explained(self._tracking.uri):
            known = {found.tags.get(LOCK): found for found in self._versions(model)}
            found = known.get(lock["lock_id"]) or self._made(model, lock, folder)
            news = {name: value for name, value in tags.items() if found.tags.get(name) != value}
            if evidence is not None and evidence.is_dir() and news:
                self._client.log_artifacts(found.run_id, str(evidence), f"evidence/{evidence.name}")
            for name, value in news.items():
                self._client.set_model_version_tag(model, found.version, name, value)
            return str(found.version)

    def _made(self, model: str, lock: Mapping[str, Any], folder: Path) -> Any:
        run_id = self._run_of(model, lock)
        self._log_model(run_id, folder, lock)
        tags = {LOCK: lock["lock_id"]}
        made = self._client.create_model_version(model, f"runs:/{run_id}/{_MODEL}", run_id=run_id, tags=tags)
        for run in self._known(lock, run_id):
            self._client.set_tag(run, "proofmark.model_version", f"{model}/{made.version}")
        return made

    def point(self, model: str, alias: str, version: str) -> None:
        """Sets a name on a version."""
        with _explained(self._tracking.uri):
            self._client.set_registered_model_alias(model, alias, version)

    def _versions(self, model: str) -> list[Any]:
        if not self._client.search_registered_models(f"name = '{model}'"):
            self._client.create_registered_model(model, description=_REGISTERED)
        return list(self._client.search_model_versions(f"name = '{model}'"))

    def _known(self, lock: Mapping[str, Any], run_id: str) -> set[str]:
        """Those of the lock's runs that this store has."""
        known = {run_id}
        for run in filter(None, lock["runs"].values()):
            with suppress(MlflowException):
                known.add(self._client.get_run(run).info.run_id)
        return known

    def _run_of(self, model: str, lock: Mapping[str, Any]) -> str:
        trial = lock["runs"]["trial"]
        if trial is not None and trial in self._known(lock, ""):
            return str(trial)
        experiment = self._tracking.experiment(model, {"mlflow.note.content": _ELSEWHERE})
        where = f"tags.`{LOCK}` = '{lock['lock_id']}' and tags.`{KIND}` = 'lock'"
        found = self._client.search_runs([experiment], where, max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {LOCK: lock["lock_id"], KIND: "lock", SWEEP: lock["sweep"]}
        run = self._client.create_run(experiment, tags=tags, run_name=lock["sweep"])
        self._client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)

    def _log_model(self, run_id: str, folder: Path, lock: Mapping[str, Any]) -> None:
        with warnings.catch_warnings():  # of MLflow's own types, which say nothing of ours
            warnings.simplefilter("ignore")
            import mlflow.pyfunc  # seconds of imports that only a promotion pays

        needs = [f"proofmark=={distribution_version('proofmark')}"]
        with tempfile.TemporaryDirectory() as scratch:
            model = Path(scratch, _MODEL)
            mlflow.pyfunc.save_model(
                model,
                loader_module="sweeps.service",
                data_path=folder,
                pip_requirements=needs,
                model_config={"seed": lock["seeds"][0]},
                metadata={"lock_id": lock["lock_id"]},
            )
            self._client.log_artifacts(run_id, str(model), _MODEL)


def _placed(text: str, ids: Mapping[str, str]) -> str:
    for name, found in ids.items():
        text = text.replace(name, found)
    return text


def _dataset(one: Input) -> DatasetInput:
    source = json.dumps({**one.source, "digest": one.digest}, sort_keys=True)
    profile = json.dumps(one.profile, sort_keys=True) if one.profile else None
    dataset = Dataset(one.name, one.digest[:16], one.kind, source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", one.context)])


def _create_database(path: Path) -> None:
    """Makes a workspace's database where there is none, whole or not at all: beside it, then renamed."""
    with FileLock(f"{path}.lock"):
        staged = path.with_name(f".{path.name}.new")
        staged.unlink(missing_ok=True)  # what a killed or full process left of one
        if not path.exists():
            try:
                MlflowClient(tracking_uri=f"sqlite:///{staged}").search_experiments(max_results=1)
                staged.rename(path)
            finally:
                staged.unlink(missing_ok=True)


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turns what MLflow and its database refuse into one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise WorkspaceError(f"{uri}: the record cannot be written: {error.strerror or error}") from None
    except Exception as error:
        if not isinstance(error, MlflowException) and not type(error).__module__.startswith(("sqlalchemy", "alembic")):
            raise
        said = (getattr(raised, "orig", None) for raised in (error, error.__cause__))  # by the database itself
        text = " ".join(str(next(filter(None, said), error)).split())
        if "disk is full" in text:
            text = "the disk is full; make room and go on with --resume, or name another place with --workspace DIR"
        if "Can't locate revision" in text or "out-of-date database schema" in text:
            text = (
                "the database was written by another version of MLflow; open it with that one, or name a new workspace"
            )
        raise WorkspaceError(f"{uri}: {text[:300]}") from None
