"""Which knob moves which gate, before a sweep: knobs moved one at a time from the lane's start, or over its whole box.

One at a time (`oat`), a knob's effect on a gate's metric is the range of the metric over the knob's levels, on each
seed. Morris and Sobol look at the box (`sampled`). Nothing is written: neither a study nor a record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lanelock.policies import LaneError, LanelockError
from lanelock.scoring.gates import Gate, ends
from lanelock.sweeps.lanes.knob import Knob, Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.survey import Ground, survey
from lanelock.sweeps.probing.ladder import Ladder, Values, ladder
from lanelock.sweeps.probing.points import Points, Watch, distinct, measure
from lanelock.sweeps.probing.sampled import MORRIS, SOBOL, Array, Design, Effect, design
from lanelock.sweeps.sensitivity.sensitivity import able

OAT = "oat"
METHODS = (OAT, MORRIS, SOBOL)
BLOCKS: Mapping[str, int] = {MORRIS: 8, SOBOL: 64}  # trajectories, or base samples, where nobody says how many
_DIGITS = 6


@dataclass(frozen=True)
class Plan:
    """What is to be run: every candidate once on every seed of the lane."""

    lane: Lane
    method: str
    ladders: tuple[Ladder, ...] = ()  # one at a time
    design: Design | None = None  # over the box
    rows: tuple[Values | None, ...] = ()  # the design's candidates; None: the lane does not admit it

    @cached_property
    def candidates(self) -> tuple[Values, ...]:
        """Each candidate once, the start first."""
        listed = [candidate for each in self.ladders for _, candidate in each.admitted]
        listed += [row for row, whole in zip(self.rows, self._whole, strict=True) if row is not None and whole]
        return tuple(distinct([self.lane.space.start, *listed]).values())

    @property
    def runs(self) -> int:
        return len(self.candidates) * len(self.lane.seeds)

    @cached_property
    def blocks(self) -> tuple[int, int]:
        """Blocks of the design that can be run, and in all."""
        assert self.design is not None
        return sum(self._whole) // self.design.block, len(self.rows) // self.design.block

    @cached_property
    def _whole(self) -> list[bool]:
        if self.design is None:
            return []
        return list(map(bool, self.design.whole(np.array([row is not None for row in self.rows]))))


def one_at_a_time(lane: Lane, steps: int) -> Plan:
    return Plan(lane, OAT, tuple(ladder(lane, knob, steps) for knob in lane.knobs))


def over_the_box(lane: Lane, method: str, blocks: int) -> Plan:
    """Returns the plan of Morris or Sobol. Raises LaneError where the knobs are not independent of each other."""
    if lane.space.balances:
        tied = ", ".join(sorted(name for balance in lane.space.balances for name in balance.rule.names))
        raise LaneError(f"lane {lane.id}: --method {method}: an equality ties {tied}; --method {OAT} keeps it")
    drawn = design(method, len(lane.knobs), blocks)
    plan = Plan(lane, method, design=drawn, rows=tuple(_at(lane, method, row) for row in drawn.places))
    if not any(plan._whole):
        raise LaneError(f"lane {lane.id}: --method {method}: its constraints admit no whole block; use --method {OAT}")
    return plan


def _at(lane: Lane, method: str, places: Array) -> Values | None:
    """Returns the candidate at a place of the unit cube, inactive knobs at rest; None where the lane has none."""
    pairs = zip(lane.knobs, map(float, places), strict=True)
    drawn = {knob.name: knob.along(at) if method == MORRIS else knob.drawn(at) for knob, at in pairs}
    candidate = lane.space.canonical(drawn)
    if lane.space.broken(candidate) is not None:
        return None
    try:
        lane.candidate(candidate)
    except LanelockError:
        return None
    return candidate


def probe(plan: Plan, world: Any, jobs: int, watch: Watch) -> Probed:
    """Runs a plan. What rails compare with is measured first: the authority, on every seed."""
    ground = survey(plan.lane, world, reach=())
    return Probed(plan, ground, measure(ground, plan.candidates, jobs, watch))


@dataclass(frozen=True)
class Probed:
    """A plan that was run."""

    plan: Plan
    ground: Ground
    points: Points

    @property
    def lane(self) -> Lane:
        return self.plan.lane

    @cached_property
    def document(self) -> dict[str, Any]:
        """Returns all that was found, as JSON."""
        lane, rows = self.lane, self.gates
        return {
            "lane": lane.id,
            "method": self.plan.method,
            "authority": lane.authority.name,
            "start": dict(lane.space.start),
            "seeds": list(lane.seeds),
            "interval": f"least and greatest over {len(lane.seeds)} seeds" if len(lane.seeds) > 1 else None,
            "candidates": len(self.plan.candidates),
            "runs": self.plan.runs,
            "seconds": self.points.seconds,
            "knobs": [*self._knobs()],
            "left_out": [*self._left_out()],
            "vetoed": [*self._marked()],
            "failed": [*self._failed()],
            "still": self.still,
            "unknown": self.unknown,
            "out_of_order": self.out_of_order,
            "gates": rows,
        }

    @cached_property
    def gates(self) -> list[dict[str, Any]]:
        """Returns, per gate, the knobs that can move it, the strongest first."""
        return [self._gate(gate) for gate in self.lane.gates.gates]

    @cached_property
    def _metrics(self) -> tuple[str, ...]:
        """The metrics of the gates, each once."""
        return tuple(dict.fromkeys(gate.metric for gate in self.lane.gates.gates))

    @cached_property
    def still(self) -> list[str]:
        """The knobs that were moved and moved no gate's metric: they could be fixed."""
        moved = {knob.name for metric in self._metrics for knob in self.lane.knobs if self._moves(knob, metric)}
        return [knob.name for knob in self.lane.knobs if knob.name not in {*moved, *self.unknown}]

    @cached_property
    def unknown(self) -> list[str]:
        """The knobs of which too few candidates have a result to say what they move."""
        return [
            knob.name for knob in self.lane.knobs if not all(self._by_seed(knob, metric) for metric in self._metrics)
        ]

    @cached_property
    def out_of_order(self) -> list[dict[str, str]]:
        """The knobs that moved a metric of a state before their own, so that one of the two is misstated."""
        return [
            {"knob": knob.name, "metric": metric}
            for metric in self._metrics
            for knob in self.lane.knobs
            if knob not in self._able(metric) and self._moves(knob, metric)
        ]

    def _able(self, metric: str) -> tuple[Knob, ...]:
        """Returns the knobs that can move a metric, alone or with the knobs that give way to them."""
        alone = able(self.lane, self.lane.gates.metrics[metric])
        names = {knob.name for knob in alone}
        moving = {each.knob.name: each.moving for each in self.plan.ladders}
        return tuple(knob for knob in self.lane.knobs if names & moving.get(knob.name, {knob.name}))

    def _gate(self, gate: Gate) -> dict[str, Any]:
        metric = self.lane.gates.metrics[gate.metric]
        rows = [self._effect(knob, gate) for knob in self._able(gate.metric)]
        known = sorted((row for row in rows if row is not None), key=lambda row: -row["effect"])
        return {
            "gate": gate.id,
            "metric": gate.metric,
            "unit": metric.unit if self.plan.method != SOBOL else "share of variance",
            "gap": _gap(gate),
            "effects": known,
        }

    def _effect(self, knob: Knob, gate: Gate) -> dict[str, Any] | None:
        """Returns a knob's effect on a gate's metric, as JSON; None where there is no number for it."""
        by_seed = self._by_seed(knob, gate.metric)
        if not by_seed:
            return None
        effect = float(np.mean(by_seed))
        row: dict[str, Any] = {"knob": knob.name, "effect": _short(effect)}
        if self.plan.method != SOBOL:
            row["margin"] = _short(effect / gate.scale)
            row["gaps"] = None if (gap := _gap(gate)) is None else _short(effect / gap)
        if len(by_seed) > 1:
            row |= {"low": _short(min(by_seed)), "high": _short(max(by_seed))}
        if self.plan.method == OAT:
            return row | {"curve": [*self._curve(knob, gate.metric)]}
        found = [of[self.lane.knobs.index(knob)] for of in self._sampled[gate.metric]]
        return row | {
            "sampling": _short(max(of.sampling for of in found)),
            "sigma" if self.plan.method == MORRIS else "alone": _short(float(np.mean([of.other for of in found]))),
        }

    def _by_seed(self, knob: Knob, metric: str) -> list[float]:
        """Returns a knob's effect on each seed on which it is known."""
        if self.plan.method != OAT:
            return [of[self.lane.knobs.index(knob)].effect for of in self._sampled[metric]]
        values = np.array([row for _, row in self._measured(knob, metric)])
        if len(values) < 2:
            return []
        known = np.isfinite(values).all(axis=0)
        return list(map(float, np.ptp(values[:, known], axis=0)))

    def _measured(self, knob: Knob, metric: str) -> list[tuple[Value, list[float]]]:
        """Returns the levels of a knob with the metric on each seed, without candidates that failed."""
        (own,) = (each for each in self.plan.ladders if each.knob is knob)
        points = ((at, self.points[candidate]) for at, candidate in own.admitted)
        return [(at, point.measured(metric)) for at, point in points if not point.failure]

    def _curve(self, knob: Knob, metric: str) -> Iterator[dict[str, Any]]:
        for at, row in self._measured(knob, metric):
            if np.isfinite(row).all():
                yield {"at": at, "mean": _short(np.mean(row)), "low": _short(min(row)), "high": _short(max(row))}

    @cached_property
    def _sampled(self) -> dict[str, list[list[Effect]]]:
        """Metric -> for each seed on which it is known, the effect of each knob over the box."""
        return {metric: [*self._over_the_box(metric)] for metric in self._metrics}

    def _over_the_box(self, metric: str) -> Iterator[list[Effect]]:
        assert self.plan.design is not None
        rows = zip(self.plan.rows, self.plan._whole, strict=True)
        values = np.array([self._row(row, whole, metric) for row, whole in rows])
        found = (self.plan.design.effects(values[:, at]) for at in range(len(self.lane.seeds)))
        yield from (effects for effects in found if effects is not None)

    def _row(self, row: Values | None, whole: bool, metric: str) -> list[float]:
        if row is None or not whole:
            return [np.nan] * len(self.lane.seeds)
        return self.points[row].measured(metric)

    def _moves(self, knob: Knob, metric: str) -> bool:
        return any(effect != 0 for effect in self._by_seed(knob, metric))

    def _knobs(self) -> Iterator[dict[str, Any]]:
        for each in self.plan.ladders:
            yield {
                "knob": each.knob.name,
                "levels": len(each.admitted),
                "while": dict(each.above),
                "with": sorted(each.moving - {each.knob.name}),
            }

    def _left_out(self) -> Iterator[dict[str, Any]]:
        for each in self.plan.ladders:
            yield from ({"knob": each.knob.name, "at": level.at, "why": level.why} for level in each.left_out)
        if self.plan.design is not None and self.plan.blocks[0] < self.plan.blocks[1]:
            kept, of = self.plan.blocks
            yield {"blocks": of - kept, "of": of, "why": "a candidate breaks a rule of the lane"}

    def _marked(self) -> Iterator[dict[str, Any]]:
        for at, point in self._listed():
            if point.vetoed:
                yield {**at, "by": list(point.vetoed)}

    def _failed(self) -> Iterator[dict[str, Any]]:
        for at, point in self._listed():
            if point.failure:
                yield {**at, "why": point.failure}

    def _listed(self) -> Iterator[tuple[dict[str, Any], Any]]:
        """Yields how each candidate is named, and its point: one at a time by knob and level, else by its values."""
        if self.plan.method != OAT:
            yield from (({"values": dict(point.values)}, point) for point in self.points.by_key.values())
        for each in self.plan.ladders:
            yield from (({"knob": each.knob.name, "at": at}, self.points[row]) for at, row in each.admitted)


def _gap(gate: Gate) -> float | None:
    """Returns the distance between what a gate's two highest bands ask, in the metric's unit; None without one."""
    asked = [ends(threshold) for threshold in gate.thresholds.values()][-2:]
    gaps = [abs(one - other) for one, other in zip(asked[0], asked[-1], strict=True)] if len(asked) == 2 else []
    return max(gaps, default=0.0) or None


def _short(number: Any) -> float:
    """Returns six significant digits."""
    return float(f"{float(number):.{_DIGITS}g}")


def plan_of(lane: Lane, method: str, steps: int, blocks: int | None) -> Plan:
    return one_at_a_time(lane, steps) if method == OAT else over_the_box(lane, method, blocks or BLOCKS[method])
