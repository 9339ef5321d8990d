"""The difference between two subjects: policy fields, metrics with their margins, states, verdicts. Pure.

A metric is better or worse by the comparison of the gates that read it, and neutral without a gate. States are compared
by the engine's own keys: a state whose key differs would be recomputed on the way from one side to the other. Over
several seeds, each metric is its worst value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lanelock.engine.protocol import moved_by
from lanelock.policies import PolicyError, diff
from lanelock.policies.pack import FieldChange
from lanelock.scoring.gates import WITHIN, GateSet
from lanelock.scoring.scorecard import GateResult, Scorecard, combine, score
from lanelock.sweeps.reports.preference import Preference, prefer
from lanelock.sweeps.reports.subject import State, Subject, engine_gates

BETTER, WORSE, SAME, NEUTRAL, MIXED = "better", "worse", "same", "neutral", "mixed"


@dataclass(frozen=True, slots=True)
class GateChange:
    """One gate on both sides."""

    before: GateResult
    after: GateResult

    @property
    def direction(self) -> str:
        """BETTER, WORSE or SAME, by the gate's comparison."""
        before, after = self.before, self.after
        if before.value is None or after.value is None or before.value == after.value:
            return SAME
        if before.comparison in ("==", WITHIN):  # nearer is better, from either side
            old, new = before.worst_margin, after.worst_margin
            return SAME if old == new else BETTER if new > old else WORSE
        return BETTER if (after.value > before.value) == (before.comparison == ">=") else WORSE


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric that differs."""

    name: str
    unit: str
    before: float
    after: float
    gates: tuple[GateChange, ...]  # the gates that read it

    @property
    def direction(self) -> str:
        """BETTER, WORSE, NEUTRAL, or MIXED where its gates disagree."""
        directions = {row.direction for row in self.gates} - {SAME}
        return NEUTRAL if not directions else directions.pop() if len(directions) == 1 else MIXED


@dataclass(frozen=True, slots=True)
class StateChange:
    """One state, by the engine's keys."""

    name: str
    recomputed: bool
    moved_by: tuple[str, ...]
    before: str | None  # its key; None: not run on that side
    after: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """All differences between `before` and `after`."""

    before: Subject
    after: Subject
    seeds: tuple[tuple[int, ...], tuple[int, ...]]  # compared, per side
    bands: tuple[str, ...]
    policies: tuple[FieldChange, ...]
    metrics: tuple[MetricChange, ...]  # the metrics that differ
    same: tuple[str, ...]  # the metrics that do not differ
    unmeasured: tuple[tuple[str, ...], tuple[str, ...]]  # per side, the metrics measured on the other side alone
    gates: tuple[GateChange, ...]
    states: tuple[StateChange, ...]
    cards: tuple[Scorecard, Scorecard]  # per side, by its own gates over all its seeds
    preference: Preference
    notes: tuple[str, ...]

    @property
    def vetoes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.cards[0].vetoed, self.cards[1].vetoed

    def as_document(self) -> dict[str, Any]:
        sides = list(map(_side, (self.before, self.after), self.cards, self.seeds, self.unmeasured))
        return {
            "before": sides[0],
            "after": sides[1],
            "engine": self.before.engine.name,
            "bands": list(self.bands),
            "policies": [asdict(change) for change in self.policies],
            "metrics": [_metric(row) for row in self.metrics],
            "same_metrics": list(self.same),
            "gates": [_gate(row) for row in self.gates],
            "states": [asdict(row) | {"moved_by": list(row.moved_by)} for row in self.states],
            "notes": list(self.notes),
            **asdict(self.preference),
        }


def compare(before: Subject, after: Subject) -> Difference:
    """Returns the differences between two measured subjects of one engine."""
    seeds = _seeds(before, after)
    gates, rails = _judge(before, after)
    cards = [_card(side, gates, on, rails=rails) for side, on in zip((before, after), seeds, strict=True)]
    changes = tuple(map(GateChange, cards[0].gates, cards[1].gates))
    old, new = cards[0].metrics, cards[1].metrics
    known = (*gates.metrics, *sorted(old.keys() - gates.metrics.keys()))
    both = [name for name in known if name in old and name in new]
    metrics = (
        MetricChange(
            name,
            gates.metrics[name].unit if name in gates.metrics else "",
            old[name],
            new[name],
            tuple(row for row in changes if row.before.metric == name),
        )
        for name in both
    )
    return Difference(
        before,
        after,
        seeds,
        gates.bands,
        tuple(diff(before.pack, after.pack)),
        tuple(row for row in metrics if row.before != row.after),
        tuple(name for name in both if old[name] == new[name]),
        (tuple(sorted(new.keys() - old.keys())), tuple(sorted(old.keys() - new.keys()))),
        changes,
        tuple(_state_changes(before.states(seeds[0][0]), after.states(seeds[1][0]))),
        (_own_card(before), _own_card(after)),
        prefer(before, after, cards, gates.bands),
        tuple(_notes(before, after, seeds, rails)),
    )


