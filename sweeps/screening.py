"""Screening: the candidates of a batch run in cheaper stages, and only those that promise most go on.

It is the race over seeds, one step earlier: candidates are ranked by what they promise in a stage, in the order of the
decision, and each stage keeps its share of the batch. No stage ends the authority placed in the box, so that no sweep
ends on less than it began with. Screening ends trials; it accepts none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lanelock.policies import LanelockError
from lanelock.sweeps.decision.race import promise
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.stages import Stage
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial, TrialRecord
from lanelock.sweeps.search.proposals import Proposal, Values
from lanelock.sweeps.trial import OnSeed, Outcome, Spread, evaluate, most_used

_Ran = Mapping[int, Outcome]  # proposal number -> what a stage gave


@dataclass
class Screened:
    """How far a candidate came before its full run."""

    staged: dict[str, Mapping[int, Mapping[str, float]]] = field(default_factory=dict)  # stage -> seed -> metrics
    seconds: dict[str, float] = field(default_factory=dict)  # "engine" and "scoring"
    ended: Outcome | None = None  # None: it goes on
    ended_by: str = ""  # what ended its process, where that is why it ended
    used: dict[str, float] = field(default_factory=dict)  # as in a trial's record

    def add(self, stage: Stage, outcome: Outcome) -> None:
        """Adds what a stage measured."""
        self.staged[stage.name] = outcome.record.measures
        self.seconds = self._summed(outcome.record)
        self.ended_by, self.used = outcome.record.ended_by, most_used((self.used, outcome.record.used))

    def end(self, lane: Lane, values: Values, stopped: str, failure: str) -> None:
        """Ends the trial in a stage: it has no objectives, and no results that could be graded."""
        try:
            pack = lane.candidate(values)
            policies = {name: policy.digest for name, policy in pack.policies.items()}
            record = TrialRecord({}, pack.digest, policies, {}, {}, _now(), stopped=stopped, failure=failure)
        except LanelockError:  # it is no valid pack, which is why the stage failed
            record = TrialRecord({}, "", {}, {}, {}, _now(), stopped=stopped, failure=failure)
        self.ended = Outcome(None, {}, self._with_stages(record))

    def joined(self, full: Outcome | Trial | None) -> Outcome | Trial:
        """Returns the full run's outcome with what the stages measured; of a trial that a stage ended, its end."""
        if self.ended is not None:
            return self.ended
        assert full is not None  # what no stage ended was run
        return replace(full, record=self._with_stages(full.record)) if self.staged else full

    def _with_stages(self, record: TrialRecord) -> TrialRecord:
        used, ended_by = most_used((self.used, record.used)), record.ended_by or self.ended_by
        return replace(record, staged=dict(self.staged), seconds=self._summed(record), used=used, ended_by=ended_by)

    def _summed(self, record: TrialRecord) -> dict[str, float]:
        return {part: self.seconds.get(part, 0.0) + record.seconds.get(part, 0.0) for part in ("engine", "scoring")}


def _now() -> int:
    return int(time.time() * 1000)


def screened(
    proposals: Sequence[Proposal], ground: Ground, reserve: float, spread: Spread, on_seed: Callable[[Proposal], OnSeed]
) -> Mapping[int, Screened]:
    """Returns proposal number -> how far it came. The result does not depend on the number of workers."""
    found = {proposal.number: Screened() for proposal in proposals}
    start = dict(ground.lane.space.start)
    left = [proposal for proposal in proposals if dict(proposal.values) != start]
    for stage, at in ground.stages:
        if stage.kept(len(left)) == len(left):
            continue  # nobody has to go, so that the stage would only cost
        ran = _ran(at, left, spread, on_seed)
        ends = _ends(stage, Ledger(at), ran, reserve)
        for proposal in left:
            found[proposal.number].add(stage, ran[proposal.number])
            if proposal.number in ends:
                found[proposal.number].end(ground.lane, proposal.values, *ends[proposal.number])
        left = [proposal for proposal in left if proposal.number not in ends]
    return found


def _ran(ground: Ground, left: Sequence[Proposal], spread: Spread, on_seed: Callable[[Proposal], OnSeed]) -> _Ran:
    def run(proposal: Proposal) -> Outcome:
        return evaluate(ground, proposal.values, ground.lane.seeds, on_seed=on_seed(proposal))

    return {proposal.number: outcome for proposal, outcome in zip(left, spread(run, left), strict=True)}


def _ends(stage: Stage, ledger: Ledger, ran: _Ran, reserve: float) -> Mapping[int, tuple[str, str]]:
    """Returns number -> (why it does not go on, why it failed), one of the two empty, of the trials that end here."""
    ends = dict[int, tuple[str, str]]()
    for number, outcome in ran.items():
        if outcome.record.failure:
            ends[number] = "", f"stage {stage.name}: {outcome.record.failure}"[:500]
        elif broken := [name for name, violation in outcome.constraints.items() if violation > 0]:
            ends[number] = f"stage {stage.name}: {', '.join(broken)} would end it", ""
    standing = [number for number in ran if number not in ends]
    # Sorting is stable, so that equal ones keep their order.
    standing.sort(key=lambda number: _promise(ran[number], ledger, reserve), reverse=True)
    kept = stage.kept(len(ran))
    for place, number in enumerate(standing[kept:], kept + 1):
        ends[number] = f"stage {stage.name}: place {place} of {len(ran)}, {kept} go on", ""
    return ends


def _promise(outcome: Outcome, ledger: Ledger, reserve: float) -> tuple[float, ...]:
    """Returns a sort key of what a stage promises: that of its worst seed."""
    rows = outcome.record.measures.items()
    return min(promise(ledger.ground.graded(seed, metrics), ledger, reserve) for seed, metrics in rows)
