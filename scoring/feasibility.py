"""Feasibility: the best value that each gate can reach in a lane, proved before any trial is run.

There are two kinds of proof. A metric of a state before the first one that a lane moves keeps the value measured at the
lane's start; this module proves that for any engine. Other metrics are bounded by the engine's own metric source, from
the frozen upstream and the corners of the knob box.
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
    """A value that no trial of a lane can push a metric past."""

    metric: str
    kind: str  # "at_least", "at_most" or "exactly": how the metric relates to `value`
    value: float  # in the metric's unit
    proof: str  # one sentence with its numbers
    movable_by: str  # the first state upstream that could move it

    def tighter(self, other: Bound) -> bool:
        """Whether this bound is stricter than `other`, of the same metric and kind."""
        return {"at_least": self.value > other.value, "at_most": self.value < other.value, "exactly": False}[self.kind]


@dataclass(frozen=True, slots=True)
class FloorPart:
    """One part of what a share is taken over."""

    part: str  # in words
    share: float | None  # of the whole that it is; None if it was not measured
    value: float | None  # the share within it; None if it is empty or was not measured


@dataclass(frozen=True, slots=True)
class Floor:
    """A share below which no candidate can bring a metric while the upstream stands, and where it lies."""

    metric: str
    floor: float  # the share that is lost whatever a candidate does
    value: float  # the metric's own
    beyond: float | None  # the share among the rest, which a candidate can move; None if there is no rest
    parts: tuple[FloorPart, ...]  # they make up the whole


@dataclass(frozen=True, slots=True)
class Box:
    """A lane on one seed: its start, the fields it may move, and how to run a pack."""

    start: Pack  # the authority's pack with the lane's fixed fields set
    moves: Mapping[str, tuple[Any, ...]]  # address -> both ends of the range, or all choices; of a vector that one
    # knob moves, and of each number within it
    choices: frozenset[str]  # addresses that have choices instead of a range
    run: Callable[[Pack, str], Run]  # (pack, last state wanted) on the seed and world of this box

    @property
    def states(self) -> frozenset[str]:
        """The first states that read the movable fields."""
        return frozenset(self.first_state(address) for address in self.moves)

    def first_state(self, address: str) -> str:
        policy, pointer = split_address(address)
        return first_state(self.start.schemas[policy], pointer)

    def corner(self, sides: Mapping[str, int]) -> Pack:
        """Returns the start with each movable field of `sides` at its least (-1) or greatest (+1) value.

        A vector or an object has neither; the numbers within one have addresses of their own.
        """
        ends = {
            address: (max if side > 0 else min)(self.moves[address])
            for address, side in sides.items()
            if address in self.moves and not isinstance(self.moves[address][0], list | Mapping)
        }
        return self.start.with_knobs(ends)


@dataclass(frozen=True, slots=True)
class GateReach:
    """The best that one gate can reach over a lane's seeds."""

    gate: str
    metric: str
    comparison: str
    thresholds: Mapping[str, Threshold]  # by band
    bound: float | None  # on the hardest seed; None if no bound is known
    seed: int | None  # the hardest seed
    reachable: Mapping[str, bool]  # by band: whether no bound forbids it
    proof: str
    movable_by: str
    kind: str = ""  # of the bound, as in `Bound`
    margins: Mapping[str, float] = field(default_factory=dict)  # by band: the greatest that the bounds allow


def frozen(
    box: Box, states: Sequence[str], gates: GateSet, measure: Callable[[Run], Mapping[str, float]]
) -> list[Bound]:
    """Returns exact bounds of the metrics of every state before the first one that moves."""
    touched = [states.index(state) if state in states else -1 for state in box.states]
    upstream = states[: min(touched)] if touched and min(touched) > 0 else ()
    names = {metric.name: metric.state for metric in gates.metrics.values() if metric.state in upstream}
    if not {gate.metric for gate in gates.gates} & set(names):
        return []
    metrics = measure(box.run(box.start, upstream[-1]))
    proof = "{} is frozen in this lane: {} stays {:.6f}, as the authority measures"
    return [
        Bound(name, "exactly", metrics[name], proof.format(state, name, metrics[name]), state)
        for name, state in names.items()
        if name in metrics and math.isfinite(metrics[name])
    ]


