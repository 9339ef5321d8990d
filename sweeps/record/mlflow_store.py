"""The MLflow store: one connection, the calls that its users share, and errors in one line."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"  # stdout is the command's own
# MLflow would retry for minutes, and a request that was executed but not answered would then make a second run.
# Delivery retries by itself, after looking up which runs exist.
os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from requests import RequestException
from sqlalchemy.exc import InterfaceError, OperationalError

from lanelock.policies import WorkspaceError
from lanelock.policies.files import open_file
from lanelock.policies.names import check_name, inside
from lanelock.sweeps.lanes.trial import Input
from lanelock.sweeps.locations import Locations, locations, relocate
from lanelock.sweeps.record.letters import Entry
from lanelock.sweeps.record.limits import shown_taken, tag_taken, taken
from lanelock.sweeps.record.outbox import own_record, record_uri
from lanelock.sweeps.secrets import shown, without_secrets
from lanelock.sweeps.workspace import Workspace, erase, size_of, unlinked, why_unwritten

for _noisy in ("mlflow", "alembic", "sqlalchemy"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL)  # their errors are raised as well

SWEEP, TRIAL, KIND, TITLE = "lanelock.sweep", "lanelock.trial", "lanelock.kind", "lanelock.title"
STUDY, LOCK, SUPERSEDED = "lanelock.study", "lanelock.lock", "lanelock.superseded"
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
PAGE = 1000


class Away(WorkspaceError):
    """The tracking server or its database does not answer; what is to be written can wait."""


class Barred(WorkspaceError):
    """The server, or the experiment, takes nothing as it stands: no letter need be tried before that is mended."""


class Store:
    """One MLflow store. Its users make all their calls inside `explained()`."""

    def __init__(
        self, workspace: Workspace, uri: str | None = None, *, reading: bool = False, restore: bool = False
    ) -> None:
        """Opens the store at `uri`, by default the workspace's. `reading` the workspace's own does not set it right.

        With `restore`, deleted experiments are restored.

        Raises Away if a server or its database does not answer, WorkspaceError if it refuses.
        """
        self.uri = uri or record_uri(workspace)
        self._workspace, self._own = workspace, self.uri == own_record(workspace)
        self._locations = locations(workspace) if self._own else Locations(workspace.artifacts, ())
        self._artifacts = (
            None if self.uri.startswith(("http://", "https://")) else workspace.artifacts
        )  # a server keeps its own
        self._restore = restore
        self._experiments: dict[str, str] = {}  # run id -> experiment id, a cache
        self._addresses: dict[str, str] = {}  # run id -> where the database says that its artifacts lie, a cache
        with self.explained():
            if self._own:
                workspace.check_path()  # in another, MLflow would make a database elsewhere
                _create_database(workspace.tracking_database)
                if self._locations.before and not reading:
                    relocate(workspace)
            try:
                self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
                self.client.search_experiments(max_results=1)  # a bad database is refused now, not in mid-sweep
            except (ValueError, ImportError) as error:  # no address, or no driver for it
                raise WorkspaceError(f"{shown(self.uri)}: not opened: {self._without_secrets(error)[:200]}") from None

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turns errors of MLflow and its database into one line that says what to do."""
        try:
            yield
        except OSError as error:  # of this machine, or of `requests`
            if _is_away(self.uri, error):
                raise Away(f"{shown(self.uri)} does not answer: {self._without_secrets(error)[:200]}") from None
            raise Barred(f"{shown(self.uri)}: cannot write: {error.strerror or self._without_secrets(error)}") from None
        except Exception as error:
            if isinstance(error, MlflowException) or type(error).__module__.startswith(("sqlalchemy", "alembic")):
                raise self._refusal(error) from None
            raise

    def _without_secrets(self, error: object) -> str:
        return without_secrets(str(error), self.uri)

    def _refusal(self, error: Exception) -> WorkspaceError:
        reasons = (getattr(raised, "orig", None) for raised in (error, error.__cause__))  # the database's own errors
        text = " ".join(self._without_secrets(next(filter(None, reasons), error)).split())
        if _is_away(self.uri, error):
            return Away(f"{shown(self.uri)} does not answer: {text[:200]}")
        if "disk is full" in text:
            text = why_unwritten(OSError(errno.ENOSPC, ""))
        if "Can't locate revision" in text or "out-of-date database schema" in text:
            text = (
                "the database was written by another version of MLflow, or holds another program's tables (Optuna's?); "
                "open it with that version, or name a new workspace or a database of its own"
            )
        kind = Barred if _takes_nothing(error) else WorkspaceError
        return kind(f"{shown(self.uri)}: {text[:300]}")

    def experiment(self, name: str, tags: Mapping[str, str]) -> str:
        """Returns the id of an experiment, which is made if missing, and sets its tags where they differ."""
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            location = None if self._artifacts is None else inside(self._artifacts, name).as_uri()
            made = {key: value for key, value in shown_taken(tags).items() if "$EXPERIMENT" not in value}
            experiment = self.client.get_experiment(self.client.create_experiment(name, location, made))
        if experiment.lifecycle_stage != "active":
            self._restored(name, str(experiment.experiment_id))
        experiment_id = str(experiment.experiment_id)
        for key, value in shown_taken(tags).items():
            text = placed(value, {"$EXPERIMENT": experiment_id})
            if experiment.tags.get(key) != text:
                self.client.set_experiment_tag(experiment_id, key, text)
        return experiment_id

    def _restored(self, name: str, experiment_id: str) -> None:
        if not self._restore:
            raise Barred(
                f"{shown(self.uri)}: experiment {name} (id {experiment_id}) was deleted in MLflow; restore it with: "
                "lanelock sync --restore, or remove it for good with mlflow gc: then lanelock sync makes it again"
            )
        self.client.restore_experiment(experiment_id)

    def experiment_of(self, run_id: str) -> str:
        """Returns the id of a run's experiment."""
        if run_id not in self._experiments:
            self._experiments[run_id] = str(self.client.get_run(run_id).info.experiment_id)
        return self._experiments[run_id]

    def search(self, experiment_id: str, where: str, *, deleted: bool = False) -> list[Run]:
        """Returns every run of an experiment that matches a filter, or every such run that was deleted."""
        view = ViewType.DELETED_ONLY if deleted else ViewType.ACTIVE_ONLY
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs([experiment_id], where, view, max_results=PAGE, page_token=token)
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def write(self, run_id: str, ids: Mapping[str, str], entry: Entry, made: Collection[str] = ()) -> None:
        """Writes an entry on a run, except the tags that it was `made` with. `ids` replace the placeholders."""
        ids, entry = {"$RUN": run_id, **ids}, taken(entry)
        metrics = [Metric(key, value, entry.at_ms, 0) for key, value in entry.metrics.items()]
        params = [Param(key, value) for key, value in entry.params.items()]
        tags = [RunTag(key, tag_taken(placed(value, ids))) for key, value in entry.tags.items() if key not in made]
        if metrics or params or tags:
            self.client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
        self.log_inputs(run_id, entry.inputs)
        if entry.files:
            with tempfile.TemporaryDirectory() as folder:
                for name, content in entry.files.items():
                    path = inside(Path(folder), *name.split("/"))
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(
                        content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
                    )
                self.write_files(run_id, Path(folder))

    def log_inputs(self, run_id: str, inputs: Collection[Input]) -> None:
        """Writes the input data sets of a run."""
        if inputs:
            self.client.log_inputs(run_id, datasets=[_dataset(data) for data in inputs])

    def bytes_of(self, run_id: str) -> int:
        """Returns the size of a run's artifacts, as far as `delete_artifacts` would remove them."""
        folder = self._folder(run_id)
        if folder is None:
            return self._listed(run_id, "")
        return size_of(folder) if unlinked(folder, self._locations.here.parent) else 0

    def _listed(self, run_id: str, path: str) -> int:
        files = self.client.list_artifacts(run_id, path)
        return sum(self._listed(run_id, file.path) if file.is_dir else int(file.file_size or 0) for file in files)

    def has_files(self, run_id: str, path: str) -> bool:
        """Tells whether a run has artifacts at a path."""
        folder = self._folder(run_id)
        return bool(self.client.list_artifacts(run_id, path)) if folder is None else (folder / path).exists()

    def write_files(self, run_id: str, folder: Path, path: str = "") -> None:
        """Writes the files below a folder to a run's artifacts, below `path`.

        Raises WorkspaceError where that leads out of the workspace. In a database that workspaces share, an experiment
        lies where the first of them made it, as long as that one is still there.
        """
        target = self._folder(run_id)
        if target is None:
            self.client.log_artifacts(run_id, str(folder), path or None)
            return
        if self._own or target.is_relative_to(self._locations.here) or not target.parents[3].is_dir():
            for file in (file for file in folder.rglob("*") if file.is_file()):
                self._locations.check(target / path / file.relative_to(folder))
        repository = get_artifact_repository(target.as_uri(), tracking_uri=self.uri)
        repository.log_artifacts(str(folder), path or None)  # type: ignore[no-untyped-call]

    def download(self, address: str, scratch: str) -> Path:
        """Copies the folder at an address of MLflow below `scratch`, and returns its path there."""
        run_id, _, path = address.removeprefix("runs:/").partition("/")
        folder = self._folder(run_id) if address.startswith("runs:/") else None
        address = self._locations.now(address) if folder is None else (folder / path).as_uri()
        repository = get_artifact_repository(address, tracking_uri=self.uri, registry_uri=self.uri)
        return Path(repository.download_artifacts("", scratch))  # type: ignore[no-untyped-call]

    def read_file(self, run_id: str, name: str) -> bytes:
        """Returns a file of a run's artifacts. Raises MlflowException or OSError where there is none."""
        folder = self._folder(run_id)
        if folder is not None:
            return (folder / name).read_bytes()
        with tempfile.TemporaryDirectory() as scratch:
            return Path(self.client.download_artifacts(run_id, name, scratch)).read_bytes()

    def delete_artifacts(self, run_id: str) -> None:
        """Deletes a run's artifacts. Raises WorkspaceError where they lie outside the workspace."""
        folder = self._folder(run_id)
        if folder is not None:
            erase(self._locations.check(folder, removing=True))
            return
        uri = self.client.get_run(run_id).info.artifact_uri
        get_artifact_repository(uri, tracking_uri=self.uri).delete_artifacts()  # type: ignore[no-untyped-call]

    def _folder(self, run_id: str) -> Path | None:
        """Returns the folder of a run's artifacts, wherever the database looks for it; None where a server keeps it."""
        path = self._locations.path(self._address(run_id))
        if self._own and path is not None and not path.is_relative_to(self._locations.here):
            self._locations = locations(self._workspace)  # moved since it was opened, or reached by two paths
            self._addresses.clear()
            path = self._locations.path(self._address(run_id))
        return path

    def _address(self, run_id: str) -> str:
        if run_id not in self._addresses:
            self.knows(self.client.get_run(run_id))
        return self._addresses[run_id]

    def knows(self, run: Run) -> None:
        """Remembers where the artifacts of a run lie: to ask for a run again takes as long as to write its metrics."""
        self._addresses[str(run.info.run_id)] = str(run.info.artifact_uri)


