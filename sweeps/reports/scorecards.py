"""What a scorecard's page can be about: a published run, scored again from its files, or a lock."""

from __future__ import annotations

import math
from pathlib import Path

from lanelock.engine.protocol import Run, Worlds
from lanelock.engine.resolved import Resolved
from lanelock.policies import IntegrityError, Pack, diff, load_pack
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.sides import Showing
from lanelock.scoring.gates import load_gates
from lanelock.scoring.scorecard import score
from lanelock.sweeps.engines import engine_named, metrics_named, publisher_of
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.pages.scorecard import Report
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.workspace import Workspace


def run_report(folder: Path, workspace: Workspace) -> Report:
    """A published run, measured and scored again from its files, beside its engine's baseline run on its world."""
    run = publisher_of(folder).open_run(folder)
    engine, source = engine_named(run.engine), metrics_named(run.engine)
    gates = load_gates(str(source.gates_file))
    baseline = _baseline(engine, run, folder)
    beside = "itself: its engine names no baseline" if baseline is run else f"authority {baseline.pack.name}"
    facts = {
        "run": run.run_id,
        "pack": f"{_made_as(run.run_id, workspace)}{run.pack.digest}",
        **({} if baseline is run else {"authority": f"{baseline.pack.name} {baseline.pack.digest}"}),
        "world": run.world_digest,
        "seed": str(run.seed),
        "engine": run.engine,
        "code": _code(run.code_version, engine.code_version),
    }
    return Report(
        kind="run",
        name=run.run_id,
        cards=(score(source.measure(run), gates, seed=run.seed, authority=None),),
        gates=gates,
        authority={run.seed: {name: at for name, at in source.measure(baseline).items() if math.isfinite(at)}},
        beside=beside,
        facts=facts,
        notes=(),
        changes=tuple(diff(baseline.pack, run.pack)),
        figures=tuple(source.figures(run, baseline, gates)) if isinstance(source, Showing) else (),
        proof=tuple(f"`lanelock {command} {run.run_id}`" for command in ("verify", "replay", "score")),
    )


def _baseline(engine: Resolved, run: Run, folder: Path) -> Run:
    """The engine's baseline on the world of a published run; the run itself where the engine names none."""
    if engine.baseline is None:
        return run
    pack = load_pack(engine.baseline, engine.policy_schemas, engine.name)
    world = engine.own.world_of(folder) if isinstance(engine.own, Worlds) else None
    baseline = engine.evaluate(pack, run.seed, world=world)
    if baseline.world_digest != run.world_digest:
        raise IntegrityError(f"{world or folder}: read again it gives another world than the run states")
    return baseline


def lock_report(lock: Lock, world: Path | None, shown: tuple[Figure, ...] | None = None) -> Report:
    """A lock: its candidate's cards as it states them, and the figures of its first seed, run again.

    `shown`: these figures, where they were just made from the runs that the lock states. Raises IntegrityError where
    that seed does not measure what the lock states.
    """
    lock.needs_its_world(world)
    lane, pack, first, name = lock.lane(), lock.pack(), lock.seeds[0], lock.name
    if shown is None:
        measured = lane.measure(lane.engine.evaluate(pack, first, world=world, until=lane.until))
        if measured != lock.proof[first].metrics:
            raise IntegrityError(
                f"{name}: /proof/{first}/metrics: not what its candidate measures here; lanelock verify says where"
            )
    return Report(
        kind="lock",
        name=name,
        cards=lock.cards(lane),
        gates=lane.gates,
        authority={seed: lock.authority_metrics[seed] for seed in lock.seeds},
        beside=f"authority {lane.authority.name}",
        facts=_lock_facts(lock),
        notes=tuple(map(str, lock.blockers)) or (lock.reason,),
        changes=tuple(diff(lane.authority, pack)),
        figures=figures(lane, pack, first, world) if shown is None else shown,
        proof=(f"`lanelock verify {name}`", f"`lanelock lock show {name}`"),
    )


def _lock_facts(lock: Lock) -> dict[str, str]:
    knobs = ", ".join(f"{name} {short(value)}" for name, value in lock.knobs.items())
    records = ", ".join(f"{name} {run}" for name, run in lock.runs.items() if run is not None)
    facts = {
        "decision": f"{lock.decision}, {lock.candidate} candidate",
        "lane": f"{lock.lane_document['id']}: {lock.lane_document['title']}",
        "sweep": lock.sweep + ("" if lock.trial is None else f", trial {lock.trial}"),
        "knobs": knobs or "none moved",
        "lock": lock.lock_id,
        "pack": lock.candidate_pack.digest,
        "authority": f"{lock.authority.name} {lock.authority.digest}",
        "record": records,
        "engine": lock.engine,
        "code": _code(lock.code_version, engine_named(lock.engine).code_version),
    }
    worlds = {f"world, {seed}": lock.proof[seed].world for seed in lock.seeds}
    return {name: text for name, text in (facts | worlds).items() if text}


def _code(stated: str, here: str) -> str:
    """The code's version, and the one that draws the figures where that is another."""
    return stated if stated == here else f"{stated}, figures by {here}"


def _made_as(run_id: str, workspace: Workspace) -> str:
    """The name of the pack that a run was made from, where it was made here."""
    return f"{workspace.remembered(run_id)['pack']} " if workspace.recalls(run_id) else ""


def figures(lane: Lane, pack: Pack, seed: int, world: Path | None) -> tuple[Figure, ...]:
    """The figures of a pack on one seed of a lane; none where the lane's engine draws none."""
    if not isinstance(lane.metrics, Showing):
        return ()
    candidate, authority = (
        lane.engine.evaluate(each, seed, world=world, until=lane.until) for each in (pack, lane.authority)
    )
    return tuple(lane.metrics.figures(candidate, authority, lane.gates))
