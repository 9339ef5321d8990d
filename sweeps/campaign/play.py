"""Plays a campaign phase by phase, each from the pack that the phase before it passed on; resumable at any moment.

The next phase and its start follow from the phase records in the campaign's folder and from nothing else. A record
is written whole when its phase is done. An interrupted phase is played again, and its sweep resumes from its study.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from lanelock.policies import IntegrityError, LaneError, Pack, diff, pack_of
from lanelock.policies.names import inside
from lanelock.scoring.certification import Certification, certify
from lanelock.scoring.gates import spelled
from lanelock.scoring.scorecard import measured as measured_by
from lanelock.scoring.scorecard import score
from lanelock.sweeps.campaign.freezing import close
from lanelock.sweeps.campaign.plan import AUTHORITY, CANDIDATE, Campaign, Phase
from lanelock.sweeps.campaign.records import (
    End,
    Graded,
    Holder,
    KnobRange,
    PhaseRecord,
    Result,
    Swept,
    Tried,
    begun_with,
    records_in,
    write_begun,
    write_phase,
)
from lanelock.sweeps.decision.decision import best_found, refusal
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.survey import prospect
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.freezes import hold_open
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.sweep import Closed, Progress, play
from lanelock.sweeps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a campaign: the phases that are done, and the phase that is being played."""

    campaign: Campaign
    run: str  # `<campaign>-<n>`
    records: tuple[PhaseRecord, ...]
    playing: Phase | None
    progress: Progress | None  # of its sweep


@dataclass(frozen=True, slots=True)
class Start:
    """The pack that a phase starts from or passes on, and the file name of the lock it came from, if any."""

    pack: Pack
    lock: str | None


Watch = Callable[[Standing], None]


def play_campaign(
    campaign: Campaign,
    workspace: Workspace,
    *,
    resume: bool = False,
    jobs: int = 1,
    track: bool = True,
    watch: Watch = lambda standing: None,
) -> Standing:
    """Plays to the freeze. Raises LaneError if another process plays it, or if there is nothing to resume."""
    with workspace.alone(f"campaign-{campaign.id}"):
        folder = _opened(campaign, workspace, resume)
        player = _Player(campaign, workspace, folder, jobs, track, watch)
        if player.next_phase() is not None:
            hold_open(workspace, campaign.engine.name, "campaign", but=folder.name)
        while (phase := player.next_phase()) is not None:
            player.play(phase)
        return player.standing(None)


def _opened(campaign: Campaign, workspace: Workspace, resume: bool) -> Path:
    """Returns the folder of the run: the newest run's to resume, or a new folder."""
    root = workspace.campaigns
    suffixes = (path.name.rpartition("-")[2] for path in root.glob(f"{campaign.id}-*"))
    newest = max((int(suffix) for suffix in suffixes if suffix.isdigit()), default=0)
    folder = inside(root, f"{campaign.id}-{newest if resume else newest + 1}")
    if not resume:
        hold_open(workspace, campaign.engine.name, "campaign")
        write_begun(folder, campaign.identity, campaign.document)
    elif not newest:
        raise LaneError(f"campaign {campaign.id}: --resume: no run of it is in this workspace")
    elif begun_with(folder) != campaign.identity:
        raise LaneError(
            f"campaign {campaign.id}: --resume: the campaign, a lane or the code changed since {folder.name} began"
        )
    return folder


