"""A page as headings, paragraphs, lists and tables, written as Markdown or as one self-contained HTML file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

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
    """HTML written elsewhere, safe as it is, and what stands for it in Markdown."""

    html: str
    markdown: str


Block = Heading | Paragraph | Points | Table | Markup


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    return Table(tuple(head), tuple(tuple(row) for row in rows))


def as_markdown(blocks: Iterable[Block]) -> str:
    """The page as Markdown."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def as_html(title: str, blocks: Iterable[Block], style: str = "") -> str:
    """The page as one HTML file that needs nothing beside it, in light and dark; `style` is added to the pages' own."""
    body = "\n".join(_html(block) for block in blocks)
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
    """Text as it is, but what stands in backticks set as code, as Markdown has it."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", escape(text))
