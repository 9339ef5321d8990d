"""How each kind of phase is played: from the pack it starts from to its outcome, with a candidate where it gives one.

What follows from an outcome, and when a phase may close, is decided in `sweeps.campaign.play`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from lanelock.engine.keep.receipts import file_digest
from lanelock.engine.protocol import Run
from lanelock.policies import Pack, pack_of
from lanelock.policies.expressions import Expression
from lanelock.policies.names import inside
from lanelock.scoring.certification import Certification, certify
from lanelock.scoring.gates import spelled
from lanelock.scoring.scorecard import measured as measured_by
from lanelock.scoring.scorecard import score
from lanelock.sweeps.campaign.freezing import close, out_of_reach
from lanelock.sweeps.campaign.performance import Performing
from lanelock.sweeps.campaign.plan import NO_OP, PERFORMANCE, Campaign, Phase
from lanelock.sweeps.campaign.records import (
    Answered,
    End,
    Finding,
    Floor,
    Graded,
    Holder,
    KnobRange,
    PhaseRecord,
    Pinned,
    Result,
    Ruling,
    Swept,
    Tried,
)
from lanelock.sweeps.campaign.triggers import Trigger, evaluated
from lanelock.sweeps.decision.decision import best_found, refusal
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.survey import prospect
from lanelock.sweeps.proof.evidence import INDEX, certify_lock
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.sweep import Closed, Progress, play
from lanelock.sweeps.workspace import Workspace

_STATED = ("id", "title", "why", "seeds", "budget", "attempts")  # what a record states of its lane
BY_GATE = "downstream skipped by gate"  # of a candidate that nothing is played on


@dataclass(frozen=True, slots=True)
class Start:
    """The pack that a phase starts from or passes on, and the file name of the lock it came from, if any."""

    pack: Pack
    lock: str | None


Played = tuple[Result, Start | None]  # with its candidate; None: there is none


@dataclass(frozen=True, slots=True)
class Stage:
    """Where phases are played, and what was played before."""

    campaign: Campaign
    workspace: Workspace
    run: str
    records: tuple[PhaseRecord, ...]
    jobs: int
    track: bool
    proved: set[str]  # by digest, the evidence that this process has made or proved
    watch: Callable[[Progress], None]

    def played(self, phase: Phase, start: Start | None, answer: tuple[str, Ruling] | None) -> Played:
        """Returns the result of a phase and its candidate. `answer`: to a question, with who gave it."""
        if (skipped := phase.document.get("skipped")) is not None:
            return self._skipped(Ruling(skipped["who"], skipped["why"], None))
        if phase.kind == "authority":
            return self._authority(phase)
        if phase.kind == PERFORMANCE:
            performing = Performing(self.campaign, self.workspace, self.run, self.records, phase, self.track)
            return performing.played(), None
        assert start is not None  # an authority comes first
        if (needed := self._needed(phase, start)) is not None and not needed.holds:
            reason = f"not needed: {needed}"
            return Result(outcome=NO_OP, reason=reason, metrics=self.measured(start.pack), triggers=(needed,)), None
        result, candidate = self._played(phase, start, answer)
        return (result if needed is None else replace(result, triggers=(needed,))), candidate

    def _played(self, phase: Phase, start: Start, answer: tuple[str, Ruling] | None) -> Played:
        if phase.kind == "question":
            assert answer is not None  # without one, the campaign waits
            return self._question(phase, *answer)
        kinds = {"lane": self._lane, "certify": self._certify, "freeze": self._freeze}
        return kinds[phase.kind](phase, start)

    def _needed(self, phase: Phase, start: Start) -> Trigger | None:
        """Returns whether the condition of a phase holds for the pack that it starts from; None if it states none."""
        return None if phase.when is None else self.trigger(phase.when, self.measured(start.pack))

    def trigger(self, rule: Expression, metrics: Mapping[int, Mapping[str, float]]) -> Trigger:
        """Returns a condition as it stands after the phases that were played."""
        return evaluated(rule, metrics, {row.phase: row.outcome for row in self.records}, self.campaign.gates)

    def _skipped(self, ruling: Ruling) -> Played:
        reason = (
            f"not played: waived as a whole by {ruling.who}, given beforehand, and closed fail-closed: {ruling.why}"
        )
        return Result(outcome="WAIVED", reason=reason, skipped=ruling), None

    def _authority(self, phase: Phase) -> Played:
        assert phase.pack is not None  # by the schema
        campaign, until = self.campaign, phase.document.get("until", self.campaign.until)
        pinned, measures = dict[int, Pinned](), dict[int, Mapping[str, float]]()
        for seed in campaign.seeds:  # one run at a time: a whole one may take gigabytes
            began = time.perf_counter()
            run = campaign.engine.evaluate(phase.pack, seed, until=until)
            pinned[seed] = _pinned(run, time.perf_counter() - began)
            measures[seed] = measured_by(campaign.metrics, run)
            del run
        graded = _graded(campaign, measures, until)
        reason = f"what the campaign starts from; as it stands {graded.verdict}: {graded.reason}"
        metrics = {seed: _finite(campaign, seed, values) for seed, values in measures.items()}
        result = Result(outcome="GO", reason=reason, verdict=str(graded.verdict), metrics=metrics, pinned=pinned)
        return result, Start(phase.pack, None)

    def _lane(self, phase: Phase, start: Start) -> Played:
        assert phase.lane is not None  # by the schema
        lane = self._lane_of(phase, phase.lane.with_authority(start.pack))
        stated = {key: value for key, value in lane.document.items() if key in _STATED}
        tried = Tried(lane=stated, knobs={knob.name: KnobRange(knob.at, knob.extent) for knob in lane.knobs})
        before = self.measured(start.pack) if self.campaign.floors or phase.material else {}
        result = Result(outcome="REFUSED", reason="", tried=tried, floors=self._floors(before, None))
        if why := self.campaign.frozen_move(lane):
            return replace(result, reason=f"not played: {why}; {BY_GATE}"), None
        reach = prospect(lane, None)
        refused = refusal(lane, reach)
        if refused is not None and not phase.document.get("anyway", False):
            tried = replace(tried, reach=reach, blockers=refused.blockers)
            return replace(result, reason=refused.reason, verdict=refused.verdict, tried=tried), None
        name = self._sweep_of(phase)
        closed = play(lane, self.workspace, jobs=self.jobs, name=name, reach=reach, track=self.track, watch=self.watch)
        decision, lock = closed.decision, Lock.read(closed.lock)
        candidate = Start(pack_of(name, lock.candidate_pack.policies, lane.engine.policy_schemas), closed.lock.name)
        if decision.best is not None:
            lane.admit(candidate.pack)  # raises if more than the lane's knobs moved
        after = self.measured(candidate.pack)
        result = replace(
            result,
            outcome=decision.outcome,
            reason=decision.reason,
            verdict=decision.verdict,
            metrics=after,
            tried=replace(tried, reach=reach, blockers=decision.blockers, swept=_swept(lane, closed, lock)),
            floors=self._floors(before, after),
        )
        return _weighed(phase, result, closed, before), candidate

    def _lane_of(self, phase: Phase, lane: Lane) -> Lane:
        """Returns a phase's lane as it is played: with its number of trials, and narrowed after a candidate."""
        if (trials := phase.document.get("trials")) is not None:
            lane = lane.with_search(trials=trials)
        earlier = (
            row.tried.swept for row in reversed(self.records) if row.phase == phase.document.get("after") and row.tried
        )
        swept = next((swept for swept in earlier if swept is not None and swept.lock is not None), None)
        if swept is None or swept.lock is None:
            return lane
        lock = Lock.read(inside(self.workspace.locks, swept.lock))
        return lane.narrowed(lock.candidate_pack.opened(lane.engine.policy_schemas, swept.sweep))

    def _sweep_of(self, phase: Phase) -> str:
        """Returns the name of a phase's sweep: `<run>.<phase>`, and from its second time `<run>.<phase>+2`."""
        times = 1 + sum(record.phase == phase.id for record in self.records)
        return f"{self.run}.{phase.id}" + (f"+{times}" if times > 1 else "")

    def _floors(
        self, authority: Mapping[int, Mapping[str, float]], candidate: Mapping[int, Mapping[str, float]] | None
    ) -> tuple[Floor, ...]:
        return tuple(
            Floor(name, _one(name, authority), None if candidate is None else _one(name, candidate))
            for name in self.campaign.floors
        )

    def _certify(self, phase: Phase, start: Start) -> Played:
        if start.lock is None:
            reason = "no lane left a lock: what the campaign started from still stands"
            return Result(outcome="NO_GO", reason=reason), None
        certified = certify_lock(
            inside(self.workspace.locks, start.lock),
            self.workspace,
            seeds=phase.document.get("seeds"),
            profile=phase.document.get("profile"),
            holdout=phase.document.get("holdout", 0),
            jobs=self.jobs,
        )
        self.proved.add(file_digest(certified.folder / INDEX))
        accepted = certified.verdict.rank >= self.campaign.gates.of_band(phase.document["accept_band"]).rank
        return Result(
            outcome="GO" if accepted else "NO_GO",
            reason=certified.reason,
            verdict=str(certified.verdict),
            graded=Graded(certified.verdict.band, certified.document, certified.folder.name),
        ), None

    def _question(self, phase: Phase, answer: str, ruling: Ruling) -> Played:
        asks = phase.document["asks"]
        answered = Answered(asks, phase.document["consequences"], findings_for(phase, self.records), answer, ruling)
        reason = f"{asks} {answer}, by {ruling}"
        return Result(outcome=answer.upper(), reason=reason, answered=answered), None

    def _freeze(self, phase: Phase, start: Start) -> Played:
        end, reason = freeze(self.records, self.campaign.gates.bands, self.campaign.weaker)
        folder, holder = inside(self.workspace.campaigns, self.run), Holder(start.pack.carried(), start.lock)
        frozen = close(
            self.campaign, self.workspace, folder, self.records, holder, (end, reason), phase,
            track=self.track, proved=self.proved,
        )  # fmt: skip
        end = replace(end, freeze=frozen.freeze_id)
        return Result(outcome="FROZEN", reason=reason, metrics=self.measured(start.pack), end=end), start

    def measured(self, pack: Pack) -> dict[int, dict[str, float]]:
        """Returns a pack's metrics by campaign seed, to the campaign's last state even if its lane stops earlier."""
        return {seed: measured(self.campaign, pack, seed) for seed in self.campaign.seeds}


