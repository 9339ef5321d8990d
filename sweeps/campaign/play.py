"""Plays a campaign phase by phase, each from the pack that the phase before it passed on; resumable at any moment.

The next phase and its start follow from the phase records in the campaign's folder and from nothing else. A record
is written whole when its phase is done. An interrupted phase is played again, and its sweep resumes from its study.
A phase whose checklist does not hold, and a question that nobody answered, stop the campaign there: it goes on with
`--resume` once the check holds or was waived, or with the answer (`sweeps.campaign.rulings`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lanelock.policies import IntegrityError, LaneError, diff
from lanelock.policies.names import inside
from lanelock.sweeps.campaign.checks import CHECKS, Closing
from lanelock.sweeps.campaign.phases import Stage, Start, findings_for
from lanelock.sweeps.campaign.plan import NO_OP, PERFORMANCE, Branch, Campaign, Phase
from lanelock.sweeps.campaign.records import (
    AUTHORITY,
    CANDIDATE,
    Checked,
    Finding,
    Holder,
    PhaseRecord,
    Result,
    Ruling,
    begun_with,
    records_in,
    write_begun,
    write_phase,
)
from lanelock.sweeps.campaign.rulings import Matter, read_ruling, write_ruling
from lanelock.sweeps.proof.freezes import hold_open
from lanelock.sweeps.proof.trust import trust_of
from lanelock.sweeps.record.webhooks import hooks_of, tell
from lanelock.sweeps.sweep import Progress
from lanelock.sweeps.upkeep.retention import prune_before
from lanelock.sweeps.workspace import Workspace

if TYPE_CHECKING:
    from lanelock.sweeps.proof.envelopes import SigningKey


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a campaign stopped at, for a person."""

    phase: str
    line: str  # in one line, with the command that goes on
    asks: str | None = None  # the question; None: a check that does not hold
    findings: tuple[Finding, ...] = ()  # what is shown with a question
    consequences: Mapping[str, str] | None = None  # of a question, by answer


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a campaign: the phases that are done, and the phase that is being played."""

    campaign: Campaign
    run: str  # `<campaign>-<n>`
    records: tuple[PhaseRecord, ...]
    playing: Phase | None
    progress: Progress | None  # of its sweep
    waiting: Waiting | None = None  # what it stopped at; None: it plays, or its end was reached


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
    """Plays to the freeze, or to where a person is needed.

    Raises LaneError if another process plays it, or if there is nothing to resume.
    """
    with workspace.alone(f"campaign-{campaign.id}"):
        folder = _opened(campaign, workspace, resume)
        player = _Player(campaign, workspace, folder, jobs, track, watch)
        if player.next_phase() is not None:
            hold_open(workspace, campaign.engine.name, "campaign", but=folder.name)
            hooks_of(workspace)  # raises before a budget is spent
        standing = player.play_on()
    if standing.waiting is None:
        last, run = standing.records[-1], standing.run
        text = f"{last.ending}: {run} ({campaign.title}): {last.reason}"
        lock = None if last.holder is None else last.holder.lock
        tell(workspace, "campaign_closed", run, text, once=run, campaign=campaign.id, ending=last.ending, lock=lock)
    return standing


def _opened(campaign: Campaign, workspace: Workspace, resume: bool) -> Path:
    """Returns the folder of the run: the newest run's to resume, or a new folder."""
    newest = newest_run(campaign.id, workspace)
    folder = inside(workspace.campaigns, f"{campaign.id}-{newest if resume else newest + 1}")
    if not resume:
        hold_open(workspace, campaign.engine.name, "campaign")
        write_begun(folder, campaign.identity, campaign.document, campaign.source)
    elif not newest:
        raise LaneError(f"campaign {campaign.id}: --resume: no run of it is in this workspace")
    elif begun_with(folder) != campaign.identity:
        raise LaneError(
            f"campaign {campaign.id}: --resume: the campaign, a lane or the code changed since {folder.name} began"
        )
    return folder


