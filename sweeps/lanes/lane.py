"""A lane: a bounded permission, read from data and checked whole before anything runs.

Checking whole means: every knob and fixed field exists in the authority's pack, both ends of every knob
keep the pack valid, every graded gate exists, and no field is both fixed and a knob. A lane may touch
nothing else: `Lane.candidate` is the only way from the authority to a trial's pack.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lanelock.engine.protocol import Run
from lanelock.engine.resolved import Resolved
from lanelock.policies import LaneError, Pack, PolicyError, diff, load_pack
from lanelock.policies.documents import digest, read_json, resolve, shipped_schema, validate
from lanelock.policies.pack import CarriedPack, split_address, value_at
from lanelock.scoring.gates import GateSet, load_gates, parse_gates
from lanelock.scoring.scorecard import MetricSource
from lanelock.sweeps.engines import engine_named, metrics_named
from lanelock.sweeps.lanes.knob import Knob, Value


@dataclass(frozen=True, slots=True)
class Objective:
    """What the search improves: a band's worst margin, or a metric's mean over seeds."""

    name: str
    maximize: bool
    band: str | None
    metric: str | None


@dataclass(frozen=True)
class Lane:
    """From this authority, these knobs, these bounds, these vetoes, this budget."""

    document: Mapping[str, Any]
    engine: Resolved
    metrics: MetricSource
    authority: Pack
    references: Mapping[str, Pack]  # further packs that rails may compare with, by name
    gates_file: Mapping[str, Any]  # the gate file the lane chose from: what a lock carries
    gates: GateSet  # the graded ones, with the lane's rails
    knobs: tuple[Knob, ...]
    objectives: tuple[Objective, ...]

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def title(self) -> str:
        return str(self.document["title"])

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(self.document["seeds"])

    @property
    def until(self) -> str:
        return str(self.document.get("until", self.engine.states[-1]))

    @cached_property
    def identity(self) -> str:
        """Hex64 over what decides a trial: the lane less its budget, the authority and the gates."""
        lane = {key: value for key, value in self.document.items() if key not in ("budget", "$schema")}
        references = {name: pack.digest for name, pack in self.references.items()}
        return digest({
            "lane": lane, "authority": self.authority.digest, "references": references, "gates": self.gates.document,
        })  # fmt: skip

    @cached_property
    def start(self) -> Pack:
        """The authority's pack with the lane's fixed fields set."""
        return self.authority.with_knobs(self.document["fixed"])

    def candidate(self, values: Mapping[str, Value]) -> Pack:
        """The pack of one trial: `values` by knob name."""
        return self.start.with_knobs({knob.at: knob.placed(values[knob.name]) for knob in self.knobs})

    def moved(self, values: Mapping[str, Value]) -> dict[str, tuple[Any, Any]]:
        """Field -> what stands there under the authority, and under a trial of these values, where they differ."""
        placed = {**self.document["fixed"], **{knob.at: knob.placed(values[knob.name]) for knob in self.knobs}}
        fields = {at: (value_at(self.authority[policy], pointer, at), placed[at])
                  for at in placed for policy, pointer in [split_address(at)]}  # fmt: skip
        return {at: (before, after) for at, (before, after) in fields.items() if before != after}

    def admit(self, pack: Pack) -> dict[str, Value]:
        """The knobs of a pack that this lane may have made. Raises LaneError naming what else it touches."""
        values: dict[str, Value] = {}
        for knob in self.knobs:
            policy, pointer = split_address(knob.at)
            placed = value_at(pack[policy], pointer, f"pack {pack.name}")
            value = knob.value_of(placed)
            if value is None:
                raise LaneError(
                    f"lane {self.id}: {knob.at} is {placed!r}, outside the knob {knob.name}: {knob.range_text()}"
                )
            values[knob.name] = value
        if others := diff(self.candidate(values), pack):
            change = others[0]
            raise LaneError(
                f"lane {self.id}: {change.policy}#{change.pointer} is {change.after!r}, not {change.before!r}; "
                "a lane may touch nothing of its authority but its knobs"
            )
        return values

    def with_authority(self, authority: Pack) -> Lane:
        """This lane from another authority: a campaign's holder instead of the pack the lane names."""
        return _build(
            self.document, authority, self.references, f"lane {self.id}", parse_gates(self.gates_file, self.id)
        )

    def yardstick(self, seed: int, world: Path | None) -> dict[str, float]:
        """What rails compare with: the authority's metrics, and each reference's as `name:metric`."""
        found = self.measure(self.engine.evaluate(self.authority, seed, world=world, until=self.until))
        for name, pack in self.references.items():
            run = self.engine.evaluate(pack, seed, world=world, until=self.until)
            found |= {f"{name}:{metric}": value for metric, value in self.measure(run).items()}
        return found

    def measure(self, run: Run) -> dict[str, float]:
        """The run's metrics; a number that does not exist is left out, so that its gate cannot pass."""
        return {name: value for name, value in self.metrics.measure(run).items() if math.isfinite(value)}

    def with_search(
        self,
        *,
        sampler: str | None = None,
        trials: int | None = None,
        seconds: float | None = None,
        batch: int | None = None,
    ) -> Lane:
        """This lane with its search changed from the command line; what it may touch stays."""
        document = dict(self.document)
        if sampler is not None:
            document["sampler"] = {**document["sampler"], "name": sampler}
        if batch is not None:
            document["batch"] = batch
        budget = {"trials": trials, "seconds": seconds}
        document["budget"] = {**document["budget"], **{key: of for key, of in budget.items() if of is not None}}
        validate(document, shipped_schema("lane"), f"lane {self.id}")
        return replace(self, document=document)


