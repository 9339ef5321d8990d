"""A lane: a bounded permission, read from a file and checked completely before anything runs.

Every knob and fixed field must exist in the authority's pack, both ends of every knob must keep the pack valid, every
graded gate must exist, and no field may be both fixed and a knob. A lane may change nothing else: `Lane.candidate` is
the only way from the authority to a trial's pack.
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
from lanelock.policies import LaneError, Pack, PolicyError, diff
from lanelock.policies.documents import digest, read_json, resolve, shipped_schema, validate
from lanelock.policies.pack import CarriedPack, split_address, value_at
from lanelock.scoring.gates import GateSet, load_gates, parse_gates
from lanelock.scoring.scorecard import MetricSource
from lanelock.sweeps.engines import PackFinder, engine_named, metrics_named, open_pack
from lanelock.sweeps.lanes.knob import Knob, Value


@dataclass(frozen=True, slots=True)
class Objective:
    """A quantity that the search improves: a band's least margin, or a metric's mean over seeds."""

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
    gates_file: Mapping[str, Any]  # the whole gate file, as a lock carries it
    gates: GateSet  # the graded gates and the lane's rails
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
        """Returns a hex digest of all that determines a trial: the lane without its budget, the packs and the gates."""
        lane = {key: value for key, value in self.document.items() if key not in ("budget", "$schema")}
        references = {name: pack.digest for name, pack in self.references.items()}
        return digest({
            "lane": lane, "authority": self.authority.digest, "references": references, "gates": self.gates.document,
        })  # fmt: skip

    @cached_property
    def start(self) -> Pack:
        return self.authority.with_knobs(self.document["fixed"])

    def candidate(self, values: Mapping[str, Value]) -> Pack:
        """Returns the pack of one trial; `values` by knob name."""
        return self.start.with_knobs({knob.at: knob.placed(values[knob.name]) for knob in self.knobs})

    def moved(self, values: Mapping[str, Value]) -> dict[str, tuple[Any, Any]]:
        """Returns field -> (authority's value, trial's value), where the two differ."""
        placed = {**self.document["fixed"], **{knob.at: knob.placed(values[knob.name]) for knob in self.knobs}}
        before = {at: _field(self.authority, at, at) for at in placed}
        return {at: (before[at], placed[at]) for at in placed if before[at] != placed[at]}

    def admit(self, pack: Pack) -> dict[str, Value]:
        """Returns the knob values that give a pack. Raises LaneError naming a field that this lane cannot have set."""
        values: dict[str, Value] = {}
        for knob in self.knobs:
            placed = _field(pack, knob.at, f"pack {pack.name}")
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
                "a lane may change only its knobs"
            )
        return values

    def with_authority(self, authority: Pack) -> Lane:
        """Returns this lane with another authority: a campaign's, instead of the pack that the lane names."""
        gates = parse_gates(self.gates_file, self.id)
        return _build(self.document, authority, self.references, f"lane {self.id}", gates)

    def yardstick(self, seed: int, world: Path | None) -> dict[str, float]:
        """Returns what rails compare with: the authority's metrics, and each reference's as `name:metric`."""

        def measured(pack: Pack) -> dict[str, float]:
            return self.measure(self.engine.evaluate(pack, seed, world=world, until=self.until))

        metrics = measured(self.authority)
        for name, pack in self.references.items():
            metrics |= {f"{name}:{metric}": value for metric, value in measured(pack).items()}
        return metrics

    def measure(self, run: Run) -> dict[str, float]:
        """Returns the run's metrics. Leaves out a value that is not finite, so that its gate cannot pass."""
        return {name: value for name, value in self.metrics.measure(run).items() if math.isfinite(value)}

    def with_search(
        self,
        *,
        sampler: str | None = None,
        trials: int | None = None,
        seconds: float | None = None,
        batch: int | None = None,
    ) -> Lane:
        """Returns this lane with another sampler, budget or batch; None keeps the lane's own."""
        document = dict(self.document)
        if sampler is not None:
            document["sampler"] = {**document["sampler"], "name": sampler}
        if batch is not None:
            document["batch"] = batch
        budget = {"trials": trials, "seconds": seconds}
        document["budget"] = document["budget"] | {key: value for key, value in budget.items() if value is not None}
        validate(document, shipped_schema("lane"), f"lane {self.id}")
        return replace(self, document=document)


def load_lane(name_or_path: str, find_pack: PackFinder = open_pack) -> Lane:
    """Returns the lane in a file, or a shipped lane by name. Raises PolicyError or LaneError naming file and field.

    `find_pack` finds its authority and references; the default knows shipped packs and folders.
    """
    path = resolve(name_or_path, "lanes", ".json")
    if path.is_dir():
        raise LaneError(f"{path}: a lane is a JSON file, this is a folder")
    document = read_json(path)
    validate(document, shipped_schema("lane"), str(path))
    engine = engine_named(document["engine"])
    authority = pack_for(engine, beside(path, document["authority"]), find_pack)
    references = {
        name: pack_for(engine, beside(path, pack), find_pack) for name, pack in document.get("references", {}).items()
    }
    gates = document["gates"].get("file")
    gates = str(metrics_named(document["engine"]).gates_file) if gates is None else beside(path, gates)
    return _build(document, authority, references, str(path), load_gates(gates))


def lane_of(
    document: Mapping[str, Any],
    authority: CarriedPack,
    references: Mapping[str, CarriedPack],
    gate_file: Mapping[str, Any],
    where: str,
) -> Lane:
    """Returns the lane that a lock or a study carries: its document, its packs and its gate file."""
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
        policy, field = split_address(knob.at)[0], f"{where}: /knobs/{knob.name}"
        if policy not in lane.authority.policies:
            raise LaneError(f"{field}: {lane.authority.name} has no policy {policy}")
        _field(lane.authority, knob.at, field)
        for end in knob.ends():
            try:
                lane.start.with_knobs({knob.at: end})
            except PolicyError as error:
                raise LaneError(f"{field}: {end!r} is outside the policy's bounds: {error}") from None


def _field(pack: Pack, at: str, where: str) -> Any:
    policy, pointer = split_address(at)
    return value_at(pack[policy], pointer, where)


def pack_for(engine: Resolved, name: str, find_pack: PackFinder) -> Pack:
    """Returns the pack of that name. Raises PolicyError where it is another engine's."""
    pack, owner = find_pack(name)
    if owner.name != engine.name:
        raise PolicyError(f"{name}: /engine: a pack of engine {owner.name}, not of {engine.name}")
    return pack


def beside(lane: Path, name: str) -> str:
    """Returns a path that a file gives: beside that file where it starts with a dot and exists there, else as given."""
    path = lane.parent / name
    return str(path) if name.startswith(".") and path.exists() else name
