"""`feasibility` and `sweep`: what a lane can reach, and the search that spends its budget."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from lanelock.policies.project import FILE
from lanelock.sweeps.decision.decision import refusal
from lanelock.sweeps.engines import project_here, world_folder
from lanelock.sweeps.lanes.lane import Lane, load_lane, pack_for
from lanelock.sweeps.lanes.survey import prospect, standing_floors
from lanelock.sweeps.pages.gates import floor_table, reach_table
from lanelock.sweeps.proof.freezes import hold_open
from lanelock.sweeps.proof.packs import finder
from lanelock.sweeps.proof.runtime_locks import newest
from lanelock.sweeps.record.refusals import record_refusal
from lanelock.sweeps.record.webhooks import tell
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.terminal import words
from lanelock.sweeps.terminal.completion import LANE, PACK
from lanelock.sweeps.terminal.session import JOBS, WORLD, Session, common_options
from lanelock.sweeps.terminal.streams import say, say_note
from lanelock.sweeps.workspace import Workspace


@click.command()
@click.argument("name", metavar="[LANE]", required=False, shell_complete=LANE)
@WORLD
@common_options
def feasibility(session: Session, name: str | None, world: str | None) -> int:
    """The best each gate can reach in LANE, from the frozen upstream alone."""
    opened = load_lane(name or projects_lane(), finder(session.as_it_stands()))
    reach, floors = prospect(opened, world_folder(world)), standing_floors(opened, world_folder(world))
    refused = refusal(opened, reach) is not None
    document = {
        "lane": opened.id,
        "refused": refused,
        "gates": [asdict(row) for row in reach],
        "floors": {str(seed): [asdict(row) for row in rows] for seed, rows in floors.items()},
    }
    parts = (reach_table(reach, opened.gates.bands), floor_table(floors), words.reserve_text(opened, reach))
    session.show(document, "\n\n".join(filter(None, parts)))
    return 1 if refused else 0


@click.command()
@click.argument("name", metavar="[LANE]", required=False, shell_complete=LANE)
@click.option("--trials", type=click.IntRange(1, 100_000), help="Budget in trials [default: the lane's].")
@click.option(
    "--seconds", type=click.FloatRange(0, 604_800, min_open=True), help="Budget in seconds [default: the lane's]."
)
@JOBS
@click.option(
    "--processes", is_flag=True,
    help="Run trials in processes instead of threads, as a lane with limits does; never changes a result.",
)  # fmt: skip
@click.option("--batch", type=click.IntRange(1, 256), help="Trials proposed together [default: the lane's].")
@click.option("--sampler", metavar="NAME", help="Sampler [default: the lane's; else surrogate].")
@click.option("--from", "source", metavar="SWEEP", help="Take the trials of an earlier sweep that fit into the lane.")
@click.option(
    "--enqueue", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Try the candidates of a JSON or CSV file first.",
)  # fmt: skip
@click.option("--sobol", type=click.IntRange(1, 100_000), help="Begin with a space-filling design of this size.")
@click.option("--resume", is_flag=True, help="Resume the lane's newest sweep.")
@click.option(
    "--accept-other-code", is_flag=True,
    help="With --resume or --from: where other code played that sweep, begin a new one from its best candidates.",
)  # fmt: skip
@click.option("--anyway", is_flag=True, help="Play a lane even though a gate is out of its reach.")
@click.option(
    "--after", metavar="PACK", shell_complete=PACK,
    help="Play it after this candidate (a lock, a trial, a pack): knobs that narrow do not go past its values.",
)  # fmt: skip
@click.option("--waive", "who", metavar="WHO", help="Who allows more than the lane's attempts or budget; needs --why.")
@click.option("--why", metavar="TEXT", help="Why it is allowed; study, lock and tracking record it.")
@WORLD
@common_options
def sweep(
    session: Session, name: str | None, jobs: int, processes: bool, resume: bool, anyway: bool, world: str | None,
    source: str | None, enqueue: Path | None, sobol: int | None, accept_other_code: bool, after: str | None,
    who: str | None, why: str | None, **search: Any,
) -> int:  # fmt: skip
    """Spend LANE's budget: search, track, decide, lock. Without LANE, the project's (lanelock.toml)."""
    lane = name or projects_lane()
    opened = _permitted(session, lane, after, who, why).with_search(**search)
    hold_open(session.as_it_stands(), opened.engine.name, "sweep")
    if (frozen := newest(session.as_it_stands(), opened.engine.name)) and (drift := frozen.drift(opened.engine)):
        say(f"lanelock: note: {drift}")
    folder = world_folder(world)
    reach = None if resume else prospect(opened, folder)
    if reach is not None and not anyway and (refused := refusal(opened, reach)) is not None:
        record_refusal(opened, session.workspace(), refused, reach, folder)
        session.show(words.refused_document(refused), words.refusal_text(opened, refused, reach))
        told = f"refused: {opened.id} ({opened.title}): {refused.reason}"
        say_note(tell(session.workspace(), "refused", opened.id, told, lane=opened.id, reason=refused.reason))
        return 1
    # Imported here so that a refused lane never pays for the search and Optuna.
    from lanelock.sweeps.search.beginning import Beginning
    from lanelock.sweeps.sweep import play
    from lanelock.sweeps.terminal.progress import resumable, watching

    workspace = session.workspace()
    beginning = Beginning(enqueue, source, accept_other_code, sobol, search["sampler"], search["batch"], folder)
    opened.enqueued(enqueue)  # raises for a bad row before anything is printed
    if reach is not None and session.live:
        say(words.reserve_text(opened, reach))
    given = {"--trials": search["trials"], "--seconds": search["seconds"], "--waive": who, "--why": why}
    again = _again(session, lane, given)
    kept = partial(_kept, workspace, opened.id, again, 0.0 if resume else time.time())
    with resumable(workspace, kept), watching(opened, live=session.live) as watch:
        closed = play(
            opened, workspace, world=folder, jobs=jobs, processes=processes, resume=resume, reach=reach,
            beginning=beginning, watch=watch,
        )  # fmt: skip
    session.show(words.closed_document(closed), words.closing(closed))
    say_note(closed.untold)
    return 0 if closed.decision.outcome == "GO" else 1


def projects_lane() -> str:
    """Returns the name of the project's lane. Raises UsageError where the current folder has no project."""
    if (project := project_here()) is None:
        raise click.UsageError(f"name a LANE, or go to a folder with {FILE}; `lanelock init` writes one.")
    return project.id