def _weighed(phase: Phase, result: Result, closed: Closed, before: Mapping[int, Mapping[str, float]]) -> Result:
    """Returns a lane's result with what its candidate moved: RETRY where that is enough, though it is not accepted."""
    if closed.runtime is not None and not closed.runtime.holds:
        return replace(result, reason=f"{result.reason}; {BY_GATE}")
    if phase.material is None or result.metrics is None or closed.decision.best is None or result.outcome == "GO":
        return result
    movement = phase.material.moved(before, result.metrics)
    ended = closed.ledger.vetoed(closed.decision.best)
    outcome = "RETRY" if movement.enough and not ended else "NO_GO"
    why = f"; though {', '.join(ended)} ended it" if movement.enough and ended else ""
    return replace(result, outcome=outcome, reason=f"{result.reason}; {movement}{why}", movement=movement)


def findings_for(phase: Phase, records: Sequence[PhaseRecord]) -> tuple[Finding, ...]:
    """Returns what the phases that a question names found, each as it was played last; without those not played."""
    last = {record.phase: record for record in records}
    played = (last[name] for name in phase.document["evidence"] if name in last)
    return tuple(Finding(row.phase, row.decision or row.outcome, row.reason) for row in played)


def measured(campaign: Campaign, pack: Pack, seed: int) -> dict[str, float]:
    """Returns a pack's metrics on one seed, computed to the campaign's last state."""
    run = campaign.engine.evaluate(pack, seed, until=campaign.until)
    return _finite(campaign, seed, measured_by(campaign.metrics, run))


