"""Proves a lock: everything in it is computed again, and its decision derived again from that.

In order: the id and the documents in it; that the gates are the installed engine's; per seed the authority's metrics,
world, surfaces, metrics and scorecard; fresh seeds; decision, verdict, reason and blockers; and, where the study of its
sweep is, that the search took this candidate. What none of this shows is listed as not proved.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from lanelock.engine.chain import UpstreamRun, upstream_codes
from lanelock.engine.protocol import Publishing
from lanelock.policies import DataError, IntegrityError, LanelockError, Pack, WorkspaceError
from lanelock.policies.documents import digest
from lanelock.policies.errors import cause
from lanelock.sweeps.decision.decision import Confirmation as Confirmed
from lanelock.sweeps.decision.decision import Decision
from lanelock.sweeps.decision.runtime import RUNTIME, time_candidate
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.survey import Ground, prospect
from lanelock.sweeps.proof.checks import Check, Findings, Proved, Unproved, Watch, collected, same
from lanelock.sweeps.proof.grading import gates_of_engine
from lanelock.sweeps.proof.lock import (
    BEFORE_WHOLE_RUNS,
    KIND,
    Confirmation,
    Lock,
    SeedProof,
    prove_on,
    reason_of,
    source_of,
    standing,
)
from lanelock.sweeps.proof.searched import searched
from lanelock.sweeps.proof.whole import other_files, whole_runs
from lanelock.sweeps.provenance import Provenance, here
from lanelock.sweeps.workspace import Workspace


def verify_lock(
    path: Path, world: Path | None = None, watch: Watch = lambda check: None, workspace: Workspace | None = None
) -> Findings:
    """Returns every check, in order; the lock holds if all are ok. A difference does not stop it.

    `workspace` is where the transcript of its search may be; without it, nothing of the search is proved.
    """
    return collected(_checks(Lock.read(path), str(path), world, workspace), watch)


def otherwise(lock: Lock) -> Iterator[str]:
    """Yields in what this machine is other than the one that made a lock: the first place to look for a difference."""
    engine = engine_named(lock.engine)
    if lock.code_version != engine.code_version:
        yield f"other code: engine {lock.code_version[:12]}, here {engine.code_version[:12]}"
    codes = upstream_codes(engine)
    for run in next(iter(lock.proof.values())).upstream if lock.proof else ():
        if (here_is := codes.get(run.engine, "none")) != run.code_version:
            yield f"other code upstream: engine {run.engine} {run.code_version[:12]}, here {here_is[:12]}"
    if lock.arithmetic != engine.fingerprint:
        yield f"other arithmetic: {lock.arithmetic[:12] or 'none'}, here {engine.fingerprint[:12] or 'none'}"
    yield from here().differences(lock.made_by)


def _unproved(lock: Lock, lane: Lane) -> Iterator[Unproved]:
    """Yields what a lock states and nobody can prove from its numbers."""
    yield Unproved(f"made by {Provenance(**lock.made_by)}")
    yield Unproved("the budget of its lane, and what its packs are called")
    shown = {gate.id for gate in (*lane.gates.gates, *lane.gates.observed)}
    if left_out := sorted({gate["id"] for gate in lock.gates["gates"]} - shown):
        yield Unproved(f"gates that its lane does not grade: {', '.join(left_out)}")
    if lock.code_version != lane.engine.code_version:
        yield Unproved(f"made by engine code {lock.code_version[:12]}: {lane.engine.code_version[:12]} is installed")
    if lock.chosen_by_hand is not None:
        yield Unproved(f"a person chose it, because: {lock.chosen_by_hand}")
    if (waiver := lane.document.get("waiver")) is not None:
        yield Unproved(f"{waiver['who']} allowed the sweep beyond its lane's attempts, because: {waiver['why']}")
    if lane.own_gates:
        yield Unproved("the gates are its lane's own, not the engine's: it can be a candidate and nothing more")
    if any(row.gate == RUNTIME for row in lock.blockers):
        yield Unproved("the time it took when it was locked")


def _checks(
    lock: Lock, where: str, world: Path | None, workspace: Workspace | None
) -> Iterator[Check | Proved | Unproved]:
    yield same("lock_id", lock.lock_id, lock.lock_id)  # `read` has checked it
    lock.needs_its_world(world, where)
    yield same("world_source", lock.world_source, source_of(world))
    try:
        lane, pack = lock.lane(where), lock.pack(where)
        admitted = lane.admit(pack) if lock.knobs else {}
    except LanelockError as error:
        yield Check("content", False, "a lane and packs valid under this package", str(error))
        return
    yield same("engine", lock.engine, lane.engine.name)
    yield same("arithmetic", lock.arithmetic, lane.engine.fingerprint)
    if not lane.own_gates:
        engines = gates_of_engine(lock.engine).grading
        yield same("gates: those of the installed engine", digest(lock.gates), digest(engines))
    seeds = same("seeds", list(lock.seeds), list(lane.seeds))
    yield seeds
    if not seeds.ok:
        return
    try:
        yield from _run(lock, lane, pack, admitted, world, workspace)
    except (IntegrityError, WorkspaceError, DataError, MemoryError):
        raise
    except (Exception, SystemExit) as error:  # whatever the engine raises
        yield Check("runs", False, "a run of both packs on every seed", cause(error))


def _run(
    lock: Lock, lane: Lane, pack: Pack, admitted: Mapping[str, Value], world: Path | None, workspace: Workspace | None
) -> Iterator[Check | Proved | Unproved]:
    """Yields what running authority and candidate again gives, and what follows from it."""
    yield same("pack digest", lock.candidate_pack.digest, pack.digest)
    yield same("authority digest", lock.authority.digest, lane.authority.digest)
    yield same("pack = authority + fixed fields + knobs", lock.knobs, admitted)
    if not admitted:
        bare = lane.authority if pack.digest == lane.authority.digest else lane.start
        yield same("pack = authority + fixed fields", pack.digest, bare.digest)
    yardsticks, proofs = dict[int, dict[str, float]](), dict[int, SeedProof]()
    for seed, stated_card in zip(lane.seeds, lock.cards(lane), strict=True):
        yardsticks[seed] = measured = lane.yardstick(seed, world)
        yield same(f"seed {seed}: authority metrics", lock.authority_metrics[seed], measured)
        stated, computed = lock.proof[seed], prove_on(lane, pack, seed, world, measured)
        proofs[seed] = computed
        yield from _upstream(seed, stated, computed)
        yield same(f"seed {seed}: run_id", stated.run_id, computed.run_id)
        yield same(f"seed {seed}: world", stated.world, computed.world)
        for surface in {**stated.surfaces, **computed.surfaces}:
            yield same(f"seed {seed}: {surface}", stated.surfaces.get(surface), computed.surfaces.get(surface))
        yield same(f"seed {seed}: metrics", stated.metrics, computed.metrics)
        yield same(f"seed {seed}: scorecard", stated.card, computed.card)
        yield same(f"seed {seed}: scorecard of the stated metrics", stated.card, stated_card.as_document())
    ground = Ground(lane, world, yardsticks, prospect(lane, world))
    measures = {seed: proof.metrics for seed, proof in proofs.items()}
    fresh = yield from _decided(lock, ground, pack, measures)
    yield from _whole(lock, lane, pack, world)
    also = f" and {len(fresh.metrics)} fresh ones" if fresh is not None else ""
    yield Proved(f"numbers recomputed on {len(lane.seeds)} seeds{also}; decision derived")
    yield from _unproved(lock, lane)
    yield from searched(lock, ground, fresh, measures, workspace)


def _upstream(seed: int, stated: SeedProof, computed: SeedProof) -> Iterator[Check]:
    """Yields whether each run that a run stands on is what it was, with the name of its engine."""
    runs = [{run.engine: run for run in proof.upstream} for proof in (stated, computed)]
    if any(runs):
        yield same(f"seed {seed}: engines upstream", *map(list, runs))
    for name in (name for name in runs[0] if name in runs[1]):
        before, now = (_flat(side[name]) for side in runs)
        yield from (same(f"seed {seed}: upstream {name}: {part}", before[part], now.get(part)) for part in before)


def _flat(run: UpstreamRun) -> dict[str, Any]:
    """Returns what is stated of an upstream's run, its surfaces one by one."""
    stated = asdict(run)
    surfaces = stated.pop("surfaces")
    return {**stated, **{f"surface {name}": sha256 for name, sha256 in surfaces.items()}}