def newest_run(campaign: str, workspace: Workspace) -> int:
    """Returns the number of the newest run of a campaign; 0 if there is none."""
    suffixes = (path.name.rpartition("-")[2] for path in workspace.campaigns.glob(f"{campaign}-*"))
    return max((int(suffix) for suffix in suffixes if suffix.isdigit()), default=0)


def answer(
    campaign: Campaign, workspace: Workspace, run: str, *, yes: bool, who: str, why: str, key: SigningKey | None = None
) -> None:
    """Records the answer to the question at which a run waits. Raises LaneError if it waits for none."""
    with _halted(campaign, workspace, run) as player:
        phase = player.next_phase()
        if player.red is not None or phase is None or phase.kind != "question":
            at = "it has ended" if phase is None else f"{phase.id} comes next, which asks nothing"
            at = at if player.red is None else f"{player.newest.phase} does not close: {player.red.check} does not hold"
            raise LaneError(f"{run}: no question waits for an answer: {at}")
        if "answer" in phase.document:
            raise LaneError(f"{run}: {phase.id}: the campaign's file gives the answer; go on with --resume")
        stated = {"asks": phase.document["asks"], "answer": "yes" if yes else "no"}
        write_ruling(player.folder, player.matter(), stated, who, why, key, trust_of(workspace))


def waive(
    campaign: Campaign, workspace: Workspace, run: str, *, check: str, who: str, why: str, key: SigningKey | None = None
) -> None:
    """Records that a check at which a run stopped need not hold. Raises LaneError if it is not one of those."""
    with _halted(campaign, workspace, run) as player:
        rows = {row.check: row for row in (player.newest.checks if player.red is not None else ()) if not row.green}
        if check not in rows:
            raise LaneError(f"{run}: {check!r} does not stop it: {', '.join(rows) or 'no check'} does")
        write_ruling(
            player.folder, player.matter(check), {"witness": rows[check].witness}, who, why, key, trust_of(workspace)
        )


@contextmanager
def _halted(campaign: Campaign, workspace: Workspace, run: str) -> Iterator[_Player]:
    """Yields the player of a campaign's newest run, which nobody plays meanwhile."""
    with workspace.alone(f"campaign-{campaign.id}"):
        folder = _opened(campaign, workspace, resume=True)
        if folder.name != run:
            raise LaneError(f"{run}: {folder.name} was begun after it; only the newest run of a campaign goes on")
        yield _Player(campaign, workspace, folder, 1, False, lambda standing: None)


