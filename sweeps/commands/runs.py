"""`run` and `score`: the engine once, and what is kept of it."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import click

from policies import PolicyError
from sweeps import terminal
from sweeps.commands.shards import sharding, stream
from sweeps.session import WORLD, Session, common_options, session_of


@click.command()
@click.option("--pack", required=True, help="A shipped pack or a folder.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), required=True)
@WORLD
@click.option("--score", "scored", is_flag=True, help="Measure and grade the run.")
@click.option("--publish", is_flag=True, help="Keep its surfaces in the workspace.")
@click.option("--jobs", type=click.IntRange(1, 256), help="Threads [default: every core]; never changes a byte.")
@click.option(
    "--shard-merchants",
    type=click.IntRange(min=1),
    help="Stream the states that are computed by merchant, about so many merchants at a time; nothing whole is kept.",
)
@common_options
def run(
    pack: str,
    seed: int,
    world: str | None,
    scored: bool,
    publish: bool,
    jobs: int | None,
    shard_merchants: int | None,
    **options: Any,
) -> int:
    """Run the engine once: states, rows, seconds, digests."""
    from sweeps.seam import open_pack, world_folder

    session, (held, engine) = session_of(options), open_pack(pack)
    if shard_merchants is not None:
        if publish:
            raise PolicyError(
                "--publish: a run in shards is measured as it streams by, not kept; leave one of them out"
            )
        over = sharding(engine, shard_merchants, jobs or os.cpu_count() or 1)
        return _show_stream(session, *stream(over, held, seed, world=world_folder(world), scored=scored))
    made = (engine if jobs is None else sharding(engine, None, jobs)).evaluate(held, seed, world=world_folder(world))
    digests = made.digests()
    document: dict[str, Any] = {
        "run_id": made.run_id,
        "engine": engine.name,
        "pack": held.name,
        "pack_digest": held.digest,
        "seed": seed,
        "world_digest": made.world_digest,
        "states": [asdict(state) for state in made.states],
        "digests": digests,
        "metrics": None,
        "verdict": None,
        "gates": None,
    }
    text = _head(document)
    text.append("\n".join(["", *(f"{found}  {surface}" for surface, found in digests.items())]))
    if publish:
        from engine.store import publish as publish_run

        folder = publish_run(made, session.workspace().runs)
        document["published"] = str(folder)
        text.append(f"\npublished to {folder}")
    return _show(session, document, text, _score(made) if scored else None)


@click.command()
@click.argument("run_id", metavar="RUN")
@common_options
def score(run_id: str, **options: Any) -> int:
    """Score a published run again, from its files."""
    from engine.store import open_run

    session = session_of(options)
    card = _score(open_run(session.workspace().runs, run_id))
    session.show(card.as_document(), terminal.scorecard(card))
    return _verdict_code(str(card.verdict))


def _show_stream(session: Session, document: dict[str, Any], card: Any) -> int:
    text = [
        *_head(document),
        f"\n{document['shards']} shards of the states computed by merchant; seconds are those of all threads",
    ]
    return _show(session, document, text, card)


def _head(document: dict[str, Any]) -> list[str]:
    rows = [
        (s["name"], f"{s['rows']:,}", f"{s['seconds']:.3f}", "reused" if s["reused"] else "computed", s["key"][:16])
        for s in document["states"]
    ]
    what = f"run {document['run_id']}  pack {document['pack']}  seed {document['seed']}"
    return [
        f"{what}  world {document['world_digest'][:16]}", "",
        terminal.table(("state", "rows", "seconds", "", "key"), rows),
    ]  # fmt: skip


def _show(session: Session, document: dict[str, Any], text: list[str], card: Any) -> int:
    """Shows a run and, where it was scored, its card; the exit code."""
    if card is not None:
        document |= {key: card.as_document()[key] for key in ("verdict", "metrics", "gates")}
        text.append("\n" + terminal.scorecard(card))
    session.show(document, "\n".join(text))
    return 0 if card is None else _verdict_code(str(card.verdict))


def _score(made: Any) -> Any:
    from scoring.gates import load_gates
    from scoring.scorecard import score
    from sweeps.seam import metrics_named

    source = metrics_named(made.engine)
    return score(source.measure(made), load_gates(str(source.gates_file)), seed=made.seed, authority=None)


def _verdict_code(verdict: str) -> int:
    return 0 if verdict.startswith("PASS") else 1
