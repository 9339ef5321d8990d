"""Writes a sweep into the tracking record while the search goes on.

The durable study is the truth; the record follows it. Writing happens on one thread, in order, so it
overlaps with computing; on resume whatever the study holds and the record lacks is written first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from sweeps.decision import Decision, Ledger
from sweeps.entries import Entries
from sweeps.study import Study, Told
from sweeps.workspace import Workspace

if TYPE_CHECKING:
    from sweeps.tracking import Tracking

_BACKLOG = 256  # trials that may wait in memory before the search waits for the record


class Recorder:
    """A context: opened before the sweep, it writes behind it, and on leaving waits until all is written."""

    def __init__(self, workspace: Workspace, track: bool) -> None:
        self._workspace, self._track = workspace, track
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._pending: list[Future[Any]] = []
        self._runs: dict[int, tuple[str, bool]] = {}  # trial -> run id, and whether it is written to its end
        self._broken = False
        self.parent: str | None = None

    def __enter__(self) -> Self:
        if self._track:
            self._submit(self._connect)
        return self

    def settle(self) -> None:
        """Waits until all that is queued is written. Raises WorkspaceError where the record cannot be."""
        self._raise_failures(everything=True)

    def begin(self, study: Study, ledger: Ledger) -> None:
        """Opens the sweep's own run, and writes what a killed sweep's study holds and the record lacks."""
        self._study, self._entries = study, Entries(study, ledger)
        if self._track:
            self._submit(self._open)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Interrupted or not, what was told is written: the queue is short and each write is whole.
        self._writer.shutdown(wait=True)
        if kind is None:
            self.settle()

    def trial(self, told: Told) -> None:
        """Queues a trial for writing; waits only where the record has fallen far behind."""
        if self._track:
            self._submit(self._write_trial, told)
            self._raise_failures(everything=len(self._pending) > _BACKLOG)

    def runs_of(self, best: Told | None) -> dict[str, str | None]:
        """The tracking runs a lock refers to. Waits until they exist."""
        self.settle()
        child = self._runs.get(best.number, (None, False))[0] if best is not None else None
        return {"sweep": self.parent, "trial": child}

    def draw(self, decision: Decision, sensitivity: Mapping[str, Any]) -> None:
        """Draws the study, and the candidate beside its authority, on the writing thread: for `close` to write."""
        if self._track:
            self._submit(self._entries.draw, decision, sensitivity)

    def close(self, decision: Decision, lock: Mapping[str, Any], documents: Mapping[str, Any]) -> None:
        """Writes the decision, the lock and further documents, by file name, on the sweep's own run and ends it."""
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
        # Importing MLflow takes a second: on this thread it overlaps with the survey of the lane.
        from sweeps.tracking import Tracking

        self._tracking: Tracking = Tracking(self._workspace)

    def _open(self) -> None:
        self.parent = self._tracking.open_sweep(
            self._entries.lane.id, self._entries.shown(), self._study.name, self._entries.begun()
        )
        self._runs = self._tracking.trials(self.parent)
        for told in self._study.history:
            self._write_trial(told)

    def _write_trial(self, told: Told) -> None:
        run_id, whole = self._runs.get(told.number, (None, False))
        if not whole:
            assert self.parent is not None  # opened first, on the same thread
            entry = self._entries.trial(told)
            if run_id is None:
                run_id = self._tracking.open_trial(self.parent, told.number, entry)
                self._runs[told.number] = run_id, False
            self._tracking.close_trial(self.parent, run_id, entry)
            self._runs[told.number] = run_id, True

    def _close(self, decision: Decision, lock: Mapping[str, Any], documents: Mapping[str, Any]) -> None:
        assert self.parent is not None
        told, run = decision.best, None if decision.best is None else self._runs[decision.best.number][0]
        if told is not None and run is not None:
            self._tracking.add(self.parent, run, self._entries.locked(told, lock))
        entry = self._entries.closing(decision, lock, documents, run)
        self._tracking.close_sweep(self._entries.lane.id, self._entries.shown(), self.parent, entry)
