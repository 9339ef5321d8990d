"""What the results say: quartiles over sampler seeds, and who is ahead of whom. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .contestants import NAMES, PEERS, PRODUCT
from .judge import at, compared
from .optima import UNDER_SEEDS
from .problem import CHECKPOINTS
from .problem import NAMES as PROBLEMS
from .results import Result


@dataclass(frozen=True)
class Field:
    """All results on one problem."""

    problem: str
    by_contestant: Mapping[str, tuple[Result, ...]]  # by sampler seed, contestants in the bench's order

    @property
    def trials(self) -> int:
        """The number of trials that everybody had."""
        return max(len(result.values) for results in self.by_contestant.values() for result in results)

    @property
    def checkpoints(self) -> tuple[int, ...]:
        return (*(trials for trials in CHECKPOINTS if trials < self.trials), self.trials)

    @property
    def areal(self) -> bool:
        return self.problem == "c2dtlz2"

    @property
    def best(self) -> float:
        """The known optimum; where nobody knows it, the best value that any contestant found."""
        return UNDER_SEEDS.get(self.problem, min(self._all(), default=math.nan))

    def _all(self) -> Iterable[float]:
        return (result.values[-1] for results in self.by_contestant.values() for result in results)

    def values(self, contestant: str, trials: int) -> list[float]:
        return [at(result.values, trials) for result in self.by_contestant[contestant]]

    def median(self, contestant: str) -> float:
        return quartiles(self.values(contestant, self.trials))[1]

    def median_text(self, contestant: str) -> str:
        return self.shown(self.median(contestant)) if contestant in self.by_contestant else "–"

    def against(self, peer: str) -> tuple[int, int, int]:
        """Returns the product's wins, ties and losses against a peer, paired by sampler seed."""
        theirs = {result.seed: result for result in self.by_contestant.get(peer, ())}
        pairs = [
            compared(ours.values[-1], theirs[ours.seed].values[-1], self.best)
            for ours in self.by_contestant.get(PRODUCT, ())
            if ours.seed in theirs
        ]
        return pairs.count(1), pairs.count(0), pairs.count(-1)

    @property
    def best_peer(self) -> str | None:
        """The peer with the best median at the end."""
        return min((name for name in self.by_contestant if name != PRODUCT), key=self.median, default=None)

    def ahead(self, peer: str | None) -> int | None:
        """Returns how the product's median stands against a peer's: 1, 0 or -1; None where one of them did not play."""
        if peer not in self.by_contestant or PRODUCT not in self.by_contestant:
            return None
        return compared(self.median(PRODUCT), self.median(str(peer)), self.best)

    def shown(self, value: float) -> str:
        """Returns a value as tables show it: a cost, or the hypervolume; "none" where nothing feasible was found."""
        if not math.isfinite(value):
            return "none"
        number = self.best - value if self.areal else value
        return f"{number:.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def fields(results: Sequence[Result]) -> tuple[Field, ...]:
    """Returns the results by problem, in the bench's order."""
    found = []
    for problem in PROBLEMS:
        rows = [result for result in results if result.problem == problem]
        by_contestant = {
            name: tuple(sorted((row for row in rows if row.contestant == name), key=lambda row: row.seed))
            for name in NAMES
            if any(row.contestant == name for row in rows)
        }
        if by_contestant:
            found.append(Field(problem, by_contestant))
    return tuple(found)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Returns lower quartile, median and upper quartile, each an observed value, since some are infinite."""
    low, median, high = np.quantile(np.array(values, dtype=float), (0.25, 0.5, 0.75), method="inverted_cdf")
    return float(low), float(median), float(high)


def spread_text(found: Field, contestant: str, trials: int) -> str:
    """Returns "median [quartile, quartile]", best first."""
    low, median, high = map(found.shown, quartiles(found.values(contestant, trials)))
    return f"{median} [{low}, {high}]" if low != high else median


def problem_table(found: Field) -> str:
    """Returns the table of one problem: each contestant's values at the checkpoints and what they cost."""
    head = ["contestant", "searches", *(f"@{trials}" for trials in found.checkpoints)]
    head += ["first feasible", "engine runs", "ask s", "all asks s"]
    rows = []
    for name, results in found.by_contestant.items():
        firsts = [math.inf if row.first_feasible is None else row.first_feasible for row in results]
        rows.append([
            name, str(len(results)), *(spread_text(found, name, trials) for trials in found.checkpoints),
            _count(quartiles(firsts)[1]), _count(quartiles([row.engine_runs for row in results])[1]),
            f"{quartiles([row.ask_median for row in results])[1]:.4f}",
            f"{quartiles([row.ask_total for row in results])[1]:.2f}",
        ])  # fmt: skip
    return markdown(head, rows)


def standing_table(all_fields: Sequence[Field]) -> str:
    """Returns one row per problem: the product's median beside the best peer's and random's."""
    rows = []
    for found in all_fields:
        peer, verdicts = found.best_peer, {1: "ahead", 0: "tie", -1: "behind", None: "–"}
        ours, chance = (found.median_text(name) for name in (PRODUCT, "random"))
        known = found.shown(0 if found.areal else found.best) if found.problem in UNDER_SEEDS else "unknown"
        rows.append([
            found.problem, str(found.trials), known, ours,
            "–" if peer is None else f"{found.median_text(peer)} ({peer})", verdicts[found.ahead(peer)],
            chance, verdicts[found.ahead("random")],
        ])  # fmt: skip
    head = ["problem", "trials", "optimum", PRODUCT, "best peer", "against it", "random", "against it"]
    return markdown(head, rows)


def duel_table(all_fields: Sequence[Field]) -> str:
    """Returns the product's wins–ties–losses against each peer, by problem and in all."""
    head = [f"{PRODUCT} against", *(found.problem for found in all_fields), "all"]
    rows = []
    for peer in PEERS:
        duels = [found.against(peer) for found in all_fields]
        if any(map(sum, duels)):
            total = tuple(map(sum, zip(*duels, strict=True)))
            rows.append([peer, *("–".join(map(str, duel)) if sum(duel) else "" for duel in [*duels, total])])
    return markdown(head, rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def _count(number: float) -> str:
    return f"{number:.0f}" if math.isfinite(number) else "none"
