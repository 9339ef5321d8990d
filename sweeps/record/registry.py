"""The model registry, which follows the records of moves: a model per engine, a version per lock, its aliases."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any

from filelock import FileLock
from mlflow.entities import Run

from lanelock.sweeps.lanes.trial import Input
from lanelock.sweeps.proof.evidence import certified_on, check_files, claim_in
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE
from lanelock.sweeps.proof.moves import Standing, holders
from lanelock.sweeps.record import notes
from lanelock.sweeps.record.mlflow_store import KIND, LOCK, NOTE, SWEEP, Store, placed
from lanelock.sweeps.workspace import Workspace

_MODEL = "model"  # artifact path of a lock's model
_REGISTERED = (
    "One version per lock; it loads as a pyfunc that answers as the locked candidate does. Aliases are moved by "
    "`lanelock promote` and `lanelock rollback`, which keep a record of every move."
)
_ELSEWHERE = "Promoted locks whose trials are recorded elsewhere."


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version of a lock."""

    model: str
    lock: Lock
    folder: Path  # the lock, and its imported world if any
    tags: Mapping[str, str]
    note: str
    evidence: Path | None  # the pack of its certification
    inputs: tuple[Input, ...]  # of its certification


def follow(workspace: Workspace) -> dict[str, str]:
    """Updates the model registry to the records of moves; a second call changes nothing. Returns alias -> version."""
    versions = {}
    with FileLock(workspace.registry_lock):
        registry, held = Registry(workspace), sorted(holders(workspace).items())
        # Of the moves to one lock, the one that names a certification describes it.
        standing = {move.to.lock_id: move.to for _, move in sorted(held, key=lambda row: row[1].to.evidence or "")}
        for alias, move in held:
            folder, to = workspace.promoted / move.to.lock_id, standing[move.to.lock_id]
            evidence = None if to.evidence is None else workspace.evidence / to.evidence
            if evidence is not None and not evidence.is_dir():
                evidence = None
            lock = Lock.read(folder / FILE)
            model, tags = model_name(to.engine), _tags(lock, to, evidence)
            inputs = () if evidence is None else tuple(certified_on(lock, evidence))
            version = Version(model, lock, folder, tags, notes.of_version(lock, tags), evidence, inputs)
            versions[alias] = registry.point(alias, version)
    return versions


def model_name(engine: str) -> str:
    """Returns the name of the registered model of an engine's locks."""
    return engine.replace("_", "-")


def _tags(lock: Lock, to: Standing, evidence: Path | None) -> dict[str, str]:
    """Returns the tags of a registered version. Raises IntegrityError if its evidence is not as it was written."""
    claim = None if evidence is None else claim_in(check_files(evidence))
    return {
        "lanelock.lock": lock.lock_id,
        "lanelock.sweep": lock.sweep,
        "lanelock.decision": lock.decision,
        "lanelock.verdict": to.verdict,
        "lanelock.evidence": to.evidence or "none",
        "lanelock.claim": "none" if claim is None else str(claim),
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

    def point(self, alias: str, version: Version) -> str:
        """Points an alias to a lock's version, makes the version if missing, and returns its number.

        It belongs to the run of the lock's trial if this store has it, else to a run of its own. Both runs carry the
        lock's id and the version in their tags.
        """
        with self._store.explained():
            known = {row.tags.get(LOCK): row for row in self._versions(version.model)}
            row = known.get(version.lock.lock_id) or self._make(version.model, version.lock, version.folder)
            changed = {name: value for name, value in version.tags.items() if row.tags.get(name) != value}
            if version.evidence is not None and changed:
                self._client.log_artifacts(row.run_id, str(version.evidence), f"evidence/{version.evidence.name}")
                self._store.log_inputs(row.run_id, version.inputs)
            for name, value in changed.items():
                self._client.set_model_version_tag(version.model, row.version, name, value)
            self._describe(version.model, row, version.note)
            self._client.set_registered_model_alias(version.model, alias, row.version)
            return str(row.version)

    def _describe(self, model: str, row: Any, note: str) -> None:
        """Writes a version's description, and the note of its run if that run was made for the lock alone."""
        run = self._client.get_run(row.run_id)
        text = placed(note, {"$EXPERIMENT": run.info.experiment_id, "$RUN": run.info.run_id})
        if row.description != text:
            self._client.update_model_version(model, row.version, text)
        if run.data.tags.get(KIND) == "lock":
            self._client.set_tag(run.info.run_id, NOTE, text)

    def _make(self, model: str, lock: Lock, folder: Path) -> Any:
        run_id, *others = self._runs_of(model, lock)
        self._log_model(run_id, folder, lock)
        tags = {LOCK: lock.lock_id}
        row = self._client.create_model_version(model, f"runs:/{run_id}/{_MODEL}", run_id=run_id, tags=tags)
        for run in (run_id, *others):
            self._client.set_tag(run, "lanelock.model_version", f"{model}/{row.version}")
        return row

    def _versions(self, model: str) -> list[Any]:
        if not self._client.search_registered_models(f"name = '{model}'"):
            self._client.create_registered_model(model, description=_REGISTERED)
        return list(self._client.search_model_versions(f"name = '{model}'"))

    def _runs_of(self, model: str, lock: Lock) -> list[str]:
        """Returns the run that a lock's version belongs to, then the other runs of the lock in this store.

        The runs of a sweep and of its locked trial carry the lock's id, whenever they were delivered.
        """
        runs = {run.info.run_id: run for run in self._delivered(lock)}
        if not any(run.data.tags.get(KIND) == "trial" for run in runs.values()):
            return [self._run_of_its_own(model, lock), *runs]
        return sorted(runs, key=lambda run_id: runs[run_id].data.tags.get(KIND) != "trial")

    def _delivered(self, lock: Lock) -> list[Run]:
        experiment = self._client.get_experiment_by_name(lock.lane_document["id"])
        if experiment is None:
            return []
        return self._store.search(str(experiment.experiment_id), f"tags.`{LOCK}` = '{lock.lock_id}'")

    def _run_of_its_own(self, model: str, lock: Lock) -> str:
        experiment = self._store.experiment(model, {NOTE: _ELSEWHERE})
        where = f"tags.`{LOCK}` = '{lock.lock_id}' and tags.`{KIND}` = 'lock'"
        if runs := self._client.search_runs([experiment], where, max_results=1):
            return str(runs[0].info.run_id)
        tags = {LOCK: lock.lock_id, KIND: "lock", SWEEP: lock.sweep}
        run = self._client.create_run(experiment, tags=tags, run_name=lock.sweep)
        self._client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)

    def _log_model(self, run_id: str, folder: Path, lock: Lock) -> None:
        with warnings.catch_warnings():  # about MLflow's own types
            warnings.simplefilter("ignore")
            import mlflow.pyfunc  # takes seconds, and only a promotion needs it

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
