"""A sweep: propose, evaluate under vetoes, store, track, decide, lock.

`play` is a whole sweep, and `evaluate` (in `sweeps.trial`) a whole trial. The decision is in `sweeps.decision`, the
lock in `sweeps.proof.lock`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from lanelock.policies import LaneError, RefusedError
from lanelock.policies.names import check_name
from lanelock.scoring.feasibility import GateReach
from lanelock.sweeps.batch import played
from lanelock.sweeps.decision.confirmation import decide_confirmed
from lanelock.sweeps.decision.decision import Decision, decide
from lanelock.sweeps.decision.runtime import Runtime, hold_to_runtime, time_candidate
from lanelock.sweeps.decision.stopping import stopped
from lanelock.sweeps.interrupts import deferred
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.sampler_names import AUTO
from lanelock.sweeps.lanes.survey import Ground, survey
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.proof.freezes import hold_open
from lanelock.sweeps.proof.lock import Lock, Search, make_lock
from lanelock.sweeps.proof.lock_files import store_lock
from lanelock.sweeps.proof.runtime_locks import reference_of
from lanelock.sweeps.proof.searched import continues
from lanelock.sweeps.record.recorder import Recording, recording
from lanelock.sweeps.record.webhooks import hooks_of, tell_decision, telling_failure
from lanelock.sweeps.search.attempts import spent
from lanelock.sweeps.search.beginning import NOTHING_FIRST, Beginning, first_of, take_over
from lanelock.sweeps.search.played_by import other_code, played_by
from lanelock.sweeps.search.study import Studies, Study
from lanelock.sweeps.search.tally import tallied
from lanelock.sweeps.sensitivity.sensitivity import sensitivity
from lanelock.sweeps.trial import OnSeed
from lanelock.sweeps.work.executor import Executor
from lanelock.sweeps.work.trials import place_for, runs_at
from lanelock.sweeps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a sweep after each batch."""

    done: int  # trials that were run, failed ones included
    budget: int
    best: Trial | None
    vetoed: Mapping[str, int]  # veto id -> trials it ended
    failed: Sequence[Trial]
    seconds: float
    budget_seconds: float
    trouble: str = ""  # why tracking lags


Watch = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Closed:
    """How a sweep ended."""

    sweep: str
    decision: Decision
    lock: Path
    parent_run: str | None
    trials: tuple[Trial, ...]
    ledger: Ledger = field(repr=False)  # the scorecards of its trials
    runtime: Runtime | None  # of an accepted candidate, where the lane sets a limit
    seconds: Mapping[str, float]  # "wall"; "search", with its tracking; "engine" and "scoring", over all trials
    stopped_by: str  # why the search ended
    untold: str = ""  # why a webhook's event could not be noted

    @property
    def ground(self) -> Ground:
        return self.ledger.ground

    @property
    def start(self) -> Trial | None:
        """The trial of the authority placed in the box."""
        start = self.ground.lane.space.start
        return next((trial for trial in self.trials if dict(trial.values) == dict(start)), None)


