"""`sensitivity`: which knob moves which gate, of a lane before a sweep, or of a sweep from its trials."""

from __future__ import annotations

from pathlib import Path

import click

from lanelock.sweeps.engines import world_folder
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.proof.packs import finder
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.terminal.commands.certify import listed_seeds
from lanelock.sweeps.terminal.commands.lanes import projects_lane
from lanelock.sweeps.terminal.commands.reports import sweep_answer
from lanelock.sweeps.terminal.completion import LANE
from lanelock.sweeps.terminal.progress import counting
from lanelock.sweeps.terminal.session import HTML, JOBS, WORLD, Session, common_options
from lanelock.sweeps.terminal.streams import say

_OF_LANES = ("steps", "seeds", "method", "trajectories")


@click.command()
@click.argument("name", metavar="[LANE|SWEEP]", required=False, shell_complete=LANE)
@click.option(
    "--method", type=click.Choice(["oat", "morris", "sobol"]), default="oat", show_default=True,
    help="One knob at a time from the start, or over the whole box by SALib.",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(2, 1000), default=5, show_default=True, help="oat: levels across each knob's bounds."
)
@click.option(
    "--trajectories", type=click.IntRange(2, 100_000),
    help="morris: trajectories; sobol: base samples, best a power of 2 [default: 8, or 64].",
)  # fmt: skip
@click.option("--seeds", metavar="A,B,…", help="Run on these seeds [default: the lane's].")
@JOBS
@HTML
@WORLD
@common_options
@click.pass_context
def sensitivity(
    context: click.Context, session: Session, name: str | None, method: str, steps: int, trajectories: int | None,
    seeds: str | None, jobs: int, page: Path | None, world: str | None,
) -> int:  # fmt: skip
    """Which knob moves which gate of LANE, by runs from its start; of SWEEP, by the trials it has. Writes no study."""
    if name is not None and name in sweeps_in(session.as_it_stands()):
        given = [option for option in _OF_LANES if context.get_parameter_source(option) is not _DEFAULT]
        if given:
            raise click.UsageError(f"--{given[0]}: is of a LANE; {name} is a sweep, whose trials are there")
        document, text, html = sweep_answer(name, session.as_it_stands())
        session.show_page(document, text, page, html)
        return 0
    if trajectories is not None and method == "oat":
        raise click.UsageError("--trajectories: is of --method morris and sobol; oat takes --steps")
    # Imported here so that a sweep's answer never pays for running trials.
    from lanelock.sweeps.probing import page as pages
    from lanelock.sweeps.probing.points import on_seeds
    from lanelock.sweeps.probing.probe import plan_of, probe

    lane = load_lane(name or projects_lane(), finder(session.as_it_stands()))
    if seeds is not None:
        lane = on_seeds(lane, listed_seeds(seeds))
    plan = plan_of(lane, method, steps, trajectories)
    if session.live:
        say(
            f"sensitivity {lane.id}: {len(plan.candidates)} candidates on {len(lane.seeds)} seeds: {plan.runs} runs, "
            f"and the authority's {len(lane.seeds)}"
        )
    with counting(f"sensitivity {lane.id}", live=session.live) as watch:
        probed = probe(plan, world_folder(world), jobs, watch)
    session.show_page(probed.document, pages.text(probed.document), page, lambda: pages.html(probed))
    return 0


_DEFAULT = click.core.ParameterSource.DEFAULT
