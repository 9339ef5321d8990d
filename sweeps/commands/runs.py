"""`run` and `score`: the engine once, and what is kept of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from sweeps import terminal
from sweeps.session import WORLD, common_options, session_of


@click.command()
@click.option("--pack", required=True, help="A shipped pack or a folder.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), required=True)
@WORLD
@click.option("--score", "scored", is_flag=True, help="Measure and grade the run.")
@click.option("--publish", is_flag=True, help="Keep its surfaces in the workspace.")
@common_options
def run(pack: str, seed: int, world: str | None, scored: bool, publish: bool, **options: Any) -> int:
    """Run the engine once: states, rows, seconds, digests."""
    from sweeps.seam import open_pack, world_folder

    session, (held, engine) = session_of(options), open_pack(pack)
    made = engine.evaluate(held, seed, world=world_folder(world))
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
    rows = [
        (s.name, f"{s.rows:,}", f"{s.seconds:.3f}", "reused" if s.reused else "computed", s.key[:16])
        for s in made.states
    ]
    text = [f"run {made.run_id}  pack {held.name}  seed {seed}  world {made.world_digest[:16]}", ""]
    text.append(terminal.table(("state", "rows", "seconds", "", "key"), rows))
    text.append("\n".join(["", *(f"{found}  {surface}" for surface, found in digests.items())]))
    if publish:
        from engine.store import publish as publish_run

        folder = publish_run(made, session.workspace().runs)
        document["published"] = str(folder)
        text.append(f"\npublished to {folder}")
    code = 0
    if scored:
        card = _score(made)
        document |= {key: card.as_document()[key] for key in ("verdict", "metrics", "gates")}
        text.append("\n" + terminal.scorecard(card))
        code = _verdict_code(str(card.verdict))
    session.show(document, "\n".join(text))
    return code


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


def _score(made: Any) -> Any:
    from scoring.gates import load_gates
    from scoring.scorecard import score
    from sweeps.seam import metrics_named

    source = metrics_named(made.engine)
    return score(source.measure(made), load_gates(str(source.gates_file)), seed=made.seed, authority=None)


def _verdict_code(verdict: str) -> int:
    return 0 if verdict.startswith("PASS") else 1
