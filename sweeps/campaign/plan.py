"""A campaign: lanes in causal order, read from data and checked as a whole before anything is played.

The checks: every phase that a branch names exists, every lane and pack loads and belongs to the engine, every loop has
a branch that may be taken so many times and no more, and so every path ends in a freeze. `sweeps.campaign.play` plays
the phases, `sweeps.campaign.checks` tells when one may close, `sweeps.campaign.report` reports on a closed campaign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lanelock.engine.resolved import Resolved
from lanelock.policies import LaneError, Pack, PolicyError
from lanelock.policies.documents import digest, resolve, shipped_schema, validate
from lanelock.policies.errors import referred_to_by
from lanelock.policies.expressions import Expression
from lanelock.policies.notations import read_document
from lanelock.policies.pack import first_state, split_address, states_in
from lanelock.scoring.gates import GateSet
from lanelock.scoring.scorecard import MetricSource, gates_of
from lanelock.sweeps.campaign.checks import CHECKS
from lanelock.sweeps.campaign.movement import Material
from lanelock.sweeps.campaign.records import AUTHORITY, CANDIDATE, PhaseRecord
from lanelock.sweeps.campaign.triggers import condition
from lanelock.sweeps.engines import PackFinder, engine_named, metrics_named, open_pack
from lanelock.sweeps.lanes.lane import Lane, beside, load_lane, pack_for

PERFORMANCE = "performance"
NO_OP = "NO_OP"  # the outcome of a phase that was not needed
_CARRIES_CANDIDATE = ("GO", "RETRY")  # the outcomes that carry the candidate where the file does not say


@dataclass(frozen=True, slots=True)
class Branch:
    """The next phase after an outcome, and which pack it starts from."""

    next: str
    carry: str  # CANDIDATE or AUTHORITY
    decision: str  # its name
    at_most: int | None  # how often a run may take it; None: as often as it comes
    when: Expression | None = None  # what has to hold; None: nothing


@dataclass(frozen=True, slots=True)
class Phase:
    """One step of a campaign."""

    id: str
    kind: str  # "authority", "lane", "certify", "question", "performance" or "freeze"
    title: str
    why: str
    document: Mapping[str, Any]
    then: Mapping[str, Branch]  # outcome -> what follows; of several branches the last, which needs no condition
    lane: Lane | None  # of a lane phase, with the authority its file names
    pack: Pack | None  # of an authority phase, or of a baseline of performance
    material: Material | None = None  # of a lane phase: what earns RETRY
    cases: Mapping[str, tuple[Branch, ...]] = field(default_factory=dict)  # outcome -> the branches tried before that
    when: Expression | None = None  # what makes the phase necessary; None: it always is

    @property
    def fallback(self) -> str:
        """The outcome whose branch is taken instead of one that was taken as often as it may, or of a skipped phase."""
        return "NO" if self.kind == "question" else "NO_GO"

    def case(
        self, outcome: str, holds: Callable[[Branch], bool], before: Sequence[PhaseRecord]
    ) -> Branch | None:  # fmt: skip
        """Returns the first branch of an outcome whose condition holds and that may still be taken; None: the last.

        `before`: the phases that the run has played.
        """
        for branch in self.cases.get(outcome, ()):
            key = self.id, outcome, branch.next
            taken = sum((row.phase, row.outcome, row.next) == key for row in before)
            if (branch.at_most is None or taken < branch.at_most) and holds(branch):
                return branch
        return None

    def branches(self) -> Iterator[tuple[str, Branch]]:
        """Yields every branch with its outcome, in the order in which they are tried."""
        for outcome, last in self.then.items():
            yield from ((outcome, branch) for branch in (*self.cases.get(outcome, ()), last))

    def follows(self, outcome: str, taken: int) -> tuple[str, Branch | None]:
        """Returns the outcome that counts and its branch, if its branch was taken so many times before; None: the end.

        A branch that was taken as often as it may gives way to the fallback.
        """
        branch = self.then.get(outcome)
        if branch is not None and branch.at_most is not None and taken >= branch.at_most:
            return self.fallback, self.then[self.fallback]
        return outcome, branch

    @property
    def done_when(self) -> tuple[str, ...]:
        """Names of the checks that must hold before it closes."""
        return tuple(self.document.get("done_when", ()))


@dataclass(frozen=True)
class Campaign:
    """Phases by name, checked as a whole."""

    document: Mapping[str, Any]
    engine: Resolved
    metrics: MetricSource
    gates: GateSet
    phases: Mapping[str, Phase]
    recorded: Mapping[str, Pack]  # by phase: the candidate in the record of an earlier cycle
    source: str  # the shipped name, or the path, that it was read from

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
    def weaker(self) -> frozenset[str]:
        """The phases that grade and certify nothing; see `weaker_phases`."""
        return weaker_phases(self.document, self.gates)

    @property
    def floors(self) -> tuple[str, ...]:
        """Metrics that every lane's record states on both sides."""
        return tuple(self.document.get("floors", ()))

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
        for address in (*lane.document["fixed"], *lane.moves):
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
    document = read_document(path)
    validate(document, shipped_schema("campaign"), str(path))
    with referred_to_by(str(path)):
        engine, metrics = engine_named(document["engine"]), metrics_named(document["engine"])
    for where, row in {"": document, **{f"/phases/{name}": row for name, row in document["phases"].items()}}.items():
        if (until := row.get("until", engine.states[-1])) not in engine.states:
            known = ", ".join(engine.states)
            raise LaneError(f"{path}: {where}/until: {until!r} is not a state of {engine.name}: {known}")
    gates = gates_of(metrics)
    names = [*document["phases"]]
    phases = {
        name: _phase(name, row, path, engine, gates, find_pack, names) for name, row in document["phases"].items()
    }
    _check(document, phases, gates, str(path))
    _check_frozen(document, engine, str(path))
    with referred_to_by(f"{path}: /record/rows"):
        recorded = {
            row["phase"]: pack_for(engine, beside(path, row["pack"]), find_pack)
            for row in document.get("record", {}).get("rows", ())
            if "pack" in row
        }
    source = name_or_path if name_or_path == document["id"] else str(path.absolute())
    return Campaign(document, engine, metrics, gates, phases, recorded, source)


