"""`run`, `score`, `contract`: the engine once, what is kept of it, and what its surfaces are."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lanelock.engine.protocol import Run, StateReport
from lanelock.policies import PolicyError
from lanelock.scoring.gates import load_gates
from lanelock.scoring.scorecard import score as graded
from lanelock.sweeps.engines import metrics_named, open_pack, publishing, world_folder
from lanelock.sweeps.pages.gates import scorecard_text
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.terminal.commands.shards import run_document, sharding, stream
from lanelock.sweeps.terminal.completion import PACK, RUN
from lanelock.sweeps.terminal.session import WORLD, Session, common_options, session_of
from lanelock.sweeps.workspace import Workspace, writing

_GB = 1 << 30


@click.command()
@click.option("--pack", required=True, help="A shipped pack or a folder.", shell_complete=PACK)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), required=True, help="Of the world and of every draw.")
@WORLD
@click.option("--roster", type=click.Path(path_type=Path), metavar="FILE", help="Arrivals brought in from outside.")
@click.option("--score", "scored", is_flag=True, help="Measure and grade the run.")
@click.option("--publish", is_flag=True, help="Keep its surfaces in the workspace.")
@click.option("--jsonl", is_flag=True, help="Write the arrival logs as JSON Lines too, below exports/.")
@click.option(
    "--cache-gb",
    type=click.FloatRange(0, 10_000),
    default=4.0,
    show_default=True,
    help="Bound of the state cache; 0: off.",
)
@click.option("--jobs", type=click.IntRange(1, 256), help="Threads [default: every core]; never changes a byte.")
@click.option(
    "--shard-merchants",
    type=click.IntRange(min=1),
    help="Stream the states that are computed by merchant, about so many merchants at a time; nothing whole is kept.",
)
@common_options
def run(
    pack: str, seed: int, world: str | None, roster: Path | None, scored: bool, publish: bool, jsonl: bool,
    jobs: int | None, shard_merchants: int | None, cache_gb: float, **options: Any,
) -> int:  # fmt: skip
    """Run the engine once: states, rows, seconds, digests. Only states whose inputs changed are computed."""
    session, (held, found) = session_of(options), open_pack(pack)
    if shard_merchants is not None:
        if publish or jsonl or roster is not None:
            raise PolicyError("--publish, --jsonl, --roster: a run in shards is measured as it streams by, never kept")
        over = sharding(found, shard_merchants, jobs or os.cpu_count() or 1)
        return _show_stream(session, *stream(over, held, seed, world=world_folder(world), scored=scored))
    workspace = session.workspace()
    engine = publishing(found if jobs is None else sharding(found, None, jobs))
    if cache_gb > 0:
        engine = engine.keeping(workspace.cache, round(cache_gb * _GB))
    made = engine.evaluate(held, seed, world=world_folder(world), roster=roster)
    states, digests = [*made.states], made.digests()
    document = run_document(made) | {"digests": digests}
    after = []
    if publish:
        bundled, document["published"] = _publish(made, workspace)
        states.append(bundled)
        after.append(f"published to {document['published']}")
    if jsonl:
        document["exported"] = _export(made, workspace)
        after.append(f"JSON Lines below {document['exported']}")
    document["states"] = [asdict(state) for state in states]
    kept = {key: document[key] for key in ("run_id", "engine", "pack", "seed", "world_digest", "states")}
    workspace.remember(made.run_id, kept | {"policies": held.documents()})
    if engine.unkept:
        click.echo(f"lanelock: note: some states were not kept: {engine.unkept}", err=True)
    surfaces = "\n".join(f"{found}  {surface}" for surface, found in digests.items())
    return _show(session, document, [_state_table(states), surfaces, *after], _score(made) if scored else None)


def _show_stream(session: Session, document: dict[str, Any], states: Sequence[StateReport], card: Any) -> int:
    parts = [_state_table(states), f"{document['shards']} shards; seconds are those of all threads"]
    return _show(session, document, parts, card)


def _show(session: Session, document: dict[str, Any], parts: list[str], card: Any) -> int:
    """Says what a run did and, where it was scored, what the gates say; the exit code."""
    if card is not None:
        document |= {key: card.as_document()[key] for key in ("verdict", "metrics", "gates")}
        parts.append(scorecard_text(card))
    head = f"run {document['run_id']}  pack {document['pack']}  seed {document['seed']}"
    session.show(document, "\n\n".join([f"{head}  world {document['world_digest'][:16]}", *parts]))
    return 0 if card is None or card.verdict.passed else 1


@click.command()
@click.argument("run_id", metavar="RUN", shell_complete=RUN)
@common_options
def score(run_id: str, **options: Any) -> int:
    """Score a published run again, from its files."""
    from lanelock.engine.segment_2b.store import open_run

    session = session_of(options)
    card = _score(open_run(session.as_it_stands().runs, run_id))
    session.show(card.as_document(), scorecard_text(card))
    return 0 if card.verdict.passed else 1


@click.command()
@common_options
def contract(**options: Any) -> int:
    """Every surface: where it is published, its columns, types, units, key and order."""
    from lanelock.engine.segment_2b.tables import contract as surfaces

    session, found = session_of(options), surfaces()
    text = []
    for surface in found:
        fields: Any = surface["columns"]
        text.append(f"{surface['surface']}  ({surface['state']})\n{surface['path']}")
        rows = [(c["name"] + ("*" if c["name"] in surface["key"] else ""), c["type"], c["unit"]) for c in fields]  # type: ignore[operator]
        text.append(columns(("column (* key, in order)", "type", "unit"), rows) + "\n")
    session.show({"surfaces": found}, "\n".join(text))
    return 0


def _publish(made: Run, workspace: Workspace) -> tuple[StateReport, str]:
    """Publishes a run; the report of the bundle and the folder."""
    from lanelock.engine.segment_2b.store import bundled, publish

    began = time.perf_counter()
    with writing(workspace.root):
        folder = publish(made, workspace.runs)
    return bundled(made, folder, time.perf_counter() - began), str(folder)


def _export(made: Run, workspace: Workspace) -> str:
    from lanelock.engine.segment_2b.export import write_json_lines

    with writing(workspace.root):
        return str(write_json_lines(made, workspace.exports))


def _state_table(states: Sequence[StateReport]) -> str:
    rows = [
        (s.name, f"{s.rows:,}", f"{s.seconds:.3f}", "reused" if s.reused else "computed", s.key[:16]) for s in states
    ]
    rows.append(("all", "", f"{sum(state.seconds for state in states):.3f}", "", ""))
    return columns(("state", "rows", "seconds", "", "key"), rows)


def _score(made: Any) -> Any:
    source = metrics_named(made.engine)
    return graded(source.measure(made), load_gates(str(source.gates_file)), seed=made.seed, authority=None)