def _whole(lock: Lock, lane: Lane, pack: Pack, world: Path | None) -> Iterator[Check | Unproved]:
    """Yields whether the candidate, run to the last state on every seed, passes its audit and gives the same files."""
    if lock.format == BEFORE_WHOLE_RUNS:
        if isinstance(lane.engine.own, Publishing):
            yield Unproved(f"that its candidate runs to the last state: a lock of format {lock.format} does not say so")
        return
    runs = whole_runs(lane.engine, pack, lane.seeds, world) if lock.knobs else {}
    yield same("whole runs", sorted(lock.whole), sorted(runs))
    for seed, run in runs.items() if lock.whole else ():
        stated = lock.whole[seed]
        yield same(f"seed {seed}: audit", stated.audit, run.audit)
        if stated.bundle != run.bundle and (other := other_files(lock.made_by)):
            yield Unproved(f"the files that it publishes on seed {seed}: {other}")
        else:
            yield same(f"seed {seed}: bundle", stated.bundle, run.bundle)


def _decided(
    lock: Lock, ground: Ground, pack: Pack, measures: Mapping[int, Mapping[str, float]]
) -> Generator[Check | Unproved, None, Confirmed | None]:
    """Yields whether decision, verdict, reason, blockers and fresh seeds follow from the candidate's metrics."""
    derived = standing(ground, pack, lock.knobs, measures)
    fresh, stated = derived.confirmation, lock.confirmation
    found = None if fresh is None or not fresh.metrics else Confirmation(fresh.band, fresh.metrics)
    seeds = [sorted(row.metrics) if row is not None else [] for row in (stated, found)]
    yield same("fresh seeds", *seeds)
    if stated is not None and found is not None and seeds[0] == seeds[1]:
        for seed in seeds[0]:
            yield same(f"fresh seed {seed}: metrics", stated.metrics[seed], dict(found.metrics[seed]))
    yield same("band on fresh seeds", stated and stated.band, found and found.band)
    if ground.lane.document.get("runtime") is not None and derived.outcome == "GO":
        derived = yield from _timed(lock, derived, ground, pack)
    for name, value in (
        ("decision", derived.outcome), ("candidate", KIND[derived.outcome]), ("verdict", derived.verdict),
        ("reason", derived.reason),
    ):  # fmt: skip
        yield same(name, getattr(lock, name), value)
    documents = [[row.as_document() for row in blockers] for blockers in (lock.blockers, derived.blockers)]
    yield same("blockers", *documents)
    return fresh


def _timed(lock: Lock, derived: Decision, ground: Ground, pack: Pack) -> Generator[Check | Unproved, None, Decision]:
    """Times an accepted candidate again; what a refused one took when it was locked cannot be proved."""
    if "against" in ground.lane.document["runtime"]:
        yield Unproved("that its run time holds against what was locked: only where that runtime lock is, it is timed")
        if lock.decision == "GO":
            return derived
    elif lock.decision == "GO":
        runtime = time_candidate(ground.lane, pack, ground.world)
        assert runtime is not None  # the lane sets a limit
        yield Check("runtime", runtime.holds, f"at most {runtime.at_most:g} times its authority's", runtime.ratio)
        return derived
    one = len(lock.blockers) == 1 and lock.blockers[0].gate == RUNTIME
    yield Check("blockers", one, "the time it took", [row.gate for row in lock.blockers])
    refused = replace(derived, outcome="NO_GO", verdict=str(ground.lane.gates.of_band(None)), blockers=lock.blockers)
    return replace(refused, reason=reason_of(refused, ground.lane, ()))
