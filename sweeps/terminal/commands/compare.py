"""`compare`: what differs between two runs, trials, locks, evidence folders or packs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lanelock.sweeps.pages.page import as_html
from lanelock.sweeps.reports.difference import compare as compared
from lanelock.sweeps.reports.difference import same_engine
from lanelock.sweeps.reports.difference_page import as_blocks, as_text, title
from lanelock.sweeps.reports.subject import find, settled
from lanelock.sweeps.terminal.completion import COMPARABLE
from lanelock.sweeps.terminal.session import WORLD, common_options, session_of, writable
from lanelock.sweeps.workspace import write_whole


@click.command()
@click.argument("before", metavar="A", shell_complete=COMPARABLE)
@click.argument("after", metavar="B", shell_complete=COMPARABLE)
@click.option(
    "--seed", "seeds", type=click.IntRange(0, 2**32 - 1), multiple=True, metavar="N",
    help="Compare on this seed alone, or on these [default: all that both have; of two packs, a campaign's first].",
)  # fmt: skip
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write it as one page, too.")
@WORLD
@common_options
def compare(
    before: str, after: str, seeds: tuple[int, ...], html: Path | None, world: str | None, **options: Any
) -> int:
    """What changed from A to B: policy fields, metrics with their margins, states, verdicts, vetoes.

    A and B are runs, trials (SWEEP/NUMBER), locks, evidence folders or packs, of one engine. A pack is run.
    """
    session = session_of(options)
    if html is not None:
        writable(html)
    workspace = session.as_it_stands()
    old, new = (find(name, workspace, world) for name in (before, after))
    same_engine(old, new)
    old = settled(old, new, seeds)
    found = compared(old, settled(new, old, seeds))
    document, text = found.as_document(), as_text(found)
    if html is not None:
        write_whole(html, as_html(title(found), as_blocks(found)))
        document["html"], text = str(html), f"{text}\n\npage  {html}"
    session.show(document, text)
    return 0
