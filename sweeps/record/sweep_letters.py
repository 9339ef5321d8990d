"""What is said of a sweep in the record: of its lane, of itself as it begins and closes, of every trial of it.

Values only. How they get there, and when, is the recorder's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lanelock.scoring.figures.drawing import Figure, pngs
from lanelock.scoring.scorecard import Scorecard
from lanelock.sweeps.lanes.decision import Decision, Ledger, in_reserve
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.sensitivity import by_seed, of_upstream
from lanelock.sweeps.lanes.study import Study
from lanelock.sweeps.lanes.trial import Input, Trial
from lanelock.sweeps.lanes.trial_arrays import Trials, trials_of
from lanelock.sweeps.pages import scorecard as scorecard_page
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.record import notes
from lanelock.sweeps.record import views as comparison
from lanelock.sweeps.record.letters import Entry, as_text
from lanelock.sweeps.record.notes import NOTE
from lanelock.sweeps.reports import scorecards as showing
from lanelock.sweeps.reports import study as study_page
from lanelock.sweeps.reports.scorecards import lock_report


class Entries:
    """The entries of one sweep."""

    def __init__(self, study: Study, ledger: Ledger) -> None:
        self._study, self._ledger = study, ledger

    @property
    def lane(self) -> Lane:
        return self._ledger.ground.lane

    @property
    def history(self) -> Sequence[Trial]:
        return self._study.history

    def shown(self) -> dict[str, str]:
        """The tags of the lane's experiment."""
        history, at_ms = self._study.history, int(self._study.attributes["at_ms"])
        ended, reserved = self._ledger.vetoes(history), any(in_reserve(told, self._ledger) for told in history)
        kind = {"lanelock.title": self.lane.title, "mlflow.experimentKind": "custom_model_development"}
        views = comparison.views(self._ledger.ground, sorted(ended), at_ms, reserved=reserved)
        return {**kind, NOTE: notes.of_lane(self.lane), **views}

    def begun(self) -> Entry:
        """The sweep's own run as it begins."""
        lane, at_ms = self.lane, int(self._study.attributes["at_ms"])
        search = lane.document["sampler"]
        params = {
            "sampler": search["name"],
            "sampler_seed": str(search["seed"]),
            "batch": str(lane.document["batch"]),
        }
        tags = {
            "lanelock.lane": lane.id,
            "lanelock.authority": lane.authority.digest,
            NOTE: f"**Running** · {lane.title}",
            **self._source,
        }
        return Entry(self._study.name, {}, params, tags, {"lane.json": as_text(lane.document)}, at_ms)

    def trial(self, told: Trial) -> Entry:
        """A trial: its verdict, metrics and knobs, and the worlds it stood on."""
        lane, overall, vetoed = self.lane, self._ledger.overall(told), self._ledger.vetoed(told)
        tags = {
            "lanelock.verdict": str(overall.verdict),
            "lanelock.band": self._ledger.band(told) or "below",
            "lanelock.vetoed": ",".join(vetoed) or "none",
            "lanelock.pack": told.record.pack,
            "lanelock.code": lane.engine.code_version,
            "lanelock.sweep": self._study.name,
            **{f"lanelock.policy.{name}": found for name, found in told.record.policies.items()},
            **{f"lanelock.world.{seed}": found for seed, found in told.record.worlds.items()},
            "mlflow.runColor": comparison.colour(overall.verdict, bool(vetoed), lane, told.number),
            NOTE: notes.of_trial(overall, lane, told.values),
            **self._source,
        }
        params = {name: notes.in_short(value) for name, value in told.values.items()}
        name, metrics, at_ms = f"{self._study.name}/{told.number}", self._metrics(told, overall), told.record.at_ms
        spent = sum(told.record.seconds.values())
        return Entry(name, metrics, params, tags, {}, at_ms, self._inputs(told), spent)

    def kept(self, told: Trial) -> Entry:
        """What is added to a trial that one may want to open: its files."""
        card = self._ledger.overall(told)
        files = {
            "scorecard.json": as_text(card.as_document()),
            "scorecard.md": scorecard_page.scorecard_markdown(card) + "\n",
            "measures.json": as_text(told.record.measures),
            "pack.json": as_text(self.lane.candidate(told.values).documents()),
        }
        note = {NOTE: notes.of_trial(card, self.lane, told.values) + notes.files(files)}
        return Entry(f"{self._study.name}/{told.number}", {}, {}, note, files, told.record.at_ms)

    def trials(self, best: Trial | None) -> Trials:
        """All trials as arrays, for the figures of `closing`."""
        return trials_of(self._study.name, self._study.history, self._ledger, best)

    def figures(self, told: Trial) -> tuple[Figure, ...]:
        """A trial's candidate beside its authority, for `locked` to carry."""
        lane = self.lane
        return showing.figures(lane, lane.candidate(told.values), lane.seeds[0], self._ledger.ground.world)

    def closing(
        self,
        decision: Decision,
        lock: Lock,
        documents: Mapping[str, Any],
        trials: Trials,
        figures: tuple[Figure, ...],
    ) -> Entry:
        """The sweep's own run as it closes: the decision, the best trial's numbers, the lock, the study."""
        told = None if decision.best is None else self.trial(decision.best)
        files: dict[str, str | bytes] = {
            name: as_text(document) for name, document in {"lock.json": lock.document, **documents}.items()
        }
        history, moved = tuple(self._study.history), documents["sensitivity.json"]
        files["study.html"] = study_page.html(study_page.Closed(lock, history, self._ledger, trials, moved, figures))
        pictures = {f"study/{name}": png for name, png in pngs(figures).items()}
        tags = {
            "lanelock.decision": decision.outcome,
            "lanelock.verdict": decision.verdict,
            "lanelock.reason": decision.reason[:5000],
            "lanelock.lock": lock.lock_id,
            "lanelock.best_trial": "" if decision.best is None else str(decision.best.number),
            NOTE: notes.of_sweep(decision, lock, files, pictures),
        }
        files |= pictures
        if told is None:
            return Entry(self._study.name, {}, {}, tags, files, int(self._study.attributes["at_ms"]))
        return Entry(self._study.name, told.metrics, {}, tags, files, told.at_ms, told.inputs)

    def locked(self, told: Trial, lock: Lock, figures: tuple[Figure, ...]) -> Entry:
        """What is added to the trial that a lock holds: its scorecard as a page, and the page's figures."""
        entry = self.kept(told)
        page = {"scorecard.html": scorecard_page.html(lock_report(lock, self._ledger.ground.world, figures))}
        pictures = {f"figures/{name}": png for name, png in pngs(figures).items()}
        note = notes.of_locked(lock) + entry.tags[NOTE] + notes.files(page) + notes.shown(pictures)
        tags = {"lanelock.lock": lock.lock_id, NOTE: note}
        return Entry(entry.name, {}, {}, tags, {**page, **pictures}, entry.at_ms)

    @property
    def _source(self) -> dict[str, str]:
        return {"mlflow.source.name": f"lanelock sweep {self.lane.id}", "mlflow.source.type": "LOCAL"}

    def _metrics(self, told: Trial, overall: Scorecard) -> dict[str, float]:
        """What matters by its plain name, the worst over seeds by state, what differs between trials by seed."""
        lane = self.lane
        found: dict[str, float] = {}
        if told.objectives is not None:
            found |= {of.name: value for of, value in zip(lane.objectives, told.objectives, strict=True)}
        found.setdefault(comparison.WORST, overall.margin(lane.gates.bands[-1]))
        upstream = of_upstream(lane)
        found |= {name: value for name, value in overall.metrics.items() if name not in upstream}
        moved = by_seed(lane)
        for seed, card in self._ledger.cards(told).items():
            found |= {f"seed_{seed}/{name}": value for name, value in card.metrics.items() if name in moved}
        found |= {f"seconds/{part}": value for part, value in told.record.seconds.items()}
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def _inputs(self, told: Trial) -> tuple[Input, ...]:
        """The world of every seed that was run, with what is measured of it before the engine's first state."""
        lane, folder, found = self.lane, self._ledger.ground.world, list[Input]()
        upstream = {name for name, metric in lane.gates.metrics.items() if metric.state not in lane.engine.states}
        for seed, world in told.record.worlds.items():
            measured = {name: value for name, value in told.record.measures[seed].items() if name in upstream}
            if folder is None:
                drawn = {"seed": seed, "engine": lane.engine.name}
                found.append(Input(f"seed_{seed}/world", world, "drawn", f"seed {seed}", drawn, measured))
            else:
                found.append(Input("world", world, "imported", "world", {"uri": str(folder)}, measured))
        return tuple({one.name: one for one in found}.values())
