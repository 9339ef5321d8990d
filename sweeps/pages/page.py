"""A page of headings, paragraphs, lists and tables, written as Markdown or as one self-contained HTML file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from lanelock.scoring.figures.drawing import Figure, svg
from lanelock.scoring.figures.palette import stylesheet

_STYLE = """
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;color:var(--ink);background:var(--page);
max-width:78rem;margin:0 auto;padding:1.5rem clamp(.8rem,3vw,2rem) 4rem;overflow-wrap:anywhere}
h1,h2,h3{line-height:1.2;text-wrap:balance}h1{font-size:1.7rem}
h2{font-size:1.3rem;margin:2.6rem 0 .8rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
h3{font-size:1.05rem;margin:1.6rem 0 .5rem}
code{font:.88em ui-monospace,Menlo,Consolas,monospace}a{color:var(--candidate)}.muted{color:var(--muted)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;overflow-wrap:normal;font-variant-numeric:tabular-nums;background:var(--surface)}
th,td{padding:.35rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}
thead th{background:var(--sunken);font-weight:600}
table:has(th:nth-child(10)) :is(th,td){padding-inline:.4rem;font-size:.9em}
"""


@dataclass(frozen=True, slots=True)
class Heading:
    level: int
    text: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    text: str


@dataclass(frozen=True, slots=True)
class Points:
    items: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Table:
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Markup:
    """Finished HTML, already escaped, and its equivalent in Markdown."""

    html: str
    markdown: str


Block = Heading | Paragraph | Points | Table | Markup


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    return Table(tuple(head), tuple(tuple(row) for row in rows))


def as_markdown(blocks: Iterable[Block]) -> str:
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def as_html(title: str, blocks: Iterable[Block], style: str = "") -> str:
    """Returns the page as one HTML file without references, for light and dark themes. `style`: further CSS."""
    body = "\n".join(map(_html, blocks))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{stylesheet()}{_STYLE}{style}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"{'#' * level} {text}"
        case Markup(_, markdown):
            return markdown
        case Points(items):
            return "\n".join(f"- {item}" for item in items)
        case Table(head, rows):
            lines = [head, ("---",) * len(head), *rows]
            return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
    return block.text


def _html(block: Block) -> str:
    match block:
        case Heading(level, text):
            return f"<h{level}>{escape(text)}</h{level}>"
        case Markup(html):
            return html
        case Points(items):
            return "<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>"
        case Table(head, rows):
            top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
            body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            inside = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
            return f'<div class="scroll" tabindex="0">{inside}</div>'
    return f"<p>{_inline(block.text)}</p>"


def _inline(text: str) -> str:
    """Returns escaped text, with text in backticks as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))


def banner(verdict: str, tone: str, about: str, title: str, more: str, why: Sequence[tuple[str, str]] = ()) -> Markup:
    """Returns the head of a page: its subject, its title in large type, and the verdict with further words.

    `tone`: a key of BADGES. `why`: (gate, text), each with a link to that gate's row on the page.
    """
    items = "".join(f'<li><a href="#gate-{escape(gate)}">{escape(gate)}</a> {escape(text)}</li>' for gate, text in why)
    body = (
        f'<header class="banner {tone}">{BADGES[tone]}<div><p class="kind">{_with_digests(about)}</p>'
        f'<h1>{escape(title)}</h1><p class="verdict"><code>{escape(verdict)}</code> {escape(more)}</p>'
        f"{f'<ul>{items}</ul>' if items else ''}</div></header>"
    )
    lines = [f"# {title}", f"{about}: {verdict} {more}", "\n".join(f"- {gate} {text}" for gate, text in why)]
    return Markup(body, "\n\n".join(filter(None, lines)))


def facts(values: Mapping[str, str]) -> Markup:
    """Returns a list of names and values, digests and ids set as code."""
    items = [f"<div><dt>{escape(name)}</dt><dd>{_with_digests(value)}</dd></div>" for name, value in values.items()]
    words = "\n".join(f"- {name}: {value}" for name, value in values.items())
    return Markup(f'<dl class="facts">{"".join(items)}</dl>', words)


def _with_digests(text: str) -> str:
    return re.sub(r"\b[0-9a-f]{12,}\b", r"<code>\g<0></code>", escape(text))


_FIGURES = """
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,30rem),1fr));gap:1.2rem}
figure{margin:0;padding:1rem 1.1rem 1.1rem;background:var(--surface);border:1px solid var(--line);border-radius:10px;
display:flex;flex-direction:column}
figure h3{margin:0 0 .6rem}figure svg{width:100%;height:auto;margin:auto 0}
figcaption{margin-top:.7rem;color:var(--muted);font-size:.9rem}
svg text{font-family:inherit}
"""


