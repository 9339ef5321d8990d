"""Playing a campaign: phase by phase, each from what the one before it left, resumable at any moment.

What is played next and from what is derived from the phase records in the campaign's folder and nothing
else. A record is written whole when its phase is done; a phase that was interrupted is played again, its sweep
going on under its own name where the durable study stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lanelock.policies import IntegrityError, LaneError, Pack, diff, pack_of
from lanelock.scoring.certification import Certification, certify
from lanelock.scoring.gates import spelled
from lanelock.scoring.scorecard import score
from lanelock.sweeps.campaign.plan import CANDIDATE, Campaign, Phase, read_record, records_in
from lanelock.sweeps.lanes.decision import Decision, best_found, refusal
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.survey import prospect
from lanelock.sweeps.proof.evidence import certify_lock
from lanelock.sweeps.proof.lock import carried, locked_card, read_lock
from lanelock.sweeps.sweep import Closed, Progress, play
from lanelock.sweeps.workspace import Workspace, write_document

Record = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a campaign stands: what is done, and what is played now."""

    campaign: Campaign
    run: str  # `<campaign>-<n>`
    records: tuple[Record, ...]
    playing: Phase | None
    progress: Progress | None  # of the sweep that is played


@dataclass(frozen=True, slots=True)
class Held:
    """What a phase starts from: a pack, and the lock it came from where there is one."""

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
    """Plays to the freeze. Raises LaneError where it is played elsewhere or there is nothing to resume."""
    with workspace.alone(f"campaign-{campaign.id}"):
        folder = _opened(campaign, workspace, resume)
        player = _Player(campaign, workspace, folder, jobs, track, watch)
        while (phase := player.next_phase()) is not None:
            player.play(phase)
        return player.standing(None)


def _opened(campaign: Campaign, workspace: Workspace, resume: bool) -> Path:
    """The folder of the run: the newest one's to resume, or a new one's."""
    root = workspace.campaigns
    numbers = [
        int(path.name.rpartition("-")[2])
        for path in root.glob(f"{campaign.id}-*")
        if path.name.rpartition("-")[2].isdigit()
    ]
    if resume:
        if not numbers:
            raise LaneError(f"campaign {campaign.id}: --resume: no run of it is in this workspace")
        folder = root / f"{campaign.id}-{max(numbers)}"
        if read_record(folder / "campaign.json", ("identity",))["identity"] != campaign.identity:
            raise LaneError(
                f"campaign {campaign.id}: --resume: the campaign, a lane or the code changed since {folder.name} began"
            )
        return folder
    folder = root / f"{campaign.id}-{max(numbers, default=0) + 1}"
    write_document(folder / "campaign.json", {"identity": campaign.identity, "campaign": dict(campaign.document)})
    return folder