def tightest(bounds: Iterable[Bound]) -> dict[str, tuple[Bound, ...]]:
    """Returns by metric the tightest bound of each kind; of equal bounds the first."""
    best: dict[str, dict[str, Bound]] = {}
    for bound in bounds:
        kinds = best.setdefault(bound.metric, {})
        if bound.kind not in kinds or bound.tighter(kinds[bound.kind]):
            kinds[bound.kind] = bound
    return {metric: tuple(kinds.values()) for metric, kinds in best.items()}


def reach(gates: GateSet, bounds: Mapping[int, Iterable[Bound]]) -> tuple[GateReach, ...]:
    """Returns the reach of each gate that has its own thresholds, from the bounds on each seed.

    What bounds a metric does not bound a stratum of it, nor the end of an interval around it.
    """
    by_metric = {seed: tightest(of_seed) for seed, of_seed in bounds.items()}
    return tuple(_reach(gate, by_metric) for gate in gates.gates if gate.thresholds)


def reach_of_mean(
    name: str, metric: str, maximize: bool, bounds: Mapping[int, Iterable[Bound]]
) -> tuple[GateReach, ...]:
    """Returns the best mean over seeds that a metric can reach, as a row without thresholds; none without a bound.

    A metric that the lane cannot move has no best value.
    """
    kind = "at_most" if maximize else "at_least"
    best = [
        next((bound for bound in tightest(of_seed).get(metric, ()) if bound.kind == kind), None)
        for of_seed in bounds.values()
    ]
    known = [bound for bound in best if bound is not None]
    if len(known) < len(best) or not known:
        return ()
    value = math.fsum(bound.value for bound in known) / len(known)
    comparison, first = "<=" if maximize else ">=", known[0]
    row = GateReach(
        name, metric, comparison, {}, value, next(iter(bounds)), {}, first.proof, first.movable_by, first.kind
    )
    return (row,)


def _reach(gate: Gate, bounds: Mapping[int, Mapping[str, tuple[Bound, ...]]]) -> GateReach:
    row = gate.id, gate.metric, gate.comparison, gate.thresholds
    limiting = list(_limiting(gate, bounds))
    if not limiting:
        return GateReach(*row, None, None, dict.fromkeys(gate.thresholds, True), UNKNOWN, "")
    hardest = list(gate.thresholds.values())[-1]
    seed, bound = min(limiting, key=lambda pair: _greatest(gate, pair[1], hardest))
    margins = {
        band: min(_greatest(gate, other, threshold) for _, other in limiting)
        for band, threshold in gate.thresholds.items()
    }
    reachable = {band: margin >= 0.0 for band, margin in margins.items()}
    return GateReach(*row, bound.value, seed, reachable, bound.proof, bound.movable_by, bound.kind, margins)


def _limiting(gate: Gate, bounds: Mapping[int, Mapping[str, tuple[Bound, ...]]]) -> Iterator[tuple[int, Bound]]:
    """Yields (seed, bound) of the bounds on a side that the gate limits."""
    if gate.strata is not None or gate.confidence is not None:
        return
    low, high = span(gate.comparison, next(iter(gate.thresholds.values())))
    open_sides = {"at_least": high == math.inf, "at_most": low == -math.inf, "exactly": False}
    for seed, by_metric in bounds.items():
        for bound in by_metric.get(gate.metric, ()):
            if not open_sides[bound.kind]:
                yield seed, bound


def _greatest(gate: Gate, bound: Bound, threshold: Threshold) -> float:
    """Returns the greatest margin that a bound allows: as near to the middle of the passing values as it goes."""
    middle = sum(span(gate.comparison, threshold)) / 2  # infinite if a side is open: then the bound is nearest
    nearest = {"at_least": max(bound.value, middle), "at_most": min(bound.value, middle), "exactly": bound.value}
    return gate.margin(nearest[bound.kind], threshold)
