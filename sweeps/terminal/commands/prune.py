"""`prune`: what a workspace need not keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from lanelock.sweeps.pages.text import columns, size
from lanelock.sweeps.record.outbox import own_record, record_uri
from lanelock.sweeps.terminal.session import Session, common_options
from lanelock.sweeps.upkeep.retention import Item, Survey, apply, survey
from lanelock.sweeps.workspace import Workspace


@click.command()
@click.option("--apply", "applied", is_flag=True, help="Remove it; without this, nothing is touched.")
@common_options
def prune(session: Session, applied: bool) -> int:
    """Show what nothing refers to and what it would free; with --apply, remove it."""
    items, summary = _removed(session.workspace()) if applied else (_surveyed(session.as_it_stands()), None)
    document = {**items.as_document(), "applied": applied, "summary": None if summary is None else str(summary)}
    verb = "freed" if applied else "would free"
    text = [f"{verb} {size(items.bytes)} of {len(items.remove)} things; {len(items.keep)} are kept by a slot"]
    text += [_table("goes", items.remove)] if items.remove else []
    text += [_table("stays", items.keep)] if items.keep else []
    text.append(f"summary {summary}" if applied else "nothing was touched; remove it with: lanelock prune --apply")
    session.show(document, "\n\n".join(text))
    return 0


def _surveyed(workspace: Workspace) -> Survey:
    """Returns what may go. Does not open the tracking database where there is none yet: that would create it."""
    if record_uri(workspace) == own_record(workspace) and not workspace.tracking_database.exists():
        return survey(workspace)
    from lanelock.sweeps.record.shelf import Shelf  # MLflow: a second of imports that the others are spared

    return survey(workspace, Shelf(workspace, reading=True).sweeps())


def _removed(workspace: Workspace) -> tuple[Survey, Path]:
    """Removes what may go. Returns it, and the path of the summary."""
    from lanelock.sweeps.record.shelf import Shelf  # as above

    with workspace.alone("prune"):
        shelf = Shelf(workspace)
        recorded = {sweep.name: sweep for sweep in shelf.sweeps()}
        items = survey(workspace, recorded.values())
        return items, apply(items, workspace, lambda name, by: shelf.supersede(recorded[name], by))


def _table(head: str, items: Sequence[Item]) -> str:
    rows = ((item.kind, item.name, size(item.bytes), *filter(None, (item.slot, item.why))) for item in items)
    return columns((head, "", "", *(("kept as",) if items[0].slot else ()), "why"), rows)
