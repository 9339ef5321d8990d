"""A comparison as text for the terminal or as a page: a summary, then field by field, then which side is preferred."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

from lanelock.scoring.figures.bars import margin_bars
from lanelock.scoring.scorecard import GateResult
from lanelock.sweeps.pages.gates import gate_row
from lanelock.sweeps.pages.page import (
    STYLE,
    Block,
    Heading,
    Markup,
    Paragraph,
    Points,
    as_markdown,
    banner,
    facts,
    table,
)
from lanelock.sweeps.pages.text import columns, short
from lanelock.sweeps.reports.difference import BETTER, MIXED, NEUTRAL, WORSE, Difference, GateChange, StateChange

NAMED = 20  # characters of a name at the head of a column
_MARKS = {BETTER: "▲ ", WORSE: "▼ "}
PAGE_STYLE = (
    STYLE
    + """
.chip.still{--tone:var(--muted)}
.gates.pairs :is(th,td):nth-child(n){width:auto}.gates.pairs .bars{margin-top:.25rem}
@media (min-width:66rem){.gates.pairs th:first-child{width:22%}.gates.pairs th:last-child{width:9rem}}
"""
)


@dataclass(frozen=True, slots=True)
class Section:
    """A table under a title, or a text where it has no rows."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    empty: str


def as_text(difference: Difference) -> str:
    summary = list(_summary(difference))
    width = max(len(name) for name, _ in summary)
    lines = [title(difference), "", *(f"{name:<{width}}  {text}" for name, text in summary)]
    for section in _sections(difference):
        lines += ["", section.empty if not section.rows else columns(section.head, section.rows)]
    notes = [f"\nnote: {note}" for note in difference.notes]
    return "\n".join([*lines, *notes, f"\npreferred  {difference.preference}"])


def as_blocks(difference: Difference) -> Iterator[Block]:
    yield _banner(difference)
    yield facts(dict(filter(all, _summary(difference))))
    if difference.notes:
        yield Points(tuple(f"Note: {note}." for note in difference.notes))
    yield Heading(2, "Gates, side by side")
    yield _side_by_side(difference)
    fields, metrics, _, states = _sections(difference)
    for section in (_ways_marked(difference, metrics), fields, states):
        yield Heading(2, section.title)
        yield table(section.head, section.rows) if section.rows else Paragraph(section.empty)
    yield Heading(2, "Metrics that are the same")
    yield Paragraph(", ".join(difference.same) or "None.")


def _banner(difference: Difference) -> Markup:
    """Returns the head of the page: which side is preferred, and why."""
    preferred = difference.preference.preferred
    title_, tone = ("neither is preferred", "unsure") if preferred is None else (f"preferred: {preferred}", "good")
    return banner("because", tone, title(difference), title_, difference.preference.because)


def _ways_marked(difference: Difference, metrics: Section) -> Section:
    """Returns the table of metrics with a mark for better and worse; of an objective, by the lane's own direction."""
    lanes = difference.before.lane, difference.after.lane
    same = lanes[0] is not None and lanes[1] is not None and lanes[0].objectives == lanes[1].objectives
    objectives = lanes[1].objectives if same and lanes[1] is not None else ()
    wanted = {row.metric: row.maximize for row in objectives if row.metric is not None}
    rows = []
    for change, row in zip(difference.metrics, metrics.rows, strict=True):
        way = change.direction
        if way == NEUTRAL and change.name in wanted:
            way = BETTER if (change.after > change.before) == wanted[change.name] else WORSE
        more = " (objective)" if change.name in wanted else ""
        rows.append((*row[:4], f"{_MARKS.get(way, '')}{way}{more}", *row[5:]))
    return replace(metrics, rows=tuple(rows))


def _side_by_side(difference: Difference) -> Markup:
    """Returns every gate with both values and their margins as bars; those that differ come first."""
    names = [short(side.name, 2 * NAMED) for side in (difference.before, difference.after)]
    order = sorted(difference.gates, key=lambda row: _judged(row.before) == _judged(row.after))
    top = "".join(f'<th scope="col">{escape(name)}</th>' for name in ("gate", *names, "the second is"))
    body = "".join(_pair_row(row, names) for row in order)
    lines = as_markdown([table(("gate", *names, "direction"), map(_pair_words, order))])
    return Markup(
        f'<table class="gates pairs"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>', lines.strip()
    )


