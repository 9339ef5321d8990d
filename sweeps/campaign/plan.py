"""A campaign: lanes in causal order, read from data and checked whole before anything is played.

Checking whole means: every phase a branch names exists, every lane and pack loads and belongs to the engine,
no path comes back to a phase it has passed, and every path ends in a freeze. How phases are played is in
`sweeps.campaign.play`; what a closed campaign says is in `sweeps.campaign.report`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanelock.engine.resolved import Resolved
from lanelock.policies import LaneError, Pack, PolicyError, load_pack
from lanelock.policies.documents import digest, read_json, resolve, shipped_schema, validate
from lanelock.policies.pack import first_state, split_address, states_in
from lanelock.scoring.gates import GateSet, load_gates
from lanelock.scoring.scorecard import MetricSource
from lanelock.sweeps.engines import engine_named, metrics_named
from lanelock.sweeps.lanes.lane import Lane, beside, load_lane

CANDIDATE, AUTHORITY = "candidate", "authority"


@dataclass(frozen=True, slots=True)
class Branch:
    """What follows on an outcome: the next phase, and what it starts from."""

    next: str
    carry: str  # CANDIDATE or AUTHORITY


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of a campaign."""

    id: str
    kind: str  # "authority", "lane", "certify" or "freeze"
    title: str
    why: str
    document: Mapping[str, Any]
    then: Mapping[str, Branch]  # outcome -> what follows
    lane: Lane | None  # of a lane phase, with the authority its file names
    pack: Pack | None  # of an authority phase


@dataclass(frozen=True)
class Campaign:
    """Phases by name, checked whole."""

    document: Mapping[str, Any]
    engine: Resolved
    metrics: MetricSource
    gates: GateSet
    phases: Mapping[str, Phase]
    recorded: Mapping[str, Pack]  # by phase: the candidate of the record, to be run here as well

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

    @property
    def identity(self) -> str:
        """Hex64 over what decides how it is played: the file, its lanes and packs, the engine's code."""
        lanes = {phase.id: phase.lane.identity for phase in self.phases.values() if phase.lane is not None}
        packs = {phase.id: phase.pack.digest for phase in self.phases.values() if phase.pack is not None}
        return digest({
            "campaign": {key: value for key, value in self.document.items() if key != "$schema"},
            "lanes": lanes, "packs": packs, "code": self.engine.code_version,
        })  # fmt: skip

    def frozen_move(self, lane: Lane) -> str | None:
        """Why a lane may not be played here: the first of its fields that a frozen state reads; None if none does."""
        addresses = [*lane.document["fixed"], *(knob.at for knob in lane.knobs)]
        for address in addresses:
            policy, pointer = split_address(address)
            state = first_state(lane.authority.schemas[policy], pointer)
            if state in self.document["frozen"]:
                return f"it moves {address}, which {state} reads, and this campaign keeps {state} frozen"
        return None


def load_campaign(name_or_path: str) -> Campaign:
    """The campaign in a file, or a shipped one. Raises PolicyError or LaneError naming file and field."""
    path = resolve(name_or_path, "campaigns", ".json")
    if path.is_dir():
        raise LaneError(f"{path}: a campaign is a JSON file, this is a folder")
    document = read_json(path)
    validate(document, shipped_schema("campaign"), str(path))
    engine, metrics = engine_named(document["engine"]), metrics_named(document["engine"])
    for field, until in _untils(document):
        if until not in engine.states:
            raise LaneError(f"{path}: {field}: {until!r} is not a state of {engine.name}: {', '.join(engine.states)}")
    phases = {name: _phase(name, row, path, engine) for name, row in document["phases"].items()}
    gates = load_gates(str(metrics.gates_file))
    _check(document, phases, gates, str(path))
    _check_frozen(document, engine, str(path))
    recorded = {
        row["phase"]: load_pack(beside(path, row["pack"]), engine.policy_schemas, engine.name)
        for row in document.get("record", {}).get("rows", ())
        if "pack" in row
    }
    return Campaign(document, engine, metrics, gates, phases, recorded)


