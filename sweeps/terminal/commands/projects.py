"""`init`, `check`, `eject`, `copy`: an engine of a user's own in one file, and documents to go on with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import click

from lanelock.policies import PolicyError
from lanelock.policies.project import FILE, Project
from lanelock.sweeps.engines import project_here
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.pages.gates import scorecard_text
from lanelock.sweeps.pages.text import columns, short
from lanelock.sweeps.project.begin import write_project
from lanelock.sweeps.project.checking import Checked, check_project, settings_of
from lanelock.sweeps.project.copies import copy as copy_document
from lanelock.sweeps.project.copies import eject as eject_documents
from lanelock.sweeps.proof.packs import finder
from lanelock.sweeps.terminal.completion import FOLDER, LANE
from lanelock.sweeps.terminal.session import Session, common_options
from lanelock.sweeps.terminal.streams import say

_NEXT = ("lanelock check", "lanelock sweep", "lanelock ui")


@click.command()
@click.argument("name")
@click.option("--function", metavar="MODULE:NAME", help="A Python function: simulate(params, seed) -> numbers, tables.")
@click.option("--command", metavar="COMMAND", help="A program, such as './heater {config} {out}'.")
@common_options
def init(session: Session, name: str, function: str | None, command: str | None) -> int:
    """Write lanelock.toml for an engine NAME into this folder."""
    if (function is None) == (command is None):
        raise click.UsageError("give one of --function MODULE:NAME and --command COMMAND: what is to be tuned.")
    file = write_project(Path.cwd(), name, function, command)
    text = f"wrote {file.name}: fill in the parameters, the gates and what to minimize; then\n\n"
    session.show({"file": str(file), "next": list(_NEXT)}, text + "\n".join(f"  {line}" for line in _NEXT))
    return 0


@click.command()
@common_options
def check(session: Session) -> int:
    """Run the project's start on every seed, twice, and show what is in force."""
    project = the_project()
    lane = load_lane(project.id, finder(session.as_it_stands()))
    checked = check_project(project, lane)
    settings = [*settings_of(project, lane)]
    document = {
        "file": str(project.file),
        "engine": project.id,
        "ok": checked.ok,
        "problems": list(checked.problems),
        "notes": list(checked.notes),
        "settings": [asdict(row) for row in settings],
        "seconds": {str(seed): seconds for seed, seconds in checked.seconds.items()},
        "verdict": None if checked.card is None else str(checked.card.verdict),
        "metrics": {} if checked.card is None else dict(checked.card.metrics),
        "knobs": {knob.name: knob.range_text() for knob in lane.knobs},
    }
    rows = [(row.field, short(row.value), "default" if row.default else "") for row in settings]
    session.show(document, "\n\n".join(_parts(checked, columns(("setting", "value", "from"), rows))))
    if session.quiet:
        for problem in checked.problems:
            say(f"lanelock: {problem}")
    return 0 if checked.ok else 1


def _parts(checked: Checked, settings: str) -> Iterable[str]:
    lane = checked.lane
    yield f"{lane.id}  {checked.project.file}"
    knobs = ((knob.name, knob.range_text(), knob.step or "", knob.scale, knob.when or "") for knob in lane.knobs)
    yield columns(("may move", "range", "step", "scale", "only while"), knobs)
    yield settings
    if checked.card is not None:
        yield f"the start, on its worst seed\n{scorecard_text(checked.card)}"
    runs = ", ".join(f"seed {seed} {seconds:.3g} s" for seed, seconds in checked.seconds.items())
    same = "" if checked.problems else "; each twice, with the same bytes"
    yield "\n".join([f"runs: {runs}{same}", *(f"note: {note}" for note in checked.notes)])
    budget = lane.document["budget"]["trials"] * sum(checked.seconds.values())
    yield "\n".join(f"PROBLEM  {problem}" for problem in checked.problems) or (
        f"ready: lanelock sweep  (at most {budget:.3g} s of runs, over --jobs)"
    )


@click.command()
@click.argument("to", type=click.Path(path_type=Path), shell_complete=FOLDER)
@common_options
def eject(session: Session, to: Path) -> int:
    """Write the documents that lanelock.toml stands for into the folder TO."""
    files = eject_documents(the_project(), to)
    shown = "\n".join(map(str, files))
    session.show({"files": list(map(str, files))}, f"{shown}\n\nplay them with: cd {to}; lanelock sweep lane.json")
    return 0


@click.command()
@click.argument("name", metavar="PACK|LANE", shell_complete=LANE)
@click.argument("to", type=click.Path(path_type=Path))
@common_options
def copy(session: Session, name: str, to: Path) -> int:
    """Copy a pack, a lane, a campaign or a gate file to change it.

    Where a pack and a lane have the same name, TO with a suffix (mine.json)
    means the lane, and a folder (mine) the pack.
    """
    files = copy_document(name, to, project_here())
    session.show({"files": list(map(str, files))}, "\n".join(map(str, files)))
    return 0


def the_project() -> Project:
    """Returns the project of the current folder. Raises PolicyError where there is none."""
    if (project := project_here()) is None:
        raise PolicyError(f"no {FILE} in {Path.cwd()} or above; write one: lanelock init NAME --function MODULE:NAME")
    return project