def load_lane(name_or_path: str) -> Lane:
    """The lane in a file, or a shipped one by name. Raises PolicyError or LaneError naming file and field."""
    path = resolve(name_or_path, "lanes", ".json")
    if path.is_dir():
        raise LaneError(f"{path}: a lane is a JSON file, this is a folder")
    document = read_json(path)
    validate(document, shipped_schema("lane"), str(path))
    engine = engine_named(document["engine"])
    authority = load_pack(beside(path, document["authority"]), engine.policy_schemas, engine.name)
    references = {
        name: load_pack(beside(path, pack), engine.policy_schemas, engine.name)
        for name, pack in document.get("references", {}).items()
    }
    gates = _gate_file(path, document, metrics_named(document["engine"]))
    return _build(document, authority, references, str(path), gates)


def lane_of(
    document: Mapping[str, Any],
    authority: CarriedPack,
    references: Mapping[str, CarriedPack],
    gate_file: Mapping[str, Any],
    where: str,
) -> Lane:
    """A lane rebuilt from what a lock or a study carries: its document, its packs and its gate file."""
    validate(document, shipped_schema("lane"), where)
    schemas = engine_named(document["engine"]).policy_schemas
    packs = {name: pack.opened(schemas, where) for name, pack in references.items()}
    return _build(document, authority.opened(schemas, where), packs, where, parse_gates(gate_file, where))


def _build(
    document: Mapping[str, Any], authority: Pack, references: Mapping[str, Pack], where: str, gate_file: GateSet
) -> Lane:
    engine, metrics = engine_named(document["engine"]), metrics_named(document["engine"])
    try:
        gates = gate_file.select(document["gates"]["grade"]).with_rails(document["gates"]["rails"])
    except PolicyError as error:
        raise LaneError(f"{where}: {error}") from None
    knobs = tuple(Knob.of(name, row, f"{where}: /knobs/{name}") for name, row in document["knobs"].items())
    objectives = tuple(
        Objective(row["name"], row["direction"] == "maximize", row.get("worst_margin"), row.get("metric"))
        for row in document["objectives"]
    )
    lane = Lane(document, engine, metrics, authority, references, gate_file.document, gates, knobs, objectives)
    _check(lane, where)
    return lane


def _check(lane: Lane, where: str) -> None:
    if lane.until not in lane.engine.states:
        raise LaneError(
            f"{where}: /until: {lane.until!r} is not a state of {lane.engine.name}: {', '.join(lane.engine.states)}"
        )
    bands = set(lane.gates.bands)
    for objective in lane.objectives:
        if objective.band is not None and objective.band not in bands:
            raise LaneError(
                f"{where}: /objectives/{objective.name}: band {objective.band!r} is not one of {sorted(bands)}"
            )
    if lane.document["decision"]["accept_band"] not in bands:
        raise LaneError(f"{where}: /decision/accept_band: not one of {sorted(bands)}")
    if set(lane.references) != set(lane.document.get("references", {})):
        raise LaneError(f"{where}: /references: the packs given are {sorted(lane.references)}")
    for gate in lane.gates.gates:
        if gate.relative is not None and gate.relative.of is not None and gate.relative.of not in lane.references:
            raise LaneError(f"{where}: /gates/{gate.id}: {gate.relative.of!r} is not one of the lane's references")
    if both := sorted(set(lane.document["fixed"]) & {knob.at for knob in lane.knobs}):
        raise LaneError(f"{where}: {both[0]} is both fixed and a knob")
    if len({knob.at for knob in lane.knobs}) < len(lane.knobs):
        raise LaneError(f"{where}: /knobs: two knobs move the same field")
    for knob in lane.knobs:
        policy, pointer = split_address(knob.at)
        field = f"{where}: /knobs/{knob.name}"
        if policy not in lane.authority.policies:
            raise LaneError(f"{field}: {lane.authority.name} has no policy {policy}")
        value_at(lane.authority[policy], pointer, field)
        for end in knob.ends():
            try:
                lane.start.with_knobs({knob.at: end})
            except PolicyError as error:
                raise LaneError(f"{field}: {end!r} is outside the policy's bounds: {error}") from None


def _gate_file(path: Path, document: Mapping[str, Any], metrics: MetricSource) -> GateSet:
    named = document["gates"].get("file")
    return load_gates(str(metrics.gates_file) if named is None else beside(path, named))


def beside(lane: Path, name: str) -> str:
    """A path given in a file that starts with a dot is looked for beside the file first, then as given."""
    beside = lane.parent / name
    return str(beside) if name.startswith(".") and beside.exists() else name
