"""An audit of a search: trials of a sweep are proposed and run again, and compared with what its study states.

The chain of digests shows that the study is the one that the lock was made from; an audit shows that the study is true.
Of a sampled trial: the sampler proposes it again from the trials before it; the engine measures the same on the same
seeds; and its batch, raced again, ends every trial where the study says it ended. Of every trial: pack, objectives and
constraints follow from its knobs and measurements.

What ended a run's process (a limit of the lane, a signal) depends on the machine and the moment. Such a run is made
again under the same limits; where it ends otherwise, that is listed as not proved, and is no difference.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, islice

from lanelock.policies import LanelockError, Pack, PolicyError
from lanelock.sweeps.batch import played
from lanelock.sweeps.decision.decision import Confirmation
from lanelock.sweeps.lanes.grading import constraints_of, objectives_of
from lanelock.sweeps.lanes.knob import Value
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.survey import Ground, prospect
from lanelock.sweeps.lanes.trial import Trial, TrialRecord
from lanelock.sweeps.proof.checks import Check, Findings, Proved, Unproved, Watch, collected, same
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.searched import chosen, rank, same_transcript
from lanelock.sweeps.search.beginning import taken_from
from lanelock.sweeps.search.played_by import other_code
from lanelock.sweeps.search.proposals import Proposal, Proposer
from lanelock.sweeps.search.recorded import Recorded, recorded
from lanelock.sweeps.trial import OnSeed, Outcome, SeedRun, recalled, run_on
from lanelock.sweeps.work.trials import place_for, runs_at
from lanelock.sweeps.workspace import Workspace

Runs = Callable[[Mapping[str, Value]], OnSeed]  # a candidate's values -> how it is run on a seed
_OF_TIME = "a difference of the machine's time and memory, not of the study"


@dataclass(frozen=True, slots=True)
class Audit:
    """The result of an audit."""

    sweep: str
    trials: int
    sampled: tuple[int, ...]  # numbers of the trials that were proposed and run again
    findings: Findings


def audit(
    sweep: str, workspace: Workspace, share: float, lock: Lock | None = None, watch: Watch = lambda check: None
) -> Audit:
    """Audits a random share (0 to 1, at least one trial) of a sweep; with a lock, also that it was taken by rule.

    Raises PolicyError where the workspace has no such sweep, IntegrityError where its transcript was changed.
    """
    of = recorded(sweep, workspace)
    sampled = tuple(sorted(_sampled(of, max(1, math.ceil(share * len(of.trials))))))
    return Audit(sweep, len(of.trials), sampled, collected(_checks(of, sampled, lock, workspace), watch))


def _batches(of: Recorded) -> list[list[Trial]]:
    """Returns the trials by batch, in order; those that were taken over come first, together."""
    batches = groupby(of.trials.values(), key=lambda trial: (trial.paid, trial.record.asked_at))
    return [list(trials) for _, trials in batches]


def _sampled(of: Recorded, count: int) -> Iterator[int]:
    """Yields the numbers of so many trials at random, batch by batch: what a batch costs to propose, it costs once."""
    chance, batches = random.SystemRandom(), _batches(of)
    chance.shuffle(batches)
    for batch in batches:
        taken = chance.sample(batch, min(count, len(batch)))
        yield from (trial.number for trial in taken)
        count -= len(taken)


def _checks(
    of: Recorded, sampled: Sequence[int], lock: Lock | None, workspace: Workspace
) -> Iterator[Check | Proved | Unproved]:
    ledger = Ledger(of.ground())
    if differs := other_code(of.begun, of.lane):
        yield Unproved(f"by which code it was played: it was {differs}")
    if lock is not None:
        yield from same_transcript(lock, of)
    space = Proposer(of.lane, []).space
    others = [row.number for row in of.transcript.stored if row.distributions != space]
    yield same("trials whose knobs have other ranges than the lane's", [], others)
    yield same("reach of the gates", of.begun.get("reach"), [asdict(row) for row in prospect(of.lane, of.world)])
    yield from _taken_over(of, ledger.ground, workspace)
    for trial in of.trials.values():
        yield from _derived(of, trial, ledger)
    derived = "packs and objectives follow from knobs and measurements"
    if len(of.transcript.heads) == len(of.trials):
        yield Proved(f"{len(of.trials)} trials in one chain; their {derived}")
    else:
        yield Proved(f"{len(of.trials)} trials whose {derived}")
        yield Unproved("that no trial was altered, dropped or moved: the study holds no transcript")
    bounded = any(of.trials[number].record.ended_by for number in sampled)
    with place_for(of.lane, 1, bounded) as place:
        runs = runs_at(place, ledger.ground)
        for batch in _batches(of):
            if again := {trial.number for trial in batch} & {*sampled}:
                yield from _again(of, batch, again, ledger, runs) if batch[0].paid else _taken(batch, again, ledger)
    yield Proved(f"{len(sampled)} of {len(of.trials)} trials proposed and run again")
    if lock is not None and lock.search.trials <= len(of.trials):
        yield from chosen(lock, of.first(lock.search.trials), ledger, _stated(lock))
        yield Proved(f"{rank(lock)} by the lane's rule")
        yield Unproved(f"what the lock states of its candidate alone: lanelock verify {lock.name}")
    if len(sampled) < len(of.trials):
        yield Unproved(f"{len(of.trials) - len(sampled)} trials were not run again: --all runs them")


def _taken_over(of: Recorded, ground: Ground, workspace: Workspace) -> Iterator[Check | Unproved]:
    """Yields whether the trials that nobody proposed are those that the sweep began with, of the sweep that it names.

    A trial that claims to be of an earlier sweep needs no proposal, so it must be found there.
    """
    taken = [trial for trial in of.trials.values() if not trial.paid]
    yield same("trials of an earlier sweep", [row.number for row in taken], [*range(of.begun.get("taken") or 0)])
    if not taken:
        return
    try:
        earlier = recorded(str(of.begun["from"]), workspace)
    except PolicyError:
        yield Unproved(f"that its first {len(taken)} trials are those of {of.begun['from']} (no transcript here)")
        return
    found = [record for _, record in islice(taken_from(earlier, ground), len(taken))]
    stated, there = ([_unchained(record) for record in records] for records in ([row.record for row in taken], found))
    yield same("what it took of them", stated, there)


def _unchained(record: TrialRecord) -> Mapping[str, object]:
    return replace(record, chain="").document


def _stated(lock: Lock) -> Confirmation | None:
    """Returns a lock's results on fresh seeds, which `verify` runs again, if they confirm what it claims."""
    fresh = lock.confirmation
    whole = fresh is not None and lock.decision == "GO" and fresh.band == lock.card(lock.lane()).verdict.band
    return Confirmation(fresh.metrics, fresh.band, "", ()) if whole and fresh is not None else None


