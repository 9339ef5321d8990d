"""A sweep as its durable study stores it, running or closed: its lane, its trials and their packs. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lanelock.policies import IntegrityError, Pack, PolicyError
from lanelock.policies.pack import CarriedPack
from lanelock.scoring.feasibility import GateReach
from lanelock.sweeps.engines import world_folder
from lanelock.sweeps.lanes.lane import Lane, lane_of
from lanelock.sweeps.lanes.survey import Ground, survey
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.search.study import Studies, Transcript
from lanelock.sweeps.search.transcript import origin_of
from lanelock.sweeps.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Recorded:
    """A sweep as its study stores it."""

    sweep: str
    lane: Lane
    trials: Mapping[int, Trial]  # by number, in the order in which they finished
    begun: Mapping[str, Any]  # what the study stored when it began
    transcript: Transcript  # the same trials
    workspace: Workspace

    @property
    def world(self) -> Path | None:
        """The folder of its imported world; None where the engine draws its own."""
        kept = self.begun["world"]
        return None if kept is None else world_folder(str(self.workspace.kept(kept)))

    @property
    def origin(self) -> str:
        """Returns the digest of what it began with."""
        return origin_of(self.begun)

    @property
    def head(self) -> str:
        """Returns the head of its transcript."""
        heads = self.transcript.heads
        return heads[-1] if heads else self.origin

    @property
    def reach(self) -> tuple[GateReach, ...]:
        return tuple(GateReach(**row) for row in self.begun.get("reach", ()))

    def ground(self) -> Ground:
        """Returns what its trials are compared with; measures the authority again on every seed."""
        return survey(self.lane, self.world, self.reach)

    def first(self, count: int) -> list[Trial]:
        """Returns its first trials."""
        return list(self.trials.values())[:count]

    def trial(self, number: int) -> Trial:
        """Returns a trial by number. Raises PolicyError where there is none."""
        if number not in self.trials:
            raise PolicyError(
                f"{self.sweep}/{number}: /number: {number} is not among the {len(self.trials)} trials, counted from 0"
            )
        return self.trials[number]

    def pack(self, trial: Trial) -> Pack:
        """Returns the pack of a trial. Raises IntegrityError where its knobs give another than the study states."""
        pack = self.lane.candidate(trial.values)
        if pack.digest != trial.record.pack:
            raise IntegrityError(
                f"{self.sweep}/{trial.number}: the study states pack {trial.record.pack}, its knobs give {pack.digest}"
            )
        return pack


def recorded(sweep: str, workspace: Workspace) -> Recorded:
    """Returns a sweep of the workspace. Raises PolicyError naming the known sweeps."""
    studies = Studies(workspace.study_storage, reading=True)
    return recorded_in(studies, sweep, f"no sweep {sweep} in {workspace.root}", workspace)


def recorded_in(studies: Studies, sweep: str, missing: str, workspace: Workspace) -> Recorded:
    """Returns a sweep of the workspace's study storage.

    Raises PolicyError, beginning with `missing`, naming the known sweeps; IntegrityError where its trials were changed.
    """
    known = studies.names()
    if sweep not in known:
        raise PolicyError(f"{missing} (known: {', '.join(known) or 'none'})")
    begun = studies.attributes(sweep)
    lane = lane_begun(sweep, begun)
    transcript = studies.transcript(sweep)  # raises where the beginning was changed
    trials = {trial.number: trial for trial in transcript.trials}
    return Recorded(sweep, lane, trials, begun, transcript, workspace)


def lane_begun(sweep: str, begun: Mapping[str, Any]) -> Lane:
    """Returns the lane that a study stored when its sweep began."""
    if "authority" not in begun:
        raise PolicyError(f"{sweep}: an older version began this sweep without storing its packs")
    references = {key: CarriedPack.of(pack) for key, pack in begun["references"].items()}
    return lane_of(begun["lane"], CarriedPack.of(begun["authority"]), references, begun["gates"], sweep)
