"""`explain` and `replay`: why a run is what it is, and the proof that it is still."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from lanelock.engine.keep.published import RECEIPT, published, run_folder
from lanelock.engine.keep.receipts import read_receipt
from lanelock.sweeps.engines import publisher_of
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.reports.difference import moved_by
from lanelock.sweeps.terminal.completion import RUN
from lanelock.sweeps.terminal.session import common_options, session_of
from lanelock.sweeps.workspace import Workspace, writing

_UNKNOWN = "not known here"  # a published run from elsewhere says what its states read, not how they came to be


@click.command()
@click.argument("run_id", metavar="RUN", shell_complete=RUN)
@click.option(
    "--against",
    metavar="RUN",
    shell_complete=RUN,
    help="To see which input moved each state [default: the run made before].",
)
@common_options
def explain(run_id: str, against: str | None, **options: Any) -> int:
    """Why each state of RUN was computed or reused, and which input moved it from another run."""
    session = session_of(options)
    workspace = session.as_it_stands()
    run = _recorded(run_id, workspace)
    if against is None and (before := run.get("before")) is not None and workspace.recalls(before):
        against = before
    other = None if against is None else {state["name"]: state for state in _recorded(against, workspace)["states"]}
    rows = [_row(state, None if other is None else other.get(state["name"], {})) for state in run["states"]]
    head = ("state", "when it was run", "key", *(() if other is None else (f"against {against}", "moved by")))
    table = [
        (row["name"], row["when_run"], row["key"][:16],
         *(() if other is None else ("same" if row["same"] else "moved", ", ".join(row["moved_by"]))))
        for row in rows
    ]  # fmt: skip
    session.show({"run_id": run["run_id"], "against": against, "states": rows}, columns(head, table))
    return 0


@click.command()
@click.argument("run_id", metavar="RUN", shell_complete=RUN)
@common_options
def replay(run_id: str, **options: Any) -> int:
    """Execute RUN again from its sealed inputs, and compare the bytes of every file."""
    session = session_of(options)
    workspace = session.workspace()
    folder = run_folder(run_id, workspace.runs)
    with writing(workspace.root):
        found = publisher_of(folder).replay(folder, workspace.scratch)
    text = f"identical: {found.files} files" if found.identical else f"{len(found.differences)} files differ"
    session.show({"identical": found.identical, "files": found.files, "differences": list(found.differences)}, text)
    for name in found.differences:
        click.echo(f"{run_id}: {name} differs", err=True)
    return 0 if found.identical else 3


def _recorded(name: str, workspace: Workspace) -> dict[str, Any]:
    """What a run's states read: as it was made here, else as it is published."""
    folder = published(name, workspace.runs)
    if folder is None or workspace.recalls(name):
        return workspace.remembered(name)
    return read_receipt(folder / RECEIPT)


def _row(state: Mapping[str, Any], old: Mapping[str, Any] | None) -> dict[str, Any]:
    reused = state.get("reused")
    when_run = _UNKNOWN if reused is None else "reused" if reused else "computed"
    row = {"name": state["name"], "key": state["key"], "reused": reused, "when_run": when_run}
    row |= {"seconds": state.get("seconds"), "reads": state["address"]}
    if old is not None:
        row |= {"same": old.get("key") == state["key"], "moved_by": moved_by(old.get("address", {}), state["address"])}
    return row
