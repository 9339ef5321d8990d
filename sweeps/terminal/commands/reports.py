"""`report`: the scorecard of a run or a lock, or what the trials of a sweep say about its knobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from lanelock.engine.keep.published import published
from lanelock.policies import PolicyError
from lanelock.scoring.figures.drawing import Figure
from lanelock.sweeps.engines import world_folder
from lanelock.sweeps.pages import scorecard
from lanelock.sweeps.pages.gates import scorecard_text
from lanelock.sweeps.pages.text import columns, fields
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.reports import study
from lanelock.sweeps.reports.scorecards import lock_report, run_report
from lanelock.sweeps.reports.study_knobs import error_text, share_text
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.sensitivity.sensitivity import LEAST
from lanelock.sweeps.terminal.completion import REPORTABLE
from lanelock.sweeps.terminal.session import HTML, WORLD, Session, common_options
from lanelock.sweeps.workspace import Workspace

SHOWN = 3  # knobs named per gate
Answer = tuple[dict[str, Any], str, Callable[[], str]]  # as JSON, for a terminal, and as a page


@click.command()
@click.argument("what", metavar="RUN|LOCK|SWEEP", shell_complete=REPORTABLE)
@HTML
@WORLD
@common_options
def report(session: Session, what: str, page: Path | None, world: str | None) -> int:
    """A scorecard of RUN or LOCK with the distributions behind it, or what the trials of SWEEP reached and why."""
    document, text, html = _answer(what, session.as_it_stands(), world)
    session.show_page(document, text, page, html)
    return 0


def _answer(what: str, workspace: Workspace, world: str | None) -> Answer:
    if what in sweeps_in(workspace):
        return sweep_answer(what, workspace)
    if (folder := published(what, workspace.runs)) is not None:
        return _scorecard(run_report(folder, workspace))
    try:
        lock = find_lock(what, workspace)
    except PolicyError as error:
        raise PolicyError(f"{error}; nor is it a published run or a sweep") from None
    return _scorecard(lock_report(Lock.read(lock), world_folder(world)))


def _scorecard(made: scorecard.Report) -> Answer:
    head = f"{made.kind} {made.name}, beside {made.beside}"
    parts = [head, fields(made.facts), scorecard_text(made.overall), _captions(made.figures)]
    return made.as_document(), "\n\n".join(parts).rstrip(), lambda: scorecard.html(made)


def sweep_answer(sweep: str, workspace: Workspace) -> Answer:
    """Returns what the trials of a closed sweep say of its knobs."""
    closed = study.closed(sweep, workspace)
    figures = [{"id": figure.id, "title": figure.title, "says": figure.says} for figure in closed.figures]
    noted = "\n".join(["\nnotes", *map(str, closed.notes)]) if closed.notes else ""
    text = f"{_sensitivity(closed.sensitivity)}\n\n{_captions(closed.figures)}\n{noted}".rstrip()
    return (
        {**closed.sensitivity, "figures": figures, "notes": [row.document for row in closed.notes]},
        text,
        lambda: study.html(closed),
    )


def _captions(figures: tuple[Figure, ...]) -> str:
    return "\n".join(f"{figure.title}\n  {figure.says}" for figure in figures)


def _sensitivity(document: Mapping[str, Any]) -> str:
    rows = [
        (gate["gate"], gate["measured"], str(gate["trials"]), error_text(gate) if gate["effects"] else "–", _text(gate))
        for gate in document["gates"]
    ]
    head = f"{document['sweep']}: what moved what, of {document['trials']} trials"
    names = ("gate", "measured", "trials", "left out", "share of variance by knob, with its interval of 90 %")
    return f"{head}\n\n{columns(names, rows)}{_together(document)}"


def _text(gate: Mapping[str, Any]) -> str:
    if gate["effects"] is None:
        return "did not move" if gate["trials"] >= LEAST else f"fewer than {LEAST} trials"
    strongest = list(gate["effects"].items())[:SHOWN]
    return ", ".join(f"{knob} {share_text(of['total'])}" for knob, of in strongest)


def _together(document: Mapping[str, Any]) -> str:
    rows = [
        (gate["gate"], " × ".join(pair["knobs"]), share_text(pair["together"]))
        for gate in document["gates"]
        for pair in gate["pairs"]
        if gate["trusted"] and pair["together"]["low"] > 0
    ]
    return f"\n\n{columns(('gate', 'pair', 'share of variance only together'), rows)}" if rows else ""
