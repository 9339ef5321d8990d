"""The page: tables, two pictures, and how to read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lanelock.scoring.figures.drawing import png

from . import FOLDER
from .contestants import MOST_SEEDS, NAMES, PRODUCT, plays
from .pictures import duels, progress
from .problem import NAMES as PROBLEMS
from .problem import SHIPPED
from .results import Result
from .tables import Field, duel_table, fields, problem_table, standing_table


def write_report(results: Sequence[Result], folder: Path) -> Path:
    """Writes `benchmarks.md` and its pictures; returns the page's path."""
    found = fields(results)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for figure in (progress(found), duels(found)):
        (folder / "images" / f"{figure.id}.png").write_bytes(png(figure))
    page = folder / "benchmarks.md"
    page.write_text(page_text(found))
    return page


def page_text(found: Sequence[Field]) -> str:
    problems = "\n\n".join(f"### {one.problem}\n\n{problem_table(one)}" for one in found)
    return (
        (FOLDER / "page.md")
        .read_text()
        .format(
            summary=summary(found),
            standing=standing_table(found),
            duels=duel_table(found),
            caps=_caps(),
            problems=problems,
        )
    )


def summary(found: Sequence[Field]) -> str:
    """Returns the page's answer in two or three sentences."""
    against_best = [found_.ahead(found_.best_peer) for found_ in found]
    against_random = [found_.ahead("random") for found_ in found]
    texts = [
        f"On {_holds(against_best, 0)} problems Lanelock's median is not behind the best peer's (ahead on "
        f"{against_best.count(1)}, tied on {against_best.count(0)}); it is ahead of random sampling on "
        f"{_holds(against_random, 1)}."
    ]
    runs = [text for one in found if one.problem in SHIPPED and (text := _runs(one))]
    if runs:
        texts.append(f"Engine runs, against trials times seeds: {', '.join(runs)}.")
    return " ".join([*texts, *_unplayed(found)])


def _unplayed(found: Sequence[Field]) -> list[str]:
    """Returns what the answer does not know: problems without a result, and contestants that lack one somewhere."""
    missing = {
        name: [one.problem for one in found if plays(name, one.problem) and name not in one.by_contestant]
        for name in NAMES
    }
    rows = [f"{name} on {', '.join(problems)}" for name, problems in missing.items() if problems]
    rows += [f"anybody on {name}" for name in PROBLEMS if name not in {one.problem for one in found}]
    return [f"**Not played, and so not counted: {'; '.join(rows)}.**"] if rows else []


def _holds(standings: Sequence[int | None], least: int) -> str:
    played = [standing for standing in standings if standing is not None]
    return f"{sum(standing >= least for standing in played)} of {len(played)}"


def _runs(one: Field) -> str | None:
    """Returns by how much the product's search on a lane runs the engine less than every trial on every seed."""
    rows = sorted(result.engine_runs for result in one.by_contestant.get(PRODUCT, ()))
    return f"{one.problem} {4 * one.trials / rows[len(rows) // 2]:.1f} times fewer" if rows else None


def _caps() -> str:
    rows = ", ".join(f"{name} at most {count}" for name, count in MOST_SEEDS.items())
    return f"Contestants whose asks take seconds have fewer: {rows}."
