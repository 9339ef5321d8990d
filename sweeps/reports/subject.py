"""A side of a comparison: a run, a trial, a lock, an evidence folder or a pack, as one type.

A run is read from its files, or executed again if it was not published; a trial is read from the durable study, a lock
from its proof; a pack is run. `measures` has only the seeds that were measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lanelock.engine.keep.published import published
from lanelock.engine.protocol import Run
from lanelock.engine.resolved import Resolved
from lanelock.policies import Pack, PolicyError, pack_of
from lanelock.policies.documents import read_json, shipped
from lanelock.policies.names import path_named
from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.gates import GateSet, parse_gates
from lanelock.scoring.scorecard import measured
from lanelock.sweeps.engines import engine_named, metrics_named, open_pack, publisher_of, world_folder
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.proof.evidence import GATES, check_files, find_evidence
from lanelock.sweeps.proof.grading import gates_of_engine
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE, find_lock, world_beside
from lanelock.sweeps.proof.packs import trial_named
from lanelock.sweeps.search.recorded import recorded
from lanelock.sweeps.workspace import Workspace

SEED = 42  # where no campaign of the engine is shipped
State = Mapping[str, Any]  # name, key, address


@dataclass(frozen=True, slots=True)
class Subject:
    """One side of a comparison."""

    kind: str  # "run", "trial", "lock", "evidence" or "pack"
    name: str
    engine: Resolved
    pack: Pack
    world: Path | None  # imported; None: the engine draws its own
    until: str  # the last state its metrics come from
    gates: GateSet | None = None  # its lane's; None: the engine's own
    measures: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # seed -> metrics; empty: not yet run
    authority: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # seed -> what its rails compare with
    stated: str | None = None  # its decision or verdict, as recorded
    code_version: str | None = None  # of the engine that measured it
    kept: Sequence[State] | None = field(default=None, repr=False)  # the states of a run
    lane: Lane | None = field(default=None, repr=False)  # of a trial or a lock
    reach: tuple[GateReach, ...] = field(default=(), repr=False)  # of its lane's gates; empty: not known

    def run(self, seed: int, until: str) -> Run:
        """Executes the pack again on a seed, up to a state."""
        return self.engine.evaluate(self.pack, seed, world=self.world, until=until)

    def states(self, seed: int) -> Sequence[State]:
        """Returns its states on a seed, with the engine's own keys."""
        return _states(self.run(seed, self.until)) if self.kept is None else self.kept

    def measured(self, run: Run) -> Subject:
        """Returns this side with the metrics of its one run."""
        measures = {run.seed: measured(metrics_named(run.engine), run)}
        return replace(self, measures=measures, code_version=run.code_version)


def find(name: str, workspace: Workspace, world: str | None) -> Subject:
    """Returns the subject of that name. Raises PolicyError where nothing has it."""
    if (evidence := find_evidence(name, workspace)) is not None:
        return _evidence(evidence)
    if (folder := published(name, workspace.runs)) is not None:
        return _published(folder)
    if workspace.recalls(name):
        return _remembered(workspace.remembered(name), world)
    if name in shipped("packs") or ((path := path_named(name)) is not None and path.is_dir()):
        return _pack(name, world)
    if (trial := trial_named(name)) is not None:
        return _trial(*trial, workspace)
    try:
        return _lock(find_lock(name, workspace), world)
    except PolicyError as error:
        raise PolicyError(f"{error}; nor is it a run, a trial (SWEEP/NUMBER), a pack or an evidence folder") from None


def settled(subject: Subject, other: Subject, seeds: Sequence[int]) -> Subject:
    """Returns a subject with metrics, only on `seeds` where given. A pack is run on the other side's seeds."""
    if subject.measures:
        if missing := [seed for seed in seeds if seed not in subject.measures]:
            known = ", ".join(map(str, subject.measures))
            raise PolicyError(f"{subject.name}: --seed {missing[0]}: it was measured on seed {known}")
        return replace(subject, measures={seed: subject.measures[seed] for seed in seeds or subject.measures})
    where = tuple(seeds) or tuple(other.measures) or _usual(subject.engine)
    until = other.until if other.measures else subject.until
    source = metrics_named(subject.engine.name)
    return replace(subject, until=until, measures={seed: measured(source, subject.run(seed, until)) for seed in where})


