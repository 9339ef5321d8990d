"""The loader of a promoted lock's MLflow model. Registered models name this module, so it must never move."""

from lanelock.sweeps.service import _load_pyfunc

__all__ = ["_load_pyfunc"]
