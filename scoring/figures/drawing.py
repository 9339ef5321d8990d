"""Draws figures once, in the palette's light colours, and writes them as inline SVG for both themes or as PNG.

A figure also states its content in words, with the numbers: its caption, its Markdown and the text for screen readers.
The bytes depend on the figure alone: no date, no random ids.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from html import escape
from threading import Lock
from typing import TYPE_CHECKING, Any

from lanelock.scoring.figures.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

WIDTH = 440  # pixels: legible in one column of a page and on a phone
_DPI = 72  # a point equals a pixel
_PNG_DPI = 108  # 660 pixels: a wider image pushes MLflow's details of a run out of a 1280-pixel window
_DRAWING = Lock()  # one figure at a time: matplotlib's settings are global
_STYLE: dict[str, Any] = {
    "font.family": ["DejaVu Sans"], "font.size": 11.5, "axes.labelsize": 11.5, "axes.titlesize": 12,
    "xtick.labelsize": 11, "ytick.labelsize": 11, "legend.fontsize": 11, "figure.titlesize": 12.5,
    "figure.titleweight": "bold", "text.color": LIGHT["ink"], "axes.titlecolor": LIGHT["ink"],
    "axes.titlelocation": "left", "axes.labelcolor": LIGHT["muted"], "xtick.color": LIGHT["line"],
    "ytick.color": LIGHT["line"], "xtick.labelcolor": LIGHT["muted"], "ytick.labelcolor": LIGHT["muted"],
    "axes.edgecolor": LIGHT["line"], "axes.facecolor": "none", "figure.facecolor": "none",
    "axes.grid": True, "grid.color": LIGHT["line"], "grid.linewidth": 0.6, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "ytick.major.size": 0, "xtick.major.size": 3, "legend.frameon": False, "legend.handlelength": 2.2,
    "lines.solid_capstyle": "butt", "hatch.linewidth": 0.7, "axes.formatter.use_mathtext": False,
    "svg.fonttype": "none", "svg.image_inline": True, "axes.xmargin": 0.0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its subject, its content in words, and how it is drawn."""

    id: str  # letters, digits and _; its anchor on a page and its file name
    title: str
    says: str  # one or two sentences with the numbers
    height: int  # pixels
    draw: Callable[[Canvas], None]  # draws on an empty canvas, in colours of `LIGHT`
    drawn: Drawn | None = None  # the result, if it has been drawn


@dataclass(frozen=True, slots=True)
class Drawn:
    """Both forms of a figure."""

    svg: str
    png: bytes


def svg(figure: Figure) -> str:
    """Returns an `<svg>` element for a page that defines the palette's tokens."""
    if figure.drawn is not None:
        return figure.drawn.svg
    with _DRAWING:
        return _inlined(_render(figure, "svg", _DPI, titled=False).decode("utf-8"), figure)


def png(figure: Figure) -> bytes:
    """Returns the figure with its title, in light colours, at one and a half times its size."""
    if figure.drawn is not None:
        return figure.drawn.png
    with _DRAWING:
        return _render(figure, "png", _PNG_DPI, titled=True)


def pngs(figures: Iterable[Figure]) -> dict[str, bytes]:
    """Returns file name -> PNG of each figure."""
    return {f"{figure.id}.png": png(figure) for figure in figures}


def drawn(figures: Iterable[Figure]) -> tuple[Figure, ...]:
    """Returns the figures, each drawn in both forms."""
    return tuple(replace(figure, drawn=Drawn(svg(figure), png(figure))) for figure in figures)


def ready() -> None:
    """Imports what drawing needs, which takes most of the first figure's second."""
    from matplotlib.backends import backend_agg  # noqa: F401


def _render(figure: Figure, kind: str, dpi: int, *, titled: bool) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    style: Any = {**_STYLE, "svg.hashsalt": figure.id}
    with matplotlib.rc_context(style):
        canvas = Canvas(figsize=(WIDTH / _DPI, figure.height / _DPI), dpi=dpi)
        FigureCanvasAgg(canvas)
        figure.draw(canvas)
        if titled:
            canvas.suptitle(figure.title, x=0.012, ha="left")
        ConstrainedLayoutEngine().execute(canvas)  # here, once: savefig would draw everything twice
        sink = io.BytesIO()
        keys = ("Date", "Creator", "Format", "Type") if kind == "svg" else ("Software",)
        face = LIGHT["surface"] if kind == "png" else "none"
        canvas.savefig(sink, format=kind, metadata=dict.fromkeys(keys), facecolor=face)
        return sink.getvalue()


# --- from matplotlib's SVG to inline SVG ----------------------------------------------------

_TOKENS = {value: f"var(--{token})" for token, value in LIGHT.items()}
_REFERRED = re.compile(r'(?:url\(#|href="#)([^)"]+)')


def _inlined(text: str, figure: Figure) -> str:
    body = text[text.index("<svg") :]
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<g>\s*</g>", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    referred = set(_REFERRED.findall(body))
    body = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in referred else "", body)
    body = re.sub(r"font-family: [^;\"]*; |(?<=\") ?transform=\"rotate\(-0 [^\"]*\"", "", body)  # the page has fonts
    body = re.sub(r'(fill|stroke)="(#[0-9a-f]{6})"', r'style="\1: \2"', body)
    body = re.sub(r'(?<= )(?:d|x|y|transform|width|height)="[^"]*"', _rounded, body)
    body = re.sub(r"#[0-9a-f]{6}(?=[;\"])", lambda match: _TOKENS[match[0]], body)
    body = re.sub(r"\s*\n\s*", "\n", body).strip()
    labels = f'role="img" viewBox="0 0 {WIDTH} {figure.height}" aria-labelledby="{figure.id}-t {figure.id}-d"'
    return (
        f'<svg class="figure" {labels}><title id="{figure.id}-t">{escape(figure.title)}</title>'
        f'<desc id="{figure.id}-d">{escape(figure.says)}</desc>\n{body}\n</svg>'
    )


def _rounded(match: re.Match[str]) -> str:
    """Shortens an attribute: numbers to tenths of a pixel, which halves the bytes, and dots to a quarter."""
    text = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), match[0])
    text = re.sub(r"\s*\n\s*", " ", text)
    text = re.sub(r"M ([\d.]+) ([\d.]+) L ([\d.]+) \2(?= M|\s*\")", _dot, text)
    return re.sub(r" ?([MLQCz]) ?| (?=\"$)", r"\1", text)


def _dot(match: re.Match[str]) -> str:
    x, y, other = match.groups()
    return f"M{x} {y}h.1" if abs(float(other) - float(x)) < 0.15 else match[0]