def engine_gates(subject: Subject) -> GateSet:
    """Returns the engine's own gates, without those on metrics of states after the subject's last."""
    gates = gates_of_engine(subject.engine.name)
    states = list(subject.engine.states)
    later = set(states[states.index(subject.until) + 1 :])
    return gates.select([gate.id for gate in gates.gates if gates.metrics[gate.metric].state not in later])


def _usual(engine: Resolved) -> tuple[int, ...]:
    """Returns the first seed of the engine's first shipped campaign."""
    campaigns = (read_json(path) for path in shipped("campaigns", ".json").values())
    seeds = [document["seeds"][0] for document in campaigns if document["engine"] == engine.name]
    return tuple(seeds[:1]) or (SEED,)


def _pack(name: str, world: str | None) -> Subject:
    pack, engine = open_pack(name)
    return Subject("pack", pack.name, engine, pack, world_folder(world), engine.states[-1])


def _remembered(document: Mapping[str, Any], world: str | None) -> Subject:
    """Returns a run that was not published, executed again. Raises PolicyError where that gives another run."""
    name = str(document["run_id"])
    if "policies" not in document:
        raise PolicyError(f"{name}: an older version recorded this run without its policies; make the run again")
    engine = engine_named(document["engine"])
    pack = pack_of(document["pack"], document["policies"], engine.policy_schemas, name)
    subject = Subject("run", name, engine, pack, world_folder(world), engine.states[-1], kept=document["states"])
    run = subject.run(document["seed"], subject.until)
    if run.run_id != name:
        raise PolicyError(f"{name}: cannot be made again here; name its world with --world, or publish it (--publish)")
    return subject.measured(run)


def _published(folder: Path) -> Subject:
    run = publisher_of(folder).open_run(folder)
    engine = engine_named(run.engine)
    return Subject("run", run.run_id, engine, run.pack, None, engine.states[-1], kept=_states(run)).measured(run)


def _trial(sweep: str, number: int, workspace: Workspace) -> Subject:
    """Returns a trial of the durable study, which carries its lane."""
    of = recorded(sweep, workspace)
    trial, lane, world = of.trial(number), of.lane, of.world
    if not trial.record.measures:
        raise PolicyError(f"{sweep}/{number}: the trial failed, so it has no result: {trial.record.failure}")
    authority = {seed: lane.yardstick(seed, world) for seed in trial.record.measures}
    return of_trial(f"{sweep}/{number}", trial, of.pack(trial), Ground(lane, world, authority, of.reach))


def of_trial(name: str, trial: Trial, pack: Pack, ground: Ground) -> Subject:
    """Returns a trial that was measured, with its pack."""
    lane, world = ground.lane, ground.world
    return Subject(
        "trial", name, lane.engine, pack, world, lane.until, lane.gates, trial.record.measures, ground.authority,
        lane=lane, reach=ground.reach,
    )  # fmt: skip


def _lock(path: Path, world: str | None) -> Subject:
    lock = Lock.read(path)
    where = world_folder(world) if lock.world_source == "imported" else None
    lock.needs_its_world(where, str(path))
    lane, pack = lock.lane(str(path)), lock.pack(str(path))
    measures = {seed: lock.proof[seed].metrics for seed in lock.seeds}
    return Subject(
        "lock", path.stem, lane.engine, pack, where, lane.until, lane.gates, measures, lock.authority_metrics,
        f"{lock.decision}: {lock.because}", lock.code_version, lane=lane,
    )  # fmt: skip


def _evidence(folder: Path) -> Subject:
    """Returns a certified lock: whole runs on the asked and the held-out seeds, with the gates that graded them."""
    document, lock = check_files(folder), Lock.read(folder / FILE)
    engine, gates = engine_named(lock.engine), parse_gates(read_json(folder / GATES), str(folder / GATES))
    parts = (document["graded"], document["holdout"])
    measures = {card["seed"]: card["metrics"] for part in parts if part is not None for card in part["cards"]}
    return Subject(
        "evidence", folder.resolve().name, engine, lock.pack(str(folder / FILE)), world_beside(folder),
        engine.states[-1], gates, measures, {}, f"{document['verdict']}: {document['reason']}",
        document["code_version"],
    )  # fmt: skip


def _states(run: Run) -> list[State]:
    return [asdict(state) for state in run.states]
