"""What a lane's knobs do to its gates, as text, as figures and as a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.palette import LIGHT
from lanelock.sweeps.lanes.knob import Knob
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.pages import page
from lanelock.sweeps.pages.text import columns, short
from lanelock.sweeps.probing.probe import OAT, Probed
from lanelock.sweeps.probing.sampled import MORRIS
from lanelock.sweeps.reports.study_knobs import draw_curve

Document = Mapping[str, Any]

_SHOWN = 3  # knobs named per gate in the text
_BARS = 4  # knobs drawn per gate
_PANEL = 150  # pixels of a curve's panel
_LINE = 31  # pixels of a bar with its label
WHAT = {
    OAT: "range of the metric along each knob, every other knob where the lane starts",
    MORRIS: "mean size of an elementary effect (Morris mu*), over the whole range of each knob",
    "sobol": "total share of the metric's variance over the box (Sobol)",
}


def text(document: Document) -> str:
    """Returns the answer for a terminal."""
    head = (
        f"{document['lane']}: {WHAT[document['method']]}\n{document['runs']} runs of {document['candidates']} "
        f"candidates on seeds {', '.join(map(str, document['seeds']))} in {document['seconds']:.1f} s"
    )
    rows = [(row["gate"], row["metric"], _ranked(row)) for row in document["gates"] if row["effects"]]
    table = columns(("gate", "metric", f"effect by knob{_of_interval(document)}"), rows)
    return "\n\n".join([head, *([table] if rows else []), *_notes(document)])


def _of_interval(document: Document) -> str:
    return f" ({document['interval']})" if document["interval"] else ""


def _ranked(row: Document) -> str:
    strongest = [effect for effect in row["effects"][:_SHOWN] if effect["effect"] > 0]
    return ", ".join(f"{effect['knob']} {effect_text(effect)}" for effect in strongest) or "no knob moves it"


def effect_text(effect: Document) -> str:
    """Returns an effect in the metric's unit, its interval, and its size in gaps between bands where there are any."""
    interval = f" ({effect['low']:.3g} to {effect['high']:.3g})" if "low" in effect else ""
    gaps = f", {effect['gaps']:.2g} gaps" if effect.get("gaps") is not None else ""
    return f"{effect['effect']:.3g}{interval}{gaps}"


def _notes(document: Document) -> Iterator[str]:
    """Yields what a reader must know beside the effects."""
    if document["still"]:
        yield f"move no gate, and could be fixed: {', '.join(document['still'])}"
    if document["unknown"]:
        yield f"too few candidates have a result to say what moves with: {', '.join(document['unknown'])}"
    for row in document["knobs"]:
        if row["while"]:
            yield f"{row['knob']} does not count at the start; moved while {_stated(row['while'])}"
        if row["with"]:
            yield f"{row['knob']}: an equality holds, so {', '.join(row['with'])} give way"
    for row in document["left_out"]:
        if "of" in row:
            yield f"left out: {row['blocks']} of {row['of']} blocks: {row['why']}"
    levels = [row for row in document["left_out"] if "knob" in row]
    if levels:
        lines = "".join(f"\n  {row['knob']} {row['at']}: {row['why']}" for row in levels)
        yield f"levels that the lane does not admit: {len(levels)}{lines}"
    if document["vetoed"]:
        yield f"vetoed: {len(document['vetoed'])} of {document['candidates']} candidates{_where(document['vetoed'])}"
    if document["failed"]:
        first = document["failed"][0]["why"]
        yield f"failed: {len(document['failed'])} of {document['candidates']} candidates; {first}"
    for row in document["out_of_order"]:
        yield f"{row['knob']} moved {row['metric']}, whose state comes before the knob's: one of them is misstated"


def _stated(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} is {value}" for name, value in values.items())


def _where(rows: Sequence[Document]) -> str:
    lines = [f"\n  {row['knob']} {row['at']}: {', '.join(row['by'])}" for row in rows if "knob" in row]
    return "".join(lines)


def html(of: Probed) -> str:
    return page.as_html(f"sensitivity of lane {of.lane.id}", blocks(of.document, of.lane), page.STYLE)


