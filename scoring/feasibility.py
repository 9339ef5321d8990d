"""Feasibility: the best each gate can reach, proved from what a lane cannot move, before anything is spent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scoring.gates import Gate, GateSet

_GUARDS = {"at_least": "<=", "at_most": ">="}  # kind of bound -> the comparison it stands against


@dataclass(frozen=True, slots=True)
class Bound:
    """A number that no policy of the lane's states can push a metric past."""

    metric: str
    kind: str  # "at_least" or "at_most": the metric's value against the bound
    value: float  # in the metric's unit
    proof: str  # why, in one sentence with its numbers
    movable_by: str  # the first upstream state that could move it


@dataclass(frozen=True, slots=True)
class GateReach:
    """What one gate can at best reach over a lane's seeds."""

    gate: str
    metric: str
    comparison: str
    thresholds: Mapping[str, float]  # by band
    bound: float | None  # the hardest seed's; None where no bound is known
    seed: int | None  # the hardest seed
    reachable: Mapping[str, bool]  # by band: no bound forbids it
    proof: str
    movable_by: str


def reach(gates: GateSet, bounds: Mapping[int, Mapping[str, Bound]]) -> tuple[GateReach, ...]:
    """Each gate with a threshold of its own against the bounds of every seed: seed -> metric -> bound."""
    return tuple(_reach(gate, bounds) for gate in gates.gates if gate.thresholds)


def _reach(gate: Gate, bounds: Mapping[int, Mapping[str, Bound]]) -> GateReach:
    standing = [
        (seed, found[gate.metric])
        for seed, found in bounds.items()
        if gate.metric in found and _GUARDS[found[gate.metric].kind] == gate.comparison
    ]
    if not standing:
        anywhere = dict.fromkeys(gate.thresholds, True)
        return GateReach(gate.id, gate.metric, gate.comparison, gate.thresholds, None, None, anywhere, "", "")
    seed, bound = min(standing, key=lambda row: gate.margin(row[1].value, 0.0))
    reachable = {band: gate.margin(bound.value, threshold) >= 0.0 for band, threshold in gate.thresholds.items()}
    return GateReach(
        gate.id,
        gate.metric,
        gate.comparison,
        gate.thresholds,
        bound.value,
        seed,
        reachable,
        bound.proof,
        bound.movable_by,
    )
