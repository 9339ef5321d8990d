"""The samplers that a lane can name, each built for one trial.

Every trial has a sampler of its own, seeded by (lane seed, trial number, attempt), which sees the trials that finished
before its batch: so a resumed search needs no stored sampler. `grid` and `qmc` are lists of points, in
`search.proposals`. Further samplers, of OptunaHub or a user's own, are entry points of `lanelock.samplers`: a callable
that takes a seed and returns an Optuna sampler.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from lanelock.policies import LaneError
from lanelock.sweeps.decision.aim import Aim, aims_at_front
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.sampler_names import AUTO, GROUP, SURROGATE
from lanelock.sweeps.search.composite import LaneComposite
from lanelock.sweeps.search.surrogate import SurrogateSampler

Space = Mapping[str, BaseDistribution]  # Optuna's ranges, by knob name
MODELS = (SURROGATE, "tpe", "gp")  # samplers that learn from a space-filling design first
_MOST_OPTIONS, _MOST_TRIALS = 40, 3000  # beyond which the default is TPE: one column per choice, cubic cost in trials


def sampler_name(lane: Lane) -> str:
    """Returns the sampler of a lane. The default is the surrogate; TPE for many choices or thousands of trials."""
    name = str(lane.document.get("sampler", {}).get("name", AUTO))
    if name != AUTO:
        return name
    options = sum(len(knob.choices) for knob in lane.knobs if len(knob.choices) > 2)
    small = options <= _MOST_OPTIONS and lane.document["budget"]["trials"] <= _MOST_TRIALS
    return SURROGATE if small else "tpe"


def sampler_seed(lane: Lane) -> int:
    return int(lane.document.get("sampler", {}).get("seed", 0))


def seed_of(lane: Lane, number: int, attempt: int) -> int:
    """Returns the 32-bit seed of one proposal."""
    text = f"{sampler_seed(lane)}/{number}" + (f"/{attempt}" if attempt else "")
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def sampler_of(
    lane: Lane, number: int, attempt: int, *, ledger: Ledger, aim: Aim, space: Space, memory: dict[Any, Any]
) -> BaseSampler:
    """Returns the sampler of one proposal. `memory` is a cache of the surrogate's fits, and changes no proposal."""
    name, seed, batch = sampler_name(lane), seed_of(lane, number, attempt), lane.document["batch"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match name:
            case "surrogate":
                composite = LaneComposite(ledger.ground, aim.reserve or 0.0, front=aims_at_front(lane), band=aim.band)
                return SurrogateSampler(
                    composite, seed=seed, n_startup_trials=0, allowed=_allowed(lane), memory=memory, space=space
                )
            case "tpe":
                # Within a batch, each pending trial counts as a bad one, so that the next goes elsewhere.
                return TPESampler(seed=seed, multivariate=True, n_startup_trials=10, constant_liar=True)
            case "gp":
                return _gp(seed)
            case "nsga2":
                return NSGAIISampler(seed=seed, population_size=max(12, 2 * batch))
            case "cmaes":
                return CmaEsSampler(seed=seed, n_startup_trials=1, warn_independent_sampling=False)
            case "random":
                return RandomSampler(seed=seed)
    points = {point.name: point for point in entry_points(group=GROUP)}
    sampler: BaseSampler = points[name].load()(seed)
    return sampler


def takes_constraints(lane: Lane) -> bool:
    """Returns whether the lane's sampler reads constraints; the others are told a worse value instead."""
    return sampler_name(lane) not in ("cmaes",)


def varying(constraints: Sequence[Mapping[str, float]]) -> frozenset[str]:
    """Returns the constraints that differ between trials or were broken: the others teach a sampler nothing."""
    names = constraints[0] if constraints else ()
    columns = {name: {row[name] for row in constraints if name in row} for name in names}
    return frozenset(name for name, seen in columns.items() if len(seen) > 1 or max(seen) > 0)


def _allowed(lane: Lane) -> Any:
    def canonical(params: Mapping[str, Any]) -> Mapping[str, Any] | None:
        values = lane.space.canonical(params)
        if lane.space.balances:  # no point drawn freely keeps an equality
            values = lane.space.nearby(values)
        return None if lane.space.broken(values) else values

    return canonical if lane.space.rules or any(knob.when for knob in lane.knobs) else None


def _gp(seed: int) -> BaseSampler:
    try:
        import torch

        torch.set_num_threads(1)  # another order of summation would give other proposals
    except ImportError:
        raise LaneError("/sampler/name: gp needs PyTorch: make setup, or pip install 'lanelock[gp]'") from None
    return GPSampler(seed=seed, deterministic_objective=True)