class _Player:
    """Plays phases and writes their records."""

    def __init__(
        self, campaign: Campaign, workspace: Workspace, folder: Path, jobs: int, track: bool, watch: Watch
    ) -> None:
        self._campaign, self._workspace, self._folder = campaign, workspace, folder
        self._jobs, self._track, self._watch = jobs, track, watch
        self._done: list[Record] = list(records_in(folder))

    def next_phase(self) -> Phase | None:
        """The phase that follows from what is done; None after the freeze."""
        name = self._done[-1]["next"] if self._done else self._campaign.document["first"]
        return None if name is None else self._campaign.phases[name]

    def standing(self, phase: Phase | None, progress: Progress | None = None) -> Standing:
        return Standing(self._campaign, self._folder.name, tuple(self._done), phase, progress)

    def play(self, phase: Phase) -> None:
        """One phase, to its record."""
        self._watch(self.standing(phase))
        began = time.perf_counter()
        held = self._held()
        kinds = {"authority": self._authority, "lane": self._lane, "certify": self._certify, "freeze": self._freeze}
        found = kinds[phase.kind](phase, held)
        branch = phase.then.get(found["outcome"])
        candidate = found.pop("candidate")
        holder = candidate if branch is not None and branch.carry == CANDIDATE and candidate is not None else held
        record = {
            "phase": phase.id,
            "kind": phase.kind,
            "title": phase.title,
            "why": phase.why,
            "authority": None if held is None else {"name": held.pack.name, "digest": held.pack.digest},
            **found,
            "changes": []
            if held is None or candidate is None
            else [asdict(row) for row in diff(held.pack, candidate.pack)],
            "carried": None if holder is None else ("candidate" if holder is candidate else "authority"),
            "holder": None if holder is None else _carried(holder),
            "next": None if branch is None else branch.next,
            "seconds": time.perf_counter() - began,
        }
        write_document(self._folder / f"{len(self._done):02d}.{phase.id}.json", record)
        self._done.append(record)
        self._watch(self.standing(None))

    def _held(self) -> Held | None:
        """What the record before this left."""
        if not self._done:
            return None
        row = self._done[-1]["holder"]
        pack = pack_of(row["name"], row["policies"], self._campaign.engine.policy_schemas, self._folder.name)
        if pack.digest != row["digest"]:
            raise IntegrityError(
                f"{self._folder}: {self._done[-1]['phase']}: /holder: its policies digest to {pack.digest}"
            )
        return Held(pack, row["lock"])

    # --- the four kinds -------------------------------------------------------------------------------

    def _authority(self, phase: Phase, held: Held | None) -> dict[str, Any]:
        assert phase.pack is not None  # by the schema
        graded = grade_pack(
            self._campaign, phase.pack, self._campaign.seeds, phase.document.get("until", self._campaign.until)
        )
        reason = f"what the campaign starts from; as it stands {graded.verdict}: {graded.reason}"
        found = _found("GO", reason, Held(phase.pack, None), self._measured(phase.pack))
        return found | {"verdict": str(graded.verdict)}

    def _lane(self, phase: Phase, held: Held | None) -> dict[str, Any]:
        assert phase.lane is not None and held is not None  # by the schema, and because an authority comes first
        lane = phase.lane.with_authority(held.pack)
        of_lane: dict[str, Any] = {
            "lane": {key: lane.document[key] for key in ("id", "title", "why", "seeds", "budget")},
            "knobs": _knobs(lane),
        }
        if why := self._campaign.frozen_move(lane):
            return _found("REFUSED", f"not played: {why}", None, None) | of_lane
        reach = prospect(lane, None)
        refused = refusal(lane, reach)
        of_lane["reach"] = [asdict(row) for row in reach]
        if refused is not None and not phase.document.get("anyway", False):
            return _found("REFUSED", refused.reason, None, None) | of_lane | _decided(refused)
        closed = play(
            lane,
            self._workspace,
            jobs=self._jobs,
            name=f"{self._folder.name}.{phase.id}",
            found=reach,
            track=self._track,
            watch=lambda progress: self._watch(self.standing(phase, progress)),
        )
        return of_lane | self._closed(phase, lane, closed) | _decided(closed.decision)

    def _closed(self, phase: Phase, lane: Lane, closed: Closed) -> dict[str, Any]:
        lock = read_lock(closed.lock)
        pack = pack_of(f"{self._folder.name}.{phase.id}", lock["pack"]["policies"], lane.engine.policy_schemas)
        if closed.decision.best is not None:
            lane.admit(pack)  # a lane may touch only its knobs: refused here, not passed on
        return _found(
            closed.decision.outcome, closed.decision.reason, Held(pack, closed.lock.name), self._measured(pack)
        ) | {
            "sweep": closed.sweep,
            "trials": len(closed.trials),
            "vetoes": dict(closed.ledger.vetoes(closed.trials)),
            "values": {} if closed.decision.best is None else dict(closed.decision.best.values),
            "best": best_found(locked_card(lock, lane), closed.trials, closed.ledger),
            "runtime": None if closed.runtime is None else closed.runtime.as_document(),
        }

    def _certify(self, phase: Phase, held: Held | None) -> dict[str, Any]:
        assert held is not None
        if held.lock is None:
            return _found("NO_GO", "no lane left a lock: what the campaign started from still stands", None, None)
        found = certify_lock(
            self._workspace.locks / held.lock,
            self._workspace,
            seeds=phase.document["seeds"],
            holdout=phase.document.get("holdout", 0),
            jobs=self._jobs,
        )
        accepted = found.verdict.rank >= self._campaign.gates.of_band(phase.document["accept_band"]).rank
        return _found("GO" if accepted else "NO_GO", found.reason, None, None) | {
            "verdict": str(found.verdict),
            "band": found.verdict.band,
            "certification": found.document,
            "evidence": found.folder.name,
        }

    def _freeze(self, phase: Phase, held: Held | None) -> dict[str, Any]:
        assert held is not None
        status, certified, reason = freeze(self._done, self._campaign.gates.bands)
        return _found("FROZEN", reason, held, self._measured(held.pack)) | {"status": status, "certified": certified}

    def _measured(self, pack: Pack) -> dict[str, dict[str, float]]:
        """A candidate on the campaign's seeds: metrics by seed, whatever its lane went to."""
        return {str(seed): measured(self._campaign, pack, seed) for seed in self._campaign.seeds}


