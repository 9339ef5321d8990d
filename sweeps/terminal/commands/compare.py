"""`compare`: the differences between two runs, trials, locks, evidence packs or packs."""

from __future__ import annotations

from pathlib import Path

import click

from lanelock.sweeps.pages.page import as_html
from lanelock.sweeps.reports.difference import compare as compared
from lanelock.sweeps.reports.difference import same_engine
from lanelock.sweeps.reports.difference_page import PAGE_STYLE, as_blocks, as_text, title
from lanelock.sweeps.reports.subject import find, settled
from lanelock.sweeps.terminal.completion import COMPARABLE
from lanelock.sweeps.terminal.session import HTML, WORLD, Session, common_options


@click.command()
@click.argument("before", metavar="A", shell_complete=COMPARABLE)
@click.argument("after", metavar="B", shell_complete=COMPARABLE)
@click.option(
    "--seed", "seeds", type=click.IntRange(0, 2**32 - 1), multiple=True, metavar="N",
    help="Compare on this seed only; repeatable [default: every seed both have; for two packs, a campaign's first].",
)  # fmt: skip
@HTML
@WORLD
@common_options
def compare(
    session: Session, before: str, after: str, seeds: tuple[int, ...], page: Path | None, world: str | None
) -> int:
    """What changed from A to B: policy fields, metrics with their margins, states, verdicts, vetoes.

    A and B are runs, trials (SWEEP/NUMBER), locks, evidence packs or packs, of one engine. A pack is run.
    """
    workspace = session.as_it_stands()
    old, new = (find(name, workspace, world) for name in (before, after))
    same_engine(old, new)
    old = settled(old, new, seeds)
    difference = compared(old, settled(new, old, seeds))

    def html() -> str:
        return as_html(title(difference), as_blocks(difference), PAGE_STYLE)

    session.show_page(difference.as_document(), as_text(difference), page, html)
    return 0
