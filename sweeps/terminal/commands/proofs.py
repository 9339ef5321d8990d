"""`explain` and `replay`: how each state of a run came to be, and whether the run can be repeated exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from lanelock.engine.keep.published import computed_otherwise, engine_of, published, receipt_in, run_folder
from lanelock.engine.protocol import moved_by
from lanelock.sweeps.engines import engine_named, publisher_of
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.terminal.completion import RUN
from lanelock.sweeps.terminal.session import Session, common_options
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.workspace import Workspace, writing

_WHEN = {None: "not known here", True: "reused", False: "computed"}  # None: published elsewhere


@click.command()
@click.argument("run_id", metavar="RUN", shell_complete=RUN)
@click.option(
    "--against",
    metavar="RUN",
    shell_complete=RUN,
    help="The run to compare inputs with [default: the run made before].",
)
@common_options
def explain(session: Session, run_id: str, against: str | None) -> int:
    """Why each state of RUN was computed or reused, and which input moved it from another run."""
    workspace = session.as_it_stands()
    run = _recorded(run_id, workspace)
    if against is None and (before := run.get("before")) is not None and workspace.recalls(before):
        against = before
    head: tuple[str, ...] = ("state", "when it was run", "key")
    others: dict[str, Any] | None = None
    if against is not None:
        head += (f"against {against}", "moved by")
        others = {state["name"]: state for state in _recorded(against, workspace)["states"]}
    rows = [_row(state, None if others is None else others.get(state["name"], {})) for state in run["states"]]
    table = []
    for row in rows:
        moved = () if others is None else ("same" if row["same"] else "moved", ", ".join(row["moved_by"]))
        table.append((row["name"], row["when_run"], row["key"][:16], *moved))
    session.show({"run_id": run["run_id"], "against": against, "states": rows}, columns(head, table))
    return 0


@click.command()
@click.argument("run_id", metavar="RUN", shell_complete=RUN)
@common_options
def replay(session: Session, run_id: str) -> int:
    """Execute RUN again from its sealed inputs, and compare the bytes of every file."""
    workspace = session.workspace()
    folder = run_folder(run_id, workspace.runs)
    with writing(workspace.root):
        result = publisher_of(folder).replay(folder, workspace.scratch)
    text = f"identical: {result.files} files" if result.identical else f"{len(result.differences)} files differ"
    otherwise = computed_otherwise(folder, engine_named(engine_of(folder)).fingerprint)
    document = {"identical": result.identical, "files": result.files, "differences": list(result.differences)}
    session.show({**document, "machine": otherwise}, text)
    if otherwise:
        say(f"{run_id}: {otherwise}")
    for name in result.differences:
        say(f"{run_id}: {name} differs")
    return 0 if result.identical else 3


def _recorded(name: str, workspace: Workspace) -> dict[str, Any]:
    """Returns the states of a run and their inputs: from this workspace's record of it, else from its receipt."""
    folder = published(name, workspace.runs)
    if folder is None or workspace.recalls(name):
        return workspace.remembered(name)
    return receipt_in(folder)


def _row(state: Mapping[str, Any], old: Mapping[str, Any] | None) -> dict[str, Any]:
    reused = state.get("reused")
    row = {"name": state["name"], "key": state["key"], "reused": reused, "when_run": _WHEN[reused]}
    row |= {"seconds": state.get("seconds"), "reads": state["address"]}
    if old is not None:
        row |= {"same": old.get("key") == state["key"], "moved_by": moved_by(old.get("address", {}), state["address"])}
    return row