def _permitted(session: Session, name: str, after: str | None, who: str | None, why: str | None) -> Lane:
    """Returns the lane of that name, after a candidate and with a waiver where these are given."""
    if (who is None) != (why is None):
        raise click.UsageError("--waive WHO and --why TEXT belong together: who allows it, and for what reason.")
    find = finder(session.as_it_stands())
    lane = load_lane(name, find)
    if after is not None:
        lane = lane.narrowed(pack_for(lane.engine, after, find))
    return lane if who is None or why is None else lane.waived(who, why)


def _again(session: Session, lane: str, given: Mapping[str, Any]) -> str:
    """Returns the command that resumes a sweep on the same budget in the same workspace; `given`: its options."""
    words = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    return shlex.join(["lanelock", "sweep", lane, "--resume", *words, *session.named_workspace()])


def _kept(workspace: Workspace, lane: str, again: str, began: float) -> str:
    """Returns what an interrupted sweep leaves, and how to go on; `began` (seconds): an older sweep is not meant."""
    sweeps = [row for row in sweeps_in(workspace).values() if row.lane == lane and row.at_ms >= 1000 * began - 1]
    if not sweeps or not sweeps[-1].trials:
        return "no trial was finished"
    return f"{sweeps[-1].trials} of {sweeps[-1].budget} trials are kept; go on with: {again}"
