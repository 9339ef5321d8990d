"""`feasibility` and `sweep`: what a lane can reach, and the search that spends its budget."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from lanelock.sweeps.engines import world_folder
from lanelock.sweeps.lanes.decision import refusal
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.survey import prospect
from lanelock.sweeps.pages.gates import reach_table
from lanelock.sweeps.record.refusals import record_refusal
from lanelock.sweeps.terminal import words as terminal
from lanelock.sweeps.terminal.completion import LANE
from lanelock.sweeps.terminal.session import JOBS, WORLD, common_options, session_of


@click.command()
@click.argument("lane", shell_complete=LANE)
@WORLD
@common_options
def feasibility(lane: str, world: str | None, **options: Any) -> int:
    """The best each gate can reach in LANE, from the frozen upstream alone."""
    session, held = session_of(options), load_lane(lane)
    found = prospect(held, world_folder(world))
    refused = refusal(held, found)
    document = {"lane": held.id, "refused": refused is not None, "gates": [asdict(row) for row in found]}
    session.show(document, reach_table(found, held.gates.bands))
    return 0 if refused is None else 1


@click.command()
@click.argument("lane", shell_complete=LANE)
@click.option("--trials", type=click.IntRange(1, 100_000), help="Budget in trials [default: the lane's].")
@click.option(
    "--seconds", type=click.FloatRange(0, 604_800, min_open=True), help="Budget in seconds [default: the lane's]."
)
@JOBS
@click.option("--batch", type=click.IntRange(1, 256), help="Trials proposed together [default: the lane's].")
@click.option(
    "--sampler",
    type=click.Choice(["tpe", "gp", "nsga2", "random", "grid"]),
    help="Optuna sampler [default: the lane's].",
)
@click.option("--resume", is_flag=True, help="Go on with the lane's newest sweep.")
@click.option("--anyway", is_flag=True, help="Play a lane even though a gate is out of its reach.")
@WORLD
@common_options
def sweep(lane: str, jobs: int, resume: bool, anyway: bool, world: str | None, **options: Any) -> int:
    """Spend LANE's budget: search, record, decide, lock."""
    session = session_of(options)
    held = load_lane(lane).with_search(**options)
    found = None if resume else prospect(held, world_folder(world))
    if found is not None and not anyway and (refused := refusal(held, found)) is not None:
        record_refusal(held, session.workspace(), refused, found, world_folder(world))
        session.show(terminal.refused_document(refused), terminal.refusal_text(held, refused, found))
        return 1
    # Imported here, so that a lane that is refused never pays for the search and Optuna.
    from lanelock.sweeps.sweep import play
    from lanelock.sweeps.terminal.progress import say_what_waits, watching

    workspace = session.workspace()
    with watching(held, live=not (session.as_json or session.quiet)) as watch:
        try:
            closed = play(
                held, workspace, world=world_folder(world), jobs=jobs, resume=resume, reach=found, watch=watch
            )
        except KeyboardInterrupt:
            again = f"lanelock sweep {lane} --resume"
            click.echo(f"interrupted; every trial told so far is kept. Go on with: {again}", err=True)
            say_what_waits(workspace)
            return 130
    say_what_waits(workspace)
    document = {
        **closed.decision.as_document(),
        "sweep": closed.sweep,
        "best": terminal.best_document(closed),
        "lock": str(closed.lock),
        "trials": len(closed.trials),
        "seconds": dict(closed.seconds),
    }
    session.show(document, terminal.closing(closed))
    return 0 if closed.decision.outcome == "GO" else 1
