"""How a page begins: a banner with what was decided, and a list of facts. One form for a candidate and for a study."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape

from lanelock.sweeps.pages.page import Markup
from lanelock.sweeps.pages.scorecard_style import BADGES


def banner(
    verdict: str, accepted: bool, about: str, said: str, more: str, why: Sequence[tuple[str, str]] = ()
) -> Markup:
    """What a page is `about`, what is `said` of it in large, its verdict with what there is `more` to say of it.

    `why`: (gate, what it says), each with a link to that gate's row on the page.
    """
    tone = "good" if accepted else "unsure" if verdict.startswith("INVALID") else "bad"
    items = "".join(f'<li><a href="#gate-{escape(gate)}">{escape(gate)}</a> {escape(text)}</li>' for gate, text in why)
    body = (
        f'<header class="banner {tone}">{BADGES[tone]}<div><p class="kind">{_with_digests(about)}</p>'
        f'<h1>{escape(said)}</h1><p class="verdict"><code>{escape(verdict)}</code> {escape(more)}</p>'
        f"{f'<ul>{items}</ul>' if items else ''}</div></header>"
    )
    lines = [f"# {said}", f"{about}: {verdict} {more}", "\n".join(f"- {gate} {text}" for gate, text in why)]
    return Markup(body, "\n\n".join(filter(None, lines)))


def facts(of: Mapping[str, str]) -> Markup:
    """Name and value of each, digests and ids set apart."""
    rows = "".join(f"<div><dt>{escape(name)}</dt><dd>{_with_digests(value)}</dd></div>" for name, value in of.items())
    return Markup(f'<dl class="facts">{rows}</dl>', "\n".join(f"- {name}: {value}" for name, value in of.items()))


def _with_digests(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{12,}\b", lambda found: f"<code>{found[0]}</code>", escape(text))