def blocks(document: Document, lane: Lane) -> Iterator[page.Block]:
    """Yields the page: what was run, the figures, every effect, and what was left out."""
    yield page.Heading(1, f"Which knob moves which gate of lane {lane.id}")
    yield page.Paragraph(f"{lane.title}. Shown: {WHAT[document['method']]}.")
    yield page.Points((
        f"{document['runs']} runs of {document['candidates']} candidates on seeds "
        f"{', '.join(map(str, document['seeds']))}; authority {document['authority']}",
        f"intervals: {document['interval'] or 'none, since there is one seed'}",
    ))  # fmt: skip
    yield page.drawn(figures(document, lane.knobs))
    yield page.Heading(2, "Effects")
    rows = [
        (row["gate"], row["metric"], effect["knob"], effect_text(effect), *_more(effect))
        for row in document["gates"]
        for effect in row["effects"]
    ]
    yield page.table(("gate", "metric", "knob", "effect", "sampling, ±", "alone or sigma"), rows)
    if notes := tuple(_notes(document)):
        yield page.Heading(2, "Read with it")
        yield page.Points(notes)
    yield page.Heading(2, "Reproduce this page")
    yield page.Points((f"`lanelock sensitivity {lane.id} --method {document['method']} --html FILE`",))


def _more(effect: Document) -> tuple[str, str]:
    other = effect.get("alone", effect.get("sigma"))
    return short(effect.get("sampling")), short(other)


def figures(document: Document, knobs: Sequence[Knob]) -> tuple[Figure, ...]:
    """Returns the strongest knobs of each gate as bars and, one at a time, each gate along its strongest knob."""
    rows = [row for row in document["gates"] if row["effects"] and row["effects"][0]["effect"] > 0]
    return (*_bars(document, rows), *(_curves(rows, knobs) if document["method"] == OAT else ())) if rows else ()


def _bars(document: Document, rows: Sequence[Document]) -> Iterator[Figure]:
    unit = "margin" if "margin" in rows[0]["effects"][0] else "effect"
    of = "in units of the gate's margin" if unit == "margin" else "from 0 to 1"
    strongest = "; ".join(
        f"{row['gate']}: {row['effects'][0]['knob']} {effect_text(row['effects'][0])}" for row in rows
    )
    line = (
        f"; the line goes from the {document['interval'].replace(' and ', ' to the ')}" if document["interval"] else ""
    )
    what = WHAT[document["method"]]
    says = f"{what[0].upper()}{what[1:]}, {of}{line}. The strongest: {strongest}."
    height = 40 + _LINE * sum(1 + len(row["effects"][:_BARS]) for row in rows)
    yield Figure("probe_effects", "Which knob moves which gate", says, height, partial(_draw_bars, rows, unit))


def _draw_bars(rows: Sequence[Document], unit: str, canvas: Any) -> None:
    axis, place, most = canvas.add_subplot(), 0, 0.0
    for row in rows:
        axis.text(0, place + 0.3, row["gate"], va="center", fontweight="bold", color=LIGHT["ink"])
        for line, effect in enumerate(row["effects"][:_BARS], place + 1):
            scale = effect[unit] / effect["effect"] if effect["effect"] else 1.0
            axis.text(0, line - 0.2, f" {effect['knob']}  {effect_text(effect)}", va="center", fontsize=10.5)
            axis.barh(line + 0.24, effect[unit], 0.3, color=LIGHT["candidate"])
            ends = (effect.get("low", effect["effect"]) * scale, effect.get("high", effect["effect"]) * scale)
            axis.plot(ends, [line + 0.24] * 2, color=LIGHT["ink"], linewidth=1.4, marker="|", markersize=7)
            most = max(most, *ends)
        place += 1 + len(row["effects"][:_BARS])
    axis.set(xlim=(0, most * 1.02 or 1.0), ylim=(place - 0.3, -0.4))
    axis.set_yticks([])
    axis.xaxis.tick_top()
    axis.grid(visible=False, axis="y")
    axis.spines["bottom"].set_visible(False)


def _curves(rows: Sequence[Document], knobs: Sequence[Knob]) -> Iterator[Figure]:
    known = {knob.name: knob for knob in knobs}
    says = "; ".join(
        f"{row['gate']} goes from {of['curve'][0]['mean']:.3g} to {of['curve'][-1]['mean']:.3g} along {of['knob']}"
        for row in rows
        for of in row["effects"][:1]
    )
    says = f"Mean over the seeds (line), least and greatest seed (band), along the strongest knob. {says}."
    height = 30 + _PANEL * ((len(rows) + 1) // 2)
    draw = partial(_draw_curves, rows, known)
    yield Figure("probe_curves", "Each gate along its strongest knob", says, height, draw)


def _draw_curves(rows: Sequence[Document], knobs: Mapping[str, Knob], canvas: Any) -> None:
    panels = canvas.subplots((len(rows) + 1) // 2, 2, squeeze=False).ravel()
    for axis in panels[len(rows) :]:
        axis.set_visible(False)
    for axis, row in zip(panels, rows, strict=False):
        strongest = row["effects"][0]
        draw_curve(axis, knobs[strongest["knob"]], strongest["curve"])
        axis.set_title(row["gate"], fontsize=11, color=LIGHT["ink"])
        axis.set_xlabel(strongest["knob"])
        axis.margins(x=0.04)
