"""The task of a trial: one candidate on one seed.

What all trials of a sweep share (lane, packs, gates, the authority's metrics) travels once to each worker, and is
built there again as a lock builds it. Per run the candidate's values travel; metrics come back, and are graded here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from lanelock.policies import LaneError, Pack, WorkspaceError
from lanelock.policies.pack import CarriedPack
from lanelock.scoring.feasibility import GateReach
from lanelock.sweeps.engines import only_here
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.lane import Lane, lane_of
from lanelock.sweeps.lanes.limits import limits_of
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.search.played_by import played_by
from lanelock.sweeps.trial import OnSeed, SeedRun, graded, measured_on, run_on
from lanelock.sweeps.work.executor import NO_LIMITS, Answer, Executor, Json, Task, Terms, Threads
from lanelock.sweeps.work.processes import Processes

TRIAL = "trial"


def place_for(lane: Lane, jobs: int, processes: bool) -> AbstractContextManager[Executor]:
    """Returns where a lane's trials are run: in processes where that is asked for, or where it limits trials.

    Raises LaneError where its engine is known to this process alone.
    """
    if not processes and "limits" not in lane.document:
        return Threads(jobs)
    if name := only_here(lane.engine):
        why = "--processes" if processes else "/limits"
        raise LaneError(
            f"lane {lane.id}: {why}: engine {name} is a function of this program, which another process cannot make "
            "again; put it into a file and name it in lanelock.toml"
        )
    return Processes(jobs)


def terms_of(lane: Lane) -> Terms:
    """Returns the limits of one run of a lane's trials."""
    limits = limits_of(lane)
    return Terms(limits.get("seconds"), limits.get("memory_mb")) if limits else NO_LIMITS


def runs_at(place: Executor, ground: Ground) -> Callable[[Mapping[str, Value]], OnSeed]:
    """Returns how a candidate is run on a seed at a place; in this process as `run_on` does.

    Raises LaneError or WorkspaceError where the place cannot begin to run a trial.
    """
    if not place.apart:
        return lambda values: run_on
    task, terms = trial_task(ground), terms_of(ground.lane)
    place.begin(task, terms)

    def of(values: Mapping[str, Value]) -> OnSeed:
        def on_seed(at: Ground, pack: Pack, seed: int) -> SeedRun:
            item = {"stage": at.lane.stage, "values": dict(values), "seed": seed}
            (answer,) = place.map(task, [item], terms)
            return _seed_run(at, pack, seed, answer)

        return on_seed

    return of


def trial_task(ground: Ground) -> Task:
    """Returns the task of running candidates on a ground."""
    return Task(TRIAL, document_of(ground), partial(_run, ground), _proof(ground.lane))


def trial_task_from(document: Json) -> Task:
    """Returns the task that a document states, built in this process."""
    return trial_task(ground_of(document))


def document_of(ground: Ground) -> Json:
    """Returns a ground as JSON. `ground_of(document_of(ground))` gives the same ground."""
    lane = ground.lane
    return {
        "lane": dict(lane.document),
        "authority": asdict(lane.authority.carried()),
        "references": {name: asdict(pack.carried()) for name, pack in lane.references.items()},
        "gates": dict(lane.gates_file),
        "world": None if ground.world is None else str(ground.world.resolve()),
        "measures": {str(seed): dict(metrics) for seed, metrics in ground.authority.items()},
        "reach": [asdict(row) for row in ground.reach],
    }


def ground_of(document: Json) -> Ground:
    """Returns the ground that a document states. Raises LanelockError where its engine or packs are not here."""
    references = {name: CarriedPack.of(pack) for name, pack in document["references"].items()}
    authority, where = CarriedPack.of(document["authority"]), f"lane {document['lane']['id']}"
    lane = lane_of(document["lane"], authority, references, document["gates"], where)
    world = None if document["world"] is None else Path(document["world"])
    measures = {int(seed): metrics for seed, metrics in document["measures"].items()}
    return Ground(lane, world, measures, tuple(GateReach(**row) for row in document["reach"]))


def _proof(lane: Lane) -> Json:
    """Returns what determines results beside the document: a worker that states otherwise is refused."""
    return {"lane": lane.identity, "arithmetic": lane.engine.fingerprint, **played_by(lane)}


def _run(ground: Ground, item: Json) -> Json:
    """Runs a candidate on a seed, as a stage or in full."""
    stages = {stage.name: at for stage, at in ground.stages} if item["stage"] else {}
    at = stages.get(item["stage"], ground)
    run = measured_on(at, at.lane.candidate(item["values"]), int(item["seed"]))
    return {
        "pack": run.pack.digest if run.pack is not None else "",
        "measures": dict(run.measures), "world": run.world, "seconds": list(run.seconds),
        "failure": run.failure, "details": run.details,
    }  # fmt: skip


def _seed_run(at: Ground, pack: Pack, seed: int, answer: Answer) -> SeedRun:
    """Returns the run that an answer states, graded."""
    result: Mapping[str, Any] | None = answer.result
    if result is None:
        failed = SeedRun(seed, pack, failure=f"seed {seed}: {answer.why}", details=answer.details)
        return replace(
            failed, seconds=(answer.used.get("seconds", 0.0), 0.0), ended_by=answer.ended_by, used=answer.used
        )
    if result["pack"] != pack.digest:
        raise WorkspaceError(f"a worker ran pack {result['pack'][:12]}… instead of {pack.digest[:12]}…")
    engine, scoring = result["seconds"]
    run = SeedRun(
        seed, pack, None, result["measures"], result["world"], (engine, scoring), result["failure"], result["details"],
        used=answer.used,
    )  # fmt: skip
    return graded(at, run)
