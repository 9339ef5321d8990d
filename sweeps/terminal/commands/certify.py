"""`certify`: a lock's candidate graded on seeds, those it was tuned on and held-out seeds."""

from __future__ import annotations

import time
from typing import Any

import click

from lanelock.scoring.certification import CONFIDENCE, MOST_HOLDOUT, Certification, seeds_for
from lanelock.scoring.scorecard import Scorecard
from lanelock.sweeps.engines import world_folder
from lanelock.sweeps.pages.gates import gate_table
from lanelock.sweeps.pages.text import columns, short
from lanelock.sweeps.perf.budgets import Budget
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.grading import gates_of_engine
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.proof.promotion import aliases_beyond
from lanelock.sweeps.record.webhooks import hooks_of, tell
from lanelock.sweeps.terminal.completion import LOCK
from lanelock.sweeps.terminal.session import JOBS, WORLD, Session, common_options
from lanelock.sweeps.terminal.streams import say, say_note

MOST_SEED = 2**32 - 1


class Percent(click.FloatRange):
    """A percentage with one decimal at most, since claims are counted in tenths."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        percent: float = super().convert(value, param, ctx)
        if round(percent, 1) != percent:
            self.fail(f"{value} has more than one decimal", param, ctx)
        return percent


PERCENT = Percent(50, 99.9)


@click.command()
@click.argument("lock", shell_complete=LOCK)
@click.option(
    "--profile", metavar="NAME", help="Grade on the seeds of this profile [default: the strongest's and the lock's]."
)
@click.option("--seeds", metavar="A,B,…", help="Grade on these seeds instead; INVALID if they meet no profile.")
@click.option(
    "--holdout-seeds",
    "holdout",
    type=click.IntRange(0, MOST_HOLDOUT),
    default=0,
    help="Number of further seeds that no sweep used; they follow from the candidate's digest.",
)
@click.option(
    "--coverage",
    type=PERCENT,
    metavar="P",
    help="Claim that at least P % of worlds hold: runs as many held-out seeds as that needs, until one fails.",
)
@click.option(
    "--confidence", type=PERCENT, default=CONFIDENCE, show_default=True, metavar="C", help="Percent, of the claim."
)
@WORLD
@JOBS
@common_options
def certify(
    session: Session, lock: str, profile: str | None, seeds: str | None, holdout: int, coverage: float | None,
    confidence: float, world: str | None, jobs: int,
) -> int:  # fmt: skip
    """Grade LOCK's candidate on whole runs, and write an evidence pack that anyone can verify."""
    if profile is not None and seeds is not None:
        raise click.UsageError("--profile and --seeds: give one of them; a profile has its own seeds")
    chosen = None if seeds is None else listed_seeds(seeds)
    if coverage is not None and (needed := seeds_for(confidence, coverage)) > MOST_HOLDOUT:
        raise click.UsageError(f"--coverage: {coverage:g} % needs {needed} held-out seeds or more, of {MOST_HOLDOUT}")
    workspace = session.workspace()
    path = find_lock(lock, workspace)
    hooks_of(workspace)  # raises before an hour is spent

    def watch(card: Scorecard) -> None:
        if session.live:
            say(f"seed {card.seed}: {card.verdict}")

    began = time.perf_counter()
    certified = certify_lock(
        path, workspace, seeds=chosen, profile=profile, holdout=holdout, confidence=confidence, coverage=coverage,
        world=world_folder(world), jobs=jobs, watch=watch,
    )  # fmt: skip
    seconds, profiled = time.perf_counter() - began, certified.profile
    colour = "" if profiled is None else Budget(60 * profiled.minutes, 60 * profiled.minutes).colour(seconds)
    if profiled is not None and colour == "RED":
        say(f"lanelock: note: it took {seconds / 60:.1f} minutes, profile {profiled.name} allows {profiled.minutes:g}")
    short_of = aliases_beyond(profiled, gates_of_engine(certified.document["engine"]))
    event = "certified" if certified.verdict.passed else "not_certified"
    told = f"{event}: {path.stem}: {certified.verdict}: {certified.reason}"
    untold = tell(workspace, event, path.stem, told, verdict=str(certified.verdict), evidence=certified.folder.name)
    graded = certified.graded.as_document()
    document = {
        "verdict": str(certified.verdict),
        "profile": None if profiled is None else profiled.name,
        "not_enough_for": list(short_of),
        "seconds": seconds,
        "budget": None if profiled is None else {"minutes": profiled.minutes, "colour": colour},
        "reason": certified.reason,
        "lock": str(path),
        "seeds": certified.document["seeds"],
        "holdout_seeds": certified.document["holdout_seeds"],
        "claim": certified.document["claim"],
        "cv": graded["cv"],
        "graded": graded,
        "holdout": None if certified.holdout is None else certified.holdout.as_document(),
        "preconditions": {row.name: row.ok for row in certified.preconditions},
        "evidence": str(certified.folder),
    }
    by = "" if profiled is None else f", profile {profiled.name}"
    parts = [f"{certified.verdict}  {path.stem}{by}", f"  {certified.reason}"]
    if profiled is not None:
        parts.append(f"  {seconds:.1f} s of {profiled.minutes:g} minutes: {colour}")
    if profiled is not None and short_of:
        parts.append(f"  a certification of level {profiled.name}: not enough for {', '.join(short_of)}")
    parts += [] if certified.claim is None else [f"  {certified.claim}"]
    parts += ["", _table(certified.graded, "asked for")]
    if certified.holdout is not None:
        parts += ["", _table(certified.holdout, "held out")]
    session.show(document, "\n".join([*parts, "", f"evidence {certified.folder}"]))
    say_note(untold)
    return 0 if certified.verdict.passed else 1


def listed_seeds(text: str) -> list[int]:
    """Returns the seeds in `A,B,…`. Raises UsageError on a repeated seed, a bad one or an empty list."""
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--seeds: {text!r} is not a list of whole numbers such as 42,7,101") from None
    for seed in seeds:
        if not 0 <= seed <= MOST_SEED:
            raise click.UsageError(f"--seeds: {seed} is outside 0 … {MOST_SEED}")
    if len(set(seeds)) < len(seeds):
        raise click.UsageError("--seeds: a seed is given twice")
    return seeds


def _table(certification: Certification, what: str) -> str:
    """Returns the worst seed's value and margins per gate, and below them the spread over the seeds."""
    cards = certification.cards
    table = gate_table([card.gates for card in cards], ("gate", "kind", "worst", "margins", "on seed"))
    lines = [f"{len(cards)} seeds {what}: {certification.verdict}", columns(*table)]
    for row in certification.spreads:
        limits = ", ".join(f"{band} at most {limit:g}" for band, limit in row.limits.items())
        lines.append(f"  CV of {row.metric}: {short(row.cv)} ({limits})")
    return "\n".join(lines)
