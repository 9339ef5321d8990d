"""The gates on a scorecard's page: one row each, with its value, what it asks, its margins as bars and its seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from lanelock.scoring.figures.bars import margin_bars, margin_text, seed_strip
from lanelock.scoring.figures.sides import SIGNS
from lanelock.scoring.gates import Severity
from lanelock.scoring.scorecard import GateResult, Scorecard
from lanelock.sweeps.pages.page import Markup, as_markdown, table
from lanelock.sweeps.pages.scorecard_style import KEYS
from lanelock.sweeps.terminal.words import short

if TYPE_CHECKING:
    from lanelock.sweeps.pages.scorecard import Report


def legend(report: Report) -> Markup:
    """What the shapes of the tables stand for."""
    several = len(report.cards) > 1
    names = {"seed": "a seed" if several else "the candidate", **({"worst": "the worst seed"} if several else {})}
    names |= {"authority": report.beside, "holding": "where the lowest band holds"}
    items = "".join(f"<li>{KEYS[key]} {escape(name)}</li>" for key, name in names.items())
    said = (
        "Margin bars: right of the line passes, left and dashed fails; one that ends in a tip goes on past one scale."
    )
    return Markup(f'<ul class="legend">{items}<li>{said}</li></ul>', "A margin below 0 fails.")


def gate_table(report: Report, overall: Scorecard, places: Sequence[int]) -> Markup:
    """One row a gate, the failed ones first."""
    order = sorted(places, key=lambda at: all(overall.gates[at].passed.values()))
    why = {gate.id: gate.why for gate in report.gates.gates}
    rows = "".join(_gate_row(report, overall.gates[at], [card.gates[at] for card in report.cards], why) for at in order)
    top = "".join(f'<th scope="col" role="columnheader">{head}</th>' for head in ("gate", *_heads(report)))
    body = (
        f'<table class="gates" role="table"><thead role="rowgroup"><tr role="row">{top}</tr></thead>'
        f'<tbody role="rowgroup">{rows}</tbody></table>'
    )
    words = (_gate_words(overall.gates[at], report.gates.bands) for at in order)
    return Markup(
        body, as_markdown([table(("gate", "worst", "", "seed", *report.gates.bands, "margins"), words)]).strip()
    )


def _heads(report: Report) -> tuple[str, ...]:
    several = len(report.cards) > 1
    return "worst" if several else "value", "asks", "margin", "seeds" if several else "seed", "holds"


def _gate_row(report: Report, worst: GateResult, rows: Sequence[GateResult], why: Mapping[str, str]) -> str:
    unit = report.gates.metrics[worst.metric].unit
    beside = {
        seed: found[worst.metric] for seed, found in report.authority.items() if found.get(worst.metric) is not None
    }
    value = "missing" if worst.value is None else f"{worst.value:.6g}"
    where = "every seed" if len({row.value for row in rows}) == 1 else f"seed {worst.seed}"
    on = f'<br><span class="muted">on {where}</span>' if len(rows) > 1 else ""
    cells = (
        f'<b>{value}</b> <span class="muted">{escape(unit)}</span>{on}',
        _asks(worst), margin_bars(worst), seed_strip(rows, beside), _holds(worst),
    )  # fmt: skip
    body = "".join(
        f'<td role="cell" data-label="{head}"><div>{cell}</div></td>'
        for head, cell in zip(_heads(report), cells, strict=True)
    )
    return (
        f'<tr role="row" id="gate-{escape(worst.id)}"><th scope="row" role="rowheader"><code>{escape(worst.id)}</code>'
        f'<span class="muted">{escape(worst.metric)}</span><p>{escape(why[worst.id])}</p></th>{body}</tr>'
    )


def _asks(row: GateResult) -> str:
    sign = escape(SIGNS[row.comparison])
    limits = {band: "unknown" if at is None else f"{at:.6g}" for band, at in row.thresholds.items()}
    if len(set(limits.values())) == 1 and len(limits) > 1:
        return f"{sign} {next(iter(limits.values()))}"
    return "<br>".join(f'<span class="muted">{escape(band)}</span> {sign} {at}' for band, at in limits.items())


def _holds(row: GateResult) -> str:
    met = [band for band, passed in row.passed.items() if passed]
    if not row.known:
        return '<span class="chip unsure">? unknown</span>'
    if len(met) == len(row.passed):
        return f'<span class="chip good">✓ {escape(met[-1]) if row.severity is Severity.GATE else "holds"}</span>'
    if met and row.severity in (Severity.GATE, Severity.PRECONDITION):
        return f'<span class="chip part">✓ {escape(met[-1])} only</span>'
    return '<span class="chip bad">✗ no</span>'


def _gate_words(row: GateResult, bands: Sequence[str]) -> tuple[str, ...]:
    value = "missing" if row.value is None else f"{row.value:.6g}"
    limits = (short(row.thresholds.get(band)) for band in bands)
    margins = ", ".join(f"{band} {margin_text(margin)}" for band, margin in row.margins.items())
    return row.id, value, row.comparison, short(row.seed), *limits, margins
