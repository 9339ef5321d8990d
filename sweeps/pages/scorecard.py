"""A scorecard as a page: the verdict, the candidate, every gate with its margins and seeds, and the figures.

The order is that of a reader's questions, for a run and for a lock: does it hold, what is it, at which gate and by how
much, on every seed, what changed, and do the distributions look right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from lanelock.policies import FieldChange
from lanelock.scoring.certification import certify
from lanelock.scoring.figures.bars import margin_bars, seed_strip
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.sides import SIGNS
from lanelock.scoring.gates import Gate, GateSet, Severity, threshold_text
from lanelock.scoring.scorecard import GateResult, Scorecard, combine
from lanelock.sweeps.pages import page
from lanelock.sweeps.pages.gates import gate_row, gate_table
from lanelock.sweeps.pages.text import short

_KINDS = {
    Severity.GATE: ("Gates", "What the bands require. A margin is the distance to a threshold over the gate's scale."),
    Severity.VETO: ("Vetoes", "Detectors of artifacts: a failed veto ends a candidate, whatever the gates say."),
    Severity.RAIL: (
        "Rails",
        "Regression guards. A limit that follows the authority follows its value on the same seed.",
    ),
    Severity.PRECONDITION: ("Preconditions", "Without these there is no grade at all."),
}
_OBSERVED = ("Observed", "Shown and not judged: no part of the verdict, of a margin or of what the search improves.")


@dataclass(frozen=True, slots=True)
class Report:
    """The content of a page: one candidate, its scorecards, and the authority it is compared with."""

    kind: str  # "run", "trial" or "lock"
    name: str
    cards: tuple[Scorecard, ...]  # one per seed
    gates: GateSet
    authority: Mapping[int, Mapping[str, float]]  # seed -> metrics of the authority
    beside: str  # the authority in words
    facts: Mapping[str, str]
    notes: tuple[str, ...]  # the reasons of the decision
    changes: tuple[FieldChange, ...]  # from the authority's pack to the candidate's
    figures: tuple[Figure, ...]  # of the first seed
    proof: tuple[str, ...]  # commands that reproduce the content

    @property
    def overall(self) -> Scorecard:
        return combine(self.cards, self.gates)

    def as_document(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "verdict": str(self.overall.verdict),
            "beside": self.beside,
            "facts": dict(self.facts),
            "cards": [card.as_document() for card in self.cards],
            "authority": {str(seed): dict(metrics) for seed, metrics in self.authority.items()},
            "figures": [{"id": figure.id, "title": figure.title, "says": figure.says} for figure in self.figures],
        }


def html(report: Report) -> str:
    return page.as_html(f"{report.kind} {report.name}: {report.overall.verdict}", blocks(report), page.STYLE)


def markdown(report: Report) -> str:
    return page.as_markdown(blocks(report))


def blocks(report: Report) -> Iterator[page.Block]:
    overall = report.overall
    yield _banner(report, overall)
    yield page.facts(report.facts)
    if report.notes:
        yield page.Heading(2, "Why this decision")
        yield page.Points(report.notes)
    yield page.Heading(2, "Scorecard")
    yield _legend(report)
    for kind, (title, text) in _KINDS.items():
        rows = [at for at, row in enumerate(overall.gates) if row.severity is kind]
        if rows:
            yield page.Heading(3, title)
            yield page.Paragraph(text)
            yield _gates(report, [card.gates for card in report.cards], rows)
    if overall.observed:
        yield page.Heading(3, _OBSERVED[0])
        yield page.Paragraph(_OBSERVED[1])
        yield _gates(report, [card.observed for card in report.cards], range(len(overall.observed)), "gates observed")
    yield from _spreads(report)
    yield from _changes(report)
    if report.figures:
        yield page.Heading(2, "What lies behind the gates")
        yield page.Paragraph(f"Candidate beside {report.beside}, on seed {report.cards[0].seed}: all rows, no sample.")
        yield page.drawn(report.figures)
    yield page.Heading(2, "Reproduce this page")
    yield page.Points(report.proof)


def _banner(report: Report, overall: Scorecard) -> page.Markup:
    verdict, on = overall.verdict, ", ".join(str(card.seed) for card in report.cards)
    seeds = f"seed {on}" if len(report.cards) == 1 else f"the worst of seeds {on}"
    return page.banner(
        str(verdict),
        "good" if verdict.passed else "unsure" if verdict.invalid else "bad",
        f"{report.kind} {report.name}",
        _sentence(overall, report.gates),
        f"on {seeds}, beside {report.beside}",
        _reasons(overall),
    )


def _sentence(overall: Scorecard, gates: GateSet) -> str:
    if overall.verdict.invalid:
        return "Cannot be graded"
    if not overall.verdict.passed:
        return "Vetoed" if overall.vetoed else f"Does not meet band {gates.bands[0]}"
    return f"Meets band {overall.verdict.band}"


def _reasons(overall: Scorecard) -> list[tuple[str, str]]:
    """Returns (gate, text) of each gate that limits the verdict; of a full pass, of the gate closest to failing."""
    failed = [row for row in overall.gates if not row.full]
    if overall.verdict.invalid:
        failed = [row for row in failed if not row.known or row.severity is Severity.PRECONDITION]
    if failed:
        return [(row.id, _against(row)) for row in failed]
    near = min((row for row in overall.gates if row.severity is Severity.GATE), key=lambda row: row.worst_margin)
    return [(near.id, f"comes closest to failing: {_against(near)}")]


def _against(row: GateResult) -> str:
    value = row.note or "not measured" if row.value is None else f"{row.value:.6g}"
    band = next((band for band, passed in row.passed.items() if not passed), list(row.passed)[-1])
    limit, on = row.thresholds.get(band), "" if row.seed is None else f" on seed {row.seed}"
    asks = "an unknown threshold" if limit is None else f"{SIGNS[row.comparison]} {threshold_text(limit)}"
    return f"{value} against {asks} ({band if row.severity is Severity.GATE else row.severity}){on}"


def _spreads(report: Report) -> Iterator[page.Block]:
    if len(report.cards) < 2 or not (spreads := certify(report.cards, report.gates).spreads):
        return
    yield page.Heading(3, "Across seeds")
    yield page.Paragraph("The coefficient of variation (CV) over seeds, and the limit of each band.")
    seeds = [card.seed for card in report.cards if card.seed is not None]
    bands = [band for band in report.gates.bands if any(band in row.limits for row in spreads)]
    rows = (
        (row.metric, short(row.cv), *map(short, map(row.limits.get, bands)), *map(short, map(row.values.get, seeds)))
        for row in spreads
    )
    yield page.table(
        ("metric", "CV", *(f"{band} at most" for band in bands), *(f"seed {seed}" for seed in seeds)), rows
    )


def _changes(report: Report) -> Iterator[page.Block]:
    yield page.Heading(2, "What changed in the policies")
    if not report.changes:
        yield page.Paragraph(f"Nothing: the pack equals that of {report.beside}.")
        return
    rows = ((row.policy, row.pointer, short(row.before), short(row.after), row.state) for row in report.changes)
    yield page.table(("policy", "field", report.beside, "candidate", "first state"), rows)


_KEYS = {  # the shapes of the legend
    name: f'<svg class="bars" width="{wide}" height="14" aria-hidden="true">{shape}</svg>'
    for name, wide, shape in (
        ("seed", 14, '<circle cx="7" cy="7" r="4" style="fill:var(--candidate)"/>'),
        ("worst", 14, '<path d="M7 0l6 7l-6 7l-6 -7z" style="fill:var(--candidate)"/>'),
        ("authority", 14, '<circle cx="7" cy="7" r="5.5" style="fill:none;stroke:var(--authority);stroke-width:1.8"/>'),
        ("holding", 26, '<rect width="26" height="14" style="fill:var(--sunken)"/>'),
    )
}


def _legend(report: Report) -> page.Markup:
    """Returns the legend of the tables' shapes."""
    several = len(report.cards) > 1
    names = {"seed": "a seed" if several else "the candidate", **({"worst": "the worst seed"} if several else {})}
    names |= {"authority": report.beside, "holding": "where the lowest band holds"}
    items = "".join(f"<li>{_KEYS[key]} {escape(name)}</li>" for key, name in names.items())
    bars = "Margin bars: right of the line passes, left and dashed fails; a bar with a tip is longer than one scale."
    return page.Markup(f'<ul class="legend">{items}<li>{bars}</li></ul>', "A margin below 0 fails.")


