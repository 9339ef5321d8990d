"""`perf`: what a run costs, state by state; two versions of code compared are in `code_lanes`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from lanelock.policies import PolicyError
from lanelock.sweeps.engines import world_folder
from lanelock.sweeps.perf import page
from lanelock.sweeps.perf.baseline import Baseline, baseline
from lanelock.sweeps.perf.budgets import Budget, Budgets, budgets_of, read_budgets
from lanelock.sweeps.perf.measure import Request, reachable
from lanelock.sweeps.perf.tracked import record_measurement
from lanelock.sweeps.proof.grading import gates_of_engine
from lanelock.sweeps.proof.packs import find_pack
from lanelock.sweeps.terminal.commands.code_lanes import compare_code, lock_code
from lanelock.sweeps.terminal.completion import PACK
from lanelock.sweeps.terminal.session import WORLD, Session, common_options, writable
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.workspace import Workspace, write_whole

_FILE = click.Path(path_type=Path)


@click.group()
def perf() -> None:
    """Measure what a run costs, state by state, and compare two versions of the code."""


perf.add_command(compare_code)
perf.add_command(lock_code)


@perf.command("baseline")
@click.argument("name", metavar="PACK", shell_complete=PACK)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=42, show_default=True, help="Of the run.")
@click.option(
    "--rounds", type=click.IntRange(1, 1000), default=5, show_default=True,
    help="Counted runs, each in a fresh process; one before them warms up, one after them is profiled.",
)  # fmt: skip
@click.option("--budgets", "file", type=_FILE, metavar="FILE", help="Budgets [default: the engine's own].")
@click.option(
    "--limit", "limits", multiple=True, metavar="STATE=SECONDS", help="Another limit for a state, above all others."
)
@click.option("--pin", is_flag=True, help="Also write budgets that follow from these seconds to the file of --to.")
@click.option("--to", type=_FILE, metavar="FILE", callback=writable, help="Where --pin writes.")
@WORLD
@common_options
def perf_baseline(
    session: Session, name: str, seed: int, rounds: int, file: Path | None, limits: tuple[str, ...], pin: bool,
    to: Path | None, world: str | None,
) -> int:  # fmt: skip
    """Measure PACK over repeated rounds, colour each state by its budget and rank the hot spots."""
    if pin != (to is not None):
        raise click.UsageError("--pin and --to FILE: give both or neither")
    workspace = session.workspace()
    pack, engine = find_pack(name, workspace)
    stated = budgets_of(engine.name) if file is None else read_budgets(file)
    budgets = _limited(stated, engine.name, limits)
    folder = None if world_folder(world) is None else str(Path(str(world)).absolute())
    with reachable(name, pack, engine.name) as place:
        asked = Request(place, seed, folder)
        profiles = [*gates_of_engine(engine.name).profiles.values()]
        report = (lambda text: say(f"lanelock: {text}")) if session.live else (lambda text: None)
        made = baseline(engine, name, asked, rounds, budgets, profiles, report=report)
    document, files = page.write(made, workspace)
    _track(made, document["id"], files, workspace)
    if to is not None:
        write_whole(to, f"{json.dumps(made.as_budgets(stated), indent=2)}\n")
    session.show(document, page.text(made, document, workspace.perf))
    return 1 if made.colour == "RED" else 0


def _limited(stated: Budgets | None, engine: str, limits: Sequence[str]) -> Budgets | None:
    """Returns budgets with the limits of --limit in place of their own."""
    given = dict(map(_limit, limits))
    if not given:
        return stated
    budgets = stated or Budgets(engine, {}, "--limit", where="--limit")
    usual = {state: budgets.states.get(state, Budget(seconds, seconds)) for state, seconds in given.items()}
    changed = {state: Budget(min(usual[state].target_s, seconds), seconds) for state, seconds in given.items()}
    return replace(budgets, states={**budgets.states, **changed})


def _limit(text: str) -> tuple[str, float]:
    state, mark, seconds = text.rpartition("=")
    try:
        number = float(seconds)
    except ValueError:
        number = 0.0
    if not mark or not 0 < number <= 604_800:
        raise PolicyError(f"--limit: {text}: must be STATE=SECONDS, with seconds above 0 and at most 604800")
    return state, number


def _track(made: Baseline, id: str, files: dict[str, str | bytes], workspace: Workspace) -> None:
    """Records a baseline for MLflow: its medians as metrics, its files as artifacts."""
    rows = (*made.states, made.all)
    metrics = {f"seconds/{row.state}": row.wall.value for row in rows}
    metrics |= {f"processor_seconds/{row.state}": row.processor.value for row in rows if row.processor is not None}
    metrics |= {f"peak_mb/{row.state}": row.peak_mb for row in rows if row.peak_mb is not None}
    tags = {
        "lanelock.kind": "perf_baseline", "lanelock.pack": made.answer["pack"], "lanelock.status": made.colour,
        "lanelock.code": made.answer["code_version"], "lanelock.begin_with": made.first.state,
    }  # fmt: skip
    note = f"**Baseline of pack `{made.name}`**: {made.all.wall.value:.3g} s; begin with {made.first.state}.\n"
    record_measurement(workspace, made.answer["engine"], id, note, metrics, tags, files)
