"""What two sides of a comparison can be: a run, a trial, a lock, an evidence folder or a pack, seen as one thing.

A run is read from its files, or executed again where it was not published; a trial is read from the durable
study, a lock from its proof; a pack is run. Whatever a side does not hold is not invented: `measures` has only
the seeds that were measured.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lanelock.engine.keep.published import published
from lanelock.engine.protocol import Run
from lanelock.engine.resolved import Resolved
from lanelock.policies import IntegrityError, Pack, PolicyError, pack_of
from lanelock.policies.documents import read_json, shipped
from lanelock.policies.pack import CarriedPack
from lanelock.scoring.gates import GateSet, load_gates, parse_gates
from lanelock.sweeps.engines import engine_named, metrics_named, open_pack, publisher_of, world_folder
from lanelock.sweeps.lanes.lane import lane_of
from lanelock.sweeps.lanes.study import Studies
from lanelock.sweeps.proof.evidence import GATES, check_files, find_evidence
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import FILE, find_lock, world_beside
from lanelock.sweeps.workspace import Workspace

SEED = 42  # where nothing else names one
State = Mapping[str, Any]  # name, key, address


@dataclass(frozen=True, slots=True)
class Subject:
    """One side."""

    kind: str  # "run", "trial", "lock", "evidence" or "pack"
    name: str
    engine: Resolved
    pack: Pack
    until: str  # the last state its metrics come from
    gates: GateSet | None  # those of its lane; None: the engine's own
    measures: Mapping[int, Mapping[str, float]]  # seed -> metrics; empty where it is a pack not yet run
    authority: Mapping[int, Mapping[str, float]]  # seed -> what its rails compare with
    stated: str | None  # what was decided of it, where something was
    code_version: str | None  # of the engine that measured it
    run: Callable[[int, str], Run] = field(repr=False)  # executes it again: seed, last state
    kept: Sequence[State] | None = field(default=None, repr=False)  # the states of the one run it is

    def states(self, seed: int) -> Sequence[State]:
        """Its states on a seed, under the engine's own keys."""
        return _states(self.run(seed, self.until)) if self.kept is None else self.kept


def find(name: str, workspace: Workspace, world: str | None) -> Subject:
    """The subject of that name. Raises PolicyError where nothing is called so."""
    if (evidence := find_evidence(name, workspace)) is not None:
        return _evidence(evidence)
    if (folder := published(name, workspace.runs)) is not None:
        return _published(folder)
    if workspace.recalls(name):
        return _remembered(workspace.remembered(name), world)
    if name in shipped("packs") or Path(name).is_dir():
        return _pack(name, world)
    if (named := re.fullmatch(r"(.+)/(\d+)", name)) and not Path(name).exists():
        return _trial(named[1], int(named[2]), workspace)
    try:
        return _lock("lock", find_lock(name, workspace), world)
    except PolicyError as error:
        raise PolicyError(f"{error}; nor is it a run, a trial (SWEEP/NUMBER), a pack or an evidence folder") from None


def settled(one: Subject, other: Subject, seeds: Sequence[int]) -> Subject:
    """A pack, run where the other side was measured; of all else what was measured. Only on `seeds`, where given."""
    if one.measures:
        if missing := [seed for seed in seeds if seed not in one.measures]:
            known = ", ".join(map(str, one.measures))
            raise PolicyError(f"{one.name}: --seed {missing[0]}: it was measured on seed {known}")
        return replace(one, measures={seed: one.measures[seed] for seed in seeds or one.measures})
    where = tuple(seeds) or tuple(other.measures) or _usual(one.engine)
    until = other.until if other.measures else one.until
    source = metrics_named(one.engine.name)
    return replace(one, until=until, measures={seed: dict(source.measure(one.run(seed, until))) for seed in where})


def engine_gates(subject: Subject) -> GateSet:
    """The engine's own gates, less those on metrics of states that come after the subject's last."""
    gates = load_gates(str(metrics_named(subject.engine.name).gates_file))
    states = list(subject.engine.states)
    later = set(states[states.index(subject.until) + 1 :])
    return gates.select([gate.id for gate in gates.gates if gates.metrics[gate.metric].state not in later])


def _usual(engine: Resolved) -> tuple[int, ...]:
    """The first seed of the first campaign shipped for this engine."""
    campaigns = (read_json(path) for path in shipped("campaigns", ".json").values())
    seeds = [document["seeds"][0] for document in campaigns if document["engine"] == engine.name]
    return tuple(seeds[:1]) or (SEED,)


def _pack(name: str, world: str | None) -> Subject:
    pack, engine = open_pack(name)
    return _runnable("pack", pack.name, engine, pack, world)


