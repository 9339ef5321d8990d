"""Writes a sweep to the tracking server while the search goes on.

The study is the truth; tracking follows it. Everything to be written goes into the outbox as a letter, in order; a
process beside the sweep delivers it, so that writing overlaps with computing, and letters wait while the server does
not answer or refuses them. On resume, trials that the study holds and the outbox lacks are put first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lanelock.scoring.figures.beside import Pen, pen
from lanelock.scoring.figures.drawing import Figure, drawn
from lanelock.sweeps.decision.decision import Decision, ranking
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.record.courier import Courier
from lanelock.sweeps.record.letters import Heading, Letter
from lanelock.sweeps.record.outbox import Box, Outbox, meant_for, record_uri
from lanelock.sweeps.record.sweep_letters import Entries
from lanelock.sweeps.reports.study_figures import sensitivity_figures, trial_figures
from lanelock.sweeps.search.study import Study
from lanelock.sweeps.sensitivity.trial_arrays import Trials
from lanelock.sweeps.workspace import Workspace

_AT_ONCE = 256  # trials that a resumed sweep puts in one write
_PAGES = 12  # trials of the front that get a scorecard as a page


@contextmanager
def recording(workspace: Workspace, track: bool) -> Iterator[Recorder]:
    """Connects a sweep to tracking. At the end of the context, every letter is delivered or waits in the outbox."""
    uri = record_uri(workspace)
    if not track:
        yield Recorder(workspace, uri, None, None)
        return
    with Courier(workspace, uri) as courier, pen() as drawing:
        yield Recorder(workspace, uri, courier, drawing)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a closing sweep has prepared: its trials as arrays, and figures that are still being drawn."""

    trials: Trials
    candidate: int  # number of figures that show the candidate; the others show the trials
    drawn: Callable[[], tuple[Figure, ...]]


class Recording:
    """The tracking of one sweep. This base class is for an untracked sweep, and writes nothing."""

    def trial(self, trial: Trial, details: str = "") -> None:
        """Writes a trial, and all that the engine said of its failure."""

    def settle(self) -> str | None:
        """Waits until all is written or the server is known to take nothing. Returns the sweep's run, if known."""
        return None

    def trouble(self) -> str:
        """Returns why something waits to be written, or ""."""
        return ""

    def keep(self, best: Trial | None) -> Kept | None:
        """Writes the scorecards of the front and of the best trial, and starts drawing the figures."""
        return None

    def close(self, kept: Kept | None, decision: Decision, lock: Lock, documents: Mapping[str, Any]) -> None:
        """Writes the decision, the lock and documents (by file name) on the sweep's run, and ends the run."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Begins the tracking of a sweep once the server has answered."""

    workspace: Workspace
    uri: str
    courier: Courier | None  # None: the sweep is not tracked
    pen: Pen | None

    def connected(self) -> None:
        """Waits for the server's answer. Raises WorkspaceError if it refuses."""
        if self.courier is not None:
            self.courier.connected()

    def begin(self, study: Study, ledger: Ledger) -> Recording:
        """Opens the sweep's run, and writes the trials that a killed sweep's study holds and the outbox lacks."""
        if self.courier is None or self.pen is None:
            return Recording()
        entries = Entries(study, ledger)
        server = meant_for(self.workspace, self.uri)
        heading = Heading(server, entries.lane.id, entries.shown(), study.name, entries.identity)
        box = Outbox(self.workspace).box(heading)
        written = box.trials()
        box.put([Letter("sweep", entries.begun(), heading=heading)])
        self.courier.take(box)
        self.pen.prepare(type(entries.lane.metrics).__module__)  # imports now, since the close waits for the figures
        tracked = Tracked(entries, heading, box, self.courier, self.pen)
        missing = [trial for trial in study.history if trial.number not in written]
        for first in range(0, len(missing), _AT_ONCE):
            tracked.put_trials(missing[first : first + _AT_ONCE])
        return tracked


@dataclass(frozen=True, slots=True)
class Tracked(Recording):
    """The tracking of a tracked sweep."""

    entries: Entries
    heading: Heading
    box: Box
    courier: Courier
    pen: Pen

    def trial(self, trial: Trial, details: str = "") -> None:
        self.put([Letter("trial", self.entries.trial(trial, details), trial.number)])

    def settle(self) -> str | None:
        return self.courier.settle()

    def trouble(self) -> str:
        return self.courier.trouble()

    def keep(self, best: Trial | None) -> Kept:
        trials = self.entries.trials(best)
        candidate = () if best is None else self.entries.figures(best)
        # Drawing starts first: what the sweep computes next holds the interpreter.
        kept = Kept(trials, len(candidate), self.pen.draw((*candidate, *trial_figures(trials))))
        front = [self.entries.history[row] for row in trials.kept]
        paged = {trial.number for trial in ranking(front, self.entries.ledger)[:_PAGES]}
        rows = ((trial, trial.number in paged) for trial in front)
        self.put([Letter("more", self.entries.kept(trial, page=page), trial.number) for trial, page in rows])
        return kept

    def close(self, kept: Kept | None, decision: Decision, lock: Lock, documents: Mapping[str, Any]) -> None:
        assert kept is not None  # it is what `keep` returned
        best = decision.best
        moved = drawn(sensitivity_figures(kept.trials, documents["sensitivity.json"]))  # while the pen draws the others
        figures = kept.drawn()
        candidate, others = figures[: kept.candidate], figures[kept.candidate :]
        if best is not None:
            self.put([Letter("more", self.entries.locked(best, lock, candidate), best.number)])
        self.put([Letter("ranks", ranks) for ranks in self.entries.ranks(None if best is None else best.number)])
        closing = self.entries.closing(decision, lock, documents, kept.trials, (*others, *moved))
        heading = replace(self.heading, shown=self.entries.shown(closed=True))
        self.put([Letter("close", closing, None if best is None else best.number, heading)], synced=True)

    def put_trials(self, trials: Sequence[Trial]) -> None:
        """Puts finished trials into the outbox."""
        self.put([Letter("trial", self.entries.trial(trial), trial.number) for trial in trials])

    def put(self, letters: Sequence[Letter], *, synced: bool = False) -> None:
        """Puts letters into the outbox, and wakes the process that delivers them."""
        self.box.put(letters, synced=synced)
        self.courier.wake()
