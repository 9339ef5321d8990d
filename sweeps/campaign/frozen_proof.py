"""Proves a freeze: what it points to is there and as it states, and everything else follows from that again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lanelock.engine.keep.receipts import file_digest
from lanelock.policies import LanelockError
from lanelock.policies.documents import digest, read_json
from lanelock.policies.expressions import Expression
from lanelock.policies.names import inside
from lanelock.scoring.gates import GateSet, parse_gates
from lanelock.sweeps.campaign.freezing import derived, pointed
from lanelock.sweeps.campaign.phases import freeze as ended
from lanelock.sweeps.campaign.plan import NO_OP, Phase, branches, weaker_phases
from lanelock.sweeps.campaign.records import BEGUN, Holder, PhaseRecord, begun_with, records_in
from lanelock.sweeps.campaign.triggers import Trigger, condition, evaluated
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.proof.checks import Check, Findings, Proved, Unproved, Watch, collected, same
from lanelock.sweeps.proof.evidence import gates_of, verify_evidence
from lanelock.sweeps.proof.freezes import Freeze
from lanelock.sweeps.proof.grading import gates_of_engine
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.moves import moves
from lanelock.sweeps.proof.verification import verify_lock
from lanelock.sweeps.workspace import Workspace


def verify_freeze(path: Path, workspace: Workspace, watch: Watch = lambda check: None) -> Findings:
    """Returns every check of a freeze, those of its lock and its evidence included.

    Nothing is derived or run again if a file that it points to is missing or was changed. Raises IntegrityError if its
    own id is wrong.
    """
    freeze = Freeze.read(path)
    found = collected(_files(freeze, workspace), watch)
    if found.ok:
        found += collected(_derived(freeze, workspace), watch)
    if found.ok and freeze.lock is not None:
        found += _of("lock", verify_lock(inside(workspace.locks, freeze.lock["file"]), None, watch, workspace))
    if found.ok and freeze.evidence is not None:
        folder = inside(workspace.evidence, freeze.evidence["folder"])
        found += _of("evidence", verify_evidence(folder, watch, with_lock=False))
    return found


def _folder(freeze: Freeze, workspace: Workspace) -> Path:
    return inside(workspace.campaigns, freeze.run)


def _of(what: str, found: Findings) -> Findings:
    """Returns what was found of a part, told apart from what was found of the freeze."""
    checks = tuple(replace(check, name=f"{what}: {check.name}") for check in found)
    proved, not_proved = ([f"{what}: {row}" for row in rows] for rows in (found.proved, found.not_proved))
    return Findings(checks, tuple(proved), tuple(not_proved))


def _files(freeze: Freeze, workspace: Workspace) -> Iterator[Check]:
    """Compares the files of the campaign's run with what the freeze states of them."""
    folder = _folder(freeze, workspace)
    for row in freeze.phases:
        path = inside(folder, row["file"])
        yield same(row["file"], row["sha256"], file_digest(path) if path.is_file() else "missing")
    try:
        yield same("campaign, lanes, packs and code", freeze.identity, begun_with(folder))
    except LanelockError as error:
        yield Check("campaign, lanes, packs and code", False, freeze.identity, str(error))


def _derived(freeze: Freeze, workspace: Workspace) -> Iterator[Check | Proved | Unproved]:
    folder = _folder(freeze, workspace)
    campaign, records = read_json(folder / BEGUN)["campaign"], tuple(records_in(folder))
    done = records[: len(freeze.phases)]
    last = done[-1] if done else None
    if last is None or last.holder is None or last.next not in campaign["phases"]:
        yield Check("phases", False, "a run that came to its freeze", f"{len(done)} records")
        return
    try:
        yield from _followed(freeze, workspace, campaign, done, last.holder, campaign["phases"][last.next])
    except LanelockError as error:  # the lock or the evidence is missing, or was changed
        yield Check("lock and evidence", False, "as they were", str(error))
        return
    try:
        yield from _conditions(campaign, done)
    except LanelockError as error:  # a metric that the record lacks
        yield Check("conditions", False, "as the campaign's file states", str(error))
    for record in records[len(done) :]:
        stated = None if record.end is None else (record.end.freeze, record.end.status, record.reason)
        yield same(f"record {record.phase}", stated, (freeze.freeze_id, freeze.status, freeze.reason))
    yield from _moved(freeze, workspace)
    yield from _open(freeze, campaign["engine"])


def _conditions(campaign: dict[str, Any], done: Sequence[PhaseRecord]) -> Iterator[Check | Unproved]:
    """Yields, of each phase with conditions, whether these and the next phase follow from what the records state."""
    gates, phases = gates_of_engine(campaign["engine"]), [*campaign["phases"]]
    for place, record in enumerate(done):
        row, where = campaign["phases"][record.phase], f"/phases/{record.phase}"
        then, cases = branches(record.phase, row, phases, gates, where)
        phase = Phase(record.phase, record.kind, record.title, record.why, row, then, None, None, cases=cases)
        needed = condition(row["when"], phases, gates, f"{where}/when") if "when" in row else None
        if record.skipped is None and (needed is not None or record.outcome in cases):
            yield from _condition(record, done[:place], phase, needed, gates)