class _Player:
    """Plays phases and writes their records."""

    def __init__(
        self,
        campaign: Campaign,
        workspace: Workspace,
        folder: Path,
        jobs: int,
        track: bool,
        watch: Watch,
    ) -> None:
        self._campaign, self._workspace, self.folder = campaign, workspace, folder
        self._jobs, self._track, self._watch, self._trust = jobs, track, watch, trust_of(workspace)
        self._proved: set[str] = set()  # by digest, the evidence that this process has made or proved
        self._done: list[PhaseRecord] = list(records_in(folder))

    def play_on(self) -> Standing:
        """Plays until the end, until a check does not hold, or until a question has no answer."""
        while True:
            if self.red is not None and not self._closed():
                return self.standing(None, waiting=self._stopped())
            if (phase := self.next_phase()) is None:
                return self.standing(None)
            answer = self._answer(phase) if phase.kind == "question" else None
            if phase.kind == "question" and answer is None:
                return self.standing(None, waiting=self._asked(phase))
            self._play(phase, answer)

    @property
    def newest(self) -> PhaseRecord:
        return self._done[-1]

    @property
    def red(self) -> Checked | None:
        """The check that keeps the newest phase from closing."""
        return self.newest.red if self._done else None

    def next_phase(self) -> Phase | None:
        """Returns the phase that follows; None after the freeze."""
        name = self.newest.next if self._done else self._campaign.document["first"]
        return None if name is None else self._campaign.phases[name]

    def matter(self, check: str | None = None) -> Matter:
        """Returns what a ruling would be about: the question that comes next, or a check of the newest phase."""
        if check is not None:
            return Matter(self.folder.name, len(self._done) - 1, self.newest.phase, check)
        phase = self.next_phase()
        assert phase is not None  # a question is followed by something
        return Matter(self.folder.name, len(self._done), phase.id)

    def standing(
        self, phase: Phase | None, progress: Progress | None = None, waiting: Waiting | None = None
    ) -> Standing:
        return Standing(self._campaign, self.folder.name, tuple(self._done), phase, progress, waiting)

    # --- a phase ------------------------------------------------------------------------------------

    def _play(self, phase: Phase, answer: tuple[str, Ruling] | None) -> None:
        """Plays one phase and writes its record."""
        self._watch(self.standing(phase))
        began = time.perf_counter()
        start, pruned = self._start(), self._pruned(phase)
        stage = Stage(
            self._campaign,
            self._workspace,
            self.folder.name,
            tuple(self._done),
            self._jobs,
            self._track,
            self._proved,
            lambda progress: self._watch(self.standing(phase, progress)),
        )
        result, candidate = stage.played(phase, start, answer)
        result, branch = self._branch(phase, result, start, stage)
        holder = candidate if branch is not None and branch.carry == CANDIDATE and candidate is not None else start
        record = PhaseRecord(
            **{field.name: getattr(result, field.name) for field in fields(result)},
            phase=phase.id,
            kind=phase.kind,
            title=phase.title,
            why=phase.why,
            authority=None if start is None else {"name": start.pack.name, "digest": start.pack.digest},
            changes=() if start is None or candidate is None else tuple(diff(start.pack, candidate.pack)),
            carried=None if holder is None else CANDIDATE if holder is candidate else AUTHORITY,
            holder=None if holder is None else Holder(holder.pack.carried(), holder.lock),
            next=None if branch is None else branch.next,
            seconds=time.perf_counter() - began,
            decision=result.ending if branch is None else branch.decision,
            pruned=pruned,
            waivers=tuple(text for played in self._done for text in played.waived) if result.end is not None else (),
        )
        asked = () if result.skipped is not None or result.outcome == NO_OP else phase.done_when
        self._write(replace(record, checks=tuple(self._evaluated(phase, record, name) for name in asked)), 0)

    def _branch(self, phase: Phase, result: Result, start: Start | None, stage: Stage) -> tuple[Result, Branch | None]:
        """Returns the branch of an outcome; a result whose branch was used up says so, and has the outcome taken.

        The result states every condition that was evaluated, and the metrics that it was evaluated on.
        """
        if result.skipped is not None:
            return result, phase.then[phase.fallback]
        if phase.cases.get(result.outcome):
            if result.metrics is None and start is not None:
                result = replace(result, metrics=stage.measured(start.pack))
            result, case = self._case(phase, result, stage)
            if case is not None:
                return result, case
        taken = sum(played.phase == phase.id and played.outcome == result.outcome for played in self._done)
        outcome, branch = phase.follows(result.outcome, taken)
        if outcome == result.outcome:
            return result, branch
        spent = f"{result.outcome} was taken {taken} times, as often as it may: {outcome} instead"
        return replace(result, outcome=outcome, reason=f"{result.reason}; {spent}"), branch

    def _case(self, phase: Phase, result: Result, stage: Stage) -> tuple[Result, Branch | None]:
        """Returns the result with the conditions of its outcome, and the first branch whose condition holds."""
        seen = list(result.triggers)

        def holds(branch: Branch) -> bool:
            assert branch.when is not None  # only the last has none
            seen.append(stage.trigger(branch.when, result.metrics or {}))
            return seen[-1].holds

        case = phase.case(result.outcome, holds, self._done)
        return replace(result, triggers=tuple(seen)), case

    def _start(self) -> Start | None:
        """Returns what the phase before passed on; None at the first phase. Raises IntegrityError if it was changed."""
        if not self._done:
            return None
        last, schemas = self.newest, self._campaign.engine.policy_schemas
        if last.holder is None and all(record.kind == PERFORMANCE for record in self._done):
            return None  # no pack stands before the authority
        if last.holder is None:
            raise IntegrityError(f"{self.folder}: {last.phase}: /holder: missing, yet {last.next} follows")
        pack = last.holder.pack.opened(schemas, self.folder.name)
        if pack.digest != last.holder.pack.digest:
            raise IntegrityError(f"{self.folder}: {last.phase}: /holder: its policies digest to {pack.digest}")
        return Start(pack, last.holder.lock)

    def _pruned(self, phase: Phase) -> str | None:
        """Prunes before a phase that asks for it, keeping what the campaign refers to. Returns the summary's name."""
        if "pruned" not in phase.done_when or "skipped" in phase.document:
            return None
        holders = (record.holder.lock for record in self._done if record.holder is not None)
        kept = {lock for lock in holders if lock is not None}
        before = f"{self.folder.name}.{phase.id}"
        return prune_before(self._workspace, before, keep=kept, track=self._track).name

    # --- its checklist --------------------------------------------------------------------------------

    def _closed(self) -> bool:
        """Evaluates again what does not hold, since it may have been mended or waived. Returns whether all does now."""
        record, phase = self.newest, self._campaign.phases[self.newest.phase]
        checks = tuple(row if row.green else self._evaluated(phase, record, row.check, 1) for row in record.checks)
        if checks != record.checks:
            self._write(replace(record, checks=checks), 1)
        return self.red is None

    def _evaluated(self, phase: Phase, record: PhaseRecord, name: str, back: int = 0) -> Checked:
        """Returns a check of a phase: the newest (`back` 1), or one that is not written yet."""
        closing = Closing(
            self.folder.name, record, phase.document, self._campaign.document, self._campaign.gates, self._workspace
        )
        checked = CHECKS[name].evaluated(closing)
        return checked if checked.ok else replace(checked, waiver=self._waiver(phase, name, len(self._done) - back))

    def _waiver(self, phase: Phase, check: str, place: int) -> Ruling | None:
        """Returns why a check need not hold: as the campaign's file says, or as somebody said when it stopped there."""
        for row in phase.document.get("waived", ()):
            if row["check"] == check:
                return Ruling(row["who"], row["why"], None)
        ruling = read_ruling(self.folder, Matter(self.folder.name, place, phase.id, check), self._trust)
        return None if ruling is None else ruling[1]

    def _write(self, record: PhaseRecord, back: int) -> None:
        """Writes the newest record again (`back` 1), or the one after it."""
        place = len(self._done) - back
        write_phase(self.folder, place, record)
        self._done[place:] = [record]
        self._watch(self.standing(None))

    # --- where a person is needed ---------------------------------------------------------------------

    def _answer(self, phase: Phase) -> tuple[str, Ruling] | None:
        """Returns the answer to a question: the one in the campaign's file, or what somebody said; None without."""
        if (given := phase.document.get("answer")) is not None:
            return given["is"], Ruling(given["who"], given["why"], None)
        if (ruling := read_ruling(self.folder, self.matter(), self._trust)) is None:
            return None
        document, who = ruling
        if document["asks"] != phase.document["asks"]:
            raise IntegrityError(f"{self.folder}: {phase.id}: /asks: the answer is to {document['asks']!r}")
        return document["answer"], who

    def _asked(self, phase: Phase) -> Waiting:
        row, run = phase.document, self.folder.name
        line = f"{phase.title}: {row['asks']} answer with: lanelock campaign answer {run} yes|no --why TEXT"
        return Waiting(phase.id, line, row["asks"], findings_for(phase, self._done), row["consequences"])

    def _stopped(self) -> Waiting:
        record, red = self.newest, self.red
        assert red is not None
        line = (
            f"{record.title}: {red.check} does not hold: {red.witness}; mend it and go on with --resume, or: lanelock "
            f"campaign waive {self.folder.name} {red.check} --why TEXT"
        )
        return Waiting(record.phase, line)