def _derived(of: Recorded, trial: Trial, ledger: Ledger) -> Iterator[Check]:
    """Yields what a trial's record states and its knobs and measurements do not give."""
    cards = [*ledger.cards(trial).values()]
    if trial.record.pack:
        try:
            pack = of.lane.candidate(trial.values).digest
        except LanelockError as error:
            pack = str(error)
        yield from _unless(same(f"trial {trial.number}: pack", trial.record.pack, pack))
    objectives = None if trial.failed or not cards else objectives_of(ledger.ground, cards)
    yield from _unless(same(f"trial {trial.number}: objectives", trial.objectives, objectives))
    constraints = constraints_of(cards) if cards else {}
    yield same(f"trial {trial.number}: constraints", dict(trial.constraints), constraints)


def _unless(check: Check) -> Iterator[Check]:
    """Yields a check that failed: one per trial stands for those that hold."""
    if not check.ok:
        yield check


def _again(
    of: Recorded, batch: Sequence[Trial], sampled: set[int], ledger: Ledger, runs: Runs
) -> Iterator[Check | Unproved]:
    """Yields whether a batch is proposed, run and raced again as recorded; only sampled trials are run."""
    first = batch[0].record.asked_at
    history = of.first(first)
    count = 1 + max(sampled) - first
    proposer = Proposer(of.lane, of.begun.get("listed", []))
    proposed = proposer.batch(history, of.transcript.stored[:first], count, ledger)
    for trial, proposal in zip(batch, (*proposed, *[None] * count), strict=False):
        if trial.number in sampled:
            stated = [dict(trial.values), trial.record.repeats]
            found = None if proposal is None else [dict(proposal.values), proposal.repeats]
            yield same(f"trial {trial.number}: proposal", stated, found)
    others = list[Unproved]()
    on_seed = {
        trial.number: _beside(trial, runs, others) if trial.number in sampled else recalled(trial) for trial in batch
    }
    proposals = [Proposal(trial.number, trial.values, first, trial.record.repeats) for trial in batch]
    outcomes = played(proposals, history, ledger, on_seed=lambda proposal: on_seed[proposal.number])
    for trial, outcome in zip(batch, outcomes, strict=True):
        what = "run again" if trial.number in sampled else "raced again"
        yield same(f"trial {trial.number}: {what}", _result(trial), _result(outcome))
    yield from others


def _beside(trial: Trial, runs: Runs, others: list[Unproved]) -> OnSeed:
    """Returns what runs a trial again; a run whose process was ended, then or now, counts as it is recorded.

    So the other trials of its batch race against what they raced against. Adds to `others` where the end differs.
    """

    def on_seed(ground: Ground, pack: Pack, seed: int) -> SeedRun:
        again = runs(trial.values)(ground, pack, seed)
        stated = recalled(trial)(ground, pack, seed)
        if not again.ended_by and not stated.ended_by:
            return again
        if again.ended_by != stated.ended_by:
            ends = [run.failure or f"seed {seed}: a result" for run in (stated, again)]
            others.append(Unproved(f"trial {trial.number}: recorded {ends[0]}; run again {ends[1]}: {_OF_TIME}"))
        return stated

    return on_seed


def _taken(batch: Sequence[Trial], sampled: set[int], ledger: Ledger) -> Iterator[Check]:
    """Yields whether trials that were taken from an earlier sweep measure what is stated."""
    ground = ledger.ground
    for trial in (trial for trial in batch if trial.number in sampled):
        pack = ground.lane.candidate(trial.values)
        runs = {seed: run_on(ground, pack, seed) for seed in trial.record.measures}
        stated = [dict(trial.record.measures), dict(trial.record.worlds)]
        found = [{seed: run.measures for seed, run in runs.items()}, {seed: run.world for seed, run in runs.items()}]
        yield same(f"trial {trial.number}: run again", stated, found)


def _result(outcome: Trial | Outcome) -> Mapping[str, object]:
    """Returns what a trial gave, without what its study adds and without clocks."""
    record = replace(outcome.record, asked_at=0, repeats=0, chain="", source="", seconds={}, used={}, at_ms=0)
    return {"objectives": outcome.objectives, "constraints": dict(outcome.constraints), **record.document}