def play(
    lane: Lane,
    workspace: Workspace,
    *,
    world: Path | None = None,
    jobs: int = 1,
    processes: bool = False,
    resume: bool = False,
    track: bool = True,
    name: str | None = None,
    reach: tuple[GateReach, ...] | None = None,
    beginning: Beginning = NOTHING_FIRST,
    watch: Watch = lambda progress: None,
) -> Closed:
    """Spends the lane's budget and closes the sweep with a decision and a lock.

    After an interruption at any moment, a call with `resume` continues from the durable study. With a `name`, continues
    the sweep of that name, or begins it where it does not exist. `processes`: runs trials in processes of their own,
    as a lane that limits them always does; no result depends on it. `reach`: the gates' reach, where already computed.
    `beginning`: what a new sweep tries or takes over before its sampler proposes.
    Raises LaneError if another process plays the lane, there is nothing to resume, or other code began the sweep, and
    RefusedError if the lane may not be played once more, or if the engine is frozen.
    """
    began = time.perf_counter()
    hold_open(workspace, lane.engine.name, "sweep")
    hooks_of(workspace)  # raises before a budget is spent
    place = place_for(lane, jobs, processes)  # as does this
    if name is not None:
        check_name(name, "a sweep")
    with workspace.alone(f"sweep-{lane.id}"):
        studies = Studies(workspace.study_storage)
        known = _known(studies, lane, name, resume)
        if known is not None and beginning.other_code and other_code(studies.attributes(known), lane):
            beginning, known = replace(beginning, source=known), None
        if known is None and (why := spent(lane, studies, name)) is not None:
            raise RefusedError(why)
        resume, name = known is not None, known or name or _next_name(studies, lane)
        if resume:
            _check_beginning(studies, lane, name, beginning, workspace)
            lane, world = _resumed(studies, lane, name, workspace)
        locked = reference_of(lane, workspace)  # raises before a budget is spent
        with recording(workspace, track) as recorder, ExitStack() as after:
            ground = survey(lane, world, reach)
            ledger = Ledger(ground)
            recorder.connected()  # raises before the study is created
            runs = runs_at(after.enter_context(place), ground)  # as does this, where no process can run a trial
            if not resume:
                attributes = {**_attributes(ground, workspace), **first_of(ground, beginning, studies, workspace)}
            study = studies.open(name, lane) if resume else studies.create(name, lane, attributes)
            after.enter_context(telling_failure(workspace, name, lane.title))
            if resume:
                _check_budget(study.trials, lane, name)
            continues(study.name, study.origin, [trial.record.chain for trial in study.trials], workspace)
            take_over(study, ledger, studies, workspace)
            record = recorder.begin(study, ledger)
            surveyed = time.perf_counter()
            with tallied(workspace, studies, study, lane) as tally:
                stopped_by = _search(study, ledger, record, place, runs, jobs, began, tally, watch)
            record.settle()
            searched = time.perf_counter() - surveyed
            decision = decide_confirmed(study.history, ledger)
            runtime = None
            if decision.outcome == "GO" and decision.best is not None:
                runtime = time_candidate(lane, lane.candidate(decision.best.values), world, locked)
                decision = hold_to_runtime(decision, runtime, lane)
            kept = record.keep(decision.best)
            documents = {"sensitivity.json": sensitivity(study.name, study.history, ledger)}
            search = Search(study.origin, len(study.history), study.head, decision.reason)
            path = store_lock(make_lock(ground, decision, study.name, search), workspace.locks)
            if runtime is not None:
                documents["runtime.json"] = runtime.as_document()
            lock = Lock.read(path)  # read back, as others will
            record.close(kept, decision, lock, documents)
            parent = record.settle()
    named = {} if decision.best is None else ledger.named(decision.best)
    trouble = tell_decision(workspace, lock, named)
    seconds = {"wall": time.perf_counter() - began, "search": searched}
    for part in ("engine", "scoring"):
        seconds[part] = sum(trial.record.seconds.get(part, 0.0) for trial in study.history if trial.paid)
    return Closed(
        study.name, decision, path, parent, tuple(study.history), ledger, runtime, seconds, stopped_by, trouble
    )


def _search(
    study: Study, ledger: Ledger, record: Recording, place: AbstractContextManager[Executor],
    runs: Callable[[Mapping[str, Value]], OnSeed], jobs: int, began: float, tally: Callable[[], None], watch: Watch,
) -> str:  # fmt: skip
    """Runs trials until the budget is spent or nothing is left to find. Returns which, in words. Leaves the place."""
    lane = ledger.ground.lane
    budget, batch = lane.document["budget"], lane.document["batch"]
    with ThreadPoolExecutor(jobs, thread_name_prefix="trial") as workers, place, deferred() as stop:
        while (paid := sum(trial.paid for trial in study.history)) < budget["trials"] or study.interrupted:
            if why := stopped(study.history, ledger):
                return why
            proposals = study.ask(min(batch, budget["trials"] - paid), ledger)
            if not proposals:
                return f"the space is spent: all {len(study.history)} candidates were tried"
            outcomes = played(
                proposals, study.history, ledger, workers.map, jobs, study.stored, lambda row: runs(row.values)
            )
            for proposal, outcome in zip(proposals, outcomes, strict=True):
                told = study.tell(proposal, outcome.objectives, outcome.constraints, outcome.record)
                record.trial(told, outcome.record.details)
                stop()
            tally()
            seconds = time.perf_counter() - began
            watch(replace(_progress(study.history, ledger, seconds), trouble=record.trouble()))
            if seconds > budget["seconds"]:
                return f"the budget of {budget['seconds']:g} s is spent"
    return f"the budget of {budget['trials']} trials is spent"


def _progress(history: Sequence[Trial], ledger: Ledger, seconds: float) -> Progress:
    budget, done = ledger.ground.lane.document["budget"], sum(trial.paid for trial in history)
    best, vetoed = decide(history, ledger).best, ledger.vetoes(history)
    failed = [trial for trial in history if trial.failed]
    return Progress(done, budget["trials"], best, vetoed, failed, seconds, budget["seconds"])


def _next_name(studies: Studies, lane: Lane) -> str:
    """Returns `<lane>-<n>`, n one more than the newest sweep's of this lane."""
    return f"{lane.id}-{1 + max((int(name.rpartition('-')[2]) for name in _names(studies, lane)), default=0)}"


