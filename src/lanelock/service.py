"""Loads a promoted lock's candidate as a service. Registered models name this module, so it must never move.

from lanelock.service import load

model = load("certified", workspace="mlruns")  # by the records of moves, without MLflow
model = load("models:/my-engine@certified", lock_id="…")  # from MLflow, which need not be trusted
model.predict(arrivals)
"""

from lanelock.sweeps.service import LockedModel, _load_pyfunc, load

__all__ = ["LockedModel", "_load_pyfunc", "load"]
