"""The sweeps of a workspace as they are now, read again and again while other processes play them.

A study is read from where the last look ended, and its trials are graded once. Nothing is locked, written or run, but
for a lane whose rails follow its authority: until its sweep has left a lock, the authority is measured here once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import RLock

from lanelock.policies import PolicyError
from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.figures.drawing import Drawn, Figure, ready, svg
from lanelock.sweeps.decision.decision import ranking
from lanelock.sweeps.decision.reserve import Reserve, reserve_of
from lanelock.sweeps.engines import world_folder
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.reports.study_figures import trial_figures
from lanelock.sweeps.search.recorded import lane_begun
from lanelock.sweeps.search.study import Followed, Studies
from lanelock.sweeps.sensitivity.trial_arrays import Trials, trials_of
from lanelock.sweeps.workspace import Workspace

DRAWN = 3_000  # trials: the figures of a longer sweep take seconds and megabytes, and stand on its study page
_FIGURES = 2  # of those of a study: the front and the history; with one objective the history alone
_IDLE = 30  # times as long as the last drawing took, before what still grows is drawn again: 3 % of a processor


@dataclass(frozen=True, eq=False)  # a look is itself and no other
class View:
    """What one look at a sweep found."""

    sweep: str
    trials: tuple[Trial, ...]
    ledger: Ledger
    lock: Lock | None  # of its decision; None: not closed, or its lock is gone

    @property
    def lane(self) -> Lane:
        return self.ledger.ground.lane

    @cached_property
    def ranked(self) -> tuple[Trial, ...]:
        """The trials in the decision's order."""
        return ranking(self.trials, self.ledger)

    @cached_property
    def reserve(self) -> Reserve:
        return reserve_of(self.trials, self.ledger)

    @cached_property
    def locked(self) -> Trial | None:
        """The trial that the sweep locked."""
        number = None if self.lock is None else self.lock.trial
        return next((trial for trial in self.trials if trial.number == number), None)

    @cached_property
    def arrays(self) -> Trials:
        return trials_of(self.sweep, self.trials, self.ledger, self.locked)


class Sight:
    """One sweep, followed."""

    def __init__(self, followed: Followed, workspace: Workspace, lock: Lock | None) -> None:
        self._followed, self._workspace = followed, workspace
        self._lane = lane_begun(followed.name, followed.begun)
        self._ledger = Ledger(self._ground(lock))
        self._drawn: tuple[Figure, ...] = ()
        self._drawn_of: tuple[int, bool] = (-1, False)
        self._again = 0.0  # when what grows may be drawn again
        self._view: View | None = None
        self.guard = RLock()

    def view(self, lock: Lock | None) -> View:
        """Looks at the study, and grades the trials that are new."""
        with self.guard:
            trials = self._followed.trials()
            known = self._view
            if known is None or len(known.trials) != len(trials) or known.lock != lock:
                self._view = known = View(self._followed.name, trials, self._ledger, lock)
            return known

    def figures(self, view: View, running: bool) -> tuple[Figure, ...]:
        """Returns the front and the history; while it is running, drawn again as often as that costs little."""
        if not view.trials or len(view.trials) > DRAWN:
            return ()
        with self.guard:
            of = len(view.trials), view.lock is not None
            if of != self._drawn_of and (not running or time.monotonic() >= self._again):
                ready()  # the first figure's imports are no part of what a drawing costs
                began = time.monotonic()
                figures = islice(trial_figures(view.arrays), min(_FIGURES, len(view.lane.objectives)))
                self._drawn = tuple(replace(figure, drawn=Drawn(svg(figure), b"")) for figure in figures)
                self._drawn_of, self._again = of, time.monotonic() + _IDLE * (time.monotonic() - began)
            return self._drawn

    def _ground(self, lock: Lock | None) -> Ground:
        begun, lane = self._followed.begun, self._lane
        world = None if begun["world"] is None else world_folder(str(self._workspace.kept(begun["world"])))
        reach = tuple(GateReach(**row) for row in begun.get("reach", ()))
        return Ground(lane, world, _authority(lane, world, lock), reach)


def _authority(lane: Lane, world: Path | None, lock: Lock | None) -> Mapping[int, Mapping[str, float]]:
    """Returns what rails are compared with: nothing where no gate follows the authority."""
    if lock is not None:
        return lock.authority_metrics
    if all(gate.relative is None for gate in lane.gates.gates):
        return {seed: {} for seed in lane.seeds}
    return {seed: lane.yardstick(seed, world) for seed in lane.seeds}


class Sights:
    """The sweeps that were looked at, by name. A journal that was replaced is read from its beginning."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._studies: Studies | None = None
        self._journal: tuple[int, int] = (0, 0)  # inode and size
        self._sights: dict[str, Sight] = {}
        self._guard = RLock()

    def studies(self) -> Studies:
        """Returns the studies, opened once for as long as they grow."""
        with self._guard:
            journal = self._state()
            if self._studies is None or journal[0] != self._journal[0] or journal[1] < self._journal[1]:
                self._studies, self._sights = Studies(self._workspace.study_storage, reading=True), {}
            self._journal = journal
            return self._studies

    def sight(self, sweep: str, lock: Callable[[], Lock | None]) -> Sight:
        """Returns a sweep, followed. Raises PolicyError naming those that are known."""
        with self._guard:
            studies = self.studies()
            if sweep not in self._sights:
                if sweep not in (names := studies.names()):
                    raise PolicyError(f"no sweep {sweep} in {self._workspace.root} (known: {_listed(names)})")
                self._sights[sweep] = Sight(studies.follow(sweep), self._workspace, lock())
            return self._sights[sweep]

    def known(self, sweep: str) -> bool:
        """Tells whether a sweep was looked at, so that another look costs little."""
        return sweep in self._sights

    def _state(self) -> tuple[int, int]:
        try:
            found = Path(self._workspace.study_storage).stat()
        except (OSError, ValueError):  # a database, or not there
            return 0, 0
        return found.st_ino, found.st_size


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[-8:]) or "none"
