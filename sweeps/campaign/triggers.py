"""Triggers: conditions over what a campaign has measured so far, which choose a branch or make a lane unnecessary.

A trigger is an expression over metrics (the worst over the campaign's seeds) and over phases (by name: the outcome of
the last time they were played, NOT_PLAYED before). It is recorded with the numbers that it saw, from which it follows
again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lanelock.policies import LaneError
from lanelock.policies.expressions import Expression, parse
from lanelock.scoring.gates import GateSet

NOT_PLAYED = "NOT_PLAYED"  # the outcome of a phase that was not played yet
_Metrics = Mapping[int, Mapping[str, float]]  # by seed


@dataclass(frozen=True, slots=True)
class Trigger:
    """A condition as it was evaluated."""

    rule: str
    holds: bool
    values: Mapping[str, float | str]  # what it saw, by name

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Trigger:
        return cls(row["rule"], row["holds"], row["values"])

    def __str__(self) -> str:
        seen = ", ".join(f"{name} {value if isinstance(value, str) else f'{value:.6g}'}" for name, value in self.shown)
        return f"{self.rule} {'holds' if self.holds else 'does not hold'} ({seen})"

    @property
    def shown(self) -> list[tuple[str, float | str]]:
        return sorted(self.values.items())


def condition(text: str, phases: Sequence[str], gates: GateSet, where: str) -> Expression:
    """Returns a condition of a campaign's file. Raises PolicyError naming column and what is known."""
    rule = parse(text, where, {*gates.metrics, *phases})
    if both := sorted(rule.names & {*gates.metrics} & {*phases}):
        raise LaneError(f"{where}: {both[0]!r} is a metric and a phase; rename the phase")
    if not rule.names:
        raise LaneError(f"{where}: {text!r} depends on nothing; name a metric or a phase")
    return rule


def evaluated(rule: Expression, metrics: _Metrics, outcomes: Mapping[str, str], gates: GateSet) -> Trigger:
    """Returns a condition with what it saw. Raises LaneError if a metric was not measured, or if it is no condition.

    `outcomes`: those of the phases that were played, by name, the newest of each.
    """
    values = {name: _value(name, rule, metrics, outcomes, gates) for name in sorted(rule.names)}
    holds = rule.value(values)
    if not isinstance(holds, bool):
        raise LaneError(f"{rule.where}: {rule.text!r} is {holds!r}, neither true nor false; compare it with something")
    return Trigger(rule.text, holds, values)


def _value(
    name: str, rule: Expression, metrics: _Metrics, outcomes: Mapping[str, str], gates: GateSet
) -> float | str:  # fmt: skip
    if name not in gates.metrics:
        return outcomes.get(name, NOT_PLAYED)
    for seed, values in metrics.items():
        if not math.isfinite(values.get(name, math.nan)):
            raise LaneError(f"{rule.where}: {name} is not measured on seed {seed}, so it is not known what follows")
    worst = min if gates.metrics[name].worst_is_lowest else max
    return worst(values[name] for values in metrics.values())