def named(field: str, name: str) -> str:
    """Returns a filter on a field. Raises PolicyError for what is no name: MLflow's filters know no escape."""
    return f"{field} = '{check_name(name, 'a search in MLflow')}'"


def tagged(tag: str, name: str) -> str:
    """Returns a filter on a tag, as `named`."""
    return named(f"tags.`{tag}`", name)


def placed(text: str, ids: Mapping[str, str]) -> str:
    """Returns a text with its placeholders replaced by ids."""
    for name, value in ids.items():
        text = text.replace(name, value)
    return text


def _dataset(data: Input) -> DatasetInput:
    source = json.dumps({**data.source, "digest": data.digest}, sort_keys=True)
    profile = json.dumps(data.profile, sort_keys=True) if data.profile else None
    dataset = Dataset(data.name, data.digest[:16], data.kind, source, profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", data.context)])


def _create_database(path: Path) -> None:
    """Makes a workspace's database if missing, whole or not at all: under another name, then renamed."""
    if path.exists():
        open_file(path).close()  # SQLite would wait for ever at a named pipe
        return  # and whole; no lock is taken, since the disk may be read-only
    with FileLock(f"{path}.lock"):
        staged = path.with_name(f".{path.name}.new")
        staged.unlink(missing_ok=True)  # left by a killed process or a full disk
        if not path.exists():
            try:
                staged.touch()  # with the rights that the user's umask gives; SQLite gives its group none to write
                MlflowClient(tracking_uri=f"sqlite:///{staged}").search_experiments(max_results=1)
                staged.rename(path)
            finally:
                staged.unlink(missing_ok=True)


def _is_away(uri: str, error: Exception) -> bool:
    """Tells whether the store may answer later; a file that SQLite refuses will not."""
    if uri.startswith("sqlite") or "://" not in uri:
        return False
    status = re.search(r"failed with error code (\d{3})|(\d{3}) (?:Client|Server) Error", str(error))
    if status is not None:
        return _may_pass(int(status[1] or status[2]))
    if isinstance(error, MlflowException):
        code = int(error.get_http_status_code())  # type: ignore[no-untyped-call]  # 500 where nothing answered
        # MLflow reports a lost connection to its database as a bad request
        cut = "psycopg" in str(error) and re.search(r"connection|terminat|shut ?down|recovery", str(error)) is not None
        return _may_pass(code) or (code == 400 and cut)
    return isinstance(error, RequestException | OperationalError | InterfaceError)


def _takes_nothing(error: Exception) -> bool:
    """Tells whether what the store refused is not one entry but everything."""
    if not isinstance(error, MlflowException):
        return True  # of the database
    status = re.search(r"failed with error code (\d{3})", str(error))
    code = int(status[1]) if status is not None else int(error.get_http_status_code())  # type: ignore[no-untyped-call]
    return code in (401, 403, 405, 407) or code >= 500


def _may_pass(status: int) -> bool:
    """Tells whether an HTTP status may be gone later."""
    return status >= 500 or status in (408, 429)
