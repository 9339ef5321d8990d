"""The model registry, which follows the records of moves: a model per engine, a version per lock, its aliases.

Which version is a lock's is decided by its bytes (`registered`), so that an alias never points to a version that only
says so. What somebody else has changed is reported, and set right.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from lanelock.engine.protocol import Serving
from lanelock.policies import LanelockError
from lanelock.policies.names import inside
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.lanes.trial import Input
from lanelock.sweeps.proof.evidence import certified_on, check_files, claim_in
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE, promoted
from lanelock.sweeps.proof.model_files import LOADER, fingerprint, model_config
from lanelock.sweeps.proof.moves import Move, Standing, holders, moves
from lanelock.sweeps.record import notes
from lanelock.sweeps.record.mlflow_store import KIND, LOCK, NOTE, SWEEP, Store, named, placed, tagged
from lanelock.sweeps.record.outbox import own_record, record_uri
from lanelock.sweeps.record.registered import (
    Difference,
    Left,
    Seen,
    Written,
    differences,
    held,
    model_name,
    read_left,
    targets,
    write_left,
)
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


def follow(workspace: Workspace, report: Callable[[str], None] = lambda text: None) -> dict[str, str]:
    """Updates the model registry to the records of moves; a second call changes nothing. Returns alias -> version.

    An engine whose candidates do not answer rows has aliases and no model.

    Reports, in a line each, what somebody else had changed in the registry; it is set right.
    """
    with FileLock(workspace.registry_lock):
        registry, history, standing = Registry(workspace), moves(workspace), holders(workspace)
        lefts, versions = read_left(workspace, registry.uri), dict[str, str]()
        for model in sorted(
            {*lefts, *(model_name(move.to.engine) for move in standing.values() if _serves(move.to.engine))}
        ):
            here = {alias: move for alias, move in standing.items() if model_name(move.to.engine) == model}
            for difference in registry.differences(model, history, lefts.get(model)):
                if difference.changed:
                    report(difference.text)
                    registry.disown(model, difference, here, lefts)
            # Of the moves to one lock, the newest that names a certification describes it.
            described = sorted(here.values(), key=lambda move: (move.to.evidence is not None, move.number))
            newest = {move.to.lock_id: move for move in described}
            made = {lock_id: registry.version_of(_version(workspace, move), lefts) for lock_id, move in newest.items()}
            aliases = {alias: made[move.to.lock_id] for alias, move in here.items()}
            left = lefts.get(model, Left())
            if left.aliases != aliases:
                lefts[model] = replace(left, next_aliases=aliases)
                write_left(workspace, registry.uri, lefts)
            lefts[model] = registry.point(model, aliases, left)
            versions |= aliases
        write_left(workspace, registry.uri, lefts)
    return dict(sorted(versions.items()))


def compare(workspace: Workspace, alias: str | None = None) -> list[Difference]:
    """Returns what the registry holds that is not what the moves say, of one alias or all. Writes nothing."""
    history, standing = moves(workspace), holders(workspace)
    if not history:
        return []
    uri, rows = record_uri(workspace), list[Difference]()
    lefts = read_left(workspace, uri)
    if uri == own_record(workspace) and not workspace.tracking_database.exists():
        text = f"{workspace.tracking_database}: there is no such database"
        return [Difference(text, "model" if lefts else "behind")]
    registry = Registry(workspace, reading=True)
    for model in sorted(
        {*lefts, *(model_name(move.to.engine) for move in standing.values() if _serves(move.to.engine))}
    ):
        rows += registry.differences(model, history, lefts.get(model))
    return [row for row in rows if alias is None or row.alias in (None, alias)]


def _serves(engine: str) -> bool:
    """Whether an engine's candidates answer as models; of one that is not installed here they may."""
    try:
        return isinstance(engine_named(engine).own, Serving)
    except LanelockError:
        return True


def _version(workspace: Workspace, move: Move) -> Version:
    """Returns what the registry should hold of the lock that a move points to."""
    folder = promoted(move.to.lock_id, workspace).parent
    evidence = None if move.to.evidence is None else inside(workspace.evidence, move.to.evidence)
    if evidence is not None and not evidence.is_dir():
        evidence = None
    lock = Lock.read(folder / FILE)
    model, tags = model_name(move.to.engine), _tags(lock, move.to, evidence)
    inputs = () if evidence is None else tuple(certified_on(lock, evidence))
    return Version(model, lock, folder, tags, notes.of_version(lock, tags), evidence, inputs)


