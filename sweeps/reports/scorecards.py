"""The report of a published run, scored again from its files, of a trial, or of a lock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lanelock.engine.protocol import Run, Worlds
from lanelock.engine.resolved import Resolved
from lanelock.policies import IntegrityError, Pack, diff, load_pack
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.sides import Showing
from lanelock.scoring.scorecard import gates_of, keepsake_of, measured, score
from lanelock.sweeps.engines import engine_named, metrics_named, publisher_of
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.pages.page import as_html
from lanelock.sweeps.pages.scorecard import Report
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.reports.difference import compare
from lanelock.sweeps.reports.difference_page import as_blocks, title
from lanelock.sweeps.reports.subject import of_trial
from lanelock.sweeps.workspace import Workspace


def run_report(folder: Path, workspace: Workspace) -> Report:
    """Returns a published run, scored again from its files, beside the engine's baseline on the same world."""
    run = publisher_of(folder).open_run(folder)
    engine, source = engine_named(run.engine), metrics_named(run.engine)
    gates = gates_of(source)
    baseline, profile = _baseline(engine, run, folder), gates.profile_text([run.seed])
    keepsake = None if baseline is run else keepsake_of(source, lambda: baseline)
    pack = f"{workspace.remembered(run.run_id)['pack']} " if workspace.recalls(run.run_id) else ""
    facts = {
        "run": run.run_id,
        "pack": pack + run.pack.digest,
        **({} if baseline is run else {"authority": f"{baseline.pack.name} {baseline.pack.digest}"}),
        "world": run.world_digest,
        "seed": f"{run.seed} alone, not a certification" + (f" ({profile})" if profile else ""),
        "engine": run.engine,
        "code": _code(run.code_version, engine.code_version),
    }
    beside = measured(source, baseline, keepsake)
    return Report(
        kind="run",
        name=run.run_id,
        cards=(score(measured(source, run, keepsake), gates, seed=run.seed, authority=None),),
        gates=gates,
        authority={run.seed: {name: at for name, at in beside.items() if math.isfinite(at)}},
        beside="itself: its engine names no baseline" if baseline is run else f"authority {baseline.pack.name}",
        facts=facts,
        notes=(),
        changes=tuple(diff(baseline.pack, run.pack)),
        figures=tuple(source.figures(run, baseline, gates)) if isinstance(source, Showing) else (),
        proof=tuple(f"`lanelock {command} {run.run_id}`" for command in ("verify", "replay", "score")),
    )


def _baseline(engine: Resolved, run: Run, folder: Path) -> Run:
    """Returns the engine's baseline on the world of a published run; the run itself where it names no baseline."""
    if engine.baseline is None:
        return run
    pack = load_pack(engine.baseline, engine.policy_schemas, engine.name)
    world = engine.own.world_of(folder) if isinstance(engine.own, Worlds) else None
    baseline = engine.evaluate(pack, run.seed, world=world)
    if baseline.world_digest != run.world_digest:
        raise IntegrityError(f"{world or folder}: the world read from here is not the world that the run states")
    return baseline


def lock_report(lock: Lock, world: Path | None, shown: tuple[Figure, ...] | None = None) -> Report:
    """Returns a lock: its candidate's scorecards as stated, and figures of its first seed, run again.

    `shown`: the figures, where already drawn. Raises IntegrityError where the seed's metrics differ from the lock's.
    """
    lock.needs_its_world(world)
    lane, pack, first, name = lock.lane(), lock.pack(), lock.seeds[0], lock.name
    if shown is None:
        metrics = lane.measure(lane.engine.evaluate(pack, first, world=world, until=lane.until), world)
        if metrics != lock.proof[first].metrics:
            raise IntegrityError(
                f"{name}: /proof/{first}/metrics: the candidate gives other metrics here; lanelock verify shows which"
            )
    return Report(
        kind="lock",
        name=name,
        cards=lock.cards(lane),
        gates=lane.gates,
        authority={seed: lock.authority_metrics[seed] for seed in lock.seeds},
        beside=f"authority {lane.authority.name}",
        facts=_lock_facts(lock),
        notes=tuple(map(str, lock.blockers)) or (lock.because,),
        changes=tuple(diff(lane.authority, pack)),
        figures=figures(lane, pack, first, world) if shown is None else shown,
        proof=(f"`lanelock verify {name}`", f"`lanelock lock show {name}`"),
    )


