"""Playing a lane: propose, evaluate under vetoes, tell, record, decide.

`play` is the whole story of a sweep and `evaluate` the whole story of a trial. Deciding is pure and
stands in `sweeps.lanes.decision`; what a lock is stands in `sweeps.proof.lock`.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from lanelock.policies import LaneError
from lanelock.scoring.feasibility import GateReach
from lanelock.sweeps.lanes.decision import Decision, Ledger, decide, seed_order
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.runtime import Runtime, hold_to_runtime, time_candidate
from lanelock.sweeps.lanes.sensitivity import sensitivity
from lanelock.sweeps.lanes.study import Proposal, Studies, Study
from lanelock.sweeps.lanes.survey import Ground, survey
from lanelock.sweeps.lanes.tally import tallied
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.proof.lock import Lock, make_lock
from lanelock.sweeps.proof.lock_files import store_lock
from lanelock.sweeps.record.recorder import Recording, recording
from lanelock.sweeps.trial import Outcome, evaluate
from lanelock.sweeps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Progress:
    """What a watcher is told after each batch."""

    done: int
    budget: int
    best: Trial | None
    vetoed: Mapping[str, int]  # veto id -> trials it ended
    seconds: float
    budget_seconds: float


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
    runtime: Runtime | None  # of an accepted candidate, where the lane asks
    seconds: Mapping[str, float]  # "wall"; "search", its record written; "engine" and "scoring", over all trials

    @property
    def ground(self) -> Ground:
        return self.ledger.ground


def play(
    lane: Lane,
    workspace: Workspace,
    *,
    world: Path | None = None,
    jobs: int = 1,
    resume: bool = False,
    track: bool = True,
    name: str | None = None,
    found: tuple[GateReach, ...] | None = None,
    watch: Watch = lambda progress: None,
) -> Closed:
    """Spends the lane's budget and closes it with a decision and a lock.

    Raises LaneError if the lane is being played elsewhere or there is nothing to resume. Interrupted at
    any moment, a call with `resume` goes on where the durable study stands. With a `name` the sweep of that
    name is played: gone on with where it exists, begun where it does not.
    """
    began = time.perf_counter()
    with workspace.alone(f"sweep-{lane.id}"):
        studies = Studies(workspace.study_storage)
        known = _known(studies, lane, name, resume)
        resume, name = known is not None, known or name or _next_name(studies, lane)
        if resume:
            lane, world = _resumed(studies, lane, name)
        with recording(workspace, track) as recorder:
            ground = survey(lane, world, found)
            ledger = Ledger(ground)
            recorder.connected()  # refused, if it is, before anything is begun
            study = studies.open(name, lane) if resume else studies.create(name, lane, _said(ground))
            record = recorder.begin(study, ledger)
            surveyed = time.perf_counter()
            with tallied(workspace, studies, study, lane) as tally:
                _search(study, ledger, record, jobs, began, tally, watch)
            record.settle()
            searched = time.perf_counter() - surveyed
            decision = decide(study.history, ledger)
            runtime = None
            if decision.outcome == "GO" and decision.best is not None:
                runtime = time_candidate(lane, lane.candidate(decision.best.values), world)
                decision = hold_to_runtime(decision, runtime, lane)
            runs = record.settle(None if decision.best is None else decision.best.number)
            kept = record.keep(decision.best)
            documents = {"sensitivity.json": sensitivity(study.name, study.history, ledger)}
            path = store_lock(make_lock(ground, decision, study.name, runs), workspace.locks)
            if runtime is not None:
                documents["runtime.json"] = runtime.as_document()
            record.close(kept, decision, Lock.read(path), documents)  # as everyone will read it
            parent = record.settle()["sweep"]
    seconds = {"wall": time.perf_counter() - began, "search": searched}
    for part in ("engine", "scoring"):
        seconds[part] = sum(told.record.seconds[part] for told in study.history)
    return Closed(study.name, decision, path, parent, tuple(study.history), ledger, runtime, seconds)


def _search(
    study: Study, ledger: Ledger, record: Recording, jobs: int, began: float, tally: Callable[[], None], watch: Watch
) -> None:
    ground, lane = ledger.ground, ledger.ground.lane
    budget, batch = lane.document["budget"], lane.document["batch"]
    trials = min(budget["trials"], study.capacity or budget["trials"])
    with ThreadPoolExecutor(jobs, thread_name_prefix="trial") as workers, _interrupts_held() as stop:
        while len(study.history) < trials:
            seeds = seed_order(study.history, ledger)
            proposals = study.ask(min(batch, trials - len(study.history)))
            outcomes = workers.map(partial(_outcome, study, ground, seeds), proposals)
            for proposal, outcome in zip(proposals, outcomes, strict=True):
                told = study.tell(proposal, outcome.objectives, outcome.constraints, outcome.record)
                record.trial(told)
                stop()
            tally()
            seconds = time.perf_counter() - began
            best = decide(study.history, ledger).best
            vetoed = ledger.vetoes(study.history)
            watch(Progress(len(study.history), trials, best, vetoed, seconds, budget["seconds"]))
            if seconds > budget["seconds"]:
                return


@contextmanager
def _interrupts_held() -> Iterator[Callable[[], None]]:
    """Holds Ctrl-C back until `stop()` is called, between trials: what is told is then also recorded."""
    pressed = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # where Python lets no one handle signals
        yield lambda: None
        return

    def stop() -> None:
        if pressed.is_set():
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, lambda *_: pressed.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _outcome(study: Study, ground: Ground, seeds: tuple[int, ...], proposal: Proposal) -> Outcome:
    stored = study.stored(proposal)
    if stored is not None:
        return Outcome(stored.objectives, stored.constraints, stored.record)
    return evaluate(ground, ground.lane.candidate(proposal.values), seeds)


def _next_name(studies: Studies, lane: Lane) -> str:
    """`<lane>-<n>`, n one more than the newest sweep's of this lane."""
    return f"{lane.id}-{1 + max((int(name.rpartition('-')[2]) for name in _names(studies, lane)), default=0)}"


