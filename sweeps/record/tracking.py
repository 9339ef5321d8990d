"""The record: MLflow runs of a sweep. The only module that imports mlflow.

One experiment a lane, one parent run a sweep, one child run a trial. Runs are found again by their tags
`lanelock.sweep` and `lanelock.trial`, and metrics carry the trial's own time, so that writing a trial
twice, after a kill, changes nothing and doubles nothing.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # stdout is the command's own
# MLflow would ask again for minutes, and a request that was executed but not answered would then make a second run.
# Whoever delivers asks again himself, after looking what is there.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from requests import RequestException
from sqlalchemy.exc import InterfaceError, OperationalError

from lanelock.policies import WorkspaceError
from lanelock.sweeps.lanes.trial import Input
from lanelock.sweeps.record.letters import Entry, Heading, Version
from lanelock.sweeps.record.outbox import own_record, record_uri
from lanelock.sweeps.workspace import Workspace, shown

if TYPE_CHECKING:
    from lanelock.sweeps.proof.lock import Lock  # what delivers letters imports no engine

for _noisy in ("mlflow", "alembic", "sqlalchemy"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL)  # what they would log is raised as well, and told once

SWEEP, TRIAL, KIND, TITLE = "lanelock.sweep", "lanelock.trial", "lanelock.kind", "lanelock.title"
STUDY = "lanelock.study"
LOCK, SUPERSEDED = "lanelock.lock", "lanelock.superseded"
_PARENT = "mlflow.parentRunId"
_PAGE = 1000
_MODEL = "model"  # artifact path of a lock's model
_REGISTERED = (
    "One version a lock; it loads as a pyfunc that answers as the locked candidate does. Names are moved by "
    "`lanelock promote` and `lanelock rollback`, which keep a record of every move."
)
_ELSEWHERE = "Promoted locks whose trials are recorded elsewhere."


class Away(WorkspaceError):
    """The tracking server, or the database behind it, does not answer: what is to be written can wait."""


class Tracking:
    """An MLflow store seen as sweeps and trials."""

    def __init__(self, workspace: Workspace, uri: str | None = None) -> None:
        """Opens the workspace's own database, or the server or database that `uri` (MLFLOW_TRACKING_URI) names.

        Raises Away where a server or its database does not answer, WorkspaceError where it refuses.
        """
        self.uri = uri or record_uri(workspace)
        self._artifacts = None if _is_server(self.uri) else workspace.artifacts  # a server keeps its own
        self._experiments: dict[str, str] = {}  # run id -> experiment id, asked once
        self.doubled = 0  # runs that a request given up as lost had made all the same; they were deleted
        with _explained(self.uri):
            if self.uri == own_record(workspace):
                _create_database(workspace.tracking_database)
            self._client = MlflowClient(tracking_uri=self.uri)
            self._client.search_experiments(max_results=1)  # refuses the database now, not in mid-sweep

    def open_sweep(self, heading: Heading, entry: Entry) -> str:
        """The parent run of a sweep: made at the first call, found again at any later one."""
        with _explained(self.uri):
            experiment_id = self.experiment(heading.experiment, heading.shown)
            found = self._sweep(experiment_id, heading)
            if found is not None:
                self._client.update_run(found, status="RUNNING")
                self._write(found, experiment_id, {}, entry)
                return found
            tags = {SWEEP: heading.sweep, STUDY: heading.study, KIND: "sweep"}
            run = self._client.create_run(experiment_id, start_time=entry.at_ms, tags=tags, run_name=entry.name)
            self._write(run.info.run_id, experiment_id, {}, entry)
            return str(run.info.run_id)

    def lanes(self) -> tuple[tuple[str, str, str], ...]:
        """Experiment id, name and title of every lane that was played into this record, the newest first."""
        with _explained(self.uri):
            found = self._client.search_experiments(max_results=_PAGE, order_by=["last_update_time DESC"])
        return tuple((str(one.experiment_id), one.name, one.tags[TITLE]) for one in found if TITLE in one.tags)

    def tried(self, experiment_id: str) -> bool:
        """Whether any trial of a lane is recorded: one that was refused has sweeps without."""
        with _explained(self.uri):
            return bool(self._client.search_runs([experiment_id], f"tags.`{KIND}` = 'trial'", max_results=1))

    def trials(self, parent: str) -> dict[int, tuple[str, bool]]:
        """Trial number -> (run id, whether it was written to its end).

        Should a request that was given up as lost have made a run after all, all but one are deleted.
        """
        with _explained(self.uri):
            runs = self._search(self._experiment_of(parent), f"tags.`mlflow.parentRunId` = '{parent}'")
            held: dict[int, tuple[str, bool]] = {}
            for run in sorted(runs, key=lambda run: (run.info.status != "FINISHED", run.info.run_id)):
                number = int(run.data.tags[TRIAL])
                if number in held:
                    self._client.delete_run(run.info.run_id)
                    self.doubled += 1
                else:
                    held[number] = str(run.info.run_id), run.info.status == "FINISHED"
        return held

    def write_trial(self, parent: str, number: int, entry: Entry, run_id: str | None) -> str:
        """Writes a trial's run to its end and returns its id; makes the run where it is not yet known."""
        with _explained(self.uri):
            experiment_id = self._experiment_of(parent)
            made = {} if run_id is not None else {name: tag for name, tag in entry.tags.items() if "$RUN" not in tag}
            if run_id is None:
                ids = {"$EXPERIMENT": experiment_id, "$PARENT": parent}
                placed = {name: _placed(tag, ids) for name, tag in made.items()}
                tags = {**placed, _PARENT: parent, TRIAL: str(number), KIND: "trial"}
                began = entry.at_ms - round(1000 * entry.seconds)
                run = self._client.create_run(experiment_id, start_time=began, tags=tags, run_name=entry.name)
                run_id = str(run.info.run_id)
            self._write(run_id, experiment_id, {"$PARENT": parent}, entry, made)
            self._client.set_terminated(run_id, "FINISHED", end_time=entry.at_ms)
        return run_id

    def add(self, parent: str, run_id: str, entry: Entry) -> None:
        """Says more of a trial that is written."""
        with _explained(self.uri):
            self._write(run_id, self._experiment_of(parent), {"$PARENT": parent}, entry)

    def close_sweep(self, heading: Heading, parent: str, best: str | None, entry: Entry) -> None:
        """Writes the decision on the parent run and ends it; `best` is the run of the best trial."""
        with _explained(self.uri):
            experiment_id = self.experiment(heading.experiment, heading.shown)
            self._write(parent, experiment_id, {"$BEST": best or ""}, entry)
            self._client.set_terminated(parent, "FINISHED")

    def _write(
        self, run_id: str, experiment_id: str, ids: Mapping[str, str], entry: Entry, made: Collection[str] = ()
    ) -> None:
        """Writes an entry but the tags that the run was `made` with."""
        placed = {"$EXPERIMENT": experiment_id, "$RUN": run_id, **ids}
        metrics = [Metric(key, value, entry.at_ms, 0) for key, value in entry.metrics.items()]
        params = [Param(key, value) for key, value in entry.params.items()]
        tags = [RunTag(key, _placed(value, placed)) for key, value in entry.tags.items() if key not in made]
        if metrics or params or tags:
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

    def _sweep(self, experiment_id: str, heading: Heading) -> str | None:
        """The run of a sweep; the one with trials where a request given up as lost has made another."""
        where = f"tags.`{SWEEP}` = '{heading.sweep}' and tags.`{KIND}` = 'sweep'"
        found = [
            str(run.info.run_id)
            for run in self._search(experiment_id, where)
            if run.data.tags.get(STUDY, heading.study) == heading.study  # sweeps of before have no such tag
        ]
        if len(found) > 1:
            found.sort(key=lambda run_id: (-len(self.trials(run_id)), run_id))
            for extra in found[1:]:
                self._client.delete_run(extra)
                self.doubled += 1
        return found[0] if found else None

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

    def version(self, told: Version) -> str:
        """The version that stands for a lock: made at the first call from the model's folder, found at any later one.

        It belongs to the run of the trial that the lock came from, where this store has it, and to a run of its own
        elsewhere; both ways the run says which lock and which version.
        """
        with _explained(self._tracking.uri):
            known = {found.tags.get(LOCK): found for found in self._versions(told.model)}
            found = known.get(told.lock.lock_id) or self._made(told.model, told.lock, told.folder)
            news = {name: value for name, value in told.tags.items() if found.tags.get(name) != value}
            if told.evidence is not None and news:
                self._client.log_artifacts(found.run_id, str(told.evidence), f"evidence/{told.evidence.name}")
                self._client.log_inputs(found.run_id, datasets=[_dataset(one) for one in told.inputs])
            for name, value in news.items():
                self._client.set_model_version_tag(told.model, found.version, name, value)
            self._describe(told.model, found, told.note)
            return str(found.version)

    def _describe(self, model: str, found: Any, note: str) -> None:
        """Says what a version is, on itself and on its run where that is the lock's alone."""
        run = self._client.get_run(found.run_id)
        said = _placed(note, {"$EXPERIMENT": run.info.experiment_id, "$RUN": run.info.run_id})
        if found.description != said:
            self._client.update_model_version(model, found.version, said)
        if run.data.tags.get(KIND) == "lock":
            self._client.set_tag(run.info.run_id, "mlflow.note.content", said)

    def _made(self, model: str, lock: Lock, folder: Path) -> Any:
        run_id, *others = self._runs_of(model, lock)
        self._log_model(run_id, folder, lock)
        tags = {LOCK: lock.lock_id}
        made = self._client.create_model_version(model, f"runs:/{run_id}/{_MODEL}", run_id=run_id, tags=tags)
        for run in (run_id, *others):
            self._client.set_tag(run, "lanelock.model_version", f"{model}/{made.version}")
        return made

    def point(self, model: str, alias: str, version: str) -> None:
        """Sets a name on a version."""
        with _explained(self._tracking.uri):
            self._client.set_registered_model_alias(model, alias, version)

    def _versions(self, model: str) -> list[Any]:
        if not self._client.search_registered_models(f"name = '{model}'"):
            self._client.create_registered_model(model, description=_REGISTERED)
        return list(self._client.search_model_versions(f"name = '{model}'"))

    def _runs_of(self, model: str, lock: Lock) -> list[str]:
        """The run that a lock's version belongs to, then the others of the lock that this store has.

        A lock made while the record was away names no runs; what was delivered since says itself which lock it is of.
        """
        mine = {run.info.run_id: run for run in (*self._named(lock), *self._delivered(lock))}
        if not any(run.data.tags.get(KIND) == "trial" for run in mine.values()):
            return [self._run_of_its_own(model, lock), *mine]
        return sorted(mine, key=lambda run_id: mine[run_id].data.tags.get(KIND) != "trial")

    def _named(self, lock: Lock) -> Iterator[Run]:
        for run_id in filter(None, lock.runs.values()):
            with suppress(MlflowException):
                yield self._client.get_run(run_id)

    def _delivered(self, lock: Lock) -> list[Run]:
        experiment = self._client.get_experiment_by_name(lock.lane_document["id"])
        if experiment is None:
            return []
        return self._tracking._search(str(experiment.experiment_id), f"tags.`{LOCK}` = '{lock.lock_id}'")

    def _run_of_its_own(self, model: str, lock: Lock) -> str:
        experiment = self._tracking.experiment(model, {"mlflow.note.content": _ELSEWHERE})
        where = f"tags.`{LOCK}` = '{lock.lock_id}' and tags.`{KIND}` = 'lock'"
        found = self._client.search_runs([experiment], where, max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {LOCK: lock.lock_id, KIND: "lock", SWEEP: lock.sweep}
        run = self._client.create_run(experiment, tags=tags, run_name=lock.sweep)
        self._client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)

    def _log_model(self, run_id: str, folder: Path, lock: Lock) -> None:
        with warnings.catch_warnings():  # of MLflow's own types, which say nothing of ours
            warnings.simplefilter("ignore")
            import mlflow.pyfunc  # seconds of imports that only a promotion pays

        needs = [f"lanelock=={distribution_version('lanelock')}"]
        with tempfile.TemporaryDirectory() as scratch:
            model = Path(scratch, _MODEL)
            mlflow.pyfunc.save_model(
                model,
                loader_module="lanelock.service",
                data_path=folder,
                pip_requirements=needs,
                model_config={"seed": lock.seeds[0]},
                metadata={"lock_id": lock.lock_id},
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
    except OSError as error:  # of this machine, or of a request: those of `requests` are of this kind
        if _is_away(uri, error):
            raise Away(f"{shown(uri)} does not answer: {str(error)[:200]}") from None
        raise WorkspaceError(f"{shown(uri)}: the record cannot be written: {error.strerror or error}") from None
    except Exception as error:
        if not isinstance(error, MlflowException) and not type(error).__module__.startswith(("sqlalchemy", "alembic")):
            raise
        said = (getattr(raised, "orig", None) for raised in (error, error.__cause__))  # by the database itself
        text = " ".join(str(next(filter(None, said), error)).split())
        if _is_away(uri, error):
            raise Away(f"{shown(uri)} does not answer: {text[:200]}") from None
        if "disk is full" in text:
            text = "the disk is full; make room and go on with --resume, or name another place with --workspace DIR"
        if "Can't locate revision" in text or "out-of-date database schema" in text:
            text = (
                "the database was written by another version of MLflow, or holds another program's tables (Optuna's?); "
                "open it with that version, or name a new workspace or a database of its own"
            )
        raise WorkspaceError(f"{shown(uri)}: {text[:300]}") from None


def _is_away(uri: str, error: Exception) -> bool:
    """Whether it may answer later. A file never does: what SQLite refuses, it refuses."""
    if uri.startswith("sqlite") or "://" not in uri:
        return False
    said = re.search(r"failed with error code (\d{3})|(\d{3}) (?:Client|Server) Error", str(error))
    if said is not None:
        return _may_pass(int(said[1] or said[2]))
    if isinstance(error, MlflowException):
        status = int(error.get_http_status_code())  # type: ignore[no-untyped-call]  # 500 where nothing answered
        # MLflow passes on as a bad request what its database says of a connection that was cut
        cut = "psycopg" in str(error) and re.search(r"connection|terminat|shut ?down|recovery", str(error)) is not None
        return _may_pass(status) or (status == 400 and cut)
    return isinstance(error, RequestException | OperationalError | InterfaceError)


def _may_pass(status: int) -> bool:
    """Whether an HTTP status says that asking later may help."""
    return status >= 500 or status in (408, 429)


def _is_server(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))
