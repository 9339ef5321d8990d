"""A campaign: lanes in causal order, read from data and checked as a whole before anything is played.

The checks: every phase that a branch names exists, every lane and pack loads and belongs to the engine, no path
returns to a phase it has passed, and every path ends in a freeze. `sweeps.campaign.play` plays the phases;
`sweeps.campaign.report` reports on a closed campaign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanelock.engine.resolved import Resolved
from lanelock.policies import LaneError, Pack, PolicyError
from lanelock.policies.documents import digest, read_json, resolve, shipped_schema, validate
from lanelock.policies.errors import referred_to_by
from lanelock.policies.pack import first_state, split_address, states_in
from lanelock.scoring.gates import GateSet, load_gates
from lanelock.scoring.scorecard import MetricSource
from lanelock.sweeps.engines import PackFinder, engine_named, metrics_named, open_pack
from lanelock.sweeps.lanes.lane import Lane, beside, load_lane, pack_for

CANDIDATE, AUTHORITY = "candidate", "authority"


@dataclass(frozen=True, slots=True)
class Branch:
    """The next phase after an outcome, and which pack it starts from."""

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
    """Phases by name, checked as a whole."""

    document: Mapping[str, Any]
    engine: Resolved
    metrics: MetricSource
    gates: GateSet
    phases: Mapping[str, Phase]
    recorded: Mapping[str, Pack]  # by phase: the candidate in the record of an earlier cycle

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
        """Hex64 over what decides how it is played: its file, lanes and packs, and the engine's code."""
        lanes = {phase.id: phase.lane.identity for phase in self.phases.values() if phase.lane is not None}
        packs = {phase.id: phase.pack.digest for phase in self.phases.values() if phase.pack is not None}
        document = {key: value for key, value in self.document.items() if key != "$schema"}
        return digest({"campaign": document, "lanes": lanes, "packs": packs, "code": self.engine.code_version})

    def frozen_move(self, lane: Lane) -> str | None:
        """Returns why a lane may not be played: its first field that a frozen state reads. None if it may."""
        for address in (*lane.document["fixed"], *(knob.at for knob in lane.knobs)):
            policy, pointer = split_address(address)
            state = first_state(lane.authority.schemas[policy], pointer)
            if state in self.document["frozen"]:
                return f"it moves {address}, which {state} reads, and this campaign keeps {state} frozen"
        return None


def load_campaign(name_or_path: str, find_pack: PackFinder = open_pack) -> Campaign:
    """Returns the campaign in a file, or a shipped campaign. Raises PolicyError or LaneError naming file and field.

    `find_pack` finds the packs that it and its lanes name; the default knows shipped packs and folders.
    """
    path = resolve(name_or_path, "campaigns", ".json")
    if path.is_dir():
        raise LaneError(f"{path}: a campaign is a JSON file, but this is a folder")
    document = read_json(path)
    validate(document, shipped_schema("campaign"), str(path))
    with referred_to_by(str(path)):
        engine, metrics = engine_named(document["engine"]), metrics_named(document["engine"])
    for where, row in {"": document, **{f"/phases/{name}": row for name, row in document["phases"].items()}}.items():
        if (until := row.get("until", engine.states[-1])) not in engine.states:
            known = ", ".join(engine.states)
            raise LaneError(f"{path}: {where}/until: {until!r} is not a state of {engine.name}: {known}")
    phases = {name: _phase(name, row, path, engine, find_pack) for name, row in document["phases"].items()}
    gates = load_gates(str(metrics.gates_file))
    _check(document, phases, gates, str(path))
    _check_frozen(document, engine, str(path))
    with referred_to_by(f"{path}: /record/rows"):
        recorded = {
            row["phase"]: pack_for(engine, beside(path, row["pack"]), find_pack)
            for row in document.get("record", {}).get("rows", ())
            if "pack" in row
        }
    return Campaign(document, engine, metrics, gates, phases, recorded)


def _phase(name: str, row: Mapping[str, Any], path: Path, engine: Resolved, find_pack: PackFinder) -> Phase:
    field = f"{path}: /phases/{name}"
    then = {
        outcome: Branch(branch["next"], branch.get("carry", CANDIDATE if outcome == "GO" else AUTHORITY))
        for outcome, branch in row.get("then", {}).items()
    }
    try:
        lane = load_lane(beside(path, row["lane"]), find_pack) if "lane" in row else None
        pack = pack_for(engine, beside(path, row["pack"]), find_pack) if "pack" in row else None
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
                field = f"/phases/{phase.id}/then/{outcome}"
                raise LaneError(f"{where}: {field}: no phase {branch.next!r} (known: {', '.join(phases)})")
        band = phase.document.get("accept_band", gates.bands[0])
        if band not in gates.bands:
            raise LaneError(f"{where}: /phases/{phase.id}/accept_band: {band!r} is not one of {', '.join(gates.bands)}")
        if 0 < (holdout := phase.document.get("holdout", 0)) < gates.least_seeds:
            raise LaneError(
                f"{where}: /phases/{phase.id}/holdout: {holdout} shows no variation over seeds, which the gates limit: "
                f"give 0 or at least {gates.least_seeds}"
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
    """Raises LaneError for a frozen state that neither a policy nor the engine has."""
    known = {*engine.states, *(state for schema in engine.policy_schemas.values() for state in states_in(schema))}
    if unknown := [state for state in document["frozen"] if state not in known]:
        raise LaneError(f"{where}: /frozen: {unknown[0]!r} is not a state of {engine.name}: {', '.join(sorted(known))}")


def _walk(name: str, phases: Mapping[str, Phase], above: tuple[str, ...], reached: set[str], where: str) -> None:
    """Follows every branch. A path without a loop ends in a freeze, the only phase without branches."""
    if name in above:
        raise LaneError(f"{where}: /phases/{name}: the campaign comes back to it: {' -> '.join([*above, name])}")
    if name not in reached:
        reached.add(name)
        for branch in phases[name].then.values():
            _walk(branch.next, phases, (*above, name), reached, where)
