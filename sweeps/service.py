"""How a service consumes a promoted candidate: the loader of its MLflow model.

The model is the lock, and the tables of the world where it was brought in from outside. Loading it runs the
engine to what it answers from and holds every digest that the lock states, so that what is served is what was locked:

    mlflow.pyfunc.load_model("models:/my-engine@certified").predict(arrivals)

`model_config={"seed": 7}` serves another of the lock's seeds; the first is the default. MLflow finds `_load_pyfunc`
by this module's name, which therefore stays.
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
    """A lock's candidate on one seed, answering."""

    service: Service
    lock_id: str
    seed: int

    def predict(self, arrivals: pd.DataFrame, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
        """An answer a row, in the order and under the index of `arrivals`. Raises DataError naming row and field."""
        if not isinstance(arrivals, pd.DataFrame):
            raise DataError(f"arrivals: a pandas DataFrame is needed, this is a {type(arrivals).__name__}")
        try:
            table = pa.Table.from_pandas(arrivals, preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"arrivals: {' '.join(str(error).split())[:200]}") from None
        answer = self.service.answer(table).to_pandas(types_mapper=_TYPES.get)
        return answer.set_axis(arrivals.index)


_TYPES = {pa.uint64(): pd.UInt64Dtype()}  # an answer may be null, which NumPy's integers cannot be


def serve_lock(lock: Lock, seed: int, world: Path | None) -> LockedModel:
    """A lock's candidate as a service. Raises IntegrityError where what it stands on is not what the lock states."""
    where, proof = f"lock {lock.short_id}", lock.proof.get(seed)
    if proof is None:
        raise LaneError(f"{where}: seed {seed} is not one of its seeds: {', '.join(map(str, lock.proof))}")
    run, service = engine_named(lock.engine).serve(lock.pack(where), seed, world=world)
    found = {"world": run.world_digest, **run.digests()}
    for name, sha256 in {"world": proof.world, **proof.surfaces}.items():
        if name in found and found[name] != sha256:
            raise IntegrityError(f"{where}: seed {seed}: {name} digests to {found[name]}, the lock states {sha256}")
    return LockedModel(service, lock.lock_id, seed)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> LockedModel:
    """What MLflow calls to load the model whose data lie in `path`."""
    folder = Path(path)
    lock = Lock.read(folder / FILE)
    seed = int((model_config or {}).get("seed", lock.seeds[0]))
    return serve_lock(lock, seed, world_beside(folder))