def _untils(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = {"": document} | {f"/phases/{name}": row for name, row in document["phases"].items()}
    return [(f"{where}/until", row["until"]) for where, row in rows.items() if "until" in row]


def _phase(name: str, row: Mapping[str, Any], path: Path, engine: Resolved) -> Phase:
    field = f"{path}: /phases/{name}"
    then = {
        outcome: Branch(branch["next"], branch.get("carry", CANDIDATE if outcome == "GO" else AUTHORITY))
        for outcome, branch in row.get("then", {}).items()
    }
    try:
        lane = load_lane(beside(path, row["lane"])) if "lane" in row else None
        pack = load_pack(beside(path, row["pack"]), engine.policy_schemas, engine.name) if "pack" in row else None
    except PolicyError as error:
        raise LaneError(f"{field}: {error}") from None
    if lane is not None and lane.engine.name != engine.name:
        raise LaneError(f"{field}/lane: {lane.id} is a lane of engine {lane.engine.name}, not of {engine.name}")
    return Phase(name, row["kind"], row["title"], row.get("why", ""), row, then, lane, pack)


def _check(document: Mapping[str, Any], phases: Mapping[str, Phase], gates: GateSet, where: str) -> None:
    if document["first"] not in phases or phases[document["first"]].kind != "authority":
        raise LaneError(f"{where}: /first: {document['first']!r} is not a phase of kind authority")
    for phase in phases.values():
        for outcome, branch in phase.then.items():
            if branch.next not in phases:
                known = ", ".join(phases)
                raise LaneError(
                    f"{where}: /phases/{phase.id}/then/{outcome}: no phase {branch.next!r} (known: {known})"
                )
        band = phase.document.get("accept_band", gates.bands[0])
        if band not in gates.bands:
            raise LaneError(f"{where}: /phases/{phase.id}/accept_band: {band!r} is not one of {', '.join(gates.bands)}")
        if 0 < (holdout := phase.document.get("holdout", 0)) < gates.least_seeds:
            raise LaneError(
                f"{where}: /phases/{phase.id}/holdout: {holdout} shows no variation over seeds, which the gates limit: "
                f"give none or at least {gates.least_seeds}"
            )
    _check_record(document.get("record", {}), phases, gates, where)
    reached: set[str] = set()
    _walk(document["first"], phases, (), reached, where)
    if unreached := [name for name in phases if name not in reached]:
        raise LaneError(f"{where}: /phases/{unreached[0]}: no branch leads there")


def _check_record(record: Mapping[str, Any], phases: Mapping[str, Phase], gates: GateSet, where: str) -> None:
    columns = record.get("columns", {})
    if unknown := sorted(set(columns) - set(gates.metrics)):
        raise LaneError(f"{where}: /record/columns: {unknown[0]!r} is not a metric of {gates.document['id']}")
    for row in record.get("rows", ()):
        if row["phase"] not in phases:
            raise LaneError(f"{where}: /record/rows: no phase {row['phase']!r}")
        if unknown := sorted(set(row["values"]) - set(columns)):
            raise LaneError(f"{where}: /record/rows/{row['phase']}: {unknown[0]!r} is not one of its columns")


def _check_frozen(document: Mapping[str, Any], engine: Resolved, where: str) -> None:
    """A state that no policy and no engine has would keep nothing frozen."""
    known = dict.fromkeys(
        [*(s for schema in engine.policy_schemas.values() for s in states_in(schema)), *engine.states]
    )
    if unknown := [state for state in document["frozen"] if state not in known]:
        raise LaneError(f"{where}: /frozen: {unknown[0]!r} is not a state of {engine.name}: {', '.join(sorted(known))}")


def _walk(name: str, phases: Mapping[str, Phase], above: tuple[str, ...], reached: set[str], where: str) -> None:
    """Follows every branch; every path that does not come back ends in a freeze, the only phase without branches."""
    if name in above:
        raise LaneError(f"{where}: /phases/{name}: the campaign comes back to it: {' -> '.join([*above, name])}")
    if name not in reached:
        reached.add(name)
        for branch in phases[name].then.values():
            _walk(branch.next, phases, (*above, name), reached, where)