def _phase(
    name: str,
    row: Mapping[str, Any],
    path: Path,
    engine: Resolved,
    gates: GateSet,
    find_pack: PackFinder,
    phases: Sequence[str],
) -> Phase:
    field = f"{path}: /phases/{name}"
    try:
        lane = load_lane(beside(path, row["lane"]), find_pack) if "lane" in row else None
        pack = pack_for(engine, beside(path, row["pack"]), find_pack) if "pack" in row else None
        material = Material.of(row["material"], gates) if "material" in row else None
    except PolicyError as error:
        raise LaneError(f"{field}: {error}") from None
    if lane is not None and lane.engine.name != engine.name:
        raise LaneError(f"{field}/lane: {lane.id} is a lane of engine {lane.engine.name}, not of {engine.name}")
    then, cases = branches(name, row, phases, gates, field)
    when = condition(row["when"], phases, gates, f"{field}/when") if "when" in row else None
    return Phase(
        name, row["kind"], row["title"], row.get("why", ""), row, then, lane, pack, material, cases, when
    )  # fmt: skip


def branches(
    name: str, row: Mapping[str, Any], phases: Sequence[str], gates: GateSet, where: str
) -> tuple[dict[str, Branch], dict[str, tuple[Branch, ...]]]:
    """Returns outcome -> the branch without a condition, and outcome -> those that are tried before it.

    Raises LaneError for a list of branches whose last has a condition, or any other has none.
    """
    then, cases = dict[str, Branch](), dict[str, tuple[Branch, ...]]()
    for outcome, given in row.get("then", {}).items():
        field = f"{where}/then/{outcome}"
        rows = given if isinstance(given, list) else [given]
        found = [_branch(name, outcome, one, row["then"], phases, gates, field) for one in rows]
        *before, then[outcome] = found
        if then[outcome].when is not None:
            raise LaneError(f"{field}: the last branch has a condition: nothing would follow where none holds")
        if any(branch.when is None for branch in before):
            raise LaneError(f"{field}: a branch before the last has no condition: none after it could be taken")
        if before:
            cases[outcome] = tuple(before)
    return then, cases


def _branch(
    phase: str, outcome: str, row: Mapping[str, Any], then: Mapping[str, Any], phases: Sequence[str], gates: GateSet,
    where: str,
) -> Branch:  # fmt: skip
    return Branch(
        row["next"],
        row.get("carry", CANDIDATE if outcome in _CARRIES_CANDIDATE else AUTHORITY),
        row.get("decision") or _decision(phase, outcome, row, then),
        row.get("at_most"),
        condition(row["when"], phases, gates, f"{where}/when") if "when" in row else None,
    )