def _tags(lock: Lock, to: Standing, evidence: Path | None) -> dict[str, str]:
    """Returns the tags of a registered version. Raises IntegrityError if its evidence is not as it was written."""
    claim = None if evidence is None else claim_in(check_files(evidence))
    return {
        "lanelock.lock": lock.lock_id,
        "lanelock.sweep": lock.sweep,
        "lanelock.decision": lock.decision,
        "lanelock.verdict": to.verdict,
        "lanelock.evidence": to.evidence or "none",
        **({} if to.profile is None else {"lanelock.profile": to.profile}),
        "lanelock.claim": "none" if claim is None else str(claim),
        "lanelock.pack": lock.candidate_pack.digest,
        "lanelock.parent": lock.authority.digest,
        "lanelock.code": lock.code_version,
        **{f"lanelock.world.{seed}": proof.world for seed, proof in lock.proof.items()},
    }


class Registry:
    """Reads and writes registered models: a model per engine, a version per lock, aliases on versions."""

    def __init__(self, workspace: Workspace, *, reading: bool = False) -> None:
        self._workspace = workspace
        self._store = Store(workspace, reading=reading)
        self._client = self._store.client
        self._fingerprint = cache(self._fingerprinted)
        self.uri = self._store.uri

    def differences(self, model: str, history: Sequence[Move], left: Left | None) -> list[Difference]:
        """Returns what a registered model holds that is not what the moves say."""
        with self._store.explained():
            wanted, seen = targets(history, model), self._seen(model)
            locks = {} if seen is None else self._locks(left, seen, wanted)
            return [*differences(model, wanted, left, seen, locks)]

    def disown(self, model: str, difference: Difference, here: Collection[str], lefts: dict[str, Left]) -> None:
        """Takes back what looks as if it were ours: an alias that is not `here`, the lock's id as tag of a version.

        Forgets in `lefts` what is no longer there.
        """
        alias, version = difference.alias, difference.version
        with self._store.explained(), suppress(MlflowException):  # it may be gone altogether
            if alias is not None and alias not in here:
                self._client.delete_registered_model_alias(model, alias)
            if version is not None and difference.kind in ("files", "claim"):
                self._client.delete_model_version_tag(model, version, LOCK)
        if difference.kind == "model":
            del lefts[model]
        if difference.kind == "files":
            kept = {number: row for number, row in lefts[model].versions.items() if number != version}
            lefts[model] = replace(lefts[model], versions=kept)

    def version_of(self, version: Version, lefts: dict[str, Left]) -> str:
        """Returns the number of a lock's version, by its bytes. Makes it if missing, and describes it.

        It belongs to the run of the lock's trial if this store has it, else to a run of its own. Both runs carry the
        lock's id and the version in their tags. `lefts` is updated.
        """
        model, left = version.model, lefts.get(version.model)
        with self._store.explained():
            seen = self._seen(model) or self._created(model)
            locks = self._locks(left, seen, {"": [version.lock.lock_id]})
            known = {} if left is None else left.versions
            asked = {number for number, tags in seen.tags.items() if tags.get(LOCK) == version.lock.lock_id}
            asked |= {*seen.aliases.values(), *known}
            folder = fingerprint(version.folder)
            ours = [
                number
                for number in asked
                if held(number, left, seen, locks) == version.lock.lock_id
                and (number not in known or known[number].folder == folder)
            ]
            if ours:
                number = min(ours, key=lambda number: (number not in known, int(number)))
                made = self._fingerprint(model, number)  # one of `locks`
            else:
                number, made = self._make(version)
            if number in known and known[number].tags != version.tags:
                begun = replace(known[number], next_tags=version.tags)
                lefts[model] = replace(left or Left(), versions={**known, number: begun})
                write_left(self._workspace, self.uri, lefts)
            self._describe(version, self._client.get_model_version(model, number))
            written = Written(version.lock.lock_id, made, folder, version.tags)
            lefts[model] = replace(left or Left(), versions={**known, number: written})
            return number

    def point(self, model: str, aliases: Mapping[str, str], left: Left) -> Left:
        """Points the aliases of a model to these versions and to nothing else. Returns the model as it is left."""
        with self._store.explained():
            seen = self._seen(model)
            if seen is not None:
                for alias in {*left.aliases} & {*seen.aliases} - {*aliases}:
                    self._client.delete_registered_model_alias(model, alias)
                for alias, number in aliases.items():
                    if seen.aliases.get(alias) != number:
                        self._client.set_registered_model_alias(model, alias, number)
        return Left(dict(aliases), left.versions)

    def _seen(self, model: str) -> Seen | None:
        found = self._client.search_registered_models(named("name", model))
        if not found:
            return None
        rows = self._client.search_model_versions(named("name", model))
        aliases = {alias: str(number) for alias, number in found[0].aliases.items()}
        tags = {str(row.version): dict(row.tags) for row in rows}
        return Seen(aliases, tags, lambda number: self._fingerprint(model, number))

    def _created(self, model: str) -> Seen:
        self._client.create_registered_model(model, description=_REGISTERED)
        return Seen({}, {}, lambda number: None)

    def _fingerprinted(self, model: str, number: str) -> str:
        """Returns the fingerprint of what would be loaded from a version."""
        return self._fingerprint_at(self._client.get_model_version_download_uri(model, number))

    def _fingerprint_at(self, uri: str) -> str:
        with tempfile.TemporaryDirectory() as scratch, suppress(MlflowException, OSError):
            return fingerprint(self._store.download(uri, scratch))
        return "nothing"

    def _locks(self, left: Left | None, seen: Seen, wanted: Mapping[str, Sequence[str]]) -> dict[str, str]:
        """Returns fingerprint -> the lock that it is of: as noted, and as this package would save the wanted locks.

        Saving a model is spared where the note knows every version in question.
        """
        locks = {} if left is None else left.locks()
        present = {lock_ids[-1] for lock_ids in wanted.values()} - {""}
        asked = {number for number, tags in seen.tags.items() if tags.get(LOCK) in present} | {*seen.aliases.values()}
        unknown = any(number in seen.tags and seen.fingerprint(number) not in locks for number in asked)
        if unknown:
            for lock_id in {lock_id for lock_ids in wanted.values() for lock_id in lock_ids} - {""}:
                with tempfile.TemporaryDirectory() as scratch:
                    locks[fingerprint(_saved(promoted(lock_id, self._workspace).parent, Path(scratch)))] = lock_id
        return locks

    def _describe(self, version: Version, row: Any) -> None:
        """Writes a version's tags, evidence and description, and the note of its run if made for the lock alone."""
        changed = {name: value for name, value in version.tags.items() if row.tags.get(name) != value}
        if version.evidence is not None and changed:
            self._store.write_files(row.run_id, version.evidence, f"evidence/{version.evidence.name}")
            self._store.log_inputs(row.run_id, version.inputs)
        for name, value in changed.items():
            self._client.set_model_version_tag(version.model, row.version, name, value)
        run = self._client.get_run(row.run_id)
        path = row.source.rpartition("/")[2]
        ids = {"$EXPERIMENT": run.info.experiment_id, "$RUN": run.info.run_id, "$MODEL": path}
        if row.description != (text := placed(version.note, ids)):
            self._client.update_model_version(version.model, row.version, text)
        if run.data.tags.get(KIND) == "lock":
            self._client.set_tag(run.info.run_id, NOTE, text)

    def _make(self, version: Version) -> tuple[str, str]:
        """Makes a version of a lock, and returns its number and its fingerprint, as it was before it was sent."""
        model, lock = version.model, version.lock
        run_id, *others = self._runs_of(model, lock)
        path, made = self._log_model(run_id, version.folder)
        source = f"runs:/{run_id}/{path}"
        row = self._client.create_model_version(model, source, run_id=run_id, tags={LOCK: lock.lock_id})
        for run in (run_id, *others):
            self._client.set_tag(run, "lanelock.model_version", f"{model}/{row.version}")
        return str(row.version), made

    def _log_model(self, run_id: str, folder: Path) -> tuple[str, str]:
        """Logs a lock's model where nothing else is, and returns its artifact path and its fingerprint."""
        with tempfile.TemporaryDirectory() as scratch:
            saved = _saved(folder, Path(scratch))
            path, made = _MODEL, fingerprint(saved)
            if self._store.has_files(run_id, path):
                if self._fingerprint_at(f"runs:/{run_id}/{path}") == made:
                    return path, made  # left by a call that was interrupted
                path = f"{_MODEL}-{uuid4().hex[:8]}"
            self._store.write_files(run_id, saved, path)
            return path, made

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
        return self._store.search(str(experiment.experiment_id), tagged(LOCK, lock.lock_id))

    def _run_of_its_own(self, model: str, lock: Lock) -> str:
        experiment = self._store.experiment(model, {NOTE: _ELSEWHERE})
        where = f"{tagged(LOCK, lock.lock_id)} and {tagged(KIND, 'lock')}"
        if runs := self._client.search_runs([experiment], where, max_results=1):
            return str(runs[0].info.run_id)
        tags = {LOCK: lock.lock_id, KIND: "lock", SWEEP: lock.sweep}
        run = self._client.create_run(experiment, tags=tags, run_name=lock.sweep)
        self._client.set_terminated(run.info.run_id, "FINISHED")
        return str(run.info.run_id)


def _saved(folder: Path, scratch: Path) -> Path:
    """Saves the model of the lock in a folder below `scratch`, and returns the model's folder."""
    with warnings.catch_warnings():  # about MLflow's own types
        warnings.simplefilter("ignore")
        import mlflow.pyfunc  # takes seconds, and only a promotion needs it

    model, lock = scratch / _MODEL, Lock.read(folder / FILE)
    mlflow.pyfunc.save_model(
        model,
        loader_module=LOADER,
        data_path=folder,
        pip_requirements=[f"lanelock=={distribution_version('lanelock')}"],
        model_config=model_config(lock),
        metadata={"lock_id": lock.lock_id},
    )
    return model
