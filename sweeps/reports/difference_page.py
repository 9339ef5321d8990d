"""A comparison as a person reads it: first what it comes to, then field by field, on a terminal or as one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lanelock.scoring.scorecard import GateResult
from lanelock.sweeps.pages.gates import gate_row
from lanelock.sweeps.pages.page import Block, Heading, Paragraph, Points, table
from lanelock.sweeps.pages.text import columns, short
from lanelock.sweeps.reports.difference import BETTER, MIXED, NEUTRAL, WORSE, Difference, GateChange, StateChange

NAMED = 20  # characters of a name at the head of a column


@dataclass(frozen=True, slots=True)
class Section:
    """A table under a title, or what is said where it has no row."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    none: str


def as_text(found: Difference) -> str:
    """For the terminal."""
    width = max(len(name) for name, _ in _summary(found))
    lines = [title(found), "", *(f"{name:<{width}}  {said}" for name, said in _summary(found))]
    for section in _sections(found):
        lines += ["", section.none if not section.rows else columns(section.head, section.rows)]
    return "\n".join([*lines, *(f"\nnote: {note}" for note in found.notes)])


def as_blocks(found: Difference) -> Iterator[Block]:
    """For a page."""
    yield Heading(1, title(found))
    yield Points(tuple(f"{name}: {said}" for name, said in _summary(found)))
    if found.notes:
        yield Points(tuple(f"Note: {note}." for note in found.notes))
    for section in _sections(found):
        yield Heading(2, section.title)
        yield table(section.head, section.rows) if section.rows else Paragraph(section.none)
    yield Heading(2, "Metrics that are the same")
    yield Paragraph(", ".join(found.same) or "None.")


def title(found: Difference) -> str:
    return _pair(*(f"{one.kind} {one.name}" for one in (found.before, found.after)))


def _summary(found: Difference) -> Iterator[tuple[str, str]]:
    on = [f"seed {', '.join(map(str, seeds))}" for seeds in found.seeds]
    yield "measured", f"engine {found.before.engine.name}, {on[0] if on[0] == on[1] else _pair(*on)}"
    yield "verdict", _pair(*(str(card.verdict) for card in found.cards))
    for one in (found.before, found.after):
        if one.stated is not None:
            yield "stated", f"of {one.name}: {short(one.stated, 160)}"
    yield "vetoed", _pair(*(", ".join(names) or "nothing" for names in found.vetoes))
    went = Counter(row.direction for row in found.metrics)
    told = ", ".join(f"{went[way]} {way}" for way in (BETTER, WORSE, MIXED, NEUTRAL) if went[way]) or "none differs"
    yield "metrics", f"{told}; {len(found.same)} the same"
    for seen, names in zip((found.after, found.before), found.unmeasured, strict=True):
        if names:
            yield "", f"{len(names)} measured of {seen.name} alone: {short(', '.join(names), 120)}"
    for said, moved in (
        ("won", _climbed(found.gates, 1)),
        ("lost", _climbed(found.gates, -1)),
    ):
        yield said, ", ".join(moved) or "no gate"
    anew = [state.name for state in found.states if state.recomputed]
    yield "states", f"{len(anew)} of {len(found.states)} would be computed anew{': ' * bool(anew)}{', '.join(anew)}"


def _climbed(rows: Sequence[GateChange], way: int) -> list[str]:
    """The gates that hold a higher band than before (`way` 1), or a lower one (-1)."""
    climbed = (row for row in rows if (row.after.level - row.before.level) * way > 0)
    return [f"{row.before.id} ({_held(row)})" for row in climbed]


def _held(row: GateChange) -> str:
    return _pair(row.before.holds or "no", row.after.holds or "no")


def _sections(found: Difference) -> Iterator[Section]:
    before, after = (short(one.name, NAMED) for one in (found.before, found.after))
    fields = tuple((row.policy, row.pointer, short(row.before), short(row.after), row.state) for row in found.policies)
    yield Section("Policy fields changed", ("policy", "field", before, after, "first state"), fields,
                  "no policy field differs")  # fmt: skip
    metrics = tuple(
        (row.name, short(row.before), short(row.after), f"{row.after - row.before:+.6g}", row.direction, row.unit)
        for row in found.metrics
    )
    yield Section("Metrics changed", ("metric", before, after, "change", "", "unit"), metrics, "no metric differs")
    thresholds = [part for band in found.bands for part in (band, f"margin to {band}")]
    head = ("gate", "kind", "value", "", *thresholds, "holds", "direction")
    moved = [row for row in found.gates if _judged(row.before) != _judged(row.after)]
    gates = tuple(_gate_row(row, found.bands) for row in moved)
    yield Section("Gates that read them", head, gates, "no gate says anything else")
    states = tuple(_state_row(row) for row in found.states)
    yield Section("States, by the engine's keys", ("state", "", "moved by"), states, "no state was run")


def _judged(row: GateResult) -> tuple[object, ...]:
    return row.value, dict(row.thresholds), row.holds


def _gate_row(row: GateChange, bands: Sequence[str]) -> tuple[str, ...]:
    before, after = gate_row([row.before]), gate_row([row.after])
    parts = []
    for place, band in enumerate(bands):
        margins = [side.margins.get(band) for side in (row.before, row.after)]
        parts.append(_pair(before.thresholds[place], after.thresholds[place]))
        parts.append(_pair(*("–" if margin is None else f"{margin:+.4f}" for margin in margins)))
    head = (row.before.id, str(row.before.severity), _pair(before.value, after.value), row.before.comparison)
    return *head, *parts, _held(row), row.direction


def _state_row(row: StateChange) -> tuple[str, ...]:
    if row.before is None or row.after is None:
        return row.name, "not run on both sides", ""
    return row.name, "computed anew" if row.recomputed else "the same", ", ".join(row.moved_by)


def _pair(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"