def _pair_row(row: GateChange, names: Sequence[str]) -> str:
    sides = "".join(
        f'<td data-label="{escape(name)}"><div><b>{gate_row([side]).value}</b> '
        f'<span class="muted">holds {escape(side.holds or "no band")}</span><br>{margin_bars(side)}</div></td>'
        for name, side in zip(names, (row.before, row.after), strict=True)
    )
    way = row.direction
    tone = {BETTER: "good", WORSE: "bad"}.get(way, "still")
    head = f'<code>{escape(row.before.id)}</code><span class="muted">{escape(row.before.metric)}</span>'
    return (
        f'<tr><th scope="row">{head}</th>{sides}<td data-label=""><div><span class="chip {tone}">'
        f"{_MARKS.get(way, '')}{way}</span></div></td></tr>"
    )


def _pair_words(row: GateChange) -> tuple[str, ...]:
    return row.before.id, gate_row([row.before]).value, gate_row([row.after]).value, row.direction


def title(difference: Difference) -> str:
    return _pair(*(f"{side.kind} {side.name}" for side in (difference.before, difference.after)))


def _summary(difference: Difference) -> Iterator[tuple[str, str]]:
    on = [f"seed {', '.join(map(str, seeds))}" for seeds in difference.seeds]
    yield "measured", f"engine {difference.before.engine.name}, {on[0] if on[0] == on[1] else _pair(*on)}"
    yield "verdict", _pair(*(str(card.verdict) for card in difference.cards))
    for side in (difference.before, difference.after):
        if side.stated is not None:
            yield "stated", f"of {side.name}: {short(side.stated, 160)}"
    yield "vetoed", _pair(*(", ".join(names) or "nothing" for names in difference.vetoes))
    ways = Counter(row.direction for row in difference.metrics)
    counts = ", ".join(f"{ways[way]} {way}" for way in (BETTER, WORSE, MIXED, NEUTRAL) if ways[way]) or "none differs"
    yield "metrics", f"{counts}; {len(difference.same)} the same"
    for side, names in zip((difference.after, difference.before), difference.unmeasured, strict=True):
        if names:
            yield "", f"{len(names)} measured of {side.name} alone: {short(', '.join(names), 120)}"
    yield "won", ", ".join(_climbed(difference.gates, 1)) or "no gate"
    yield "lost", ", ".join(_climbed(difference.gates, -1)) or "no gate"
    if difference.states:
        anew = [state.name for state in difference.states if state.recomputed]
        listed = f": {', '.join(anew)}" if anew else ""
        yield "states", f"{len(anew)} of {len(difference.states)} would be recomputed{listed}"


def _climbed(rows: Sequence[GateChange], way: int) -> list[str]:
    """Returns the gates that hold a higher band than before (`way` 1), or a lower band (-1)."""
    climbed = (row for row in rows if (row.after.level - row.before.level) * way > 0)
    return [f"{row.before.id} ({_held(row)})" for row in climbed]


def _held(row: GateChange) -> str:
    return _pair(row.before.holds or "no", row.after.holds or "no")


def _sections(difference: Difference) -> Iterator[Section]:
    before, after = (short(side.name, NAMED) for side in (difference.before, difference.after))
    changes = difference.policies
    fields = tuple((row.policy, row.pointer, short(row.before), short(row.after), row.state) for row in changes)
    yield Section("Policy fields changed", ("policy", "field", before, after, "first state"), fields,
                  "no policy field differs")  # fmt: skip
    metrics = tuple(
        (row.name, short(row.before), short(row.after), f"{row.after - row.before:+.6g}", row.direction, row.unit)
        for row in difference.metrics
    )
    yield Section("Metrics changed", ("metric", before, after, "change", "", "unit"), metrics, "no metric differs")
    thresholds = [part for band in difference.bands for part in (band, f"margin to {band}")]
    head = ("gate", "kind", "value", "", *thresholds, "holds", "direction")
    moved = [row for row in difference.gates if _judged(row.before) != _judged(row.after)]
    gates = tuple(_gate_row(row, difference.bands) for row in moved)
    yield Section("Gates that read them", head, gates, "no gate's result differs")
    states = tuple(_state_row(row) for row in difference.states)
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
    return row.name, "recomputed" if row.recomputed else "the same", ", ".join(row.moved_by)


def _pair(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"