def _decision(phase: str, outcome: str, branch: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """Returns the name of a decision that the file does not name: GO_P3, NO_GO_P3, GO_P3_RETRY_FROM_2A, ALLOW_X_NO."""
    if outcome in ("YES", "NO", NO_OP):
        return f"{phase}_{outcome}".upper()
    if outcome == "RETRY":
        return f"GO_{branch['next']}_RETRY_FROM_{phase}".upper()
    if outcome == "GO":
        return f"GO_{branch['next']}".upper()
    granted = then["GO"][-1] if isinstance(then["GO"], list) else then["GO"]
    return f"NO_GO_{granted['next']}".upper()


def _check(document: Mapping[str, Any], phases: Mapping[str, Phase], gates: GateSet, where: str) -> None:
    if document["first"] not in phases or phases[document["first"]].kind not in ("authority", PERFORMANCE):
        raise LaneError(f"{where}: /first: {document['first']!r} is not a phase of kind authority or performance")
    _check_performance(document["first"], phases, where)
    for phase in phases.values():
        _check_branches(phase, phases, where)
        _check_closing(phase, phases, gates, where)
        band = phase.document.get("accept_band", gates.bands[0])
        if band not in gates.bands:
            raise LaneError(f"{where}: /phases/{phase.id}/accept_band: {band!r} is not one of {', '.join(gates.bands)}")
        _check_profile(phase, gates, f"{where}: /phases/{phase.id}/profile")
        if 0 < (holdout := phase.document.get("holdout", 0)) < gates.least_seeds:
            raise LaneError(
                f"{where}: /phases/{phase.id}/holdout: {holdout} shows no variation over seeds, which the gates limit: "
                f"give 0 or at least {gates.least_seeds}"
            )
    if unknown := [name for name in document.get("floors", ()) if name not in gates.metrics]:
        raise LaneError(f"{where}: /floors: {unknown[0]!r} is not a metric of {gates.document['id']}")
    _check_record(document.get("record", {}), phases, gates, where)
    reached = _reached(document["first"], phases)
    if unreached := [name for name in phases if name not in reached]:
        raise LaneError(f"{where}: /phases/{unreached[0]}: no branch leads there")
    if loop := _unbounded_loop(phases):
        raise LaneError(
            f"{where}: /phases/{loop[0]}: the campaign comes back to it: {' -> '.join(loop)}; a branch of it, not "
            "NO_GO or NO, needs an at_most"
        )


def _check_performance(first: str, phases: Mapping[str, Phase], where: str) -> None:
    """Raises LaneError for a performance phase without what it measures, and for others before there is a pack."""
    for phase in (row for row in phases.values() if row.kind == PERFORMANCE):
        field, of = f"{where}: /phases/{phase.id}", phase.document.get("of")
        if of is None:
            if phase.pack is None:
                raise LaneError(f"{field}/pack: missing; or name in /of the phase that measured")
        elif of not in phases or phases[of].kind != PERFORMANCE:
            raise LaneError(f"{field}/of: {of!r} is not a phase of kind {PERFORMANCE}")
    before, ahead = set[str](), [first]
    while ahead:
        if (name := ahead.pop()) in before or name not in phases or phases[name].kind == "authority":
            continue
        if phases[name].kind != PERFORMANCE:
            raise LaneError(f"{where}: /phases/{name}: no authority comes before it, so that it has no pack")
        before.add(name)
        ahead += [branch.next for _, branch in phases[name].branches()]


def weaker_phases(campaign: Mapping[str, Any], gates: GateSet) -> frozenset[str]:
    """Returns the phases of a campaign's document that name a profile weaker than the strongest of the gates."""
    named = {name: phase.get("profile") for name, phase in campaign["phases"].items()}
    strongest = None if gates.strongest is None else gates.strongest.name
    return frozenset(name for name, profile in named.items() if profile not in (None, strongest))


def _check_profile(phase: Phase, gates: GateSet, field: str) -> None:
    """Raises LaneError for a profile on whose seeds nothing can be graded, and for one that nothing is graded by."""
    if (name := phase.document.get("profile")) is None:
        return
    if phase.kind != "certify":
        raise LaneError(f"{field}: only a phase of kind certify has it")
    if name not in gates.profiles:
        raise LaneError(f"{field}: {name!r} is not a profile of its gates: {', '.join(gates.profiles) or 'none'}")
    if (count := len(gates.profiles[name].seeds)) < gates.least_seeds:
        raise LaneError(f"{field}: {name} has {count} seeds, and its gates limit how metrics vary between seeds")


def _check_branches(phase: Phase, phases: Mapping[str, Phase], where: str) -> None:
    for outcome, branch in phase.branches():
        field = f"{where}: /phases/{phase.id}/then/{outcome}"
        if branch.next not in phases:
            raise LaneError(f"{field}: no phase {branch.next!r} (known: {', '.join(phases)})")
        if (
            branch.when is None
            and branch.at_most is not None
            and (outcome == phase.fallback or phase.fallback not in phase.then)
        ):
            raise LaneError(f"{field}/at_most: another branch must be left when it is used up, and there is none")
    if (phase.when is None) != (NO_OP not in phase.then):
        has, lacks = ("when", f"then/{NO_OP}") if phase.when is not None else (f"then/{NO_OP}", "when")
        raise LaneError(f"{where}: /phases/{phase.id}/{has}: needs {lacks} beside it")
    if (phase.material is None) != ("RETRY" not in phase.then) and phase.kind == "lane":
        has, lacks = ("material", "then/RETRY") if "RETRY" not in phase.then else ("then/RETRY", "material")
        raise LaneError(f"{where}: /phases/{phase.id}/{has}: needs {lacks} beside it")


def _check_closing(phase: Phase, phases: Mapping[str, Phase], gates: GateSet, where: str) -> None:
    """Raises LaneError for a check, a waiver, a gate or a piece of evidence that the phase cannot have."""
    field = f"{where}: /phases/{phase.id}"
    if unknown := [name for name in phase.done_when if name not in CHECKS]:
        raise LaneError(f"{field}/done_when: {unknown[0]!r} is not a check: {', '.join(CHECKS)}")
    if foreign := [name for name in phase.done_when if phase.kind not in CHECKS[name].kinds]:
        raise LaneError(f"{field}/done_when: {foreign[0]} is a check of {' and '.join(CHECKS[foreign[0]].kinds)} alone")
    for row in phase.document.get("waived", ()):
        if row["check"] not in phase.done_when:
            raise LaneError(f"{field}/waived: {row['check']!r} is not one of its done_when")
    graded = () if phase.lane is None else tuple(gate.id for gate in phase.lane.gates.gates)
    if unknown := [name for name in phase.document.get("hold", ()) if name not in graded]:
        raise LaneError(f"{field}/hold: {unknown[0]!r} is not graded by its lane: {', '.join(graded)}")
    if (after := phase.document.get("after")) is not None and (after not in phases or phases[after].kind != "lane"):
        raise LaneError(f"{field}/after: {after!r} is not a phase of kind lane")
    if phase.lane is not None and phase.document.get("trials", 0) > (most := phase.lane.document["budget"]["trials"]):
        raise LaneError(f"{field}/trials: {phase.document['trials']} is more than the {most} of its lane's budget")
    if unknown := [name for name in phase.document.get("evidence", ()) if name not in phases]:
        raise LaneError(f"{field}/evidence: no phase {unknown[0]!r} (known: {', '.join(phases)})")


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


def _reached(first: str, phases: Mapping[str, Phase]) -> set[str]:
    """Returns every phase that some path leads to."""
    reached, ahead = set[str](), [first]
    while ahead:
        if (name := ahead.pop()) not in reached:
            reached.add(name)
            ahead += [branch.next for _, branch in phases[name].branches()]
    return reached


def _unbounded_loop(phases: Mapping[str, Phase]) -> list[str]:
    """Returns a loop of branches that may be taken for ever, from a phase back to it; empty if there is none.

    Without one every run ends: bounded branches are used up, and the others lead nowhere but to a freeze, which alone
    has no branches.
    """
    done = set[str]()

    def follow(name: str, above: tuple[str, ...]) -> list[str]:
        if name in above:
            return [*above[above.index(name) :], name]
        if name in done:
            return []
        onward = (branch.next for _, branch in phases[name].branches() if branch.at_most is None)
        loop = next(filter(None, (follow(to, (*above, name)) for to in onward)), [])
        done.add(name)
        return loop

    return next(filter(None, (follow(name, ()) for name in phases)), [])
