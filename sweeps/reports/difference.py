"""What differs between two subjects: policy fields, metrics with their margins, states, verdicts. Pure.

A metric is better or worse by the comparison of the gates that read it, and neutral where none does. States
are compared by the engine's own keys: one whose key differs would be computed anew on the way from one to the
other. Over several seeds each metric is its worst one, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lanelock.policies import PolicyError, diff
from lanelock.policies.pack import FieldChange
from lanelock.scoring.gates import WITHIN, GateSet
from lanelock.scoring.scorecard import GateResult, Scorecard, combine, score
from lanelock.sweeps.reports.subject import State, Subject, engine_gates

BETTER, WORSE, SAME, NEUTRAL, MIXED = "better", "worse", "same", "neutral", "mixed"


@dataclass(frozen=True, slots=True)
class GateChange:
    """One gate on both sides."""

    before: GateResult
    after: GateResult
    direction: str  # BETTER, WORSE or SAME


@dataclass(frozen=True, slots=True)
class MetricChange:
    """One metric that differs."""

    name: str
    unit: str
    before: float
    after: float
    direction: str  # BETTER, WORSE, NEUTRAL, or MIXED where its gates disagree
    gates: tuple[GateChange, ...]  # those that read it


@dataclass(frozen=True, slots=True)
class StateChange:
    """One state, by the engine's keys."""

    name: str
    recomputed: bool
    moved_by: tuple[str, ...]
    before: str | None  # key; None: not run on that side
    after: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """All that differs between `before` and `after`."""

    before: Subject
    after: Subject
    seeds: tuple[tuple[int, ...], tuple[int, ...]]  # compared, of either side
    bands: tuple[str, ...]
    policies: tuple[FieldChange, ...]
    metrics: tuple[MetricChange, ...]  # that differ
    same: tuple[str, ...]  # metrics that do not
    unmeasured: tuple[tuple[str, ...], tuple[str, ...]]  # measured by the other side alone
    gates: tuple[GateChange, ...]
    states: tuple[StateChange, ...]
    cards: tuple[Scorecard, Scorecard]  # of either side by its own gates, over all its seeds
    notes: tuple[str, ...]

    @property
    def vetoes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.cards[0].vetoed, self.cards[1].vetoed

    def as_document(self) -> dict[str, Any]:
        """Plain JSON, whole."""
        pairs = zip((self.before, self.after), self.cards, self.seeds, self.unmeasured, strict=True)
        sides = [_side(*pair) for pair in pairs]
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
        }


def compare(before: Subject, after: Subject) -> Difference:
    """Both sides measured. Raises PolicyError where they are of different engines."""
    seeds = _seeds(before, after)
    gates, rails = _judge(before, after)
    cards = tuple(
        combine([score(one.measures[seed], gates, seed=seed, authority=one.authority.get(seed) if rails else None)
                 for seed in on], gates)
        for one, on in zip((before, after), seeds, strict=True)
    )  # fmt: skip
    changes = tuple(
        GateChange(old, new, _direction(old, new)) for old, new in zip(cards[0].gates, cards[1].gates, strict=True)
    )
    old, new = cards[0].metrics, cards[1].metrics
    known = (*gates.metrics, *sorted(old.keys() - gates.metrics.keys()))
    both = [name for name in known if name in old and name in new]
    return Difference(
        before,
        after,
        seeds,
        gates.bands,
        tuple(diff(before.pack, after.pack)),
        tuple(_moved_metric(name, old[name], new[name], gates, changes) for name in both if old[name] != new[name]),
        tuple(name for name in both if old[name] == new[name]),
        (tuple(sorted(new.keys() - old.keys())), tuple(sorted(old.keys() - new.keys()))),
        changes,
        tuple(_state_changes(before.states(seeds[0][0]), after.states(seeds[1][0]))),
        (_own_card(before), _own_card(after)),
        tuple(_notes(before, after, seeds, rails)),
    )


