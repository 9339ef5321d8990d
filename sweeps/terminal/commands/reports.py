"""`report`: a run or a lock as a scorecard to look at, a sweep as what its trials say about its knobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lanelock.engine.keep.published import published
from lanelock.policies import PolicyError
from lanelock.sweeps.engines import world_folder
from lanelock.sweeps.lanes.tally import sweeps_in
from lanelock.sweeps.pages import scorecard
from lanelock.sweeps.pages.gates import scorecard_text
from lanelock.sweeps.pages.text import columns, fields
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.reports import study
from lanelock.sweeps.reports.scorecards import lock_report, run_report
from lanelock.sweeps.terminal.completion import REPORTABLE
from lanelock.sweeps.terminal.session import WORLD, common_options, session_of, writable
from lanelock.sweeps.workspace import Workspace, write_whole

SHOWN = 4  # knobs named a gate
Said = tuple[dict[str, Any], str, str]  # for machines, for a terminal, and as a page


@click.command()
@click.argument("what", metavar="RUN|LOCK|SWEEP", shell_complete=REPORTABLE)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write one self-contained page.",
)
@WORLD
@common_options
def report(what: str, page: Path | None, world: str | None, **options: Any) -> int:
    """A scorecard of RUN or LOCK with the distributions behind it, or what the trials of SWEEP reached and why."""
    session = session_of(options)
    if page is not None:
        writable(page)
    document, text, html = _said(what, session.as_it_stands(), world)
    if page is not None:
        write_whole(page, html)
        document, text = document | {"html": str(page)}, f"{text}\n\npage   {page}"
    session.show(document, text)
    return 0


def _said(what: str, workspace: Workspace, world: str | None) -> Said:
    if what in sweeps_in(workspace):
        return _sweep(what, workspace)
    folder = published(what, workspace.runs)
    if folder is not None:
        return _run(folder, workspace)
    try:
        lock = find_lock(what, workspace)
    except PolicyError as error:
        raise PolicyError(f"{error}; nor is it a published run or a sweep") from None
    return _lock(lock, world_folder(world))


def _run(folder: Path, workspace: Workspace) -> Said:
    return _scorecard(run_report(folder, workspace))


def _lock(path: Path, world: Path | None) -> Said:
    return _scorecard(lock_report(Lock.read(path), world))


def _scorecard(found: scorecard.Report) -> Said:
    facts = fields(found.facts)
    words = "\n".join(f"{figure.title}\n  {figure.says}" for figure in found.figures)
    parts = [f"{found.kind} {found.name}, beside {found.beside}", facts, scorecard_text(found.overall)]
    return found.as_document(), "\n\n".join([*parts, words]).rstrip(), scorecard.html(found)


def _sweep(sweep: str, workspace: Workspace) -> Said:
    found = study.closed(sweep, workspace)
    words = "\n".join(f"{figure.title}\n  {figure.says}" for figure in found.figures)
    said = [{"id": one.id, "title": one.title, "says": one.says} for one in found.figures]
    return {**found.sensitivity, "figures": said}, f"{_moved(found.sensitivity)}\n\n{words}", study.html(found)


def _moved(document: Mapping[str, Any]) -> str:
    rows = []
    for gate in document["gates"]:
        shares = gate["importance"]
        said = "did not move" if shares is None else ", ".join(f"{k} {v:.0%}" for k, v in list(shares.items())[:SHOWN])
        rows.append((gate["gate"], gate["metric"], str(gate["trials"]), said))
    head = f"{document['sweep']}: what moved what, of {document['trials']} trials"
    return f"{head}\n\n{columns(('gate', 'metric', 'trials', 'share of variance by knob'), rows)}"
