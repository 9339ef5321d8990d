"""`certify`: a lock's candidate graded on seeds, those it was tuned on and those it was not."""

from __future__ import annotations

from typing import Any

import click

from lanelock.scoring.certification import Certification
from lanelock.sweeps.engines import world_folder
from lanelock.sweeps.pages.gates import gate_table
from lanelock.sweeps.pages.text import columns, short
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.terminal.completion import LOCK
from lanelock.sweeps.terminal.session import JOBS, WORLD, common_options, session_of

MOST_SEED = 2**32 - 1


@click.command()
@click.argument("lock", shell_complete=LOCK)
@click.option("--seeds", metavar="A,B,…", help="Seeds to grade on [default: the lock's].")
@click.option(
    "--holdout-seeds",
    "holdout",
    type=click.IntRange(0, 1024),
    default=0,
    help="How many further seeds to grade on, never used in a sweep: they follow from the candidate's digest.",
)
@WORLD
@JOBS
@common_options
def certify(lock: str, seeds: str | None, holdout: int, world: str | None, jobs: int, **options: Any) -> int:
    """Grade LOCK's candidate on whole runs, and write an evidence pack that anyone can verify."""
    asked = None if seeds is None else _seeds(seeds)
    session = session_of(options)
    workspace = session.workspace()
    path = find_lock(lock, workspace)

    def told(card: Any) -> None:
        if not (session.as_json or session.quiet):
            click.echo(f"seed {card.seed}: {card.verdict}", err=True)

    found = certify_lock(
        path, workspace, seeds=asked, holdout=holdout, world=world_folder(world), jobs=jobs, watch=told
    )
    document = {
        "verdict": str(found.verdict),
        "reason": found.reason,
        "lock": str(path),
        "seeds": [card.seed for card in found.graded.cards],
        "cv": found.graded.as_document()["cv"],
        "graded": found.graded.as_document(),
        "holdout": None if found.holdout is None else found.holdout.as_document(),
        "preconditions": {row.name: row.ok for row in found.preconditions},
        "evidence": str(found.folder),
    }
    parts = [f"{found.verdict}  {path.stem}", f"  {found.reason}", "", _table(found.graded, "asked for")]
    if found.holdout is not None:
        parts += ["", _table(found.holdout, "held out")]
    session.show(document, "\n".join([*parts, "", f"evidence {found.folder}"]))
    return 0 if found.verdict.passed else 1


def _seeds(text: str) -> list[int]:
    """Seeds from `A,B,…`; at least one, each once."""
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--seeds: {text!r} is not a list of whole numbers such as 42,7,101") from None
    for seed in found:
        if not 0 <= seed <= MOST_SEED:
            raise click.UsageError(f"--seeds: {seed} is outside 0 … {MOST_SEED}")
    if len(set(found)) < len(found):
        raise click.UsageError("--seeds: a seed is given twice")
    return found


def _table(found: Certification, what: str) -> str:
    """Per gate the worst seed's value and margins, and the spread over seeds below."""
    table = gate_table([card.gates for card in found.cards], ("gate", "kind", "worst", "margins", "on seed"))
    lines = [f"{len(found.cards)} seeds {what}: {found.verdict}", columns(*table)]
    for row in found.spreads:
        limits = ", ".join(f"{band} at most {limit:g}" for band, limit in row.limits.items())
        lines.append(f"  CV of {row.metric}: {short(row.cv)} ({limits})")
    return "\n".join(lines)