def same_engine(before: Subject, after: Subject) -> None:
    """Raises PolicyError where there is nothing to compare."""
    if before.engine.name != after.engine.name:
        raise PolicyError(
            f"{before.name} is of engine {before.engine.name}, {after.name} of engine {after.engine.name}: "
            "they share no policy, metric or state; compare two of one engine"
        )


def moved_by(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Which parts of a state's address differ between two runs, by name."""
    found = []
    for part in sorted(before.keys() | after.keys()):
        old, new = before.get(part), after.get(part)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += [f"{part[:-1] if part != 'policies' else 'policy'} {name}"
                      for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]  # fmt: skip
        elif old != new:
            found.append(part)
    return found


def _seeds(before: Subject, after: Subject) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The seeds both were measured on; where there is none, each side's own."""
    shared = tuple(seed for seed in before.measures if seed in after.measures)
    return (shared, shared) if shared else (tuple(before.measures), tuple(after.measures))


def _judge(before: Subject, after: Subject) -> tuple[GateSet, bool]:
    """The gates by which both are read, and whether rails are among them: their lane's if it is one, else the engine's.

    Of two lanes that ask different things neither is the other's judge.
    """
    if before.gates is not None and after.gates is not None and before.gates.document == after.gates.document:
        return before.gates, True
    states = before.engine.states
    return engine_gates(min(before, after, key=lambda one: states.index(one.until))), False


def _own_card(subject: Subject) -> Scorecard:
    gates, found = subject.gates or engine_gates(subject), subject.measures
    return combine(
        [score(found[seed], gates, seed=seed, authority=subject.authority.get(seed)) for seed in found], gates
    )


def _direction(before: GateResult, after: GateResult) -> str:
    """Which way a gate's value went, by its comparison."""
    if before.value is None or after.value is None or before.value == after.value:
        return SAME
    if before.comparison in ("==", WITHIN):  # better is nearer, from whichever side
        old, new = before.worst_margin, after.worst_margin
        return SAME if old == new else BETTER if new > old else WORSE
    return BETTER if (after.value > before.value) == (before.comparison == ">=") else WORSE


def _moved_metric(
    name: str, before: float, after: float, gates: GateSet, changes: Sequence[GateChange]
) -> MetricChange:
    rows = tuple(row for row in changes if row.before.metric == name)
    said = {row.direction for row in rows} - {SAME}
    direction = NEUTRAL if not said else said.pop() if len(said) == 1 else MIXED
    unit = gates.metrics[name].unit if name in gates.metrics else ""
    return MetricChange(name, unit, before, after, direction, rows)


def _state_changes(before: Sequence[State], after: Sequence[State]) -> Iterator[StateChange]:
    old, new = ({state["name"]: state for state in states} for states in (before, after))
    for name in [*new, *(name for name in old if name not in new)]:
        was, now = old.get(name), new.get(name)
        moved = tuple(moved_by(was["address"], now["address"])) if was is not None and now is not None else ()
        keys = [None if state is None else str(state["key"]) for state in (was, now)]
        yield StateChange(name, keys[0] != keys[1], moved, *keys)


def _notes(before: Subject, after: Subject, seeds: Any, rails: bool) -> Iterator[str]:
    if seeds[0] != seeds[1]:
        yield "no seed was measured on both sides: worlds differ with the seed, and so does all that stands on them"
    for one, on in zip((before, after), seeds, strict=True):
        if len(on) < len(one.measures):
            left = ", ".join(str(seed) for seed in one.measures if seed not in on)
            yield f"{one.name} was measured on seed {left} too, which the other side was not: left out below"
        if one.code_version not in (None, one.engine.code_version):
            yield f"{one.name} was measured by other code than is installed; its states are those of the code installed"
    if not rails and (before.gates or after.gates):
        yield "not both are of one lane: read by the engine's gates, without a lane's rails"


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
