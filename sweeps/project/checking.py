"""Checks a project before a sweep: can its engine run, does it give the same bytes again, is everything measured?"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lanelock.engine.protocol import Run
from lanelock.engine.surface import Surface
from lanelock.engine.tables import is_metrics
from lanelock.policies.errors import LaneError
from lanelock.policies.project import DEFAULTS, Project
from lanelock.scoring.scorecard import Scorecard, combine
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.limits import limits_of
from lanelock.sweeps.lanes.survey import Ground, survey


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting in force: a field of the file, or a default that it leaves to."""

    field: str
    value: Any
    default: bool


@dataclass(frozen=True)
class Checked:
    """What running the start on every seed, twice, shows."""

    project: Project
    lane: Lane
    seconds: Mapping[int, float]  # by seed, of the faster run: the first one loads what it needs
    problems: tuple[str, ...]  # each ends a sweep before it begins, or spoils its result
    notes: tuple[str, ...]
    cards: tuple[Scorecard, ...]  # of the start, by seed; empty where it could not be graded

    @property
    def ok(self) -> bool:
        return not self.problems

    @cached_property
    def card(self) -> Scorecard | None:
        """The start's scorecard over all seeds."""
        return combine(self.cards, self.lane.gates) if self.cards else None


def check_project(project: Project, lane: Lane) -> Checked:
    """Runs a project's start twice on each of the lane's seeds, in opposite orders, and grades it.

    Raises what a sweep would raise: LaneError or EngineError where the engine cannot run at all.
    """
    first, seconds = dict[int, Run](), dict[int, float]()
    for seed in lane.seeds:
        began = time.perf_counter()
        first[seed] = lane.engine.evaluate(lane.start, seed, until=lane.until)
        seconds[seed] = time.perf_counter() - began
    again = dict[int, Run]()
    for seed in reversed(lane.seeds):
        began = time.perf_counter()
        again[seed] = lane.engine.evaluate(lane.start, seed, until=lane.until)
        seconds[seed] = min(seconds[seed], time.perf_counter() - began)
    problems = [*_differences(first, again), *_unmeasured(lane, first), *_too_slow(lane, seconds)]
    cards = () if problems else _graded(survey(lane, None, ()), first)
    return Checked(project, lane, seconds, tuple(problems), tuple(_notes(project, first, lane)), cards)


def settings_of(project: Project, lane: Lane) -> Iterator[Setting]:
    """Yields every setting that the file gives or leaves to its default."""
    document, sweep = project.document, project.document.get("sweep", {})
    code = project.engine.get("code")
    yield Setting("engine.id", project.id, "id" not in project.engine)
    covers = "the function and what it imports" if "function" in project.engine else "its program"
    yield Setting(
        "engine.code", f"{', '.join(code or [covers])}: version {lane.engine.code_version[:12]}", code is None
    )
    for name in ("timeout_s", "memory_mb"):
        if "command" in project.engine:
            yield Setting(f"engine.{name}", project.engine.get(name, "no limit"), name not in project.engine)
    yield Setting("bands", ", ".join(lane.gates.bands), "bands" not in document.get("grading", {}))
    for gate in lane.gates.gates:
        yield Setting(f"scale of {gate.id}", gate.scale, "scale" not in _row(project, gate.id))
    aims = [key for key in ("minimize", "maximize") if key in sweep]
    yield Setting("sweep.improves", " ".join([*aims, *(sweep[key] for key in aims)]) or "the margin", not aims)
    yield Setting("sweep.accept", lane.document["decision"]["accept_band"], "accept" not in sweep)
    for name, value in DEFAULTS.items():
        shown = sweep.get(name, value)
        yield Setting(f"sweep.{name}", ", ".join(map(str, shown)) if name == "seeds" else shown, name not in sweep)
    if limits := sweep.get("limits"):
        yield Setting("sweep.limits", ", ".join(f"{name} {value:g}" for name, value in limits.items()), False)
    yield Setting("sweep.sampler", lane.document.get("sampler", {}).get("name", "auto"), "sampler" not in sweep)


def _row(project: Project, gate: str) -> Mapping[str, Any]:
    return next((row for row in project.gates["gates"] if row["id"] == gate), {})


def _too_slow(lane: Lane, seconds: Mapping[int, float]) -> Iterator[str]:
    """Yields where the start itself takes longer than the lane allows a run."""
    slowest, limit = max(seconds, key=lambda seed: seconds[seed]), limits_of(lane).get("seconds", math.inf)
    if seconds[slowest] > limit:
        yield f"sweep.limits.seconds: {limit:g}: the start takes {seconds[slowest]:.3g} s on seed {slowest}"


def _differences(first: Mapping[int, Run], again: Mapping[int, Run]) -> Iterator[str]:
    """Yields where a second run gives other bytes."""
    for seed, run in first.items():
        one, other = run.digests(), again[seed].digests()
        if moved := sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name)):
            yield (
                f"not deterministic: seed {seed} gave another {moved[0]} the second time; every draw must follow from "
                "the seed, and nothing from the clock, earlier runs or the order of a set"
            )
            return


def _unmeasured(lane: Lane, runs: Mapping[int, Run]) -> Iterator[str]:
    """Yields each metric that a gate or an objective needs and that is missing or not finite."""
    measures = {seed: lane.measure(run) for seed, run in runs.items()}
    for name in lane.needed:
        seeds = [seed for seed, metrics in measures.items() if not math.isfinite(metrics.get(name, math.nan))]
        if seeds:
            surfaces = runs[lane.seeds[0]].surfaces
            given = ", ".join(f"{key} ({', '.join(_columns(surface))})" for key, surface in surfaces.items())
            yield f"metric {name} is missing or not finite on seed {seeds[0]}; the engine gives {given}"


def _columns(surface: Surface) -> list[str]:
    """Returns the names that a surface offers to metrics: its numbers, or its columns."""
    table = surface.table()
    names = table["name"].to_pylist() if is_metrics(table) else table.column_names
    return list(names[:40])


def _notes(project: Project, runs: Mapping[int, Run], lane: Lane) -> Iterator[str]:
    if len(runs) > 1 and len({tuple(run.digests().values()) for run in runs.values()}) == 1:
        yield "every seed gives the same: one seed is enough, or the engine does not use it"
    try:
        lane.admit(lane.start)
    except LaneError as error:
        why = str(error).removeprefix(f"lane {lane.id}: ")
        yield f"the start is no candidate ({why}): a sweep begins with the nearest one"


def _graded(ground: Ground, runs: Mapping[int, Run]) -> tuple[Scorecard, ...]:
    return tuple(ground.graded(seed, ground.lane.measure(run)) for seed, run in runs.items())
