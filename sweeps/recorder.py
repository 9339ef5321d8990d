"""Writes a sweep into the tracking record while the search goes on.

The durable study is the truth; the record follows it. Writing happens on one thread, in order, so it
overlaps with computing; on resume whatever the study holds and the record lacks is written first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from scoring.scorecard import combine
from sweeps.decision import Decision, Ledger
from sweeps.study import Study, Told
from sweeps.workspace import Workspace

if TYPE_CHECKING:
    from sweeps.tracking import Entry, Tracking

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
        self._study, self._ledger = study, ledger
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
        lane = self._ledger.ground.lane
        self.parent = self._tracking.open_sweep(lane.id, _permission(lane.document), self._study.name, self._begun())
        self._runs = self._tracking.trials(self.parent)
        for told in self._study.history:
            self._write_trial(told)

    def _write_trial(self, told: Told) -> None:
        run_id, whole = self._runs.get(told.number, (None, False))
        if not whole:
            assert self.parent is not None  # opened first, on the same thread
            entry = self._entry(told)
            if run_id is None:
                run_id = self._tracking.open_trial(self.parent, told.number, entry)
                self._runs[told.number] = run_id, False
            self._tracking.close_trial(run_id, entry)
            self._runs[told.number] = run_id, True

    def _begun(self) -> Entry:
        from sweeps.tracking import Entry, as_text

        ground = self._ledger.ground
        search = ground.lane.document["sampler"]
        at_ms = int(self._study.attributes["at_ms"])
        params = {
            "sampler": search["name"],
            "sampler_seed": str(search["seed"]),
            "batch": str(ground.lane.document["batch"]),
        }
        tags = {"proofmark.lane": ground.lane.id, "proofmark.authority": ground.lane.authority.digest}
        return Entry(self._study.name, {}, params, tags, {"lane.json": as_text(ground.lane.document)}, at_ms)

    def _entry(self, told: Told) -> Entry:
        from sweeps.tracking import Entry, as_text

        lane, cards = self._ledger.ground.lane, tuple(self._ledger.cards(told).values())
        overall = combine(cards, lane.gates)
        metrics = {name: value for name, value in overall.metrics.items() if math.isfinite(value)}
        for card in cards:
            metrics |= {
                f"seed_{card.seed}/{name}": value for name, value in card.metrics.items() if math.isfinite(value)
            }
        if told.objectives is not None:
            named = zip(lane.objectives, told.objectives, strict=True)
            metrics |= {f"objective/{objective.name}": value for objective, value in named}
        metrics |= {f"seconds/{part}": value for part, value in told.record["seconds"].items()}
        vetoed = self._ledger.vetoed(told)
        tags = {
            "proofmark.verdict": str(overall.verdict),
            "proofmark.band": self._ledger.band(told) or "below",
            "proofmark.vetoed": ",".join(vetoed) or "none",
            "proofmark.pack": told.record["pack"],
            "proofmark.code": lane.engine.code_version,
            "proofmark.sweep": self._study.name,
            **{f"proofmark.policy.{name}": found for name, found in told.record["policies"].items()},
            **{f"proofmark.world.{seed}": found for seed, found in told.record["worlds"].items()},
        }
        files = {
            "scorecard.json": as_text(overall.as_document()),
            "scorecard.md": overall.as_markdown() + "\n",
            "pack.json": as_text(lane.candidate(told.values).documents()),
        }
        params = {name: str(value) for name, value in told.values.items()}
        return Entry(f"{self._study.name}/{told.number}", metrics, params, tags, files, told.record["at_ms"])

    def _close(self, decision: Decision, lock: Mapping[str, Any], documents: Mapping[str, Any]) -> None:
        from sweeps.tracking import Entry, as_text

        assert self.parent is not None
        best = decision.best
        metrics = dict(self._entry(best).metrics) if best is not None else {}
        tags = {
            "proofmark.decision": decision.outcome,
            "proofmark.verdict": decision.verdict,
            "proofmark.reason": decision.reason[:5000],
            "proofmark.lock": lock["lock_id"],
            "proofmark.best_trial": "" if best is None else str(best.number),
        }
        at_ms = best.record["at_ms"] if best is not None else int(self._study.attributes["at_ms"])
        files = {name: as_text(document) for name, document in {"lock.json": lock, **documents}.items()}
        entry = Entry(self._study.name, metrics, {}, tags, files, at_ms)
        self._tracking.close_sweep(self.parent, entry)


def _permission(lane: Mapping[str, Any]) -> str:
    """What a lane may touch, for the reader of its experiment."""
    rows = []
    for name, knob in lane["knobs"].items():
        choices = knob.get("choices", knob.get("options"))
        bounds = f"{knob['low']} … {knob['high']}" if choices is None else ", ".join(map(str, choices))
        rows.append(f"- `{name}`: `{knob['at']}` in {bounds}")
    budget = lane["budget"]
    head = f"**{lane['title']}**\n\n{lane['why']}\n\nAuthority: pack `{lane['authority']}`. May touch:\n"
    seeds = ", ".join(map(str, lane["seeds"]))
    return head + "\n".join(rows) + f"\n\nSeeds {seeds}. Budget: {budget['trials']} trials or {budget['seconds']} s."