def _attributes(ground: Ground, workspace: Workspace) -> dict[str, Any]:
    """Returns what a study stores about its beginning: enough to read its trials without the lane's own files."""
    lane = ground.lane
    return {
        "lane": dict(lane.document),
        "lane_identity": lane.identity,
        "authority": asdict(lane.authority.carried()),
        "references": {name: asdict(pack.carried()) for name, pack in lane.references.items()},
        "gates": dict(lane.gates_file),
        "id": uuid4().hex,  # distinguishes it from a sweep of the same name in another workspace
        "at_ms": int(time.time() * 1000),
        "world": workspace.as_kept(ground.world),
        "reach": [asdict(row) for row in ground.reach],
        "played_by": dict(played_by(lane)),
    }


def _known(studies: Studies, lane: Lane, name: str | None, resume: bool) -> str | None:
    """Returns the name of the sweep to continue: `name`, or the lane's newest; None to begin a new sweep."""
    if name is not None:
        return name if name in studies.names() else None
    if not resume:
        return None
    names = _names(studies, lane)
    if not names:
        raise LaneError(f"lane {lane.id}: --resume: this workspace has no sweep of the lane")
    return names[-1]


def _resumed(studies: Studies, lane: Lane, name: str, workspace: Workspace) -> tuple[Lane, Path | None]:
    """Returns the lane with the sweep's own search settings, waiver and candidate before it, and the sweep's world."""
    begun = studies.attributes(name)
    own = begun["lane"].get("sampler", {})
    sampler = None if lane.document.get("sampler") == own else own.get("name")  # which would add a seed left out
    lane = lane.with_search(sampler=sampler, batch=begun["lane"]["batch"])
    if "after" in begun["lane"] and "after" not in lane.document:
        lane = lane.after(begun["lane"]["after"])
    if "waiver" in begun["lane"] and "waiver" not in lane.document:
        lane = lane.waived(**begun["lane"]["waiver"])
    if lane.authority.digest != begun["authority"]["digest"]:
        raise LaneError(
            f"lane {lane.id}: --resume: its authority changed since {name} began: {lane.authority.name} is pack "
            f"{lane.authority.digest[:12]}…, it was {begun['authority']['digest'][:12]}…; name that pack again, or "
            "begin a new sweep"
        )
    if lane.identity != begun["lane_identity"]:
        raise LaneError(f"lane {lane.id}: --resume: the lane or its gates changed since {name} began")
    if differs := other_code(begun, lane):
        raise LaneError(
            f"lane {lane.id}: --resume: {name} was {differs}; install that again, or begin a new sweep warm from it "
            "with --resume --accept-other-code"
        )
    return lane, workspace.kept(begun["world"]) if begun["world"] else None


def _check_budget(history: Sequence[Trial], lane: Lane, name: str) -> None:
    """Raises LaneError where more trials were run than the budget allows: a lock would state too short a search."""
    budget, done = lane.document["budget"]["trials"], sum(trial.paid for trial in history)
    if done > budget:
        raise LaneError(
            f"lane {lane.id}: /budget/trials: {budget}, but {name} has run {done} trials; give at least --trials {done}"
        )


def _check_beginning(studies: Studies, lane: Lane, name: str, beginning: Beginning, workspace: Workspace) -> None:
    """Raises LaneError where a sweep that is continued is asked to begin otherwise than it did."""
    source, begun = beginning.source, studies.attributes(name)
    if source not in (None, begun.get("from")):
        raise LaneError(f"lane {lane.id}: --from {source}: {name} began without it; --from belongs to a new sweep")
    world = None if begun["world"] is None else workspace.kept(begun["world"])
    for option, asked, own in (
        ("--sampler", beginning.sampler, begun["lane"].get("sampler", {}).get("name", AUTO)),
        ("--batch", beginning.batch, begun["lane"]["batch"]),
        ("--world", beginning.world and beginning.world.resolve(), world and world.resolve()),
    ):
        if asked not in (None, own):
            began = "the engine's own" if own is None else own
            raise LaneError(
                f"lane {lane.id}: {option} {asked}: {name} began with {began} and is continued so; {option} belongs to "
                "a new sweep"
            )
    for option, key in (("--after", "after"), ("--waive", "waiver")):
        if key in lane.document and lane.document[key] != begun["lane"].get(key):
            raise LaneError(f"lane {lane.id}: {option}: {name} began otherwise; {option} belongs to a new sweep")
    for option, value in (("--enqueue", beginning.enqueue), ("--sobol", beginning.design)):
        if value is not None:
            raise LaneError(
                f"lane {lane.id}: {option} {value}: {name} is continued as it began; {option} belongs to a new sweep"
            )


def _names(studies: Studies, lane: Lane) -> list[str]:
    """Returns the lane's sweeps outside campaigns, named `<lane>-<n>`, oldest first."""
    parts = ((name, *name.rpartition("-")) for name in studies.names())
    return [name for name, head, _, number in parts if head == lane.id and number.isdigit()]
