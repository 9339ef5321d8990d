"""The names of samplers that a lane may give; `search.samplers` builds them."""

from __future__ import annotations

from importlib.metadata import entry_points

AUTO, SURROGATE = "auto", "surrogate"
LISTED = ("grid", "qmc")  # lists of points, not models
NAMES = (AUTO, SURROGATE, "tpe", "gp", "nsga2", "cmaes", "random", *LISTED)
GROUP = "lanelock.samplers"  # entry points: a callable that takes a seed and returns an Optuna sampler


def known_samplers() -> tuple[str, ...]:
    """Returns the names of all samplers, with those that are installed as entry points."""
    return (*NAMES, *sorted({point.name for point in entry_points(group=GROUP)} - set(NAMES)))
