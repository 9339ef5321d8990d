"""`run`, `score`, `contract`: the engine once, its published runs, and its surfaces."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from lanelock.engine.chain import Chain
from lanelock.engine.protocol import Declaring, Exporting, Feeding, Keeping, Publishing, Run
from lanelock.engine.resolved import Resolved
from lanelock.policies import PolicyError
from lanelock.policies.project import FILE, START
from lanelock.scoring.gates import GateSet
from lanelock.scoring.scorecard import Scorecard, measured
from lanelock.sweeps.engines import engine_named, engine_with, metrics_named, project_here, world_folder
from lanelock.sweeps.pages.gates import one_run_text, scorecard_text
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.proof.grading import gates_of_engine
from lanelock.sweeps.proof.packs import find_pack
from lanelock.sweeps.provenance import here
from lanelock.sweeps.terminal.commands.only import opened, show_alone
from lanelock.sweeps.terminal.commands.shards import graded, run_document, sharded, stream
from lanelock.sweeps.terminal.commands.state_rows import state_documents, state_table
from lanelock.sweeps.terminal.completion import PACK, RUN
from lanelock.sweeps.terminal.session import ENGINE, WORLD, Session, common_options
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.workspace import writing

_GB = 1 << 30


@click.command()
@click.option(
    "--pack",
    "name",
    shell_complete=PACK,
    help="A shipped pack, a folder, a lock, an alias or SWEEP/N [default: the project's start].",
)
@click.option(
    "--seed",
    type=click.IntRange(0, 2**32 - 1),
    help="Of the world and of every draw [default: the project's first].",
)
@WORLD
@click.option(
    "--feed", "feeds", multiple=True, metavar="NAME=FILE",
    help="A data set brought in from outside, in place of the one that the engine draws.",
)  # fmt: skip
@click.option("--score", "scored", is_flag=True, help="Measure and grade the run.")
@click.option("--publish", is_flag=True, help="Keep its surfaces in the workspace.")
@click.option("--jsonl", is_flag=True, help="Also write its logs as JSON Lines, below exports/.")
@click.option("--layout", metavar="NAME", help="Also write it in another layout of its engine, below exports/.")
@click.option(
    "--cache-gb", type=click.FloatRange(0, 10_000), default=4.0, show_default=True,
    help="Largest size of the state cache; 0 turns it off.",
)  # fmt: skip
@click.option("--jobs", type=click.IntRange(1, 256), help="Threads [default: every core]; never changes a byte.")
@click.option(
    "--shard-size",
    type=click.IntRange(min=1),
    help="Compute in shards of about this many of the engine's own units; nothing is kept.",
)
@click.option("--only", metavar="STATE", help="Run this state alone, on inputs that are kept.")
@click.option(
    "--from", "source", metavar="RUN", shell_complete=RUN,
    help="With --only: a published run to take inputs from, and the pack and seed where they are left out.",
)  # fmt: skip
@common_options
def run(
    session: Session, name: str | None, seed: int | None, world: str | None, feeds: tuple[str, ...], scored: bool,
    publish: bool, jsonl: bool, layout: str | None, jobs: int | None, shard_size: int | None, cache_gb: float,
    only: str | None, source: str | None,
) -> int:  # fmt: skip
    """Run the engine once: states, rows, seconds, digests. Only states whose inputs changed are computed."""
    if source is not None and only is None:
        raise click.UsageError("--from is read with --only STATE")
    if only is not None and (publish or jsonl or layout or shard_size is not None):
        raise PolicyError(
            "--only: cannot be combined with --publish, --jsonl, --layout or --shard-size: nothing is kept of it"
        )
    given = None if source is None else opened(source, session.as_it_stands())
    if given is not None and name is None:
        pack, engine, seed = given.pack, engine_named(given.engine), given.seed if seed is None else seed
    else:
        name, seed = _given(name, seed if seed is not None or given is None else given.seed)
        pack, engine = find_pack(name, session.as_it_stands())
    if shard_size is not None:
        if publish or jsonl or layout or feeds:
            others = "--publish, --jsonl, --layout or --feed"
            raise PolicyError(f"--shard-size: cannot be combined with {others}: nothing is kept")
        over = sharded(engine, shard_size, jobs or os.cpu_count() or 1)
        document, states, card = stream(over, pack, seed, world=world_folder(world), scored=scored)
        note = f"{document['shards']} shards; seconds are summed over all threads"
        return _show(session, document, [state_table(states, None), note], card)
    publisher = engine.part(Publishing, "--publish") if publish else None
    exporter = engine.part(Exporting, "--jsonl") if jsonl else None
    laying_out = engine.with_layout(layout) if layout else None
    files = _files(feeds, engine)
    workspace = session.workspace()
    if jobs is not None:
        engine = sharded(engine, None, jobs)
    if cache_gb > 0 and isinstance(engine.own, Keeping):
        engine = Resolved(engine.own.keeping(workspace.cache, round(cache_gb * _GB)))
    elif cache_gb > 0 and isinstance(engine.own, Chain):
        engine = Resolved(engine.own.kept(workspace.cache, round(cache_gb * _GB)))
    if only is not None:
        alone = engine.evaluate_alone(pack, seed, only, given, world=world_folder(world), feeds=files)
        return show_alone(session, only, alone, scored)
    made = engine.evaluate(pack, seed, world=world_folder(world), feeds=files)
    states, digests = [*made.states], made.digests()
    document = run_document(made) | {"digests": digests}
    notes = []
    with writing(workspace.root):
        if publisher is not None:
            published = publisher.publish(made, workspace.runs)
            states += published.states
            document["published"] = str(published.folder)
            notes.append(f"published to {document['published']}")
        if exporter is not None:
            document["exported"] = str(exporter.export(made, workspace.exports))
            notes.append(f"JSON Lines below {document['exported']}")
        if laying_out is not None and layout is not None:
            document["laid_out"] = str(laying_out.lay_out(made, layout, workspace.laid_out(made.run_id, layout)))
            notes.append(f"layout {layout} in {document['laid_out']}")
    document["states"] = state_documents(states, made.engine)
    record = {key: document[key] for key in ("run_id", "engine", "pack", "seed", "world_digest")}
    record["states"] = [asdict(state) for state in states]
    workspace.remember(made.run_id, record | {"policies": pack.documents(), "made_by": here().document})
    if isinstance(engine.own, Keeping) and engine.own.unkept:
        say(f"lanelock: note: some states were not kept: {engine.own.unkept}")
    surfaces = "\n".join(f"{sha256}  {surface}" for surface, sha256 in digests.items())
    return _show(
        session, document, [state_table(states, made.engine), surfaces, *notes], _score(made) if scored else None
    )


def _given(pack: str | None, seed: int | None) -> tuple[str, int]:
    """Returns the pack and the seed of a run; the project's own where they are left out."""
    if pack is not None and seed is not None:
        return pack, seed
    if (project := project_here()) is None:
        missing = "--pack" if pack is None else "--seed"
        raise click.UsageError(f"Missing option '{missing}'; it may be left out in a folder with {FILE}.")
    return pack or START, project.lane["seeds"][0] if seed is None else seed


