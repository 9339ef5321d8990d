"""Feasibility: the best each gate can reach, proved from what a lane cannot move, before anything is spent.

Two kinds of proof. What a lane freezes keeps the value it has: a metric of a state above the first one
that moves is what the lane's start measures, known here for any engine. What it moves is bounded by the
engine's own metric source, from the frozen upstream and the corners of the knob box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lanelock.engine.protocol import Run
from lanelock.policies import Pack
from lanelock.policies.pack import first_state, split_address
from lanelock.scoring.gates import Gate, GateSet, Threshold, span

UNKNOWN = "no bound is known in this box: only trials can tell"


@dataclass(frozen=True, slots=True)
class Bound:
    """A number that nothing a lane may do can push a metric past."""

    metric: str
    kind: str  # "at_least", "at_most" or "exactly": the metric's value against the bound
    value: float  # in the metric's unit
    proof: str  # why, in one sentence with its numbers
    movable_by: str  # the first state upstream that could move it

    def tighter(self, other: Bound) -> bool:
        """Whether this bound says more than `other`, of the same metric and kind, does."""
        return {"at_least": self.value > other.value, "at_most": self.value < other.value, "exactly": False}[self.kind]


@dataclass(frozen=True, slots=True)
class Box:
    """What a lane may do on one seed: where it starts, what it may move, and how to run it."""

    start: Pack  # the authority's pack with the lane's fixed fields set
    moves: Mapping[str, tuple[Any, ...]]  # address -> both ends of its range, or all its choices
    choices: frozenset[str]  # addresses that have choices, not a range
    run: Callable[[Pack, str], Run]  # (pack, last state wanted) on the seed and world of this box

    @property
    def states(self) -> frozenset[str]:
        """The first state that each move touches."""
        return frozenset(self.first_state(address) for address in self.moves)

    def first_state(self, address: str) -> str:
        policy, pointer = split_address(address)
        return first_state(self.start.schemas[policy], pointer)

    def corner(self, sides: Mapping[str, int]) -> Pack:
        """The start with each of `sides` that may move at its least (-1) or greatest (+1) value."""
        ends = {address: sides[address] for address in sides if address in self.moves}
        return self.start.with_knobs({
            address: (max if side > 0 else min)(self.moves[address]) for address, side in ends.items()
        })  # fmt: skip


@dataclass(frozen=True, slots=True)
class GateReach:
    """What one gate can at best reach over a lane's seeds."""

    gate: str
    metric: str
    comparison: str
    thresholds: Mapping[str, Threshold]  # by band
    bound: float | None  # the hardest seed's; None where no bound is known
    seed: int | None  # the hardest seed
    reachable: Mapping[str, bool]  # by band: no bound forbids it
    proof: str
    movable_by: str
    kind: str = ""  # of the bound, as in `Bound`
    margins: Mapping[str, float] = field(default_factory=dict)  # by band: the greatest that the bounds leave


def frozen(
    box: Box, states: Sequence[str], gates: GateSet, measure: Callable[[Run], Mapping[str, float]]
) -> list[Bound]:
    """Exact bounds of the metrics of every state above the first that moves."""
    touched = [states.index(state) if state in states else -1 for state in box.states]
    kept = states[: min(touched)] if touched and min(touched) > 0 else ()
    names = {metric.name: metric.state for metric in gates.metrics.values() if metric.state in kept}
    if not {gate.metric for gate in gates.gates} & set(names):
        return []
    found = measure(box.run(box.start, kept[-1]))
    return [
        Bound(
            name,
            "exactly",
            found[name],
            f"{state} is frozen in this lane: {name} stays {found[name]:.6f}, as the authority measures",
            state,
        )
        for name, state in names.items()
        if name in found and math.isfinite(found[name])
    ]


def tightest(bounds: Iterable[Bound]) -> dict[str, tuple[Bound, ...]]:
    """By metric, the tightest bound of each kind; of equal ones the first."""
    best: dict[str, dict[str, Bound]] = {}
    for bound in bounds:
        kinds = best.setdefault(bound.metric, {})
        if bound.kind not in kinds or bound.tighter(kinds[bound.kind]):
            kinds[bound.kind] = bound
    return {metric: tuple(kinds.values()) for metric, kinds in best.items()}


def reach(gates: GateSet, bounds: Mapping[int, Iterable[Bound]]) -> tuple[GateReach, ...]:
    """Each gate with a threshold of its own against the bounds of every seed."""
    by_metric = {seed: tightest(found) for seed, found in bounds.items()}
    return tuple(_reach(gate, by_metric) for gate in gates.gates if gate.thresholds)


def _reach(gate: Gate, bounds: Mapping[int, Mapping[str, tuple[Bound, ...]]]) -> GateReach:
    standing = list(_standing(gate, bounds))
    if not standing:
        anywhere = dict.fromkeys(gate.thresholds, True)
        return GateReach(gate.id, gate.metric, gate.comparison, gate.thresholds, None, None, anywhere, UNKNOWN, "")
    hardest = list(gate.thresholds.values())[-1]
    seed, bound = min(standing, key=lambda row: _greatest(gate, row[1], hardest))
    margins = {
        band: min(_greatest(gate, other, threshold) for _, other in standing)
        for band, threshold in gate.thresholds.items()
    }
    reachable = {band: margin >= 0.0 for band, margin in margins.items()}
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
        bound.kind,
        margins,
    )


def _standing(gate: Gate, bounds: Mapping[int, Mapping[str, tuple[Bound, ...]]]) -> Iterator[tuple[int, Bound]]:
    """The bounds that stand against a gate: those on a side that it does not leave open."""
    low, high = span(gate.comparison, next(iter(gate.thresholds.values())))
    open_sides = {"at_least": high == math.inf, "at_most": low == -math.inf, "exactly": False}
    for seed, by_metric in bounds.items():
        for bound in by_metric.get(gate.metric, ()):
            if not open_sides[bound.kind]:
                yield seed, bound


def _greatest(gate: Gate, bound: Bound, threshold: Threshold) -> float:
    """The greatest margin that a bound leaves: at the bound, or in the middle of what passes where that is allowed."""
    middle = sum(span(gate.comparison, threshold)) / 2  # infinite where a side is open: the bound itself is nearest
    nearest = {"at_least": max(bound.value, middle), "at_most": min(bound.value, middle), "exactly": bound.value}
    return gate.margin(nearest[bound.kind], threshold)