def _gates(
    report: Report, of_cards: Sequence[Sequence[GateResult]], places: Sequence[int], style: str = "gates"
) -> page.Markup:
    """Returns a table with one row per gate, the failed gates first."""
    order = sorted(places, key=lambda at: all(rows[at].full for rows in of_cards))
    gates = {gate.id: gate for gate in (*report.gates.gates, *report.gates.observed)}
    rows = "".join(_gate_row(report, [of_card[at] for of_card in of_cards], gates) for at in order)
    top = "".join(f'<th scope="col" role="columnheader">{head}</th>' for head in ("gate", *_heads(report)))
    body = (
        f'<table class="{style}" role="table"><thead role="rowgroup"><tr role="row">{top}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table>'
    )
    cards = [[of_card[at] for at in order] for of_card in of_cards]
    return page.Markup(body, _gates_in_words(cards, ("gate", "worst", "", "bands", "margins", "seed", "holds")))


def scorecard_markdown(card: Scorecard) -> str:
    """Returns a scorecard as a Markdown table, the failed gates first."""
    parts = ("gate", "metric", "kind", "value", "", "bands", "margins", "seed", "holds")
    head = f"**{card.verdict}**" + ("" if card.seed is None else f", seed {card.seed}")
    return f"{head}\n\n{_gates_in_words(((*card.gates, *card.observed),), parts, failed_first=True)}"


