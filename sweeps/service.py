"""Serves a promoted candidate: the loader of its MLflow model.

The model is the lock, with the tables of an imported world. Loading it runs the engine and checks every digest that
the lock states, so the served candidate is the locked one:

    mlflow.pyfunc.load_model("models:/my-engine@certified").predict(arrivals)

`model_config={"seed": 7}` serves another of the lock's seeds; the default is the first. Registered models
name `lanelock.service`, which takes `_load_pyfunc` from here: that name is fixed, this module's is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from lanelock.engine.protocol import Service
from lanelock.policies import DataError, IntegrityError, LaneError
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE, world_beside


@dataclass(frozen=True, slots=True)
class LockedModel:
    """A lock's candidate on one seed, as a service."""

    service: Service
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


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> LockedModel:
    """Loads the model whose data are in `path`; MLflow calls this."""
    folder = Path(path)
    lock = Lock.read(folder / FILE)
    seed = int((model_config or {}).get("seed", lock.seeds[0]))
    return serve_lock(lock, seed, world_beside(folder))
