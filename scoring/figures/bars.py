"""Draws a gate's numbers as small inline SVG: margins as bars from zero, seeds on a strip along the value.

The SVG is written by hand, since a scorecard has dozens: each takes a few hundred bytes, uses the page's font, and
follows the theme by the palette's tokens. Nothing depends on colour: a failing margin goes left and is hatched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lanelock.scoring.gates import ends, span
from lanelock.scoring.scorecard import GateResult, worst

WIDTH = 236  # pixels
_LABEL, _NUMBER = 26, 62  # pixels for a band's name and for its margin
_LINE = 20  # pixels per band
HALF = (WIDTH - _LABEL - _NUMBER) / 2  # pixels from zero to either end of a bar's box
_STRIP, _MIDDLE, _PAD = 50, 25, 9  # pixels: a strip's height, its line's y, its margins left and right
_NEAR = 24  # pixels from an end of a strip: here labels are aligned inwards


@dataclass(frozen=True, slots=True)
class Bar:
    """The extent of a margin's bar in its box [-1, 1]."""

    start: float
    length: float
    cut: bool  # longer than the box


def bar_of(margin: float) -> Bar:
    """Returns the bar of a margin: 1 is one scale of the gate, usually its threshold. A longer bar is cut."""
    end = max(-1.0, min(1.0, margin))
    return Bar(min(0.0, end), abs(end), abs(margin) > 1.0)


def margin_bars(row: GateResult) -> str:
    """Returns a bar for each band with a threshold; a single bar if all bands have the same."""
    same = len(row.margins) > 1 and len(set(row.margins.values())) == 1
    margins = {"": next(iter(row.margins.values()))} if same else row.margins
    lines = [_bar(band, margin, _LINE * place) for place, (band, margin) in enumerate(margins.items())]
    label = "; ".join(f"{band} {margin_text(margin)}".strip() for band, margin in margins.items())
    height, zero = _LINE * len(lines), _LABEL + HALF
    axis = f'<path d="M{zero:g} 0v{height}" style="stroke:var(--muted)"/>'
    return _svg(height, f"margin {label}", "".join(lines) + axis)


def margin_text(margin: float | None) -> str:
    """Returns a margin with its sign; 0 passes."""
    if margin is None:
        return "unknown"
    size = abs(margin)
    return f"{margin + 0.0:{'+.1e' if 0 < size < 0.0005 or size >= 1e6 else '+.0f' if size >= 100 else '+.3f'}}"


def _bar(band: str, margin: float | None, top: int) -> str:
    base = top + _LINE - 6
    name = _text(0, base, band, "muted")
    number = _text(WIDTH, base, margin_text(margin), "ink" if margin is None or margin >= 0 else "bad", "end")
    size = f'width="{2 * HALF:g}" height="{_LINE - 6}" rx="2"'
    box = f'<rect x="{_LABEL}" y="{top + 3}" {size} style="fill:var(--sunken)"/>'
    if margin is None:
        return box + name + number
    bar = bar_of(margin)
    left, token = _LABEL + HALF * (1 + bar.start), "good" if margin >= 0 else "bad"
    inside = f'x="{left:.1f}" y="{top + 4}" width="{HALF * bar.length:.1f}" height="{_LINE - 8}"'
    dashes = "" if margin >= 0 else f"stroke:var(--{token});stroke-dasharray:3 2;fill-opacity:.35;"
    drawn = f'<rect {inside} style="{dashes}fill:var(--{token})"/>'
    return box + drawn + (_tip(1 if margin > 0 else -1, top) if bar.cut else "") + name + number


def _tip(side: int, top: int) -> str:
    """Returns the arrow at the end of a bar that is cut at its box."""
    at, middle = _LABEL + HALF * (1 + side), top + _LINE / 2
    arrow = f"M{at - 7 * side:g} {middle - 5:g}l{5 * side} 5l{-5 * side} 5"
    return f'<path d="{arrow}" style="fill:none;stroke:var(--surface);stroke-width:2"/>'


