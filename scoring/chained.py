"""The metrics of a chain: those of its engine, and whether all that its upstream passes still passes.

Each gate of the upstream's own gate file is a rail of the chain. It is measured on what the engine passes on: the
upstream's run, in which the engine's surfaces take the place of those of the same name. The rail's metric is the margin
to the highest band that the upstream's own run holds; of a gate that it does not hold, nothing can be lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lanelock.engine.protocol import Run
from lanelock.policies import PolicyError
from lanelock.scoring.gates import Gate, GateSet, parse_gates
from lanelock.scoring.scorecard import (
    Comparing,
    Defining,
    GateResult,
    MetricSource,
    Scorecard,
    gates_of,
    measured,
    score,
)

_KEPT = "kept/"  # the beginning of the metrics of rails
_REMEMBERED = 64  # scorecards of upstream runs
_OWN = ("name", "gates_file", "measure", "rails", "railed", "sample", "reduce")  # a chain's own, or what it cannot have


@runtime_checkable
class Railing(Protocol):
    """A metric source with rails that every lane of its engine keeps, whichever gates it grades by."""

    rails: Sequence[str]  # ids of gates

    def railed(self, gates: GateSet) -> GateSet:
        """Returns a lane's own gate file with these rails and their metrics."""
        ...


class ChainMetrics:
    """The metrics of a chain."""

    def __init__(self, own: MetricSource, upstream: MetricSource, state: str) -> None:
        """`state`: the chain's last. The optional parts of the engine's own metrics (bounds, figures) stay."""
        self.name, self._own, self._upstream, self._state = own.name, own, upstream, state
        self._gates = gates_of(upstream)
        self._kept = tuple(gate for gate in self._gates.gates if gate.thresholds)
        self.rails = tuple(f"keeps_{gate.id}"[:80] for gate in self._kept)
        self.gates_file: str | Path | Mapping[str, Any] = self.railed(gates_of(own)).document
        self._won: dict[str, Scorecard] = {}
        self._adopt(own)

    def _adopt(self, own: MetricSource) -> None:
        """Takes over the optional parts of the engine's own metrics, and adds the rails to what these measure."""
        self._own = own
        for part in (name for name in dir(own) if not name.startswith("_") and name not in _OWN):
            setattr(self, part, getattr(own, part))
        if isinstance(own, Comparing):
            self.compared = lambda run, keepsake: {**own.compared(run, keepsake), **self._margins(run)}
        if isinstance(own, Defining):
            self.defined_by = lambda gates: self._measuring(own.defined_by(self._bare(gates)))
            self.completed = lambda gates: self.railed(own.completed(self._bare(gates)))

    def _measuring(self, own: MetricSource) -> ChainMetrics:
        """Returns the same chain with other metrics of its engine's own."""
        other = copy(self)
        other._adopt(own)
        return other

    def _bare(self, gates: GateSet) -> GateSet:
        """Returns a gate file without the rails and their metrics."""
        document = gates.document
        metrics = {name: row for name, row in document["metrics"].items() if not name.startswith(_KEPT)}
        rows = [row for row in document["gates"] if row["id"] not in self.rails]
        return parse_gates({**document, "metrics": metrics, "gates": rows}, f"gates {document['id']}")

    def railed(self, gates: GateSet) -> GateSet:
        """Returns a gate file with the rails and their metrics."""
        document = gates.document
        if taken := sorted({f"{_KEPT}{gate.id}" for gate in self._kept} & {*document["metrics"]}):
            raise PolicyError(f"gates {document['id']}: /metrics/{taken[0]}: the name of a rail of its upstream")
        metrics = {**document["metrics"], **{f"{_KEPT}{gate.id}": self._metric(gate) for gate in self._kept}}
        return parse_gates(
            {**document, "metrics": metrics, "gates": [*document["gates"], *map(self._rail, self._kept)]},
            f"gates {document['id']}",
        )

    def _metric(self, gate: Gate) -> dict[str, Any]:
        what = f"Margin of {self._upstream.name}'s gate {gate.id} to the highest band that its own run holds; 0: none."
        return {"unit": "margin", "state": self._state, "worst": "lowest", "what": what}

    def _rail(self, gate: Gate) -> dict[str, Any]:
        why = f"What {self._upstream.name} passes, whatever comes after it must still pass: {gate.why}"[:400]
        row = {"id": f"keeps_{gate.id}"[:80], "metric": f"{_KEPT}{gate.id}", "severity": "rail", "comparison": ">="}
        return {**row, "threshold": 0.0, "why": why}

    def measure(self, run: Run) -> Mapping[str, float]:
        """Returns the engine's own metrics, and how far its upstream's gates are kept."""
        return {**self._own.measure(run), **self._margins(run)}

    def _margins(self, run: Run) -> dict[str, float]:
        world = run.upstream
        if not isinstance(world, Run):
            return {}  # what cannot be measured is missing, and no run without it is graded
        won = self._graded_once(world)
        instead = {name: run.surfaces[name] for name in world.surfaces if name in run.surfaces}
        now = self._graded(replace(world, surfaces={**world.surfaces, **instead})) if instead else won
        before, after = ({row.id: row for row in card.gates} for card in (won, now))
        return {f"{_KEPT}{gate.id}": _margin(before[gate.id], after[gate.id]) for gate in self._kept}

    def _graded_once(self, world: Run) -> Scorecard:
        key = f"{world.run_id} {world.code_version}"
        if (card := self._won.get(key)) is None:
            if len(self._won) >= _REMEMBERED:
                self._won.clear()
            card = self._won[key] = self._graded(world)
        return card

    def _graded(self, world: Run) -> Scorecard:
        return score(measured(self._upstream, world), self._gates, seed=world.seed, authority=None)


def _margin(won: GateResult, row: GateResult) -> float:
    """Returns the margin to the bands that were won; NaN if it is not known any more."""
    if won.holds is None:
        return 0.0
    bands = list(won.passed)
    margins = [row.margins[band] for band in bands[: bands.index(won.holds) + 1] if band in row.margins]
    known = [margin for margin in margins if margin is not None]
    return min(known, default=0.0) if len(known) == len(margins) else math.nan
