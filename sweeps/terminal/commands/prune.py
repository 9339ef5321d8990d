"""`prune`: what a workspace need not keep."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.record.outbox import own_record, record_uri
from lanelock.sweeps.terminal.commands.status import size
from lanelock.sweeps.terminal.session import common_options, session_of
from lanelock.sweeps.upkeep.retention import Item, Survey, apply, survey
from lanelock.sweeps.workspace import Workspace


@click.command()
@click.option("--apply", "applied", is_flag=True, help="Remove it; without, nothing is touched.")
@common_options
def prune(applied: bool, **options: Any) -> int:
    """Show what nothing refers to and what it would free; with --apply, remove it."""
    session = session_of(options)
    found, summary = _removed(session.workspace()) if applied else (_surveyed(session.as_it_stands()), None)
    document = {**found.as_document(), "applied": applied, "summary": None if summary is None else str(summary)}
    verb = "freed" if applied else "would free"
    text = [f"{verb} {size(found.bytes)} of {len(found.remove)} things; {len(found.keep)} are referred to and stay"]
    text += [_table("goes", found.remove)] if found.remove else []
    text += [_table("stays", found.keep)] if found.keep else []
    text.append(f"summary {summary}" if applied else "nothing was touched; remove it with: lanelock prune --apply")
    session.show(document, "\n\n".join(text))
    return 0


def _surveyed(workspace: Workspace) -> Survey:
    """Returns what may go. Where nothing was recorded yet the record is not asked: that would make its database."""
    from lanelock.sweeps.record.shelf import Shelf  # MLflow, a second of imports that help and completion spare

    bare = record_uri(workspace) == own_record(workspace) and not workspace.tracking_database.exists()
    return survey(workspace, () if bare else Shelf(workspace).sweeps())


def _removed(workspace: Workspace) -> tuple[Survey, Path]:
    """Removes what may go; returns it and the path of the summary."""
    from lanelock.sweeps.record.shelf import Shelf  # as above

    with workspace.alone("prune"):
        shelf = Shelf(workspace)
        recorded = {sweep.name: sweep for sweep in shelf.sweeps()}
        found = survey(workspace, recorded.values())
        return found, apply(found, workspace, lambda name, by, spared: shelf.supersede(recorded[name], by, spared))


def _table(head: str, items: Sequence[Item]) -> str:
    rows = ((item.kind, item.name, size(item.bytes), item.why) for item in items)
    return columns((head, "", "", "why"), rows)