class _Player:
    """Plays phases and writes their records."""

    def __init__(
        self, campaign: Campaign, workspace: Workspace, folder: Path, jobs: int, track: bool, watch: Watch
    ) -> None:
        self._campaign, self._workspace, self._folder = campaign, workspace, folder
        self._jobs, self._track, self._watch = jobs, track, watch
        self._done: list[PhaseRecord] = list(records_in(folder))

    def next_phase(self) -> Phase | None:
        """Returns the phase that follows; None after the freeze."""
        name = self._done[-1].next if self._done else self._campaign.document["first"]
        return None if name is None else self._campaign.phases[name]

    def standing(self, phase: Phase | None, progress: Progress | None = None) -> Standing:
        return Standing(self._campaign, self._folder.name, tuple(self._done), phase, progress)

    def play(self, phase: Phase) -> None:
        """Plays one phase and writes its record."""
        self._watch(self.standing(phase))
        began = time.perf_counter()
        start = self._start()
        kinds = {"authority": self._authority, "lane": self._lane, "certify": self._certify, "freeze": self._freeze}
        result, candidate = kinds[phase.kind](phase, start)
        branch = phase.then.get(result.outcome)
        holder = candidate if branch is not None and branch.carry == CANDIDATE and candidate is not None else start
        changes = () if start is None or candidate is None else tuple(diff(start.pack, candidate.pack))
        record = PhaseRecord(
            **{field.name: getattr(result, field.name) for field in fields(result)},
            phase=phase.id,
            kind=phase.kind,
            title=phase.title,
            why=phase.why,
            authority=None if start is None else {"name": start.pack.name, "digest": start.pack.digest},
            changes=changes,
            carried=None if holder is None else CANDIDATE if holder is candidate else AUTHORITY,
            holder=None if holder is None else Holder(holder.pack.carried(), holder.lock),
            next=None if branch is None else branch.next,
            seconds=time.perf_counter() - began,
        )
        write_phase(self._folder, len(self._done), record)
        self._done.append(record)
        self._watch(self.standing(None))

    def _start(self) -> Start | None:
        """Returns what the phase before passed on; None at the first phase. Raises IntegrityError if it was changed."""
        if not self._done:
            return None
        last, schemas = self._done[-1], self._campaign.engine.policy_schemas
        if last.holder is None:
            raise IntegrityError(f"{self._folder}: {last.phase}: /holder: missing, yet {last.next} follows")
        pack = last.holder.pack.opened(schemas, self._folder.name)
        if pack.digest != last.holder.pack.digest:
            raise IntegrityError(f"{self._folder}: {last.phase}: /holder: its policies digest to {pack.digest}")
        return Start(pack, last.holder.lock)

    # --- the four kinds -------------------------------------------------------------------------------

    def _authority(self, phase: Phase, start: Start | None) -> tuple[Result, Start | None]:
        assert phase.pack is not None  # by the schema
        until = phase.document.get("until", self._campaign.until)
        graded = grade_pack(self._campaign, phase.pack, self._campaign.seeds, until)
        verdict = str(graded.verdict)
        reason = f"what the campaign starts from; as it stands {verdict}: {graded.reason}"
        metrics = self._measured(phase.pack)
        return Result(outcome="GO", reason=reason, verdict=verdict, metrics=metrics), Start(phase.pack, None)

    def _lane(self, phase: Phase, start: Start | None) -> tuple[Result, Start | None]:
        assert phase.lane is not None and start is not None  # by the schema, and because an authority comes first
        lane = phase.lane.with_authority(start.pack)
        tried = Tried(
            lane={key: lane.document[key] for key in ("id", "title", "why", "seeds", "budget")},
            knobs={knob.name: KnobRange(knob.at, knob.extent) for knob in lane.knobs},
        )
        if why := self._campaign.frozen_move(lane):
            return Result(outcome="REFUSED", reason=f"not played: {why}", tried=tried), None
        reach = prospect(lane, None)
        refused = refusal(lane, reach)
        if refused is not None and not phase.document.get("anyway", False):
            tried = replace(tried, reach=reach, blockers=refused.blockers)
            return Result(outcome="REFUSED", reason=refused.reason, verdict=refused.verdict, tried=tried), None
        name = f"{self._folder.name}.{phase.id}"
        closed = play(
            lane,
            self._workspace,
            jobs=self._jobs,
            name=name,
            reach=reach,
            track=self._track,
            watch=lambda progress: self._watch(self.standing(phase, progress)),
        )
        decision, lock = closed.decision, Lock.read(closed.lock)
        candidate = Start(pack_of(name, lock.candidate_pack.policies, lane.engine.policy_schemas), closed.lock.name)
        if decision.best is not None:
            lane.admit(candidate.pack)  # raises if more than the lane's knobs moved
        tried = replace(tried, reach=reach, blockers=decision.blockers, swept=_swept(lane, closed, lock))
        return Result(
            outcome=decision.outcome,
            reason=decision.reason,
            verdict=decision.verdict,
            metrics=self._measured(candidate.pack),
            tried=tried,
        ), candidate

    def _certify(self, phase: Phase, start: Start | None) -> tuple[Result, Start | None]:
        assert start is not None
        if start.lock is None:
            return Result(
                outcome="NO_GO", reason="no lane left a lock: what the campaign started from still stands"
            ), None
        certified = certify_lock(
            inside(self._workspace.locks, start.lock),
            self._workspace,
            seeds=phase.document["seeds"],
            holdout=phase.document.get("holdout", 0),
            jobs=self._jobs,
        )
        accepted = certified.verdict.rank >= self._campaign.gates.of_band(phase.document["accept_band"]).rank
        return Result(
            outcome="GO" if accepted else "NO_GO",
            reason=certified.reason,
            verdict=str(certified.verdict),
            graded=Graded(certified.verdict.band, certified.document, certified.folder.name),
        ), None

    def _freeze(self, phase: Phase, start: Start | None) -> tuple[Result, Start | None]:
        assert start is not None
        end, reason = freeze(self._done, self._campaign.gates.bands)
        holder = Holder(start.pack.carried(), start.lock)
        frozen = close(
            self._campaign, self._workspace, self._folder, self._done, holder, (end, reason), phase, track=self._track
        )
        end = replace(end, freeze=frozen.freeze_id)
        return Result(outcome="FROZEN", reason=reason, metrics=self._measured(start.pack), end=end), start

    def _measured(self, pack: Pack) -> dict[int, dict[str, float]]:
        """Returns a pack's metrics by campaign seed, to the campaign's last state even if its lane stops earlier."""
        return {seed: measured(self._campaign, pack, seed) for seed in self._campaign.seeds}


