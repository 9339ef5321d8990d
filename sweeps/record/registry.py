"""The model registry as a view of the moves: brought to what the records say, doing it again changes nothing."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from lanelock.sweeps.proof.evidence import certified_on
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE
from lanelock.sweeps.proof.moves import Standing, holders
from lanelock.sweeps.record import notes
from lanelock.sweeps.record.letters import Version
from lanelock.sweeps.record.mlflow_store import KIND, LOCK, NOTE, SWEEP, Store, placed
from lanelock.sweeps.workspace import Workspace

_MODEL = "model"  # artifact path of a lock's model
_REGISTERED = (
    "One version a lock; it loads as a pyfunc that answers as the locked candidate does. Names are moved by "
    "`lanelock promote` and `lanelock rollback`, which keep a record of every move."
)
_ELSEWHERE = "Promoted locks whose trials are recorded elsewhere."


def follow(workspace: Workspace) -> dict[str, str]:
    """Brings the model registry to where the records stand; alias -> the version it names.

    Registered models are named after engines. Doing it again changes nothing.
    """

    found = {}
    with FileLock(workspace.registry_lock):
        registry = Registry(workspace)
        for alias, move in sorted(holders(workspace).items()):
            folder = workspace.promoted / move.to.lock_id
            evidence = None if move.to.evidence is None else workspace.evidence / move.to.evidence
            if evidence is not None and not evidence.is_dir():
                evidence = None
            lock = Lock.read(folder / FILE)
            model, tags = model_name(move.to.engine), _tags(lock, move.to)
            inputs = () if evidence is None else tuple(certified_on(lock, evidence))
            told = Version(model, lock, folder, tags, notes.of_version(lock, tags), evidence, inputs)
            found[alias] = registry.version(told)
            registry.point(model, alias, found[alias])
    return found


def model_name(engine: str) -> str:
    """The registered model of an engine's locks: one a segment."""
    return engine.replace("_", "-")


def _tags(lock: Lock, to: Standing) -> dict[str, str]:
    """What a registered version says of its lock."""
    return {
        "lanelock.lock": lock.lock_id,
        "lanelock.sweep": lock.sweep,
        "lanelock.decision": lock.decision,
        "lanelock.verdict": to.verdict,
        "lanelock.evidence": to.evidence or "none",
        "lanelock.pack": lock.candidate_pack.digest,
        "lanelock.parent": lock.authority.digest,
        "lanelock.code": lock.code_version,
        **{f"lanelock.world.{seed}": proof.world for seed, proof in lock.proof.items()},
    }


class Registry:
    """Writes registered models: a model per engine, a version per lock, aliases on versions."""

    def __init__(self, workspace: Workspace) -> None:
        self._store = Store(workspace)
        self._client = self._store.client

    def version(self, told: Version) -> str:
        """The version that stands for a lock: made at the first call from the model's folder, found at any later one.

        It belongs to the run of the trial that the lock came from, where this store has it, and to a run of its own
        elsewhere; both ways the run says which lock and which version.
        """
        with self._store.explained():
            known = {found.tags.get(LOCK): found for found in self._versions(told.model)}
            found = known.get(told.lock.lock_id) or self._made(told.model, told.lock, told.folder)
            news = {name: value for name, value in told.tags.items() if found.tags.get(name) != value}
            if told.evidence is not None and news:
                self._client.log_artifacts(found.run_id, str(told.evidence), f"evidence/{told.evidence.name}")
                self._store.log_inputs(found.run_id, told.inputs)
            for name, value in news.items():
                self._client.set_model_version_tag(told.model, found.version, name, value)
            self._describe(told.model, found, told.note)
            return str(found.version)

    def _describe(self, model: str, found: Any, note: str) -> None:
        """Says what a version is, on itself and on its run where that is the lock's alone."""
        run = self._client.get_run(found.run_id)
        said = placed(note, {"$EXPERIMENT": run.info.experiment_id, "$RUN": run.info.run_id})
        if found.description != said:
            self._client.update_model_version(model, found.version, said)
        if run.data.tags.get(KIND) == "lock":
            self._client.set_tag(run.info.run_id, NOTE, said)

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
        with self._store.explained():
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
        return self._store.search(str(experiment.experiment_id), f"tags.`{LOCK}` = '{lock.lock_id}'")

    def _run_of_its_own(self, model: str, lock: Lock) -> str:
        experiment = self._store.experiment(model, {NOTE: _ELSEWHERE})
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