def drawn(figures: Sequence[Figure]) -> Markup:
    """Returns the figures side by side, as many in a row as fit; in Markdown, their captions."""
    cards = (
        f'<figure id="figure-{figure.id}"><h3>{escape(figure.title)}</h3>\n{svg(figure)}\n'
        f"<figcaption>{escape(figure.says)}</figcaption></figure>"
        for figure in figures
    )
    words = "\n".join(f"- {figure.title}: {figure.says}" for figure in figures)
    return Markup(f'<div class="figures">{"".join(cards)}</div>', words)


BADGES = {  # a shape per tone, so that no meaning depends on colour alone
    "good": '<svg viewBox="0 0 48 48" aria-hidden="true"><circle cx="24" cy="24" r="20"/>'
    '<path d="M14 25l7 7l14 -15"/></svg>',
    "bad": '<svg viewBox="0 0 48 48" aria-hidden="true"><path d="M16 4h16l12 12v16l-12 12h-16l-12 -12v-16z"/>'
    '<path d="M16 16l16 16M32 16l-16 16"/></svg>',
    "unsure": '<svg viewBox="0 0 48 48" aria-hidden="true"><path d="M24 3l21 21l-21 21l-21 -21z"/>'
    '<path d="M18 19c0 -8 12 -8 12 0c0 5 -6 4 -6 10M24 33v2"/></svg>',
    "going": '<svg viewBox="0 0 48 48" aria-hidden="true"><rect x="5" y="5" width="38" height="38" rx="9"/>'
    '<path d="M19 15l15 9l-15 9z"/></svg>',
}


STYLE = (
    """
.banner{display:flex;gap:1.2rem;align-items:flex-start;padding:1.3rem 1.5rem;background:var(--surface);
border:1px solid var(--line);border-left:8px solid var(--tone);border-radius:10px}
.banner>svg{flex:none;width:56px;height:56px;fill:none;stroke:var(--tone);stroke-width:4;stroke-linejoin:round}
.banner p{margin:0}.banner h1{margin:.1rem 0 .3rem;color:var(--tone)}.banner ul{margin:.7rem 0 0;padding-left:1.1rem}
.kind{color:var(--muted)}
.good{--tone:var(--good)}.bad{--tone:var(--bad)}.unsure{--tone:var(--unsure)}.part{--tone:var(--unsure)}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,34rem),1fr));gap:0 2rem;
margin:1.2rem 0}
.facts div{display:flex;gap:.8rem;padding:.3rem 0;border-bottom:1px solid var(--line)}
.facts code{font-size:.74rem}.facts dt{flex:0 0 5.6rem;color:var(--muted)}.facts dd{margin:0;min-width:0}
.legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;margin:0;padding:0;color:var(--muted);
font-size:.9rem}
.legend svg{vertical-align:-2px}
h3+p{margin:.1rem 0 .7rem;color:var(--muted)}
.gates{width:100%;table-layout:fixed;border:1px solid var(--line);border-radius:10px;border-spacing:0;
border-collapse:separate;overflow:hidden}
.gates tr:last-child>*{border-bottom:0}.gates tr:target{outline:2px solid var(--candidate);outline-offset:-2px}
.gates th:nth-child(2){width:9.8rem}.gates th:nth-child(3){width:8.2rem}.gates td .muted{font-size:.88rem}
.gates th:nth-child(4),.gates th:nth-child(5){width:16.4rem}.gates th:nth-child(6){width:6.6rem}
.gates tbody th{font-weight:400;overflow-wrap:anywhere}.gates tbody th code{font-weight:700;font-size:.95em;
display:block}
.observed td,.observed th{color:var(--muted)}
.gates tbody th p{margin:.15rem 0 0;font-size:.85rem;color:var(--muted)}.gates tbody th .muted{font-size:.85rem}
.bars{display:block;max-width:100%;font-size:12px;overflow:visible}.legend .bars{display:inline-block}
.chip{display:inline-block;padding:.05rem .55rem;border:1.5px solid var(--tone);border-radius:1rem;color:var(--tone);
font-weight:600;white-space:nowrap;font-size:.88rem}
.bad.chip{border-style:dashed}
@media (max-width:66rem){
.gates thead{display:none}.gates,.gates tbody,.gates tr,.gates th,.gates td{display:block;width:auto}
.gates tr{padding:.6rem .9rem;border-bottom:1px solid var(--line)}
.gates td,.gates tbody th{border:0;padding:.15rem 0}
.gates td{display:flex;gap:.8rem}.gates td::before{content:attr(data-label);flex:0 0 3.6rem;color:var(--muted)}
}
@media (max-width:30rem){figure{padding:.7rem .6rem}h1{font-size:1.35rem}
.banner{padding:1rem;gap:.8rem}.banner>svg{width:36px;height:36px}}
"""
    + _FIGURES
)
