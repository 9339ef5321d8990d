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

from scoring.scorecard import Scorecard, combine
from sweeps import comparison, notes
from sweeps.decision import Decision, Ledger
from sweeps.lane import Lane, Value
from sweeps.study import Study, Told
from sweeps.workspace import Workspace

if TYPE_CHECKING:
    from sweeps.tracking import Entry, Input, Tracking

_BACKLOG = 256  # trials that may wait in memory before the search waits for the record


class Recorder:
    """A context: opened before the sweep, it writes behind it, and on leaving waits until all is written."""

    def __init__(self, workspace: Workspace, track: bool) -> None:
        self._workspace, self._track = workspace, track
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="record")
        self._pending: list[Future[Any]] = []
        self._runs: dict[int, tuple[str, bool]] = {}  # trial -> run id, and whether it is written to its end
        self._broken = False
        self._study_pictures: dict[str, bytes] = {}  # artifact path -> PNG, of the sweep's own run
        self._pictures: dict[str, bytes] = {}  # of the locked trial's
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

    def draw(self, decision: Decision, sensitivity: Mapping[str, Any]) -> None:
        """Draws the study, and the candidate beside its authority, on the writing thread: for `close` to write."""
        if self._track:
            self._submit(self._draw, decision, sensitivity)

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
        self.parent = self._tracking.open_sweep(self._lane.id, self._shown(), self._study.name, self._begun())
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
            self._tracking.close_trial(self.parent, run_id, entry)
            self._runs[told.number] = run_id, True

    @property
    def _lane(self) -> Lane:
        return self._ledger.ground.lane

    def _shown(self) -> dict[str, str]:
        """The tags of the lane's experiment."""
        ended, at_ms = self._ledger.vetoes(self._study.history), int(self._study.attributes["at_ms"])
        found = comparison.views(self._ledger.ground, sorted(ended), at_ms)
        kind = {"proofmark.title": self._lane.title, "mlflow.experimentKind": "custom_model_development"}
        return {**kind, "mlflow.note.content": notes.of_lane(self._lane), **found}

    def _begun(self) -> Entry:
        from sweeps.tracking import Entry, as_text

        lane = self._lane
        search = lane.document["sampler"]
        at_ms = int(self._study.attributes["at_ms"])
        params = {
            "sampler": search["name"],
            "sampler_seed": str(search["seed"]),
            "batch": str(lane.document["batch"]),
        }
        tags = {
            "proofmark.lane": lane.id,
            "proofmark.authority": lane.authority.digest,
            "mlflow.note.content": f"**Running** · {lane.title}",
            **self._source,
        }
        return Entry(self._study.name, {}, params, tags, {"lane.json": as_text(lane.document)}, at_ms)

    @property
    def _source(self) -> dict[str, str]:
        return {"mlflow.source.name": f"proofmark sweep {self._lane.id}", "mlflow.source.type": "LOCAL"}

    def _entry(self, told: Told) -> Entry:
        from sweeps.tracking import Entry, as_text

        lane, cards = self._lane, tuple(self._ledger.cards(told).values())
        overall, vetoed = combine(cards, lane.gates), self._ledger.vetoed(told)
        tags = {
            "proofmark.verdict": str(overall.verdict),
            "proofmark.band": self._ledger.band(told) or "below",
            "proofmark.vetoed": ",".join(vetoed) or "none",
            "proofmark.pack": told.record["pack"],
            "proofmark.code": lane.engine.code_version,
            "proofmark.sweep": self._study.name,
            **{f"proofmark.policy.{name}": found for name, found in told.record["policies"].items()},
            **{f"proofmark.world.{seed}": found for seed, found in told.record["worlds"].items()},
            "mlflow.runColor": comparison.colour(str(overall.verdict), bool(vetoed), lane, told.number),
            "mlflow.note.content": notes.of_trial(overall, lane),
            **self._source,
        }
        files = {
            "scorecard.json": as_text(overall.as_document()),
            "scorecard.md": overall.as_markdown() + "\n",
            "measures.json": as_text(told.record["measures"]),
            "pack.json": as_text(lane.candidate(told.values).documents()),
        }
        params = {name: _short(value) for name, value in told.values.items()}
        name, metrics, at_ms = f"{self._study.name}/{told.number}", self._metrics(told, overall), told.record["at_ms"]
        spent = sum(told.record["seconds"].values())
        return Entry(name, metrics, params, tags, files, at_ms, self._inputs(told), spent)

    def _metrics(self, told: Told, overall: Scorecard) -> dict[str, float]:
        """What matters by its plain name, the worst over seeds by state, what differs between trials by seed."""
        lane = self._lane
        found: dict[str, float] = {}
        if told.objectives is not None:
            found |= {of.name: value for of, value in zip(lane.objectives, told.objectives, strict=True)}
        found.setdefault(comparison.WORST, overall.margin(lane.gates.bands[-1]))
        found |= overall.metrics
        moved = comparison.by_seed(lane)
        for seed, card in self._ledger.cards(told).items():
            found |= {f"seed_{seed}/{name}": value for name, value in card.metrics.items() if name in moved}
        found |= {f"seconds/{part}": value for part, value in told.record["seconds"].items()}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _inputs(self, told: Told) -> tuple[Input, ...]:
        """The world of every seed that was run, with what is measured of it before the engine's first state."""
        from sweeps.tracking import Input

        lane, folder, found = self._lane, self._ledger.ground.world, []
        upstream = {name for name, metric in lane.gates.metrics.items() if metric.state not in lane.engine.states}
        for seed, world in told.record["worlds"].items():
            measured = {name: value for name, value in told.record["measures"][seed].items() if name in upstream}
            if folder is None:
                drawn = {"seed": int(seed), "engine": lane.engine.name}
                found.append(Input(f"seed_{seed}/world", world, "drawn", f"seed {seed}", drawn, measured))
            else:
                found.append(Input("world", world, "imported", "world", {"uri": str(folder)}, measured))
        return tuple({one.name: one for one in found}.values())

    def _draw(self, decision: Decision, sensitivity: Mapping[str, Any]) -> None:
        from scoring.drawing import pngs
        from sweeps import showing
        from sweeps.study_figures import study_figures
        from sweeps.study_trials import trials_of

        lane, world, best = self._lane, self._ledger.ground.world, decision.best
        trials = trials_of(self._study.name, self._study.history, self._ledger, best)
        self._study_pictures = {f"study/{name}": png for name, png in pngs(study_figures(trials, sensitivity)).items()}
        if best is not None:
            found = showing.pngs(lane, lane.candidate(best.values), lane.seeds[0], world)
            self._pictures = {f"figures/{name}": png for name, png in found.items()}

    def _close(self, decision: Decision, lock: Mapping[str, Any], documents: Mapping[str, Any]) -> None:
        from sweeps import study_page
        from sweeps.tracking import Entry, as_text

        assert self.parent is not None
        best = decision.best
        told = None if best is None else self._entry(best)
        trial_run = None if best is None else self._runs[best.number][0]
        files: dict[str, str | bytes] = {
            name: as_text(document) for name, document in {"lock.json": lock, **documents}.items()
        }
        files["study.html"] = study_page.html(study_page.Closed(lock, tuple(self._study.history), self._ledger))
        tags = {
            "proofmark.decision": decision.outcome,
            "proofmark.verdict": decision.verdict,
            "proofmark.reason": decision.reason[:5000],
            "proofmark.lock": lock["lock_id"],
            "proofmark.best_trial": "" if best is None else str(best.number),
            "mlflow.note.content": notes.of_sweep(
                decision, lock, trial_run, ("study.html", *documents), tuple(self._study_pictures)
            ),
        }
        at_ms = told.at_ms if told is not None else int(self._study.attributes["at_ms"])
        metrics, inputs = ({}, ()) if told is None else (told.metrics, told.inputs)
        entry = Entry(self._study.name, metrics, {}, tags, files | self._study_pictures, at_ms, inputs)
        if told is not None and trial_run is not None:
            note = notes.of_locked(lock) + told.tags["mlflow.note.content"] + notes.shown(tuple(self._pictures))
            locked = {"proofmark.lock": lock["lock_id"], "mlflow.note.content": note}
            self._tracking.mark(self.parent, trial_run, locked, self._pictures)
        self._tracking.close_sweep(self._lane.id, self._shown(), self.parent, entry)


def _short(value: Value) -> str:
    """A knob's value for a column: what a step leaves in the last digits is in the pack, not here."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)
