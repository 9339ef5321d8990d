"""Figures drawn once, in the palette's light colours, and written as inline SVG for both themes or as PNG.

A figure says in words what it shows, with the numbers: the words are its caption, what a screen reader says, and
its Markdown. Bytes depend on the figure alone: no date, no random ids.
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

WIDTH = 440  # pixels, of every figure: legible in one column of a page and on a phone
_DPI = 72  # a point is a pixel
_PNG_DPI = 108  # 660 pixels: wider, MLflow's page pushes what it says of a run out of a window of 1280
_DRAWING = Lock()  # matplotlib's settings are the process's: one figure at a time
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
    """One figure: what it is about, what it shows in words, and how it is drawn."""

    id: str  # letters, digits and _: its anchor on a page and its file name
    title: str
    says: str  # one or two sentences with the numbers
    height: int  # pixels
    draw: Callable[[Canvas], None]  # onto an empty canvas, in colours of `LIGHT`
    drawn: Drawn | None = None  # where somebody has drawn it already


@dataclass(frozen=True, slots=True)
class Drawn:
    """Both forms of a figure."""

    svg: str
    png: bytes


def svg(figure: Figure) -> str:
    """An `<svg>` element to stand in a page that defines the palette's tokens."""
    if figure.drawn is not None:
        return figure.drawn.svg
    with _DRAWING:
        return _inlined(_render(figure, "svg", _DPI, titled=False).decode("utf-8"), figure)


def png(figure: Figure) -> bytes:
    """The figure with its title, in light colours, at one and a half times its size."""
    if figure.drawn is not None:
        return figure.drawn.png
    with _DRAWING:
        return _render(figure, "png", _PNG_DPI, titled=True)


def pngs(figures: Iterable[Figure]) -> dict[str, bytes]:
    """File name -> PNG of each figure."""
    return {f"{figure.id}.png": png(figure) for figure in figures}


def drawn(figures: Iterable[Figure]) -> tuple[Figure, ...]:
    """The figures, each with both its forms."""
    return tuple(replace(figure, drawn=Drawn(svg(figure), png(figure))) for figure in figures)


def ready() -> None:
    """Imports what drawing needs: most of a second at the first figure."""
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
        ConstrainedLayoutEngine().execute(canvas)  # once: left to saving, everything is drawn twice
        sink = io.BytesIO()
        nothing: dict[str, Any] = dict.fromkeys(
            ("Date", "Creator", "Format", "Type") if kind == "svg" else ("Software",)
        )
        face = LIGHT["surface"] if kind == "png" else "none"
        canvas.savefig(sink, format=kind, metadata=nothing, facecolor=face)
        return sink.getvalue()


# --- from matplotlib's SVG to one that stands in a page ----------------------------------------------------

_TOKENS = {value: f"var(--{token})" for token, value in LIGHT.items()}
_REFERRED = re.compile(r'(?:url\(#|href="#)([^)"]+)')


def _inlined(text: str, figure: Figure) -> str:
    body = text[text.index("<svg") :]
    body = body[body.index(">") + 1 : body.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->|<g>\s*</g>", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    kept = set(_REFERRED.findall(body))
    body = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in kept else "", body)
    body = re.sub(r"font-family: [^;\"]*; |(?<=\") ?transform=\"rotate\(-0 [^\"]*\"", "", body)  # the page has a font
    body = re.sub(r'(fill|stroke)="(#[0-9a-f]{6})"', r'style="\1: \2"', body)
    body = re.sub(r'(?<= )(?:d|x|y|transform|width|height)="[^"]*"', _rounded, body)
    body = re.sub(r"#[0-9a-f]{6}(?=[;\"])", lambda match: _TOKENS[match[0]], body)
    body = re.sub(r"\s*\n\s*", "\n", body).strip()
    box, told = f"0 0 {WIDTH} {figure.height}", f"{figure.id}-t {figure.id}-d"
    head = f'<svg class="figure" role="img" viewBox="{box}" aria-labelledby="{told}">'
    return (
        f'{head}<title id="{figure.id}-t">{escape(figure.title)}</title>'
        f'<desc id="{figure.id}-d">{escape(figure.says)}</desc>\n{body}\n</svg>'
    )


def _rounded(match: re.Match[str]) -> str:
    """Tenths of a pixel are enough, in half the bytes; a dot's stroke of no length in a quarter."""
    text = re.sub(r"-?\d+\.\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), match[0])
    text = re.sub(r"\s*\n\s*", " ", text)
    text = re.sub(r"M ([\d.]+) ([\d.]+) L ([\d.]+) \2(?= M|\s*\")", _dot, text)
    return re.sub(r" ?([MLQCz]) ?| (?=\"$)", r"\1", text)


def _dot(match: re.Match[str]) -> str:
    x, y, other = match.groups()
    return f"M{x} {y}h.1" if abs(float(other) - float(x)) < 0.15 else match[0]