def _show(session: Session, document: dict[str, Any], parts: list[str], card: Scorecard | None) -> int:
    """Shows a run and, where it was scored, its scorecard. Returns the exit code."""
    if card is not None:
        gates = gates_of_engine(document["engine"])
        document |= {key: card.as_document()[key] for key in ("verdict", "metrics", "gates")} | _profile(gates, card)
        parts += [scorecard_text(card), one_run_text(gates, document["seed"])]
    head = f"run {document['run_id']}  pack {document['pack']}  seed {document['seed']}"
    session.show(document, "\n\n".join([f"{head}  world {document['world_digest'][:16]}", *parts]))
    return 0 if card is None or card.verdict.passed else 1


@click.command()
@click.argument("run_id", metavar="RUN", shell_complete=RUN)
@common_options
def score(session: Session, run_id: str) -> int:
    """Score a published run again, from its files."""
    made = opened(run_id, session.as_it_stands())
    card, gates = _score(made), gates_of_engine(made.engine)
    text = f"{scorecard_text(card)}\n\n{one_run_text(gates, made.seed)}"
    session.show({**card.as_document(), **_profile(gates, card)}, text)
    return 0 if card.verdict.passed else 1


@click.command()
@ENGINE
@common_options
def contract(session: Session, engine: str | None) -> int:
    """Every surface of an engine: where it is published, its columns, types, units, key and order."""
    opened = engine_with(Declaring, engine)
    surfaces, text = opened.part(Declaring).contract(), []
    for surface in surfaces:
        text.append(f"{surface['surface']}  ({surface['state']})\n{surface['path']}")
        rows = [
            (row["name"] + "*" * (row["name"] in surface["key"]), row["type"], row["unit"])
            for row in surface["columns"]
        ]
        text.append(columns(("column (* key, in order)", "type", "unit"), rows) + "\n")
    session.show({"engine": opened.name, "surfaces": [*surfaces]}, "\n".join(text))
    return 0


def _files(feeds: Sequence[str], engine: Resolved) -> dict[str, Path]:
    """Returns the files of `--feed NAME=FILE` by name. Raises PolicyError on a name that the engine does not take."""
    files = {}
    for feed in feeds:
        name, mark, file = feed.partition("=")
        known = engine.part(Feeding, "--feed").feeds
        if not mark or name not in known:
            raise PolicyError(f"--feed: {feed}: must be NAME=FILE, where NAME is one of {', '.join(known)}")
        files[name] = Path(file)
    return files


def _profile(gates: GateSet, card: Scorecard) -> dict[str, str | None]:
    """Returns the profile that a run's seed meets, as JSON."""
    met = gates.profile_of([] if card.seed is None else [card.seed])
    return {"profile": None if met is None else met.name}


def _score(made: Run) -> Scorecard:
    source = metrics_named(made.engine)
    return graded(source, measured(source, made), made.seed)