def _said(ground: Ground) -> dict[str, Any]:
    """What a study keeps of how it was begun: enough to read its trials when the lane's own files have gone."""
    lane = ground.lane
    return {
        "lane": dict(lane.document),
        "lane_identity": lane.identity,
        "authority": asdict(lane.authority.carried()),
        "references": {name: asdict(pack.carried()) for name, pack in lane.references.items()},
        "gates": dict(lane.gates_file),
        "id": uuid4().hex,  # tells it from the sweep of the same name in another workspace
        "at_ms": int(time.time() * 1000),
        "world": str(ground.world) if ground.world else None,
        "reach": [asdict(row) for row in ground.reach],
    }


def _known(studies: Studies, lane: Lane, name: str | None, resume: bool) -> str | None:
    """The sweep to go on with: the one of that name, or the lane's newest; None to begin one."""
    if name is not None:
        return name if name in studies.names() else None
    if not resume:
        return None
    names = _names(studies, lane)
    if not names:
        raise LaneError(f"lane {lane.id}: --resume: no sweep of it is in this workspace")
    return names[-1]


def _resumed(studies: Studies, lane: Lane, name: str) -> tuple[Lane, Path | None]:
    """The lane with the search, and the world, that a sweep was begun with."""
    begun = studies.attributes(name)
    said = begun["lane"]
    lane = lane.with_search(sampler=said["sampler"]["name"], batch=said["batch"])
    if lane.identity != begun["lane_identity"]:
        raise LaneError(f"lane {lane.id}: --resume: the lane, its authority or its gates changed since {name} began")
    return lane, Path(begun["world"]) if begun["world"] else None


def _names(studies: Studies, lane: Lane) -> list[str]:
    """The sweeps that were begun for this lane by itself, oldest first: `<lane>-<n>`."""
    parts = ((name, *name.rpartition("-")) for name in studies.names())
    return [name for name, head, _, number in parts if head == lane.id and number.isdigit()]
