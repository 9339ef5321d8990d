"""Two runs of one world, set beside each other under the gates that grade them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from lanelock.engine.protocol import Run
from lanelock.scoring.figures.axes import Mark
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.gates import WITHIN, GateSet, Severity, Threshold, ends, threshold_text

SIGNS = {">=": "≥", "<=": "≤", "==": "=", WITHIN: "within"}


def asked(comparison: str, thresholds: Mapping[str, Threshold | None]) -> str:
    """What a gate asks, by band; said once where every band asks the same."""
    sign, limits = SIGNS[comparison], {band: threshold_text(at, "?") for band, at in thresholds.items()}
    if not limits:
        return "as the authority"
    if len(set(limits.values())) == 1 and len(limits) > 1:
        return f"{sign}\u00a0{next(iter(limits.values()))}"
    return ", ".join(f"{band}\u00a0{sign}\u00a0{at}" for band, at in limits.items())


@dataclass(frozen=True, slots=True)
class Sides:
    """Two runs of one world, and the gates to mark."""

    authority: Run
    candidate: Run
    gates: GateSet

    def of(self, take: Callable[[Run], Any]) -> tuple[Any, Any]:
        """What `take` gives for the authority and for the candidate."""
        return take(self.authority), take(self.candidate)

    def hold(self, surface: str) -> bool:
        return surface in self.authority.surfaces and surface in self.candidate.surfaces

    def marks(self, metric: str) -> tuple[Mark, ...]:
        """The thresholds that a metric's graded gate sets."""
        for gate in self.gates.gates:
            if gate.metric == metric and gate.severity is Severity.GATE:
                signs = (SIGNS[">="], SIGNS["<="]) if gate.comparison == WITHIN else (SIGNS[gate.comparison],)
                return tuple(
                    (f"{band} {sign} {at:g}", at, "ink")
                    for band, threshold in gate.thresholds.items()
                    for sign, at in zip(signs, ends(threshold), strict=True)
                )
        return ()


@runtime_checkable
class Showing(Protocol):
    """A metric source that can draw what its metrics are made of."""

    def figures(self, candidate: Run, authority: Run, gates: GateSet) -> Sequence[Figure]:
        """The distributions behind the gates, the authority beside the candidate, over every row of both.

        What a run does not hold (it ended before that state) is left out.
        """
        ...
