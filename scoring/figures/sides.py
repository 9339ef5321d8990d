"""Two runs, compared under the gates that grade them."""

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
    """Returns a gate's thresholds as text, by band; once if all bands have the same."""
    sign, limits = SIGNS[comparison], {band: threshold_text(at, "?") for band, at in thresholds.items()}
    if not limits:
        return "as the authority"
    if len(set(limits.values())) == 1 and len(limits) > 1:
        return f"{sign}\u00a0{next(iter(limits.values()))}"
    return ", ".join(f"{band}\u00a0{sign}\u00a0{at}" for band, at in limits.items())


@dataclass(frozen=True, slots=True)
class Sides:
    """Two runs, whose worlds may differ, and the gates to mark."""

    authority: Run
    candidate: Run
    gates: GateSet

    def of(self, take: Callable[[Run], Any]) -> tuple[Any, Any]:
        """Returns `take` of the authority and of the candidate."""
        return take(self.authority), take(self.candidate)

    def hold(self, surface: str) -> bool:
        return surface in self.authority.surfaces and surface in self.candidate.surfaces

    def marks(self, metric: str) -> tuple[Mark, ...]:
        """Returns marks at the thresholds of the metric's graded gate."""
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
    """A metric source that can draw the distributions behind its metrics."""

    def figures(self, candidate: Run, authority: Run, gates: GateSet) -> Sequence[Figure]:
        """Returns figures of the distributions behind the gates, authority beside candidate, over every row of both.

        A figure is left out if a run ended before its state.
        """
        ...
