"""Figures on a page: each with its title, its drawing and its words."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from lanelock.sweeps.pages.page import Markup

if TYPE_CHECKING:
    from lanelock.scoring.figures.drawing import Figure

STYLE = """
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,30rem),1fr));gap:1.2rem}
figure{margin:0;padding:1rem 1.1rem 1.1rem;background:var(--surface);border:1px solid var(--line);border-radius:10px;
display:flex;flex-direction:column}
figure h3{margin:0 0 .6rem}figure svg{width:100%;height:auto;margin:auto 0}
figcaption{margin-top:.7rem;color:var(--muted);font-size:.9rem}
svg text{font-family:inherit}
"""


def drawn(figures: Sequence[Figure]) -> Markup:
    """All figures side by side, as many in a row as the page has room for; in Markdown their words."""
    from lanelock.scoring.figures.drawing import svg

    cards = (
        f'<figure id="figure-{figure.id}"><h3>{escape(figure.title)}</h3>\n{svg(figure)}\n'
        f"<figcaption>{escape(figure.says)}</figcaption></figure>"
        for figure in figures
    )
    words = "\n".join(f"- {figure.title}: {figure.says}" for figure in figures)
    return Markup(f'<div class="figures">{"".join(cards)}</div>', words)