def same_engine(before: Subject, after: Subject) -> None:
    """Raises PolicyError where the engines differ."""
    if before.engine.name != after.engine.name:
        raise PolicyError(
            f"{before.name} is of engine {before.engine.name}, {after.name} of engine {after.engine.name}: "
            "they share no policy, metric or state; compare subjects of one engine"
        )


def _seeds(before: Subject, after: Subject) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the seeds measured on both sides; without a shared seed, each side's own."""
    shared = tuple(seed for seed in before.measures if seed in after.measures)
    return (shared, shared) if shared else (tuple(before.measures), tuple(after.measures))


def _judge(before: Subject, after: Subject) -> tuple[GateSet, bool]:
    """Returns the gates that read both sides, and whether they include rails.

    These are the lane's gates where both sides share them, else the engine's.
    """
    if before.gates is not None and after.gates is not None and before.gates.document == after.gates.document:
        return before.gates, True
    states = before.engine.states
    return engine_gates(min(before, after, key=lambda side: states.index(side.until))), False


def _card(subject: Subject, gates: GateSet, seeds: Iterable[int], *, rails: bool = True) -> Scorecard:
    authority = subject.authority if rails else {}
    cards = [score(subject.measures[seed], gates, seed=seed, authority=authority.get(seed)) for seed in seeds]
    return combine(cards, gates)


def _own_card(subject: Subject) -> Scorecard:
    return _card(subject, subject.gates or engine_gates(subject), subject.measures)


def _state_changes(before: Sequence[State], after: Sequence[State]) -> Iterator[StateChange]:
    old, new = ({state["name"]: state for state in states} for states in (before, after))
    for name in [*new, *(name for name in old if name not in new)]:
        was, now = old.get(name), new.get(name)
        moved = tuple(moved_by(was["address"], now["address"])) if was is not None and now is not None else ()
        keys = [None if state is None else str(state["key"]) for state in (was, now)]
        yield StateChange(name, keys[0] != keys[1], moved, *keys)


def _notes(before: Subject, after: Subject, seeds: Any, rails: bool) -> Iterator[str]:
    if seeds[0] != seeds[1]:
        yield "no seed was measured on both sides: different seeds draw different worlds, so all metrics may differ"
    for side, on in zip((before, after), seeds, strict=True):
        if len(on) < len(side.measures):
            others = ", ".join(str(seed) for seed in side.measures if seed not in on)
            yield f"{side.name} was also measured on seed {others}, the other side was not: left out below"
        if side.code_version not in (None, side.engine.code_version):
            yield f"{side.name} was measured by code other than the installed code; its states are the installed code's"
    if not rails and (before.gates or after.gates):
        yield "the two sides are not of one lane: read by the engine's gates, without a lane's rails"


def _side(subject: Subject, card: Scorecard, seeds: Sequence[int], unmeasured: Sequence[str]) -> dict[str, Any]:
    return {
        "kind": subject.kind,
        "name": subject.name,
        "pack": subject.pack.name,
        "pack_digest": subject.pack.digest,
        "until": subject.until,
        "seeds": list(subject.measures),
        "compared_on": list(seeds),
        "verdict": str(card.verdict),
        "vetoed": list(card.vetoed),
        "stated": subject.stated,
        "code_version": subject.code_version or subject.engine.code_version,
        "unmeasured": list(unmeasured),
    }


def _metric(row: MetricChange) -> dict[str, Any]:
    return {
        "metric": row.name,
        "unit": row.unit,
        "before": row.before,
        "after": row.after,
        "change": row.after - row.before,
        "direction": row.direction,
        "gates": [gate.before.id for gate in row.gates],
    }


def _gate(row: GateChange) -> dict[str, Any]:
    sides = {
        name: {part: result.as_document()[part] for part in ("value", "seed", "thresholds", "margins")}
        | {"holds": result.holds or "no"}
        for name, result in (("before", row.before), ("after", row.after))
    }
    return {
        "gate": row.before.id,
        "metric": row.before.metric,
        "severity": str(row.before.severity),
        "comparison": row.before.comparison,
        "direction": row.direction,
        **sides,
    }
