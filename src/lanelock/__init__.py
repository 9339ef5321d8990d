"""Lanelock's public names: those of `__all__`, and `__version__`. Everything else is private and may change.

A name is imported at its first use, so `import lanelock` costs nothing. docs/versions.md says what a version promises
about these names.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names for type checkers and editors
    from lanelock.engine.protocol import Engine, Run
    from lanelock.policies.errors import Failed
    from lanelock.scoring.scorecard import MetricSource, score
    from lanelock.sweeps.lanes.lane import Lane, load_lane
    from lanelock.sweeps.notebook import Swept, sweep
    from lanelock.sweeps.proof.lock import Lock
    from lanelock.sweeps.proof.verification import verify_lock as verify
    from lanelock.sweeps.reports.trials_table import trials_frame
    from lanelock.sweeps.sweep import play
    from lanelock.sweeps.trial import evaluate

    __version__: str

__all__ = [
    "Engine", "Failed", "Lane", "Lock", "MetricSource", "Run", "Swept", "engine", "evaluate", "load_lane", "play",
    "score", "sweep", "trials_frame", "verify",
]  # fmt: skip

_HOMES = {  # name -> module:attribute
    "Engine": "engine.protocol:Engine",
    "Failed": "policies.errors:Failed",
    "Lane": "sweeps.lanes.lane:Lane",
    "Lock": "sweeps.proof.lock:Lock",
    "MetricSource": "scoring.scorecard:MetricSource",
    "Run": "engine.protocol:Run",
    "Swept": "sweeps.notebook:Swept",
    "evaluate": "sweeps.trial:evaluate",
    "load_lane": "sweeps.lanes.lane:load_lane",
    "play": "sweeps.sweep:play",
    "score": "scoring.scorecard:score",
    "sweep": "sweeps.notebook:sweep",
    "trials_frame": "sweeps.reports.trials_table:trials_frame",
    "verify": "sweeps.proof.verification:verify_lock",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("lanelock")
    if name == "engine":  # the package, which is a decorator as well
        return import_module("lanelock.engine")
    if name not in _HOMES:
        raise AttributeError(f"module 'lanelock' has no attribute {name!r}; its public names are {', '.join(__all__)}")
    module, _, attribute = _HOMES[name].partition(":")
    return getattr(import_module(f"lanelock.{module}"), attribute)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