def _remembered(document: Mapping[str, Any], world: str | None) -> Subject:
    """A run that was made here and not published: executed again, if it is the same run."""
    name = str(document["run_id"])
    if "policies" not in document:
        raise PolicyError(f"{name}: was remembered without its policies, by an older version; make the run again")
    engine = engine_named(document["engine"])
    pack = pack_of(document["pack"], document["policies"], engine.policy_schemas, name)
    again = engine.evaluate(pack, document["seed"], world=world_folder(world))
    if again.run_id != name:
        raise PolicyError(f"{name}: cannot be made again here; name its world with --world, or publish it (--publish)")
    return _measured(replace(_runnable("run", name, engine, pack, world), kept=document["states"]), again)


def _published(folder: Path) -> Subject:
    run = publisher_of(folder).open_run(folder)
    subject = _runnable("run", run.run_id, engine_named(run.engine), run.pack, None)
    return _measured(replace(subject, kept=_states(run)), run)


def _trial(sweep: str, number: int, workspace: Workspace) -> Subject:
    """A trial from the durable study, which carries its lane."""
    studies = Studies(workspace.study_storage, reading=True)
    known = studies.names()
    if sweep not in known:
        raise PolicyError(
            f"{sweep}/{number}: no sweep {sweep} in {workspace.root} (known: {', '.join(known) or 'none'})"
        )
    said = studies.attributes(sweep)
    if "authority" not in said:
        raise PolicyError(f"{sweep}/{number}: the sweep was begun by an older version, which kept no packs with it")
    references = {name: CarriedPack.of(pack) for name, pack in said["references"].items()}
    lane = lane_of(said["lane"], CarriedPack.of(said["authority"]), references, said["gates"], sweep)
    trials = {trial.number: trial for trial in studies.trials(sweep)}
    if number not in trials:
        raise PolicyError(f"{sweep}/{number}: /number: {number} is not among the {len(trials)} trials told, from 0")
    trial, world = trials[number], world_folder(said["world"])
    pack, measures = lane.candidate(trial.values), trial.record.measures
    if pack.digest != trial.record.pack:
        raise IntegrityError(
            f"{sweep}/{number}: the study states pack {trial.record.pack}, its knobs give {pack.digest}"
        )
    return Subject(
        "trial", f"{sweep}/{number}", lane.engine, pack, lane.until, lane.gates, measures,
        {seed: lane.yardstick(seed, world) for seed in measures}, None, None,
        _runner(lane.engine, pack, world),
    )  # fmt: skip


def _lock(kind: str, path: Path, world: str | None) -> Subject:
    lock = Lock.read(path)
    where = world_folder(world) if lock.world_source == "imported" else None
    lock.needs_its_world(where, str(path))
    lane, pack = lock.lane(str(path)), lock.pack(str(path))
    return Subject(
        kind, path.stem, lane.engine, pack, lane.until, lane.gates,
        {seed: lock.proof[seed].metrics for seed in lock.seeds}, lock.authority_metrics,
        f"{lock.decision}: {lock.reason}", lock.code_version,
        _runner(lane.engine, pack, where),
    )  # fmt: skip


def _evidence(folder: Path) -> Subject:
    """A certified lock: whole runs on the seeds asked for and on those held out, read by the gates it was graded by."""
    graded, lock = check_files(folder), Lock.read(folder / FILE)
    engine, pack = engine_named(lock.engine), lock.pack(str(folder / FILE))
    cards = [card for part in (graded["graded"], graded["holdout"]) if part is not None for card in part["cards"]]
    return Subject(
        "evidence", folder.resolve().name, engine, pack, engine.states[-1],
        parse_gates(read_json(folder / GATES), str(folder / GATES)),
        {card["seed"]: card["metrics"] for card in cards}, {}, f"{graded['verdict']}: {graded['reason']}",
        graded["code_version"], _runner(engine, pack, world_beside(folder)),
    )  # fmt: skip


def _runnable(kind: str, name: str, engine: Resolved, pack: Pack, world: str | None) -> Subject:
    again = _runner(engine, pack, world_folder(world))
    return Subject(kind, name, engine, pack, engine.states[-1], None, {}, {}, None, None, again)


def _runner(engine: Resolved, pack: Pack, world: Path | None) -> Callable[[int, str], Run]:
    def run(seed: int, until: str) -> Run:
        return engine.evaluate(pack, seed, world=world, until=until)

    return run


def _measured(subject: Subject, run: Run) -> Subject:
    measures = {run.seed: dict(metrics_named(run.engine).measure(run))}
    return replace(subject, measures=measures, code_version=run.code_version)


def _states(run: Run) -> list[State]:
    return [asdict(state) for state in run.states]