def _condition(
    record: PhaseRecord, before: Sequence[PhaseRecord], phase: Phase, needed: Expression | None, gates: GateSet
) -> Iterator[Check | Unproved]:
    outcomes, found = {row.phase: row.outcome for row in before}, list[Trigger]()

    def holds(rule: Expression | None, metrics: Mapping[int, Mapping[str, float]]) -> bool:
        assert rule is not None  # only the last branch of an outcome has none
        found.append(evaluated(rule, metrics, outcomes, gates))
        return found[-1].holds

    measured = record.metrics or {}
    if needed is not None:
        # Of a phase that was played, the record has its candidate's metrics, not those of the pack before it.
        seen = record.triggers[0].values if record.triggers else {}
        numbers = {name: row for name, row in seen.items() if not isinstance(row, str)}
        necessary = holds(needed, measured if record.outcome == NO_OP else {0: numbers})
        yield same(f"record {record.phase}: needed", record.outcome != NO_OP, necessary)
        if record.outcome != NO_OP and numbers:
            yield Unproved(f"the metrics by which {record.phase} was needed: its record states them")
    case = phase.case(record.outcome, lambda branch: holds(branch.when, measured), before)
    yield same(f"record {record.phase}: conditions", [*map(asdict, record.triggers)], [*map(asdict, found)])
    last = phase.then[record.outcome]
    if last.at_most is None:
        yield same(f"record {record.phase}: next", record.next, (case or last).next)


def _followed(
    freeze: Freeze,
    workspace: Workspace,
    campaign: dict[str, Any],
    done: Sequence[PhaseRecord],
    holder: Holder,
    phase: dict[str, Any],
) -> Iterator[Check]:
    """Yields what follows from the records, the lock and the evidence."""
    engine, gates = engine_named(campaign["engine"]), _gates(freeze, workspace)
    yield same("campaign", (freeze.campaign, freeze.engine), (campaign["id"], engine.name))
    yield same("pack", asdict(freeze.pack), asdict(holder.pack))
    yield same("pack digest", freeze.pack.digest, holder.pack.opened(engine.policy_schemas, freeze.run).digest)
    end, reason = ended(done, gates.bands, weaker_phases(campaign, gates))
    yield same("status", (freeze.status, freeze.certified, freeze.reason), (end.status, end.certified, reason))
    again = derived(campaign, workspace, _folder(freeze, workspace), done, holder, phase, freeze.asked, gates.bands)
    yield from (same(name, getattr(freeze, name), value) for name, value in again.items())
    if holder.lock is not None:
        code = Lock.read(inside(workspace.locks, holder.lock)).code_version
        yield same("code", freeze.code_version, code)


def _gates(freeze: Freeze, workspace: Workspace) -> GateSet:
    """Returns the gates by which it was graded: its evidence's, else its lock's, else the installed engine's."""
    if freeze.evidence is not None:
        return gates_of(inside(workspace.evidence, freeze.evidence["folder"]))
    if freeze.lock is not None:
        lock = Lock.read(inside(workspace.locks, freeze.lock["file"]))
        return parse_gates(lock.gates, lock.name)
    return gates_of_engine(freeze.engine)


def _moved(freeze: Freeze, workspace: Workspace) -> Iterator[Check]:
    """Yields whether the aliases pointed where it states, after as many moves as it states."""
    count = 0 if freeze.moves is None else freeze.moves["count"]
    found = pointed(moves(workspace)[:count], workspace)
    yield same("aliases", {"moves": freeze.moves, "aliases": freeze.aliases}, found)
    lock_id = None if freeze.lock is None else freeze.lock["lock_id"]
    held = [row["alias"] for row in freeze.asked if not row["refused"]]
    yield same("aliases that were moved", dict.fromkeys(held, lock_id), {a: freeze.aliases.get(a) for a in held})


def _open(freeze: Freeze, engine: str) -> Iterator[Unproved]:
    yield Unproved(f"frozen at {freeze.at} by {freeze.who}")
    yield Unproved("what the checks of its phases found when they were played: their records state it")
    if unsigned := [row for row in (*freeze.answers, *freeze.waivers) if not row["signed_by"]]:
        people = ", ".join(dict.fromkeys(row["who"] for row in unsigned))
        yield Unproved(f"that these people gave the answers and waivers that nobody signed: {people}")
    if freeze.lock is None:
        yield Unproved(f"played by engine code {freeze.code_version[:12]}")
    if refused := [row["alias"] for row in freeze.asked if row["refused"]]:
        yield Unproved(f"why these aliases were not moved then: {', '.join(refused)}")
    gates = gates_of_engine(engine).document
    if digest(dict(gates)) != freeze.gates["digest"]:
        yield Unproved(f"the gate file it was frozen under, {freeze.gates['digest'][:12]}: another is installed")
