"""Writes a sweep into the tracking record while the search goes on.

The durable study is the truth; the record follows it. What is to be written goes into the outbox as a letter, in
order; a process beside the sweep delivers it, so that writing overlaps with computing, and where the record does not
answer its letters wait. On resume whatever the study holds and the outbox lacks is put first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from lanelock.scoring.figures.beside import Pen, pen
from lanelock.scoring.figures.drawing import Figure, drawn
from lanelock.sweeps.lanes.decision import Decision, Ledger
from lanelock.sweeps.lanes.study import Study
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.lanes.trial_arrays import Trials
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.record.courier import Courier
from lanelock.sweeps.record.letters import Heading, Letter
from lanelock.sweeps.record.outbox import Box, Outbox, meant_for, record_uri
from lanelock.sweeps.record.sweep_letters import Entries
from lanelock.sweeps.reports.study_figures import sensitivity_figures, trial_figures
from lanelock.sweeps.workspace import Workspace

_AT_ONCE = 256  # trials that a resumed sweep puts together


@contextmanager
def recording(workspace: Workspace, track: bool) -> Iterator[Recorder]:
    """Opens the record beside a sweep. On leaving, all that was told is written or waits."""
    uri = record_uri(workspace)
    if not track:
        yield Recorder(workspace, uri, None, None)
        return
    with Courier(workspace, uri) as courier, pen() as drawing:
        yield Recorder(workspace, uri, courier, drawing)


@dataclass(frozen=True, slots=True)
class Kept:
    """What a closing sweep has prepared: its trials as arrays, and the figures that are being drawn."""

    trials: Trials
    candidate: int  # so many of the figures are of the candidate, the others of the trials
    drawn: Callable[[], tuple[Figure, ...]]


class Recording:
    """The record of one sweep. This one is of a sweep that is not tracked, and writes nothing."""

    def trial(self, told: Trial) -> None:
        """Writes a trial."""

    def settle(self, trial: int | None = None) -> dict[str, str | None]:
        """Waits until all is written, or the record is found away. Returns the runs of the sweep and of a trial.

        Raises WorkspaceError if the record refuses.
        """
        return {"sweep": None, "trial": None}

    def keep(self, best: Trial | None) -> Kept | None:
        """Writes the scorecards of the trials that one may want to open, the front and the best; has figures drawn."""
        return None

    def close(self, kept: Kept | None, decision: Decision, lock: Lock, documents: Mapping[str, Any]) -> None:
        """Writes the decision, the lock and further documents, by file name, on the sweep's own run, and ends it."""


@dataclass(frozen=True, slots=True)
class Recorder:
    """Begins the recording of a sweep once the record has answered."""

    workspace: Workspace
    uri: str
    courier: Courier | None  # None: the sweep is not tracked
    pen: Pen | None

    def connected(self) -> None:
        """Waits for the record's answer. Raises WorkspaceError if it refuses."""
        if self.courier is not None:
            self.courier.connected()

    def begin(self, study: Study, ledger: Ledger) -> Recording:
        """Opens the sweep's own run, and writes what a killed sweep's study holds and the outbox lacks."""
        if self.courier is None or self.pen is None:
            return Recording()
        entries, attributes = Entries(study, ledger), study.attributes
        identity = attributes.get("id") or f"{study.name}@{attributes['at_ms']}"  # sweeps of before have no id
        record = meant_for(self.workspace, self.uri)
        heading = Heading(record, entries.lane.id, entries.shown(), study.name, identity)
        box = Outbox(self.workspace).box(heading)
        there = box.trials()
        box.put([Letter("sweep", entries.begun(), heading=heading)])
        self.courier.take(box)
        self.pen.prepare(type(entries.lane.metrics).__module__)  # beside the search: the close waits for what it draws
        begun = Tracked(entries, heading, box, self.courier, self.pen)
        missing = [told for told in study.history if told.number not in there]
        for first in range(0, len(missing), _AT_ONCE):
            begun.put(begun.letters(missing[first : first + _AT_ONCE]))
        return begun


@dataclass(frozen=True, slots=True)
class Tracked(Recording):
    """The record of a sweep that is tracked."""

    entries: Entries
    heading: Heading
    box: Box
    courier: Courier
    pen: Pen

    def trial(self, told: Trial) -> None:
        self.put(self.letters([told]))

    def settle(self, trial: int | None = None) -> dict[str, str | None]:
        return self.courier.settle(trial)

    def keep(self, best: Trial | None) -> Kept:
        trials = self.entries.trials(best)
        candidate = () if best is None else self.entries.figures(best)
        # Handed over before anything else: what the sweep goes on to compute holds Python.
        kept = Kept(trials, len(candidate), self.pen.draw((*candidate, *trial_figures(trials))))
        rows = [self.entries.history[row] for row in trials.kept]
        self.put([Letter("more", self.entries.kept(told), told.number) for told in rows])
        return kept

    def close(self, kept: Kept | None, decision: Decision, lock: Lock, documents: Mapping[str, Any]) -> None:
        assert kept is not None  # it is what `keep` returned
        best = decision.best
        moved = drawn(sensitivity_figures(kept.trials, documents["sensitivity.json"]))  # while the pen draws the others
        figures = kept.drawn()
        candidate, others = figures[: kept.candidate], figures[kept.candidate :]
        if best is not None:
            self.put([Letter("more", self.entries.locked(best, lock, candidate), best.number)])
        closing = self.entries.closing(decision, lock, documents, kept.trials, (*others, *moved))
        heading = replace(self.heading, shown=self.entries.shown())
        self.put([Letter("close", closing, None if best is None else best.number, heading)], synced=True)

    def letters(self, trials: Sequence[Trial]) -> list[Letter]:
        """Returns what is written of trials."""
        return [Letter("trial", self.entries.trial(told), told.number) for told in trials]

    def put(self, letters: Sequence[Letter], *, synced: bool = False) -> None:
        """Puts letters into the outbox, and wakes the process that delivers them."""
        self.box.put(letters, synced=synced)
        self.courier.wake()
