"""Writes a sweep into the tracking record while the search goes on.

The durable study is the truth; the record follows it. What is to be written goes into the outbox as a letter, in
order, from one thread; a process beside the sweep delivers it. So writing overlaps with computing, and where the record
does not answer its letters wait. On resume whatever the study holds and the outbox lacks is put first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from types import TracebackType
from typing import Any, Self

from lanelock.policies import LanelockError
from lanelock.scoring.figures.drawing import drawn
from lanelock.sweeps.lanes.decision import Decision, Ledger
from lanelock.sweeps.lanes.study import Study
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.record.courier import Courier, Standing
from lanelock.sweeps.record.letters import Heading, Letter
from lanelock.sweeps.record.outbox import Box, Outbox, meant_for, record_uri
from lanelock.sweeps.record.sweep_letters import Entries
from lanelock.sweeps.reports.study_figures import sensitivity_figures, trial_figures
from lanelock.sweeps.workspace import Workspace

_BACKLOG = 256  # trials that may wait in memory to be put: the outbox is a disk's append away


class Recorder:
    """A context: opened before the sweep, it writes behind it, and on leaving waits until all is written or waits."""

    def __init__(self, workspace: Workspace, track: bool) -> None:
        self._workspace, self._track = workspace, track
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._pending: list[Future[Any]] = []
        self._broken = False
        self._uri = record_uri(workspace)
        self._courier: Courier | None = None
        self._box: Box | None = None
        self._standing: Standing | None = None

    @property
    def parent(self) -> str | None:
        """The sweep's own run, where it was written."""
        return None if self._standing is None else self._standing.parent

    def __enter__(self) -> Self:
        if self._track:
            self._submit(self._connect)
        return self

    def settle(self) -> None:
        """Waits until all that was put is written, or the record is found away. Raises WorkspaceError if it refuses."""
        self._raise_failures(everything=True)
        if self._box is not None and self._courier is not None:
            self._standing = self._courier.settle()

    def begin(self, study: Study, ledger: Ledger) -> None:
        """Opens the sweep's own run, and puts what a killed sweep's study holds and the outbox lacks."""
        self._study, self._ledger, self._entries = study, ledger, Entries(study, ledger)
        if self._track:
            self._submit(self._open)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Interrupted or not, what was told is written; another error is told in place of one from here.
        self._writer.shutdown(wait=True)
        try:
            with nullcontext() if kind is None else suppress(LanelockError):
                self.settle()
        finally:
            if self._courier is not None:
                self._courier.leave()

    def trial(self, told: Trial) -> None:
        """Queues a trial for writing."""
        if self._track:
            self._submit(self._put_trials, (told,))
            self._raise_failures(everything=len(self._pending) > _BACKLOG)

    def runs_of(self, best: Trial | None) -> dict[str, str | None]:
        """The tracking runs a lock refers to, once they are written; null where the record is away."""
        self._raise_failures(everything=True)
        if self._courier is None:
            return {"sweep": None, "trial": None}
        found = self._courier.settle(None if best is None else best.number)
        return {"sweep": found.parent, "trial": found.run}

    def keep(self, best: Trial | None) -> None:
        """Puts the scorecards of the trials that one may want to open, the front and the best; has figures drawn.

        Waits until all is under way: what the sweep goes on to compute holds Python, and a thread beside it starves.
        """
        if self._track:
            self._submit(self._keep, best)
            self._raise_failures(everything=True)

    def close(self, decision: Decision, lock: Lock, documents: Mapping[str, Any]) -> None:
        """Puts the decision, the lock and further documents, by file name, for the sweep's own run, and its end."""
        if self._track:
            self._submit(self._close, decision, lock, documents)

    def _submit(self, work: Callable[..., None], *arguments: Any) -> None:
        self._pending.append(self._writer.submit(self._unless_broken, work, *arguments))

    def _unless_broken(self, work: Callable[..., None], *arguments: Any) -> None:
        # After a failure nothing more is written: the study holds it all, and a resumed sweep writes it in order.
        if not self._broken:
            try:
                work(*arguments)
            except BaseException:
                self._broken = True
                raise

    def _raise_failures(self, *, everything: bool) -> None:
        waiting = []
        for future in self._pending:
            if everything or future.done():
                future.result()
            else:
                waiting.append(future)
        self._pending = waiting

    def _connect(self) -> None:
        # Importing MLflow takes seconds: in the process that delivers, it overlaps with the survey of the lane.
        self._courier = Courier()
        self._courier.open(self._workspace, self._uri)

    def _open(self) -> None:
        assert self._courier is not None  # connected first, on the same thread
        heading = self._heading()
        box = Outbox(self._workspace).box(heading)
        there = box.trials()
        box.put([Letter("sweep", self._entries.begun(), heading=heading)])
        self._courier.take(box, self._entries.lane.metrics)
        self._box = box
        missing = [told for told in self._study.history if told.number not in there]
        for first in range(0, len(missing), _BACKLOG):
            self._put_trials(missing[first : first + _BACKLOG])

    def _put_trials(self, trials: Sequence[Trial]) -> None:
        assert self._box is not None and self._courier is not None  # opened first, on the same thread
        self._box.put([Letter("trial", self._entries.trial(told), told.number) for told in trials])
        self._courier.wake()

    def _keep(self, best: Trial | None) -> None:
        assert self._box is not None and self._courier is not None  # opened first, on the same thread
        self._trials = trials = self._entries.trials(best)
        candidate = () if best is None else self._entries.figures(best)
        self._courier.draw({"candidate": candidate, "study": tuple(trial_figures(trials))})
        kept = [self._study.history[row] for row in trials.kept]
        self._box.put([Letter("more", self._entries.kept(told), told.number) for told in kept])
        self._courier.wake()

    def _close(self, decision: Decision, lock: Lock, documents: Mapping[str, Any]) -> None:
        assert self._box is not None and self._courier is not None  # opened first, on the same thread
        best, trials = decision.best, self._trials
        moved = drawn(sensitivity_figures(trials, documents["sensitivity.json"]))  # while the courier draws the others
        others = self._courier.drawn()
        if best is not None:
            self._box.put([Letter("more", self._entries.locked(best, lock, others["candidate"]), best.number)])
            self._courier.wake()
        closing = self._entries.closing(decision, lock, documents, trials, (*others["study"], *moved))
        self._box.put([Letter("close", closing, None if best is None else best.number, self._heading())])
        self._courier.wake()

    def _heading(self) -> Heading:
        said, entries = self._study.attributes, self._entries
        identity = said.get("id") or f"{self._study.name}@{said['at_ms']}"  # sweeps of before have no id
        record = meant_for(self._workspace, self._uri)
        return Heading(record, entries.lane.id, entries.shown(), self._study.name, identity)
