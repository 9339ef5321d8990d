"""A lock of a trial that a person chose, instead of the trial that the sweep's decision took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lanelock.policies import PolicyError
from lanelock.sweeps.decision.confirmation import decide_confirmed
from lanelock.sweeps.decision.decision import Decision
from lanelock.sweeps.decision.runtime import hold_to_runtime, time_candidate
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.proof.freezes import refusal
from lanelock.sweeps.proof.lock import Lock, Search, by_hand, make_lock
from lanelock.sweeps.proof.lock_files import find_lock, store_lock
from lanelock.sweeps.proof.runtime_locks import reference_of
from lanelock.sweeps.search.recorded import Recorded, recorded
from lanelock.sweeps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Chosen:
    """The result of asking for a lock of a trial: the lock, or why there is none."""

    lock: Lock | None
    path: Path | None
    refusals: tuple[str, ...]


def lock_trial(sweep: str, number: int, why: str, workspace: Workspace) -> Chosen:
    """Locks a trial of a closed sweep, with the verdict that it has, unless a veto, a missing seed or a freeze forbids
    it.

    Raises PolicyError where the sweep has not closed or has no such trial, IntegrityError where the trial does not
    measure again what the sweep recorded.
    """
    of = recorded(sweep, workspace)
    trial, _ = of.trial(number), _closed(sweep, workspace)
    ledger = Ledger(of.ground())
    closed = refusal(workspace, of.lane.engine.name, "lock by hand")
    if refusals := (*filter(None, [closed]), *_refusals(trial, ledger)):
        return Chosen(None, None, refusals)
    of.pack(trial)  # raises where the study was changed
    decision = _decision(of, trial, ledger, why, workspace)
    search = Search(of.origin, len(of.trials), of.head, decision.reason)
    lock = make_lock(ledger.ground, decision, sweep, search, why)
    return Chosen(lock, store_lock(lock, workspace.locks), ())


def _closed(sweep: str, workspace: Workspace) -> Lock:
    """Returns the lock that a sweep closed with."""
    try:
        return Lock.read(find_lock(sweep, workspace))
    except PolicyError as error:
        raise PolicyError(f"{sweep}: it has not closed, or its lock is gone ({error}); resume it first") from None


def _refusals(trial: Trial, ledger: Ledger) -> Iterator[str]:
    if trial.failed:
        yield f"it failed: {trial.record.failure}"
    elif vetoed := ledger.vetoed(trial):
        yield f"vetoed by {', '.join(vetoed)}: what a veto ended is never locked"
    elif not ledger.complete(trial):
        seeds = ", ".join(map(str, trial.record.measures))
        asked = ", ".join(map(str, ledger.ground.lane.seeds))
        yield f"it has results on seed {seeds} only: a lock proves every seed of the lane ({asked})"
    elif trial.objectives is None:
        yield "it could not be graded on every seed"


def _decision(of: Recorded, trial: Trial, ledger: Ledger, why: str, workspace: Workspace) -> Decision:
    """Returns what the lane's rule says of this trial alone."""
    decision = decide_confirmed((trial,), ledger)
    if decision.outcome == "GO":
        timed = time_candidate(of.lane, of.pack(trial), of.world, reference_of(of.lane, workspace))
        decision = hold_to_runtime(decision, timed, of.lane)
    return replace(decision, reason=by_hand(why, decision, ledger))
