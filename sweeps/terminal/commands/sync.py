"""`sync`: delivers what still has to reach MLflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lanelock.sweeps.locations import relocate
from lanelock.sweeps.proof.moves import moves
from lanelock.sweeps.record.outbox import record_uri
from lanelock.sweeps.record.webhooks import Waiting, waiting
from lanelock.sweeps.secrets import shown
from lanelock.sweeps.terminal.session import Session, common_options
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.workspace import Workspace

if TYPE_CHECKING:
    from lanelock.sweeps.record.comparison import Compared

SHOWN = 12  # differences in the text


@click.command()
@click.option("--redirect", is_flag=True, help="Also deliver here what was meant for another MLflow address.")
@click.option("--restore", is_flag=True, help="Also restore experiments that were deleted in MLflow.")
@click.option("--check", is_flag=True, help="Compare study, outbox and MLflow instead, and write nothing.")
@common_options
def sync(session: Session, redirect: bool, restore: bool, check: bool) -> int:
    """Deliver what MLflow could not or did not take, and bring its registry up to date.

    With --check: exit 3 where MLflow is not what study, locks and moves say.
    """
    if check:
        return _compare(session)
    from lanelock.sweeps.record.delivery import sync as deliver  # MLflow: a second that help and completion are spared

    workspace = session.workspace()
    uri, moved = record_uri(workspace), relocate(workspace)
    done = deliver(workspace, uri, redirect, restore)
    changed = list[str]()
    aliases, away = ({}, done.away) if done.away else _aliases(workspace, changed.append)
    hooks = _told(workspace)
    document = {
        "uri": shown(uri),
        "delivered": done.delivered,
        "waiting": sum(done.waiting.values()),
        "doubled": done.doubled,
        "sweeps": dict(done.waiting),
        "why": dict(done.why),
        "unreadable": list(done.changed),
        "elsewhere": list(done.elsewhere),
        "names": aliases,
        "away": away,
        "changed": changed,
        "moved_from": [*map(str, moved)],
        "webhooks": [asdict(row) for row in hooks],
    }
    lines = [f"{shown(uri)}: {done.delivered} uploads delivered, {document['waiting']} pending"]
    lines += [f"  moved from {place}: MLflow's database now names {workspace.root}" for place in moved]
    lines += [f"  {sweep}: {count} pending{_because(done.why.get(sweep))}" for sweep, count in done.waiting.items()]
    lines += [f"  {alias} points to version {version}" for alias, version in aliases.items()]
    lines += [f"  webhook {row}" for row in hooks]
    if away:
        lines.append(f"  {away}")
    if done.elsewhere:
        lines.append(f"  meant for {', '.join(done.elsewhere)}: set MLFLOW_TRACKING_URI to it, or use --redirect")
    session.show(document, "\n".join(lines))
    for line in changed:
        say(f"not as the moves say, and set right: {line}")
    for line in done.changed:
        say(line)
    return 3 if changed or done.changed else 1 if done.waiting or away or hooks else 0


def _told(workspace: Workspace) -> tuple[Waiting, ...]:
    """Posts what hooks have not taken. Returns what they did not take now either."""
    if waiting(workspace):
        from lanelock.sweeps.record.posting import send  # what posts is imported where there is something to post

        send(workspace, at_once=True)
    return waiting(workspace)


def _because(why: str | None) -> str:
    return f": {why}" if why else ""


def _compare(session: Session) -> int:
    from lanelock.sweeps.record.comparison import compare  # as above

    compared = compare(session.as_it_stands())
    session.show({"ok": not compared.differences, **asdict(compared)}, "\n".join(_said(compared)))
    return 3 if compared.differences else 0


def _said(compared: Compared) -> Iterator[str]:
    count = len(compared.differences)
    yield f"{compared.uri}: {compared.trials} trials compared, {count or 'no'} difference{'s' * (count != 1)}"
    yield from (f"  {difference}" for difference in compared.differences[:SHOWN])
    if count > SHOWN:
        yield f"  and {count - SHOWN} more; all of them: --json"
    yield from (f"  {sweep}: {waiting} pending" for sweep, waiting in compared.pending.items())
    yield from (f"  pending: {line}" for line in compared.behind)
    yield from (f"  not compared: {line}" for line in compared.left_out)


def _aliases(workspace: Workspace, report: Callable[[str], None]) -> tuple[dict[str, str], str]:
    """Updates the model registry from the moves. Returns the version of each alias, or why it cannot be reached."""
    from lanelock.sweeps.record.mlflow_store import Away
    from lanelock.sweeps.record.registry import follow  # as above

    if not moves(workspace):
        return {}, ""
    try:
        return follow(workspace, report), ""
    except Away as error:
        return {}, str(error)
