"""Serves a promoted candidate, from a workspace, a file, or a registered model.

`load` needs no trust in MLflow: whoever may write there decides what an alias of the registry points to and which code
its model names. So `load` takes from a registered model the lock and the tables of its world, and nothing else; the
lock must be the one that the caller expects (an anchor), and the loader is the one installed here.

A registered model is the lock, with the tables of an imported world. MLflow loads it with `_load_pyfunc`:

    mlflow.pyfunc.load_model("models:/my-engine@certified", model_config={"lock_id": "…"}).predict(arrivals)

Either way the engine is run and every digest that the lock states is checked, so the served candidate is the locked
one. Registered models name `lanelock.service`, which takes its names from here: that name is fixed, this module's is
not.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import yaml

from lanelock.engine.protocol import Service
from lanelock.policies import DataError, IntegrityError, LaneError, PolicyError, WorkspaceError
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.locations import locations
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE, find_lock, world_beside
from lanelock.sweeps.proof.model_files import DATA, MLMODEL
from lanelock.sweeps.proof.signatures import signed_by
from lanelock.sweeps.proof.trust import read_trust
from lanelock.sweeps.secrets import without_secrets
from lanelock.sweeps.workspace import Workspace, usual

REGISTERED = "models:/"  # how the address of a registered model begins
_MODEL = re.compile(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))")  # name, then alias or version


@dataclass(frozen=True, slots=True)
class LockedModel:
    """A lock's candidate on one seed, as a service."""

    service: Service = field(repr=False)  # whole tables
    lock_id: str
    seed: int

    def predict(self, arrivals: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """Returns one answer per row of `arrivals`, under its index. Raises DataError naming row and field."""
        if not isinstance(arrivals, pd.DataFrame):
            raise DataError(f"arrivals: a pandas DataFrame is needed, this is a {type(arrivals).__name__}")
        try:
            table = pa.Table.from_pandas(arrivals, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"arrivals: {' '.join(str(error).split())[:200]}") from None
        return self.service.answer(table).to_pandas(types_mapper=_TYPES.get).set_axis(arrivals.index)


_TYPES = {pa.uint64(): pd.UInt64Dtype()}  # NumPy's integers cannot be null, as an answer may be


def serve_lock(lock: Lock, seed: int, world: Path | None) -> LockedModel:
    """Returns a lock's candidate as a service. Raises IntegrityError where a digest differs from the lock's."""
    where, proof = f"lock {lock.short_id}", lock.proof.get(seed)
    if proof is None:
        raise LaneError(f"{where}: seed {seed} is not one of its seeds: {', '.join(map(str, lock.proof))}")
    run, service = engine_named(lock.engine).serve(lock.pack(where), seed, world=world)
    digests = {"world": run.world_digest, **run.digests()}
    for name, sha256 in {"world": proof.world, **proof.surfaces}.items():
        if digests.get(name, sha256) != sha256:
            raise IntegrityError(f"{where}: seed {seed}: {name} digests to {digests[name]}, the lock states {sha256}")
    return LockedModel(service, lock.lock_id, seed)


@dataclass(frozen=True, slots=True)
class Anchor:
    """What a lock must be, said by the caller and not by the place that the lock comes from."""

    lock_id: str | None = None
    trust: Path | str | None = None  # a trust file: a key to which it gives a role must have signed the lock

    def __post_init__(self) -> None:
        if self.lock_id is not None and not _ID.fullmatch(self.lock_id):
            raise PolicyError(f"lock_id: {self.lock_id!r}: not the whole id of a lock, 64 digits of 0-9a-f")

    def hold(self, lock: Lock, path: Path, where: str = "") -> None:
        """Raises IntegrityError where the lock in the file `path` is not the expected one. `where` names its source."""
        if self.lock_id not in (None, lock.lock_id):
            raise IntegrityError(f"{where or path}: holds lock {lock.lock_id}, expected is lock {self.lock_id}")
        if self.trust is not None:
            _signed(path, Path(self.trust))


_ID = re.compile("[0-9a-f]{64}")


def load(
    name: str | Path,
    workspace: Workspace | Path | str | None = None,
    *,
    lock_id: str | None = None,
    trust: Path | str | None = None,
    seed: int | None = None,
) -> LockedModel:
    """Returns a lock's candidate as a service, without trusting MLflow.

    `name` is an alias, a lock's id, its sweep or its file, found in `workspace` (by default the usual one), where the
    records of moves say what an alias points to; or the address of a registered model, `models:/NAME@ALIAS`. That
    needs an anchor: the whole id of the expected lock (`lock_id`), or a trust file with a key that has signed the lock
    (`trust`). Of the model only the lock and its world are read, no code. `seed` is one of the lock's seeds, by
    default the first.

    Raises IntegrityError where the lock is not the expected one or a digest differs, PolicyError where there is none,
    LaneError for a seed that is not the lock's, WorkspaceError where MLflow does not give the model.
    """
    anchor = Anchor(lock_id, trust)
    if not str(name).startswith(REGISTERED):
        place = workspace if isinstance(workspace, Workspace) else usual(workspace)
        path = find_lock(str(name), place)
        return _served(path, anchor, seed, path.parent.name if path.parent.parent == place.promoted else None)
    if lock_id is None and trust is None:
        raise PolicyError(f"{name}: give lock_id or trust: whoever writes to MLflow decides what this name means")
    with tempfile.TemporaryDirectory() as scratch:
        return _served(lock_of_model(_downloaded(str(name), workspace, scratch)), anchor, seed, where=str(name))


def _served(path: Path, anchor: Anchor, seed: int | None, named: str | None = None, where: str = "") -> LockedModel:
    """Returns the lock in a file as a service. `named` is the id in the name of its folder, `where` its source."""
    lock = Lock.read(path)
    Anchor(named).hold(lock, path)
    anchor.hold(lock, path, where)
    return serve_lock(lock, lock.seeds[0] if seed is None else seed, world_beside(path.parent))


def _downloaded(name: str, workspace: Workspace | Path | str | None, folder: str) -> Path:
    """Returns the folder of a registered model, downloaded from where MLflow or the workspace keeps its registry."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a service's log is its own
    from mlflow import MlflowClient  # seconds of imports, which no other name needs
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    named = _MODEL.fullmatch(name)
    if named is None:
        raise PolicyError(f"{name}: not the address of a registered model: models:/NAME@ALIAS or models:/NAME/VERSION")
    place = usual(workspace) if isinstance(workspace, Path | str) else workspace
    own = place is not None and not place.tracking_uri
    uri = None if place is None else place.tracking_uri or f"sqlite:///{place.tracking_database}"
    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        model, alias, version = named.groups()
        version = version or client.get_model_version_by_alias(model, alias).version
        source = client.get_model_version_download_uri(model, version)
        if place is not None and own and source.startswith("runs:/"):
            run_id, _, path = source.removeprefix("runs:/").partition("/")
            source = locations(place).now(f"{client.get_run(run_id).info.artifact_uri}/{path}")
        repository = get_artifact_repository(source, tracking_uri=uri, registry_uri=uri)
        return Path(repository.download_artifacts("", folder))  # type: ignore[no-untyped-call]
    except (MlflowException, OSError) as error:
        raise WorkspaceError(f"{name}: {without_secrets(' '.join(str(error).split()), uri or '')[:300]}") from None


def lock_of_model(model: Path) -> Path:
    """Returns the file of the lock in a model's folder.

    Raises IntegrityError where MLflow's description, the lock's folder and its content are not of the same lock.
    """
    try:
        described = yaml.safe_load((model / MLMODEL).read_bytes())["metadata"]["lock_id"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        described = None
    if not isinstance(described, str) or not _ID.fullmatch(described):
        raise IntegrityError(f"{model / MLMODEL}: /metadata/lock_id: not the id of a lock")
    folders = sorted(path.name for path in (model / DATA).glob("*"))
    if folders != [described]:
        raise IntegrityError(f"{model / MLMODEL}: /metadata/lock_id: states {described}, {DATA}/ holds {folders}")
    path = model / DATA / described / FILE
    if (lock := Lock.read(path)).lock_id != described:
        raise IntegrityError(f"{path}: /lock_id: states {lock.lock_id}, its folder is named {described}")
    return path


def _signed(path: Path, trust: Path) -> None:
    """Raises IntegrityError where no key that the trust file gives a role has signed the lock in a file."""
    if not any(key.roles for key in signed_by(path, read_trust(trust))):
        raise IntegrityError(f"{path}: is not signed by a key that {trust} gives a role")


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> LockedModel:
    """Loads the model whose data are in `path`; MLflow calls this."""
    config, folder = model_config or {}, Path(path)
    if not {"lock_id", "trust"} <= config.keys():  # MLflow drops what a model does not list
        raise LaneError(
            f"{folder}: this model takes neither lock_id nor trust, so that an expected lock would be ignored; it was "
            "registered by an older version, or changed: promote its lock again"
        )
    found = lock_of_model(folder.parents[1])
    if found.parent.resolve() != folder.resolve():
        raise IntegrityError(f"{folder}: is not the folder of the lock that the model states")
    return _served(found, Anchor(config["lock_id"], config["trust"]), int(config["seed"]) if "seed" in config else None)
