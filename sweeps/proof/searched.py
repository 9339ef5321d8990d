"""What a lock states of its search, proved from the transcript that the sweep's study holds.

The chain shows that no trial was altered, dropped or moved since the lock was made; from the recorded measurements the
decision follows again. That these are what the engine measures, and that the search proposed these candidates, is shown
by an audit (`sweeps.audit`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lanelock.policies import IntegrityError, LanelockError, Pack
from lanelock.sweeps.decision.confirmation import confirm_on, decide_confirmed
from lanelock.sweeps.decision.decision import Confirmation
from lanelock.sweeps.decision.runtime import RUNTIME
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.proof.checks import Check, Proved, Unproved, same
from lanelock.sweeps.proof.lock import Lock, Search, by_hand
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.search.transcript import origin_of
from lanelock.sweeps.workspace import Workspace

if TYPE_CHECKING:
    from lanelock.sweeps.search.recorded import Recorded


def searched(
    lock: Lock,
    ground: Ground,
    fresh: Confirmation | None,
    measures: Mapping[int, Mapping[str, float]],
    workspace: Workspace | None,
) -> Iterator[Check | Proved | Unproved]:
    """Yields whether the candidate is the one that the search's decision takes, if its study is in the workspace.

    `fresh` and `measures` are the candidate's results as they were computed again.
    """
    best = f"{rank(lock)} trials of {lock.sweep}, under the lane in the lock"
    if workspace is None or not _is_here(lock.sweep, workspace):
        yield Unproved(f"{best} (no transcript here)")
        return
    from lanelock.sweeps.search.recorded import recorded  # Optuna costs a second, which other workspaces need not pay

    of = recorded(lock.sweep, workspace)
    if of.origin != lock.search.origin:
        yield Unproved(f"{best} (the sweep of that name here is another)")
        return
    whole = list(same_transcript(lock, of))
    yield from whole
    if not all(check.ok for check in whole):
        return
    history = of.first(lock.search.trials)
    yield from _measured(lock, history, measures)
    yield from chosen(lock, history, Ledger(ground), fresh)
    yield Proved(f"{best}, by what their records state")
    others = f"{lock.search.trials} trials measure what their records state"
    yield Unproved(f"{others} (recorded, not run again: lanelock audit {lock.sweep})")


def _is_here(sweep: str, workspace: Workspace) -> bool:
    """Whether the workspace has the study of a sweep. A tally that is missing says nothing: the study is asked."""
    if sweep in sweeps_in(workspace):
        return True
    if not workspace.journal.is_file():
        return False
    from lanelock.sweeps.search.study import Studies  # as above

    return sweep in Studies(workspace.study_storage, reading=True).names()


def rank(lock: Lock) -> str:
    """Returns what a lock states of its candidate among the trials of its search."""
    which = "the best" if lock.chosen_by_hand is None else "one"
    return f"trial {lock.trial} is {which} of {lock.search.trials}"


def same_transcript(lock: Lock, of: Recorded) -> Iterator[Check]:
    """Yields whether a sweep began with what the lock states, and its transcript was then what it is now."""
    yield same("transcript: lane, packs and gates", lock.search.origin, origin_of({**of.begun, **_begun(lock)}))
    heads, trials = (of.origin, *of.transcript.heads), lock.search.trials
    found = heads[trials] if trials < len(heads) else f"only {len(heads) - 1} trials"
    yield same(f"transcript: head after {trials} trials", lock.search.head, found)


def continues(sweep: str, origin: str, heads: Sequence[str], workspace: Workspace) -> None:
    """Raises IntegrityError unless a sweep's transcript holds what its locks here state of it.

    A lock that cannot be read states nothing, nor does one of another sweep of that name.
    """
    for path in sorted(workspace.locks.glob(f"{sweep}.*.json")):
        with suppress(LanelockError):
            lock = Lock.read(path)
            if lock.sweep == sweep and lock.search.origin == origin and not _holds(lock.search, origin, heads):
                break
    else:
        return
    raise IntegrityError(
        f"study {sweep}: its transcript after {lock.search.trials} trials is not the one that {path} states; the study "
        "was changed"
    )


def _holds(search: Search, origin: str, heads: Sequence[str]) -> bool:
    return search.trials <= len(heads) and search.head == (origin, *heads)[search.trials]


def _begun(lock: Lock) -> Mapping[str, Any]:
    """Returns what a lock states of the beginning of its sweep, as a study stores it."""
    packs = {name: {"digest": pack.digest} for name, pack in lock.references.items()}
    authority = {"digest": lock.authority.digest}
    return {"lane": lock.lane_document, "authority": authority, "references": packs, "gates": lock.gates}


def _measured(lock: Lock, history: Sequence[Trial], measures: Mapping[int, Mapping[str, float]]) -> Iterator[Check]:
    """Yields whether the locked trial has the lock's knobs and results."""
    trial = next((row for row in history if row.number == lock.trial), None)
    if trial is not None:
        yield same("transcript: knobs", lock.knobs, dict(trial.values))
        stated = {seed: dict(metrics) for seed, metrics in trial.record.measures.items()}
        yield same("transcript: metrics", stated, {seed: dict(measures[seed]) for seed in stated})


def chosen(lock: Lock, history: Sequence[Trial], ledger: Ledger, fresh: Confirmation | None = None) -> Iterator[Check]:
    """Yields whether the lane's rule takes the locked trial, for the reason that the lock gives.

    It takes it among these trials or, where a person chose it, alone. `fresh`: its results on fresh seeds, where known.
    """

    def confirm(ground: Ground, pack: Pack, seeds: Sequence[int], claimed: str) -> Confirmation:
        known = fresh if pack.digest == lock.candidate_pack.digest else None
        return known or confirm_on(ground, pack, seeds, claimed)

    if lock.chosen_by_hand is not None:
        history = [trial for trial in history if trial.number == lock.trial]
    decision = decide_confirmed(history, ledger, confirm)
    if lock.chosen_by_hand is not None:
        decision = replace(decision, reason=by_hand(lock.chosen_by_hand, decision, ledger))
    yield same("transcript: trial", lock.trial, None if decision.best is None else decision.best.number)
    if not any(row.gate == RUNTIME for row in lock.blockers):  # its reason holds seconds
        yield same("transcript: because", lock.because, decision.reason)
