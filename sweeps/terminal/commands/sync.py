"""`sync`: delivers what waits for the record."""

from __future__ import annotations

from typing import Any

import click

from lanelock.sweeps.proof.moves import moves
from lanelock.sweeps.record.outbox import record_uri
from lanelock.sweeps.terminal.session import common_options, session_of
from lanelock.sweeps.workspace import Workspace, shown


@click.command()
@click.option("--redirect", is_flag=True, help="Deliver here also what waited for a record that has moved.")
@common_options
def sync(redirect: bool, **options: Any) -> int:
    """Deliver to the record what could not be written while its server was away, and what the names stand on."""
    from lanelock.sweeps.record.delivery import sync as deliver  # MLflow, a second that help and completion spare

    session = session_of(options)
    workspace = session.workspace()
    uri = record_uri(workspace)
    done = deliver(workspace, uri, redirect)
    names, away = ({}, done.away) if done.away else _names(workspace)
    document = {
        "uri": shown(uri),
        "delivered": done.delivered,
        "waiting": sum(done.waiting.values()),
        "doubled": done.doubled,
        "sweeps": dict(done.waiting),
        "elsewhere": list(done.elsewhere),
        "names": names,
        "away": away,
    }
    lines = [f"{shown(uri)}: {done.delivered} entries delivered, {document['waiting']} waiting"]
    lines += [f"  {sweep}: {count} waiting" for sweep, count in done.waiting.items()]
    lines += [f"  {alias} names version {version}" for alias, version in names.items()]
    if away:
        lines.append(f"  {away}")
    if done.elsewhere:
        lines.append(f"  meant for {', '.join(done.elsewhere)}: name it in MLFLOW_TRACKING_URI, or --redirect")
    session.show(document, "\n".join(lines))
    return 1 if done.waiting or away else 0


def _names(workspace: Workspace) -> tuple[dict[str, str], str]:
    """Brings the registry to what the moves say: the version of each name; or why it cannot be reached."""
    from lanelock.sweeps.record.mlflow_store import Away
    from lanelock.sweeps.record.registry import follow  # as above

    if not moves(workspace):
        return {}, ""
    try:
        return follow(workspace), ""
    except Away as error:
        return {}, str(error)
