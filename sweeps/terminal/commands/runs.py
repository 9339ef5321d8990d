"""`run`, `score`, `contract`: the engine once, what is kept of it, and what its surfaces are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lanelock.engine.keep.published import run_folder
from lanelock.engine.protocol import Declaring, Exporting, Feeding, Keeping, Publishing, StateReport
from lanelock.engine.resolved import Resolved
from lanelock.policies import PolicyError
from lanelock.scoring.gates import load_gates
from lanelock.scoring.scorecard import score as graded
from lanelock.sweeps.engines import engine_with, metrics_named, open_pack, publisher_of, world_folder
from lanelock.sweeps.pages.gates import scorecard_text
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.terminal.commands.shards import run_document, sharded, stream
from lanelock.sweeps.terminal.completion import PACK, RUN
from lanelock.sweeps.terminal.session import ENGINE, WORLD, Session, common_options, session_of
from lanelock.sweeps.workspace import writing

_GB = 1 << 30


@click.command()
@click.option("--pack", required=True, help="A shipped pack or a folder.", shell_complete=PACK)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), required=True, help="Of the world and of every draw.")
@WORLD
@click.option(
    "--feed", "feeds", multiple=True, metavar="NAME=FILE",
    help="A data set brought in from outside, in place of the one that the engine draws.",
)  # fmt: skip
@click.option("--score", "scored", is_flag=True, help="Measure and grade the run.")
@click.option("--publish", is_flag=True, help="Keep its surfaces in the workspace.")
@click.option("--jsonl", is_flag=True, help="Write its logs as JSON Lines too, below exports/.")
@click.option(
    "--cache-gb",
    type=click.FloatRange(0, 10_000),
    default=4.0,
    show_default=True,
    help="Bound of the state cache; 0: off.",
)
@click.option("--jobs", type=click.IntRange(1, 256), help="Threads [default: every core]; never changes a byte.")
@click.option(
    "--shard-size",
    type=click.IntRange(min=1),
    help="Stream what can be computed in shards, of about so many of the engine's own units; nothing is kept.",
)
@common_options
def run(
    pack: str, seed: int, world: str | None, feeds: tuple[str, ...], scored: bool, publish: bool, jsonl: bool,
    jobs: int | None, shard_size: int | None, cache_gb: float, **options: Any,
) -> int:  # fmt: skip
    """Run the engine once: states, rows, seconds, digests. Only states whose inputs changed are computed."""
    session, (held, engine) = session_of(options), open_pack(pack)
    if shard_size is not None:
        if publish or jsonl or feeds:
            raise PolicyError("--publish, --jsonl, --feed: a run in shards is measured as it streams by, never kept")
        over = sharded(engine, shard_size, jobs or os.cpu_count() or 1)
        return _show_stream(session, *stream(over, held, seed, world=world_folder(world), scored=scored))
    publisher = engine.part(Publishing, "--publish") if publish else None
    exporter = engine.part(Exporting, "--jsonl") if jsonl else None
    brought = _brought(feeds, engine)
    workspace = session.workspace()
    if jobs is not None:
        engine = sharded(engine, None, jobs)
    if cache_gb > 0 and isinstance(engine.own, Keeping):
        engine = Resolved(engine.own.keeping(workspace.cache, round(cache_gb * _GB)))
    made = engine.evaluate(held, seed, world=world_folder(world), feeds=brought)
    states, digests = [*made.states], made.digests()
    document = run_document(made) | {"digests": digests}
    after = []
    if publisher is not None:
        with writing(workspace.root):
            published = publisher.publish(made, workspace.runs)
        states += published.states
        document["published"] = str(published.folder)
        after.append(f"published to {document['published']}")
    if exporter is not None:
        with writing(workspace.root):
            document["exported"] = str(exporter.export(made, workspace.exports))
        after.append(f"JSON Lines below {document['exported']}")
    document["states"] = [asdict(state) for state in states]
    kept = {key: document[key] for key in ("run_id", "engine", "pack", "seed", "world_digest", "states")}
    workspace.remember(made.run_id, kept | {"policies": held.documents()})
    if isinstance(engine.own, Keeping) and engine.own.unkept:
        click.echo(f"lanelock: note: some states were not kept: {engine.own.unkept}", err=True)
    surfaces = "\n".join(f"{sha256}  {surface}" for surface, sha256 in digests.items())
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
    session = session_of(options)
    folder = run_folder(run_id, session.as_it_stands().runs)
    card = _score(publisher_of(folder).open_run(folder))
    session.show(card.as_document(), scorecard_text(card))
    return 0 if card.verdict.passed else 1


@click.command()
@ENGINE
@common_options
def contract(engine: str | None, **options: Any) -> int:
    """Every surface of an engine: where it is published, its columns, types, units, key and order."""
    session, able = session_of(options), engine_with(Declaring, engine)
    surfaces, text = able.part(Declaring).contract(), []
    for surface in surfaces:
        text.append(f"{surface['surface']}  ({surface['state']})\n{surface['path']}")
        rows = [
            (row["name"] + "*" * (row["name"] in surface["key"]), row["type"], row["unit"])
            for row in surface["columns"]
        ]
        text.append(columns(("column (* key, in order)", "type", "unit"), rows) + "\n")
    session.show({"engine": able.name, "surfaces": [*surfaces]}, "\n".join(text))
    return 0


def _brought(feeds: Sequence[str], engine: Resolved) -> dict[str, Path]:
    """The files of `--feed NAME=FILE` by name. Raises PolicyError where nothing of that name feeds the engine."""
    brought = {}
    for given in feeds:
        name, mark, file = given.partition("=")
        known = engine.part(Feeding, "--feed").feeds
        if not mark or name not in known:
            raise PolicyError(f"--feed: {given}: NAME=FILE is asked for, where NAME is one of {', '.join(known)}")
        brought[name] = Path(file)
    return brought


def _state_table(states: Sequence[StateReport]) -> str:
    rows = [
        (s.name, f"{s.rows:,}", f"{s.seconds:.3f}", "reused" if s.reused else "computed", s.key[:16]) for s in states
    ]
    rows.append(("all", "", f"{sum(state.seconds for state in states):.3f}", "", ""))
    return columns(("state", "rows", "seconds", "", "key"), rows)


def _score(made: Any) -> Any:
    source = metrics_named(made.engine)
    return graded(source.measure(made), load_gates(str(source.gates_file)), seed=made.seed, authority=None)