def seed_strip(rows: Sequence[GateResult], authority: Mapping[int, float]) -> str:
    """Returns every seed's value along the metric, with ticks at thresholds; the lowest band is shaded.

    `rows` are one gate's results, one per seed; `authority` has the authority's values by seed. The worst seed is a
    diamond, the authority a ring.
    """
    values = {row.seed: row.value for row in rows if row.value is not None}
    if not values:
        return '<span class="muted">not measured</span>'
    ticks = _thresholds(rows)
    shown = [*values.values(), *authority.values(), *ticks]
    place = _Axis(min(shown), max(shown))
    hardest = worst(rows)
    parts = [
        _holding(hardest, place) if ticks else "",
        f'<path d="M{_PAD} {_MIDDLE}H{WIDTH - _PAD}" style="stroke:var(--line);stroke-width:2"/>',
    ]
    parts += _ticks(ticks, place)
    parts += [_ring(place(value), f"authority, seed {seed}: {value:.6g}") for seed, value in authority.items()]
    several = len(set(values.values())) > 1
    for seed, value in values.items():
        parts.append(_dot(place(value), f"seed {seed}: {value:.6g}", diamond=several and seed == hardest.seed))
    parts += _ends(place)
    label, beside = ("; ".join(f"seed {seed}: {value:.6g}" for seed, value in of.items()) for of in (values, authority))
    return _svg(_STRIP, f"candidate {label}" + (f"; authority {beside}" if beside else ""), "".join(parts))


def _thresholds(rows: Sequence[GateResult]) -> dict[float, str]:
    """Returns value -> band, ascending; empty if the thresholds differ by seed: they follow the authority, a ring."""
    if any(row.thresholds != rows[0].thresholds for row in rows):
        return {}
    places = {band: ends(at) for band, at in rows[0].thresholds.items() if at is not None}
    if len(places) > 1 and len(set(places.values())) == 1:
        return dict.fromkeys(next(iter(places.values())), "limit")
    return dict(sorted((at, band) for band, marks in places.items() for at in marks))


@dataclass(frozen=True, slots=True)
class _Axis:
    """Maps values to pixels; a single value maps to the middle."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        wide = self.high - self.low
        return _PAD + (WIDTH - 2 * _PAD) * ((value - self.low) / wide if wide > 0 else 0.5)


def _holding(row: GateResult, place: _Axis) -> str:
    """Returns the shaded part of the strip, on which the lowest band holds."""
    threshold = next((value for value in row.thresholds.values() if value is not None), None)
    if threshold is None or row.comparison == "==" or place.low == place.high:
        return ""
    low, high = span(row.comparison, threshold)
    left, right = 0.0 if low == -math.inf else place(low), float(WIDTH) if high == math.inf else place(high)
    return f'<rect x="{left:.1f}" y="{_MIDDLE - 9}" width="{right - left:.1f}" height="18" style="fill:var(--sunken)"/>'


def _ticks(ticks: Mapping[float, str], place: _Axis) -> list[str]:
    """Returns the ticks with labels; the left half is aligned left, the right half right, all within the strip."""
    parts, last = [], len(ticks) - 1
    for index, (at, band) in enumerate(ticks.items()):
        x = place(at)
        anchor = "middle" if last == 0 else ("end" if index <= last // 2 else "start")
        anchor = "start" if x < _NEAR else "end" if x > WIDTH - _NEAR else anchor
        shifted = {"start": x - 4, "middle": x, "end": x + 4}[anchor]
        parts.append(f'<path d="M{x:.1f} {_MIDDLE - 10}v20" style="stroke:var(--ink);stroke-width:1.5"/>')
        parts.append(_text(round(shifted, 1), 11, band, "muted", anchor))
    return parts


def _ends(place: _Axis) -> list[str]:
    if place.low == place.high:
        return [_text(WIDTH / 2, _STRIP - 1, f"{place.low:.4g}", "muted", "middle")]
    return [
        _text(0, _STRIP - 1, f"{place.low:.4g}", "muted"),
        _text(WIDTH, _STRIP - 1, f"{place.high:.4g}", "muted", "end"),
    ]


def _dot(x: float, tip: str, *, diamond: bool) -> str:
    shape = (
        f'<path d="M{x:.1f} {_MIDDLE - 7}l6 7l-6 7l-6 -7z" style="fill:var(--candidate)">'
        if diamond
        else f'<circle cx="{x:.1f}" cy="{_MIDDLE}" r="4" style="fill:var(--candidate)">'
    )
    return f"{shape}<title>{escape(tip)}</title></{'path' if diamond else 'circle'}>"


def _ring(x: float, tip: str) -> str:
    style = "fill:none;stroke:var(--authority);stroke-width:1.8"
    return f'<circle cx="{x:.1f}" cy="{_MIDDLE}" r="5.5" style="{style}"><title>{escape(tip)}</title></circle>'


def _text(x: float, y: float, text: str, token: str, anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" style="fill:var(--{token})">{escape(text)}</text>'


def _svg(height: int, label: str, body: str) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return f'<svg class="bars" role="img" aria-label="{escape(label)}" {size}>{body}</svg>'