def trial_report(
    sweep: str, trial: Trial, ledger: Ledger, notes: tuple[str, ...] = (), *, drawn: bool = True
) -> Report:  # fmt: skip
    """Returns a trial that was measured: its scorecards as recorded; if `drawn`, figures of its first seed, run again.

    Raises IntegrityError where its knobs give another pack than the study states.
    """
    lane, world, name = ledger.ground.lane, ledger.ground.world, f"{sweep}/{trial.number}"
    pack, cards = lane.candidate(trial.values), ledger.cards(trial)
    if pack.digest != trial.record.pack:
        raise IntegrityError(f"{name}: the study states pack {trial.record.pack}, its knobs give {pack.digest}")
    seeds = [seed for seed in lane.seeds if seed in cards]
    return Report(
        kind="trial",
        name=name,
        cards=tuple(cards[seed] for seed in seeds),
        gates=lane.gates,
        authority={seed: ledger.ground.authority[seed] or lane.yardstick(seed, world) for seed in seeds},
        beside=f"authority {lane.authority.name}",
        facts=_trial_facts(sweep, trial, ledger, seeds),
        notes=notes,
        changes=tuple(diff(lane.authority, pack)),
        figures=figures(lane, pack, seeds[0], world) if drawn else (),
        proof=(f"`lanelock audit {sweep}`", f"`lanelock lock {name} --why TEXT`"),
    )


def _trial_facts(sweep: str, trial: Trial, ledger: Ledger, seeds: Sequence[int]) -> dict[str, str]:
    lane = ledger.ground.lane
    missing = "" if len(seeds) == len(lane.seeds) else f", of {', '.join(map(str, lane.seeds))}"
    reached = ", ".join(f"{objective} {short(value)}" for objective, value in ledger.named(trial).items())
    return {
        "sweep": f"{sweep}, trial {trial.number}",
        "lane": f"{lane.id}: {lane.title}",
        "knobs": ", ".join(f"{name} {short(value)}" for name, value in trial.values.items()),
        "objectives": reached or "not graded",
        "seeds": ", ".join(map(str, seeds)) + missing,
        "pack": trial.record.pack,
        "authority": f"{lane.authority.name} {lane.authority.digest}",
        "engine": lane.engine.name,
    }


def trials_compared(sweep: str, before: Trial, after: Trial, ledger: Ledger) -> str:
    """Returns a page that compares two trials that were measured, from their records alone."""
    ground = ledger.ground
    sides = (
        of_trial(f"{sweep}/{trial.number}", trial, ground.lane.candidate(trial.values), ground)
        for trial in (before, after)
    )
    difference = compare(*(replace(side, kept=()) for side in sides))
    return as_html(title(difference), as_blocks(difference))


def _lock_facts(lock: Lock) -> dict[str, str]:
    knobs = ", ".join(f"{name} {short(value)}" for name, value in lock.knobs.items())
    facts = {
        "decision": f"{lock.decision}, {lock.candidate} candidate",
        "lane": f"{lock.lane_document['id']}: {lock.lane_document['title']}",
        "sweep": lock.sweep + ("" if lock.trial is None else f", trial {lock.trial}"),
        "knobs": knobs or "none moved",
        "seeds": ", ".join(map(str, lock.seeds)),
        "profile": lock.profile or "",
        "lock": lock.lock_id,
        "pack": lock.candidate_pack.digest,
        "authority": f"{lock.authority.name} {lock.authority.digest}",
        "engine": lock.engine,
        "code": _code(lock.code_version, engine_named(lock.engine).code_version),
    }
    worlds = {f"world, {seed}": lock.proof[seed].world for seed in lock.seeds}
    return {name: text for name, text in (facts | worlds).items() if text}


def _code(stated: str, here: str) -> str:
    """Returns the code's version, and the version that draws the figures where it differs."""
    return stated if stated == here else f"{stated}, figures by {here}"


def figures(lane: Lane, pack: Pack, seed: int, world: Path | None) -> tuple[Figure, ...]:
    """Returns the figures of a pack on one seed of a lane; empty where the engine draws no figures."""
    if not isinstance(lane.metrics, Showing):
        return ()
    runs = [lane.engine.evaluate(side, seed, world=world, until=lane.until) for side in (pack, lane.authority)]
    return tuple(lane.metrics.figures(runs[0], runs[1], lane.gates))
