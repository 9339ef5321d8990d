"""How a performance phase is played: a baseline of what states cost, a comparison with it, a runtime lock.

No phase of this kind changes a policy, and none passes a pack on: what is tuned comes after it. A comparison is made
once and may be looked at by several phases, each about a state of its own. Where no other version of the code is named
(`against`), this tree is compared with what the baseline phase measured of it: then nothing can be gained, and the
phase shows that nothing is lost: the same bytes, replayed and audited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lanelock.engine.resolved import Resolved
from lanelock.policies import IntegrityError, RefusedError, WorkspaceError
from lanelock.policies.names import inside
from lanelock.sweeps.campaign.plan import Campaign, Phase
from lanelock.sweeps.campaign.records import Cost, Performance, PhaseRecord, Result
from lanelock.sweeps.perf import page
from lanelock.sweeps.perf.baseline import Row, baseline
from lanelock.sweeps.perf.budgets import Budget, Budgets, budgets_of
from lanelock.sweeps.perf.code_lane import Comparison, Measured, Terms, compare, compared, derived, measured_of
from lanelock.sweeps.perf.comparisons import read, store
from lanelock.sweeps.perf.environments import HERE
from lanelock.sweeps.perf.gains import ALL, Gain
from lanelock.sweeps.perf.locking import lock_runtime
from lanelock.sweeps.perf.machine import machine
from lanelock.sweeps.perf.measure import Request, reachable
from lanelock.sweeps.perf.medians import Median
from lanelock.sweeps.proof.runtime_locks import STATUS, RuntimeLock
from lanelock.sweeps.workspace import Workspace

BASELINE, COMPARE, LOCK = "baseline", "compare", "lock"
_ROUNDS = 3
_SAME_CODE = "both ran the same code: the machine was busier"


@dataclass(frozen=True, slots=True)
class Performing:
    """A performance phase, and what was played before it."""

    campaign: Campaign
    workspace: Workspace
    run: str
    records: Sequence[PhaseRecord]
    phase: Phase
    track: bool

    def played(self) -> Result:
        modes = {BASELINE: self._baseline, COMPARE: self._compare, LOCK: self._lock}
        return modes[self.phase.document["mode"]]()

    @property
    def _engine(self) -> Resolved:
        return self.campaign.engine

    @property
    def _focus(self) -> str:
        return str(self.phase.document.get("state", ALL))

    def _baseline(self) -> Result:
        pack, engine = self.phase.pack, self._engine
        assert pack is not None  # by the plan
        budgets, profiles = budgets_of(engine.name), [*self.campaign.gates.profiles.values()]
        with reachable(pack.name, pack, engine.name) as place:
            asked = Request(place, self.campaign.seeds[0])
            made = baseline(engine, pack.name, asked, self._rounds, budgets, profiles)
        document, _ = page.write(made, self.workspace)
        measured = measured_of(HERE, made.rounds[0], made.rounds)
        reason = (
            f"{len(made.states)} states measured over {self._rounds} rounds, {made.all.wall.value:.3f} s in all; "
            f"{made.first.state} comes first, with {made.first.share:.0%}{f', {made.first.colour}' * bool(made.colour)}"
        )
        found = Performance(
            mode=BASELINE, focus=made.first.state, costs=tuple(map(_cost_of_row, made.hot_spots)), machine=machine(),
            file=f"{document['id']}.json", measured=measured.document, recorded=self.phase.document.get("recorded"),
        )  # fmt: skip
        return Result(outcome="GO", reason=reason, performance=found)

    @property
    def _rounds(self) -> int:
        return int(self.phase.document.get("rounds", _ROUNDS))

    def _compare(self) -> Result:
        comparison = self._comparison()
        gain, whole = _gain(comparison, self._focus), comparison.derived
        outcome = "GO" if whole.holds and gain.faster and not comparison.alone else "NO_GO"
        reason = _reason(gain, outcome) if whole.holds else whole.reason
        if recorded := self.phase.document.get("recorded"):
            reason += f"; {_beside(gain, recorded)}"
        return Result(outcome=outcome, reason=reason, performance=self._found(comparison, COMPARE))

    def _comparison(self) -> Comparison:
        """Returns the comparison that an earlier phase made, or makes the one with what it measured."""
        before = self._before()
        if before.mode != BASELINE:
            return read(inside(self.workspace.perf, str(before.file)))
        pack, name = self.campaign.phases[self.phase.document["of"]].pack, f"{self.run}.{self.phase.id}"
        reference = Measured(**before.measured)  # type: ignore[arg-type]  # of a baseline
        assert pack is not None  # by the plan
        rounds = len(next(iter(reference.cpu_s.values())))
        terms = Terms(rounds=rounds, seed=self.campaign.seeds[0], explained=self.phase.document.get("explained", {}))
        if (against := self.phase.document.get("against")) is not None:
            return compare(pack, self._engine, against, self.workspace, name, terms, keep=self._kept)
        return self._kept(compared(pack, self._engine, reference, self.workspace, name, terms))

    def _kept(self, made: Comparison) -> Comparison:
        made = _explained(made)
        store(made, self.workspace)
        return made

    def _lock(self) -> Result:
        comparison = read(inside(self.workspace.perf, str(self._before().file)))
        path = inside(self.workspace.runtime_locks, f"{comparison.name}.json")
        why = self.phase.why or self.phase.title
        try:
            if not path.is_file():  # else the process was killed before it wrote the record of the phase
                lock_runtime(comparison, self._engine, self.workspace, why, track=self.track)
        except RefusedError as refused:
            return Result(outcome="NO_GO", reason=str(refused), performance=self._found(comparison, LOCK))
        lock = RuntimeLock.read(path)
        if lock.comparison != comparison.document:  # of a run whose records were removed
            raise WorkspaceError(
                f"{path}: locks another comparison of that name; move it away, and go on with --resume"
            )
        found = replace(self._found(comparison, LOCK), lock=lock.name, runtime_id=lock.runtime_id)
        reason = f"{STATUS}: {lock.name}, {len(lock.code)} files of code: {comparison.derived.reason}"
        return Result(outcome="GO", reason=reason, performance=found)

    def _before(self) -> Performance:
        """Returns what the phase that this one is about gave, as it was played last."""
        of = self.phase.document["of"]
        found = next((row.performance for row in reversed(self.records) if row.phase == of), None)
        if found is None:
            raise IntegrityError(f"{self.run}: {of}: no record of it states what it measured")
        return found

    def _found(self, comparison: Comparison, mode: str) -> Performance:
        budgets = budgets_of(self._engine.name)
        rows = sorted(comparison.derived.gains[:-1], key=lambda row: -row.wall_after.value)
        return Performance(
            mode=mode, focus=self._focus, costs=tuple(_cost_of_gain(row, budgets) for row in rows),
            machine=comparison.machine, file=f"{comparison.name}.json", recorded=self.phase.document.get("recorded"),
        )  # fmt: skip


def _gain(comparison: Comparison, focus: str) -> Gain:
    return next((row for row in comparison.derived.gains if row.state == focus), comparison.derived.whole)


def _reason(gain: Gain, outcome: str) -> str:
    took = f"{gain.after.value:.3f} s, {gain.before.value:.3f} s before"
    saved = f"saves {gain.saved.value:.3f} s ({gain.saved.low:.3f} to {gain.saved.high:.3f})"
    return f"{gain.state} {saved}: {took}" if outcome == "GO" else f"held, no gain: {gain.state} takes {took}"


def _beside(gain: Gain, recorded: dict[str, float]) -> str:
    """Returns the record's seconds, and by how many times they are more than ours."""
    before, after = recorded["before"], recorded["after"]
    times = [f"{seconds / max(gain.wall_after.value, 1e-3):.1f}" for seconds in (before, after)]
    return f"the record took {before:g} and then {after:g} s, {times[0]} and {times[1]} times what it takes here"


def _explained(comparison: Comparison) -> Comparison:
    """Returns a comparison of one code with itself in which whatever got slower has that as its cause."""
    reference, candidate = comparison.reference, comparison.candidate
    if not comparison.derived.slower or not comparison.same_code:
        return comparison
    terms = replace(comparison.terms, explained=dict.fromkeys(comparison.derived.slower, _SAME_CODE))
    again = derived(reference, candidate, terms, comparison.order, comparison.metric_states)
    return replace(comparison, terms=terms, derived=again)


def _cost_of_row(row: Row) -> Cost:
    return _cost(row.state, row.processor or row.wall, row.wall, row.budget)


def _cost_of_gain(row: Gain, budgets: Budgets | None) -> Cost:
    return _cost(row.state, row.after, row.wall_after, None if budgets is None else budgets.states.get(row.state))


def _cost(state: str, seconds: Median, wall: Median, budget: Budget | None) -> Cost:
    """Returns what a state takes, beside its budget, which is one of the wall clock."""
    taken = (state, seconds.value, seconds.low, seconds.high, wall.value)
    if budget is None:
        return Cost(*taken, "", None, None)
    return Cost(*taken, budget.colour(wall.value), budget.target_s, budget.limit_s)