def _gates_in_words(cards: Sequence[Sequence[GateResult]], parts: Sequence[str], *, failed_first: bool = False) -> str:
    return page.as_markdown([page.table(*gate_table(cards, parts, failed_first=failed_first))]).strip()


def _heads(report: Report) -> tuple[str, ...]:
    several = len(report.cards) > 1
    return "worst" if several else "value", "asks", "margin", "seeds" if several else "seed", "holds"


def _gate_row(report: Report, rows: Sequence[GateResult], gates: Mapping[str, Gate]) -> str:
    parts = gate_row(rows)
    worst, gate = parts.result, gates[parts.result.id]
    unit = report.gates.metrics[worst.metric].unit
    compared = {seed: gate.compared(metrics)[0] for seed, metrics in report.authority.items()}
    beside = {seed: value for seed, value in compared.items() if value is not None}
    where = "every seed" if len({row.value for row in rows}) == 1 else f"seed {parts.seed}"
    on = f'<br><span class="muted">on {where}</span>' if len(rows) > 1 else ""
    on += f'<br><span class="muted">{escape(worst.note)}</span>' if worst.note else ""
    cells = (
        f'<b>{parts.value}</b> <span class="muted">{escape(unit)}</span>{on}',
        _asks(worst), margin_bars(worst), seed_strip(rows, beside), _holds(worst),
    )  # fmt: skip
    body = "".join(
        f'<td role="cell" data-label="{head}"><div>{cell}</div></td>'
        for head, cell in zip(_heads(report), cells, strict=True)
    )
    return (
        f'<tr role="row" id="gate-{escape(worst.id)}"><th scope="row" role="rowheader"><code>{escape(worst.id)}</code>'
        f'<span class="muted">{escape(worst.metric)}</span><p>{escape(gate.why)}</p></th>{body}</tr>'
    )


def _asks(row: GateResult) -> str:
    sign = escape(SIGNS[row.comparison])
    limits = {band: threshold_text(at) for band, at in row.thresholds.items()}
    if len(set(limits.values())) == 1 and len(limits) > 1:
        return f"{sign} {next(iter(limits.values()))}"
    return "<br>".join(f'<span class="muted">{escape(band)}</span> {sign} {at}' for band, at in limits.items())


def _holds(row: GateResult) -> str:
    if not row.known:
        return '<span class="chip unsure">? unknown</span>'
    if row.full:
        word = str(row.holds) if row.severity is Severity.GATE else "holds"
        return f'<span class="chip good">✓ {escape(word)}</span>'
    if row.holds is not None and row.severity in (Severity.GATE, Severity.PRECONDITION):
        return f'<span class="chip part">✓ {escape(row.holds)} only</span>'
    return '<span class="chip bad">✗ no</span>'