def measured(campaign: Campaign, pack: Pack, seed: int) -> dict[str, float]:
    """Returns a pack's metrics on one seed, computed to the campaign's last state."""
    run = campaign.engine.evaluate(pack, seed, until=campaign.until)
    return dict(score(measured_by(campaign.metrics, run), campaign.gates, seed=seed, authority=None).metrics)


def grade_pack(campaign: Campaign, pack: Pack, seeds: Sequence[int], until: str) -> Certification:
    """Grades a pack by every gate of the engine whose metric's state is computed at `until`."""
    states = campaign.engine.states
    done = set(states[: states.index(until) + 1])
    metrics = campaign.gates.metrics
    gates = campaign.gates.select([gate.id for gate in campaign.gates.gates if metrics[gate.metric].state in done])
    runs = (campaign.engine.evaluate(pack, seed, until=until) for seed in seeds)
    measures = {run.seed: measured_by(campaign.metrics, run) for run in runs}
    return certify([score(values, gates, seed=seed, authority=None) for seed, values in measures.items()], gates)


def freeze(records: Sequence[PhaseRecord], bands: Sequence[str]) -> tuple[End, str]:
    """Returns the end and why: the last certification, and the gates that are provably out of reach."""
    last = next((record for record in reversed(records) if record.graded is not None), None)
    graded = None if last is None else last.graded
    if last is not None and graded is not None and graded.band is not None:
        seeds = ", ".join(map(str, graded.certification["seeds"]))
        return End(f"FROZEN_CERTIFIED_{spelled(graded.band)}", True), f"certified on seeds {seeds}: {last.reason}"
    floors = dict[str, None]()  # without repetition, in the order of the lanes
    for tried in (record.tried for record in records if record.tried is not None):
        for blocker in (blocker for blocker in tried.blockers or () if blocker.bound is not None):
            floors[f"{blocker.gate} is out of reach, {blocker.proof}; movable by {blocker.movable_by}"] = None
    why = "; ".join(["nothing was certified" if last is None else last.reason, *floors])
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
    )
