"""`prune`: what a workspace need not keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.terminal.commands.status import size
from lanelock.sweeps.terminal.session import common_options, session_of

if TYPE_CHECKING:
    from lanelock.sweeps.upkeep.retention import Item


@click.command()
@click.option("--apply", "applied", is_flag=True, help="Remove it; without, nothing is touched.")
@common_options
def prune(applied: bool, **options: Any) -> int:
    """Show what nothing refers to and what it would free; with --apply, remove it."""
    from lanelock.sweeps.record.shelf import Shelf
    from lanelock.sweeps.upkeep.retention import apply, survey

    session = session_of(options)
    workspace = session.workspace()
    with workspace.alone("prune"):
        shelf = Shelf(workspace)
        recorded = {sweep.name: sweep for sweep in shelf.sweeps()}
        found = survey(workspace, recorded.values())
        summary = None
        if applied:
            summary = apply(found, workspace, lambda name, by, spared: shelf.supersede(recorded[name], by, spared))
    document = {**found.as_document(), "applied": applied, "summary": None if summary is None else str(summary)}
    verb = "freed" if applied else "would free"
    text = [f"{verb} {size(found.bytes)} of {len(found.remove)} things; {len(found.keep)} are referred to and stay"]
    text += [_table("goes", found.remove)] if found.remove else []
    text += [_table("stays", found.keep)] if found.keep else []
    text.append(f"summary {summary}" if applied else "nothing was touched; remove it with: lanelock prune --apply")
    session.show(document, "\n\n".join(text))
    return 0


def _table(head: str, items: Sequence[Item]) -> str:
    rows = ((item.kind, item.name, size(item.bytes), item.why) for item in items)
    return columns((head, "", "", "why"), rows)