def measured(campaign: Campaign, pack: Pack, seed: int) -> dict[str, float]:
    """What a pack measures on one seed, to the campaign's last state."""
    run = campaign.engine.evaluate(pack, seed, until=campaign.until)
    return dict(score(campaign.metrics.measure(run), campaign.gates, seed=seed, authority=None).metrics)


def grade_pack(campaign: Campaign, pack: Pack, seeds: Sequence[int], until: str) -> Certification:
    """A pack graded on seeds by every gate of the engine whose metric's state was computed."""
    states = campaign.engine.states
    done = set(states[: states.index(until) + 1])
    gates = campaign.gates.select([
        gate.id for gate in campaign.gates.gates if campaign.gates.metrics[gate.metric].state in done
    ])  # fmt: skip
    runs = (campaign.engine.evaluate(pack, seed, until=until) for seed in seeds)
    return certify([score(campaign.metrics.measure(run), gates, seed=run.seed, authority=None) for run in runs], gates)


def freeze(records: Sequence[Record], bands: Sequence[str]) -> tuple[str, bool, str]:
    """(status, whether it is certified, why): from the last certification, and the floors in its way."""
    graded = next((row for row in reversed(records) if row.get("certification")), None)
    if graded is not None and graded["band"] is not None:
        seeds = ", ".join(map(str, graded["certification"]["seeds"]))
        return f"FROZEN_CERTIFIED_{spelled(graded['band'])}", True, f"certified on seeds {seeds}: {graded['reason']}"
    floors = dict[str, None]()  # each once, in the order in which lanes met them
    for blocker in (blocker for row in records for blocker in row.get("blockers", ())):
        if blocker["bound"] is not None:
            proof, movable_by = blocker["proof"], blocker["movable_by"]
            floors[f"{blocker['gate']} is out of reach, {proof}; movable by {movable_by}"] = None
    why = "; ".join([graded["reason"] if graded else "nothing was certified", *floors])
    return f"FROZEN_BEST_EFFORT_BELOW_{spelled(bands[0])}", False, why


def _found(outcome: str, reason: str, candidate: Held | None, metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"outcome": outcome, "reason": reason, "candidate": candidate, "metrics": metrics}


def _decided(decision: Decision) -> dict[str, Any]:
    return {"verdict": decision.verdict, "blockers": [blocker.as_document() for blocker in decision.blockers]}


def _carried(held: Held) -> dict[str, Any]:
    return {**carried(held.pack), "lock": held.lock}


def _knobs(lane: Lane) -> dict[str, Any]:
    return {knob.name: {"at": knob.at, "values": list(knob.extent)} for knob in lane.knobs}
