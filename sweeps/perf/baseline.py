"""The baseline of an engine's performance: what each state of one pack costs, over repeated rounds.

1. A round warms up and does not count: it fills the compiled loops' cache and the system's, as a first run does.
2. Then every round is a fresh process. All must give the same bytes; else what was measured is not one run.
3. Of each state: the median of its seconds with its interval, processor seconds, the peak memory, the bytes published.
4. One more round is profiled. The states ranked by seconds, with their functions, are the hot spots.
5. Budgets colour the rows; the first hot spot of the worst colour is the one to begin with.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from lanelock.engine.protocol import Declaring
from lanelock.engine.resolved import Resolved
from lanelock.policies import EngineError
from lanelock.scoring.gates import Profile as Graded
from lanelock.sweeps.perf.budgets import WORST, Beside, Budget, Budgets, Colour, ProfileBudget, profile_budgets
from lanelock.sweeps.perf.measure import Request, Round, Side, StateCost, one_round
from lanelock.sweeps.perf.medians import Median, median_of
from lanelock.sweeps.perf.profiles import Profile
from lanelock.sweeps.provenance import here

ALL, PROCESS = "all", "process"
TARGET_TIMES, LIMIT_TIMES = 2.0, 4.0  # of the fastest round: what a busy machine or another of its kind may add
_LEAST = 0.1  # seconds of a target: what a busy machine may add to a state that takes none


@dataclass(frozen=True, slots=True)
class Row:
    """What a state costs, or all of them."""

    state: str
    rows: int
    wall: Median
    processor: Median | None
    share: float  # of the wall seconds of all states
    peak_mb: float | None
    bytes: int | None
    budget: Budget | None

    @property
    def colour(self) -> Colour:
        return "" if self.budget is None else self.budget.colour(self.wall.value)

    def as_document(self) -> dict[str, Any]:
        return {
            "state": self.state, "rows": self.rows, "wall_s": asdict(self.wall),
            "processor_s": None if self.processor is None else asdict(self.processor), "share": self.share,
            "peak_mb": self.peak_mb, "bytes": self.bytes,
            "target_s": None if self.budget is None else self.budget.target_s,
            "limit_s": None if self.budget is None else self.budget.limit_s,
            "status": self.colour,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Baseline:
    """A measured engine."""

    request: Request
    name: str  # of the pack, as the user gave it
    rounds: tuple[Round, ...]
    states: tuple[Row, ...]
    all: Row
    graded: tuple[ProfileBudget, ...]
    profiles: Mapping[str, Profile]
    beside: tuple[Beside, ...]
    load: float  # processes that ran or waited on the machine when it began: its load average of a minute

    @property
    def busy(self) -> str:
        """Says that wall seconds include waiting for others; empty where cores were free."""
        cores = os.cpu_count() or 1
        if self.load <= cores / 2:
            return ""
        return (
            f"the machine was busy (load {self.load:.1f} on {cores} cores): wall seconds, and so the colours, include "
            "waiting for others; compare processor seconds, or measure again"
        )

    @property
    def answer(self) -> Mapping[str, Any]:
        """What every round gave alike: engine, run, digests."""
        return self.rounds[0].answer

    @property
    def process(self) -> tuple[Median, Median]:
        """Wall and processor seconds of a whole process."""
        return median_of(one.wall_s for one in self.rounds), median_of(_process(one) for one in self.rounds)

    @property
    def importing(self) -> Median:
        """Wall seconds of imports, which belong to no state."""
        return median_of(one.answer["import"]["wall_s"] for one in self.rounds)

    @property
    def published(self) -> dict[str, int] | None:
        """Files and bytes of a published run; None where the engine does not publish."""
        found = self.answer["published"]
        if found is None:
            return None
        return {"files": found["files"], "bytes": found["bytes"], "log_bytes": self.rounds[0].log_bytes}

    @property
    def hot_spots(self) -> tuple[Row, ...]:
        """The states by their seconds, most first."""
        return tuple(sorted(self.states, key=lambda row: -row.wall.value))

    @property
    def first(self) -> Row:
        """The state to optimise first."""
        return min(self.hot_spots, key=lambda row: WORST.index(row.colour))

    @property
    def colour(self) -> Colour:
        """The worst colour of a state, of all states together and of a profile."""
        found = {row.colour for row in (*self.states, self.all)} | {row.colour for row in self.graded}
        return next(colour for colour in WORST if colour in found)

    def ratios(self, other: Beside) -> list[tuple[str, float, float | None]]:
        """Returns (state, another system's seconds, those over ours), the whole process last."""
        ours = {row.state: row.wall if other.kind == "wall" else row.processor for row in self.states}
        ours[PROCESS] = self.process[0 if other.kind == "wall" else 1]
        theirs = {**other.states, **({} if other.process is None else {PROCESS: other.process})}
        return [(state, took, _over(took, ours.get(state))) for state, took in theirs.items()]

    def as_document(self, id: str, at: str) -> dict[str, Any]:
        """Returns the document of `perf_baseline.schema.json`."""
        wall, processor = self.process
        return {
            "format": "lanelock.perf_baseline/1", "id": id, "engine": self.answer["engine"], "pack": self.name,
            "pack_digest": self.answer["pack"], "seed": self.request.seed, "run_id": self.answer["run_id"],
            "world_digest": self.answer["world_digest"], "code_version": self.answer["code_version"], "at": at,
            "made_by": here().document, "cores": os.cpu_count() or 1, "load": self.load,
            "rounds": [
                {"process_s": one.wall_s, "states": {state.state: state.wall_s for state in one.states}}
                for one in self.rounds
            ],
            "states": [row.as_document() for row in self.states], "all": self.all.as_document(),
            "process": {"wall_s": asdict(wall), "processor_s": asdict(processor)},
            "import": asdict(self.importing), "published": self.published,
            "profiles_estimated": [
                {"profile": row.name, "seeds": row.seeds, "estimated_s": row.estimated_s, "limit_s": row.limit_s,
                 "status": row.colour}
                for row in self.graded
            ],
            "hot_spots": [self._spot(rank, row) for rank, row in enumerate(self.hot_spots, 1)],
            "begin_with": self.first.state, "status": self.colour,
            "beside": [
                {"id": other.id, "title": other.title, "kind": other.kind,
                 "rows": [{"state": state, "seconds": took, "ratio": ratio}
                          for state, took, ratio in self.ratios(other)]}
                for other in self.beside
            ],
        }  # fmt: skip

    def as_budgets(self, stated: Budgets | None) -> dict[str, Any]:
        """Returns a document of budgets pinned from this baseline; other measurements are kept from those stated."""
        rows = {row.state: _pinned(row.wall.least) for row in self.states}
        document = {
            "engine": self.answer["engine"],
            "why": f"Pinned from a baseline of pack {self.name}: the target is {TARGET_TIMES:g} times the fastest "
            f"round, the limit {LIMIT_TIMES:g} times, since a busy machine only adds; at least {_LEAST:g} and "
            f"{2 * _LEAST:g} s, below which the machine is measured and not the state.",
            "measured": {
                "pack": self.name, "seed": self.request.seed, "rounds": len(self.rounds), "cores": os.cpu_count() or 1,
                "code_version": self.answer["code_version"], "target_times": TARGET_TIMES, "limit_times": LIMIT_TIMES,
            },
            "states": rows,
            "total": _pinned(self.all.wall.least),
        }  # fmt: skip
        return (
            document if stated is None or not stated.beside else {**document, "beside": [*map(_plain, stated.beside)]}
        )

    def _spot(self, rank: int, row: Row) -> dict[str, Any]:
        profile = self.profiles.get(row.state)
        functions = () if profile is None else profile.functions
        return {
            "rank": rank, "state": row.state, "share": row.share, "status": row.colour,
            "profiled_s": 0.0 if profile is None else profile.own_s,
            "functions": [{**asdict(one), "share": profile.share(one)} for one in functions if profile is not None],
        }  # fmt: skip


def baseline(
    engine: Resolved, name: str, request: Request, rounds: int, budgets: Budgets | None, graded: Sequence[Graded],
    side: Side | None = None, report: Callable[[str], None] = lambda text: None,
) -> Baseline:  # fmt: skip
    """Measures a pack. `report` is told each round that begins. Raises EngineError where rounds do not agree."""
    measured, load = list[Round](), os.getloadavg()[0]
    side = side or Side.here(f"engine {engine.name}")
    profiled = Request(**{**asdict(request), "profile": True})
    for turn, asked in enumerate((request, *[request] * rounds, profiled)):
        report("warming up" if turn == 0 else "profiling" if asked.profile else f"round {turn} of {rounds}")
        measured.append(one_round(side, asked))
        _check_alike(measured[0], measured[-1], f"{side.name}: pack {name}, seed {request.seed}")
        if budgets is not None:
            budgets.check(engine.name, [state.state for state in measured[0].states])
    counted = tuple(measured[1:-1])
    rows, total = _rows(engine, counted, budgets)
    whole = median_of(one.wall_s for one in counted).value
    profiles = {state: Profile.of(state, row) for state, row in measured[-1].answer["profiles"].items()}
    beside = () if budgets is None else budgets.beside_pack(name)
    return Baseline(request, name, counted, rows, total, profile_budgets(graded, whole), profiles, beside, load)


def _check_alike(first: Round, other: Round, where: str) -> None:
    """Raises EngineError naming the surface that another round gave otherwise."""
    for surface, sha256 in first.digests.items():
        if other.digests.get(surface) != sha256:
            raise EngineError(where, f"two rounds gave other bytes for {surface}: not one run, and not to be compared")


def _rows(engine: Resolved, rounds: Sequence[Round], budgets: Budgets | None) -> tuple[tuple[Row, ...], Row]:
    """Returns the row of each state, and that of all of them."""
    total = median_of(one.seconds for one in rounds)
    written, states = _bytes(engine, rounds[0]), dict[str, Row]()
    for at, state in enumerate(rounds[0].states):
        costs = [one.states[at] for one in rounds]
        wall = median_of(cost.wall_s for cost in costs)
        share = wall.value / total.value if total.value > 0 else 0.0
        budget = None if budgets is None else budgets.states.get(state.state)
        states[state.state] = Row(
            state.state, state.rows, wall, _processor(costs), min(1.0, share), _peak(cost.peak_mb for cost in costs),
            None if written is None else written.get(state.state, 0), budget,
        )  # fmt: skip
    used = [one.processor_seconds for one in rounds]
    whole = Row(
        ALL, sum(row.rows for row in states.values()), total,
        None if None in used else median_of(one for one in used if one is not None), 1.0,
        _peak(one.answer["process"]["peak_mb"] for one in rounds),
        None if written is None else sum(written.values()), None if budgets is None else budgets.total,
    )  # fmt: skip
    return tuple(states.values()), whole


def _processor(costs: Iterable[StateCost]) -> Median | None:
    used = [cost.cpu_s for cost in costs]
    return None if None in used else median_of(one for one in used if one is not None)


def _peak(values: Iterable[float | None]) -> float | None:
    return max((one for one in values if one is not None), default=None)


def _process(one: Round) -> float:
    """Returns the processor seconds of a whole process."""
    return float(one.answer["process"]["cpu_s"])


def _bytes(engine: Resolved, one: Round) -> dict[str, int] | None:
    """Returns the published bytes of each state: those of its surfaces; all others are the last state's.

    A file is a surface's if a part of its path, or its name without what follows the first point, is the surface's.
    """
    if one.answer["published"] is None:
        return None
    last, own = one.states[-1].state, engine.own
    declared = own.contract() if isinstance(own, Declaring) and len(one.states) > 1 else ()
    state_of = {row["surface"]: row["state"] for row in declared}
    sizes = dict[str, int]()
    for path, size in one.answer["published"]["sizes"].items():
        parts = PurePosixPath(path).parts
        names = [part for part in (*parts[:-1], parts[-1].partition(".")[0]) if part in state_of]
        state = state_of[names[0]] if names else last
        sizes[state] = sizes.get(state, 0) + size
    return sizes


def _over(theirs: float, ours: Median | None) -> float | None:
    return None if ours is None or ours.value <= 0 else theirs / ours.value


def _pinned(seconds: float) -> dict[str, float]:
    """Returns a target and a limit with headroom, to two digits: more would state what was not measured."""
    target, limit = max(_LEAST, TARGET_TIMES * seconds), max(2 * _LEAST, LIMIT_TIMES * seconds)
    return {"target_s": float(f"{target:.2g}"), "limit_s": float(f"{limit:.2g}")}


def _plain(other: Beside) -> dict[str, Any]:
    """Returns another measurement as the document of budgets states it."""
    document = asdict(other)
    return {name: value for name, value in document.items() if value not in (None, {})}
