"""The loader of a promoted lock's MLflow model. Registered models name this module for ever, so it never moves."""

from lanelock.sweeps.service import _load_pyfunc

__all__ = ["_load_pyfunc"]