def _finite(campaign: Campaign, seed: int, metrics: Mapping[str, float]) -> dict[str, float]:
    return dict(score(metrics, campaign.gates, seed=seed, authority=None).metrics)


def _one(name: str, metrics: Mapping[int, Mapping[str, float]]) -> dict[int, float]:
    return {seed: values[name] for seed, values in metrics.items() if name in values}


def _pinned(run: Run, seconds: float) -> Pinned:
    states = {state.name: state.seconds for state in run.states}
    return Pinned(run.run_id, run.world_digest, run.pack.digest, run.code_version, states, seconds)


def _graded(campaign: Campaign, measures: Mapping[int, Mapping[str, float]], until: str) -> Certification:
    """Grades metrics by seed, by every gate of the engine whose metric's state is computed at `until`."""
    states = campaign.engine.states
    done = set(states[: states.index(until) + 1])
    metrics = campaign.gates.metrics
    gates = campaign.gates.select([gate.id for gate in campaign.gates.gates if metrics[gate.metric].state in done])
    return certify([score(values, gates, seed=seed, authority=None) for seed, values in measures.items()], gates)


def freeze(records: Sequence[PhaseRecord], bands: Sequence[str], weaker: Collection[str] = ()) -> tuple[End, str]:
    """Returns the end and why: the last certification, and the gates that are provably out of reach.

    A phase among the `weaker` has graded the candidate on too few seeds to certify it.
    """
    graded_by = (record for record in reversed(records) if record.phase not in weaker)
    last = next((record for record in graded_by if record.graded is not None), None)
    graded = None if last is None else last.graded
    if last is not None and graded is not None and graded.band is not None:
        seeds = ", ".join(map(str, graded.certification["seeds"]))
        return End(f"FROZEN_CERTIFIED_{spelled(graded.band)}", True), f"certified on seeds {seeds}: {last.reason}"
    why = "; ".join(["nothing was certified" if last is None else last.reason, *out_of_reach(records)])
    return End(f"FROZEN_BEST_EFFORT_BELOW_{spelled(bands[0])}", False), why


def _swept(lane: Lane, closed: Closed, lock: Lock) -> Swept:
    ledger, best = closed.ledger, closed.decision.best
    return Swept(
        sweep=closed.sweep,
        trials=len(closed.trials),
        vetoes=dict(ledger.vetoes(closed.trials)),
        values={} if best is None else dict(best.values),
        best=best_found(lock.card(lane), closed.trials, ledger),
        runtime=closed.runtime,
        lock=closed.lock.name,
    )
