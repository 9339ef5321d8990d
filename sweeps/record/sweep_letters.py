"""The entries of a sweep in tracking: of its lane, of the sweep as it begins and closes, of every trial.

They are values only; `recorder` writes them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lanelock.scoring.figures.drawing import Figure, pngs
from lanelock.scoring.scorecard import Scorecard
from lanelock.sweeps.decision.decision import Decision, in_reserve, ranking
from lanelock.sweeps.decision.reserve import reserve_of
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.trial import Input, Trial
from lanelock.sweeps.pages import scorecard as scorecard_page
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.provenance import here, uncommitted
from lanelock.sweeps.record import notes, views
from lanelock.sweeps.record.letters import Entry, as_text
from lanelock.sweeps.record.notes import NOTE
from lanelock.sweeps.reports import scorecards as showing
from lanelock.sweeps.reports import study as study_page
from lanelock.sweeps.reports.preference import better
from lanelock.sweeps.reports.scorecards import lock_report
from lanelock.sweeps.search.samplers import sampler_name, sampler_seed
from lanelock.sweeps.search.study import Study
from lanelock.sweeps.sensitivity.sensitivity import by_seed, of_upstream
from lanelock.sweeps.sensitivity.trial_arrays import Trials, trials_of

STDERR = "stderr.txt"  # of a trial that failed: what its program said
_LARGEST_DIFF = 1_000_000  # characters; its digest is of the whole
_AT_ONCE = 256  # trials whose ranks are one letter


class Entries:
    """The entries of one sweep."""

    def __init__(self, study: Study, ledger: Ledger) -> None:
        self._study, self.ledger = study, ledger

    @property
    def lane(self) -> Lane:
        return self.ledger.ground.lane

    @property
    def history(self) -> Sequence[Trial]:
        return self._study.history

    @property
    def identity(self) -> str:
        """The study's id, which tells it from a study of the same name in another workspace."""
        return self._study.attributes.get("id") or f"{self._study.name}@{self._at_ms}"  # older sweeps have no id

    def shown(self, *, closed: bool = False) -> dict[str, str]:
        """Returns the tags of the lane's experiment; trials are ranked once the sweep has closed."""
        history, ledger = self._study.history, self.ledger
        reserve = reserve_of(history, ledger)
        reserved = reserve.value if any(in_reserve(trial, ledger, reserve) for trial in history) else None
        vetoes = sorted(ledger.vetoes(history))
        return notes.experiment_tags(ledger.ground, vetoes, self._at_ms, reserved=reserved, ranked=closed)

    def begun(self) -> Entry:
        """Returns the sweep's run as it begins."""
        lane = self.lane
        params = {
            "sampler": sampler_name(lane),
            "sampler_seed": str(sampler_seed(lane)),
            "batch": str(lane.document["batch"]),
            **{name: str(self._study.attributes[name]) for name in ("from",) if self._study.attributes.get(name)},
        }
        tags = {
            "lanelock.lane": lane.id,
            "lanelock.authority": lane.authority.digest,
            NOTE: f"**Running** · {lane.title}",
            **notes.source_tags(lane),
        }
        if (waiver := lane.document.get("waiver")) is not None:
            tags["lanelock.waiver"] = f"{waiver['who']}: {waiver['why']}"
        files: dict[str, str | bytes] = {
            "lane.json": as_text(lane.document),
            "provenance.json": as_text(here().document),
        }
        if changes := uncommitted():
            files["uncommitted.diff"] = changes[:_LARGEST_DIFF]
        return Entry(self._study.name, {}, params, tags, files, self._at_ms)

    def trial(self, trial: Trial, details: str = "") -> Entry:
        """Returns a trial: its verdict, metrics and knobs, its worlds, and `details` of its failure as a file."""
        lane, overall, vetoed = self.lane, self.ledger.overall(trial), self.ledger.vetoed(trial)
        behind = self.ledger.state(trial) == "behind"  # the seeds that it ran on are no verdict
        tags = {
            "lanelock.verdict": "none" if behind else str(overall.verdict),
            "lanelock.band": self.ledger.band(trial) or "below",
            "lanelock.vetoed": ",".join(vetoed) or "none",
            "lanelock.state": self.ledger.state(trial),
            "lanelock.seeds": ",".join(map(str, trial.record.measures)) or "none",
            "lanelock.pack": trial.record.pack,
            "lanelock.code": lane.engine.code_version,
            "lanelock.sweep": self._study.name,
            views.WHY_NOT: notes.why_not(overall, trial),
            "mlflow.runColor": views.colour(overall.verdict, bool(vetoed) or behind, lane, trial.number),
            NOTE: notes.of_trial(overall, lane, trial),
            **notes.source_tags(lane),
        }
        if ended := trial.record.failure or trial.record.stopped:
            tags["lanelock.ended"] = ended
        if trial.record.source:
            tags["lanelock.source"] = trial.record.source
        params = {name: notes.in_short(value) for name, value in trial.values.items()}
        name, metrics, at_ms = f"{self._study.name}/{trial.number}", self._metrics(trial, overall), trial.record.at_ms
        spent = sum(trial.record.seconds.values())
        files = {"provenance.json": as_text(self._provenance(trial)), **({STDERR: details} if details else {})}
        return Entry(name, metrics, params, tags, files, at_ms, self._inputs(trial), spent, trial.failed)

    def former(self, trial: Trial) -> Entry:
        """Returns a trial as earlier versions wrote it: with a tag for every digest, and without what they lacked."""
        entry = self.trial(trial)
        digests = {f"lanelock.policy.{name}": sha256 for name, sha256 in trial.record.policies.items()}
        digests |= {f"lanelock.world.{seed}": sha256 for seed, sha256 in trial.record.worlds.items()}
        tags = {name: tag for name, tag in entry.tags.items() if name != views.WHY_NOT}
        metrics = {name: value for name, value in entry.metrics.items() if not name.startswith(views.MARGINS)}
        return replace(entry, metrics=metrics, tags=tags | digests, files={})

    def ranks(self, best: int | None) -> Iterator[Entry]:
        """Yields the order of the complete trials, in parts: trial -> place, and what it lacks; the locked is first."""
        history = sorted(self._study.trials, key=lambda trial: trial.number)
        order = sorted(ranking(history, self.ledger), key=lambda trial: trial.number != best)  # stable
        first = next((trial for trial in order if trial.number == best), None)
        places = [row for row in enumerate(order, 1) if self.ledger.state(row[1]) == "complete"]
        at_ms = max((trial.record.at_ms for trial in history), default=self._at_ms)  # a later close has another time
        for part in (places[at : at + _AT_ONCE] for at in range(0, len(places), _AT_ONCE)):
            metrics = {str(trial.number): float(place) for place, trial in part}
            tags = {str(trial.number): self._lacks(trial, first) for _, trial in part}
            yield Entry(self._study.name, metrics, {}, tags, {}, at_ms)

    def _lacks(self, trial: Trial, first: Trial | None) -> str:
        """Returns what a ranked trial lacks: a gate, or else in what the locked trial is ahead of it."""
        lacks = notes.why_not(self.ledger.overall(trial), trial)
        if lacks != "none" or first is None or trial is first:
            return lacks
        ahead = next(better(first, trial, self.ledger), "equal, but earlier").rpartition("; ")[2]
        return f"behind the locked trial: {ahead}"

    def kept(self, trial: Trial, *, page: bool = False) -> Entry:
        """Returns what is added to a trial of the front: its files, and where asked for its scorecard as a page."""
        card = self.ledger.overall(trial)
        files = {
            "scorecard.json": as_text(card.as_document()),
            "scorecard.md": scorecard_page.scorecard_markdown(card) + "\n",
            "measures.json": as_text(trial.record.measures),
            "pack.json": as_text(self.lane.candidate(trial.values).documents()),
        }
        if page:
            report = showing.trial_report(self._study.name, trial, self.ledger, drawn=False)
            files = {"scorecard.html": scorecard_page.html(report), **files}
        note = {NOTE: notes.of_trial(card, self.lane, trial) + notes.files(files)}
        return Entry(f"{self._study.name}/{trial.number}", {}, {}, note, files, trial.record.at_ms)

    def trials(self, best: Trial | None) -> Trials:
        """Returns all trials as arrays, for the figures of `closing`."""
        return trials_of(self._study.name, self._study.history, self.ledger, best)

    def figures(self, trial: Trial) -> tuple[Figure, ...]:
        """Returns the figures of a trial's candidate beside its authority, for `locked`."""
        lane = self.lane
        return showing.figures(lane, lane.candidate(trial.values), lane.seeds[0], self.ledger.ground.world)

    def closing(
        self, decision: Decision, lock: Lock, documents: Mapping[str, Any], trials: Trials, figures: tuple[Figure, ...]
    ) -> Entry:
        """Returns the sweep's run as it closes: the decision, the best trial's numbers, the lock, the study."""
        files: dict[str, str | bytes] = {
            name: as_text(document) for name, document in {"lock.json": lock.document, **documents}.items()
        }
        history, moved = tuple(self._study.history), documents["sensitivity.json"]
        files["study.html"] = study_page.html(study_page.Closed(lock, history, self.ledger, trials, moved, figures))
        pictures = {f"study/{name}": png for name, png in pngs(figures).items()}
        compared = dict(self._compared(decision))
        closed, links = self.closed(lock), {what: name for what, (name, _) in compared.items()}
        note = {NOTE: notes.of_sweep(decision, lock, files, pictures, links)}
        return replace(closed, tags={**closed.tags, **note}, files={**files, **dict(compared.values()), **pictures})

    def _compared(self, decision: Decision) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yields what the best trial is compared with, and the name and content of the page that does."""
        best, start = decision.best, dict(self.lane.space.start)
        if best is None or not best.record.measures:
            return
        second = None if decision.runner_up is None else decision.runner_up.trial
        for trial in self._study.history:
            if trial.number == best.number or not trial.record.measures:
                continue
            if dict(trial.values) == start:
                what = f"the start, trial {trial.number}"
                yield what, ("compare/start.html", showing.trials_compared(self._study.name, trial, best, self.ledger))
            if trial.number == second:
                page = showing.trials_compared(self._study.name, trial, best, self.ledger)
                yield f"the runner-up, trial {trial.number}", ("compare/runner_up.html", page)

    def closed(self, lock: Lock) -> Entry:
        """Returns what `closing` says of the decision and the best trial; the note and the files are left out."""
        tags = {
            **notes.decision_tags(lock.decision, lock.verdict, lock.because),
            "lanelock.lock": lock.lock_id,
            **({} if lock.profile is None else {"lanelock.profile": lock.profile}),
            "lanelock.best_trial": "" if lock.trial is None else str(lock.trial),
        }
        best = next((self.trial(trial) for trial in self._study.trials if trial.number == lock.trial), None)
        if best is None:
            return Entry(self._study.name, {}, {}, tags, {}, self._at_ms)
        metrics = {name: value for name, value in best.metrics.items() if not name.startswith(views.MARGINS)}
        return Entry(self._study.name, metrics, {}, tags, {}, best.at_ms, best.inputs)

    def locked(self, trial: Trial, lock: Lock, figures: tuple[Figure, ...]) -> Entry:
        """Returns what is added to the locked trial: its scorecard as a page, and the page's figures."""
        entry = self.kept(trial)
        page = {"scorecard.html": scorecard_page.html(lock_report(lock, self.ledger.ground.world, figures))}
        pictures = {f"figures/{name}": png for name, png in pngs(figures).items()}
        note = notes.of_locked(lock) + entry.tags[NOTE] + notes.files(page) + notes.shown(pictures)
        star = "★ locked" if lock.decision == "GO" else "☆ not accepted"
        tags = {"lanelock.lock": lock.lock_id, views.LOCKED: star, NOTE: note}
        return Entry(entry.name, {}, {}, tags, {**page, **pictures}, entry.at_ms)

    @property
    def _at_ms(self) -> int:
        return int(self._study.attributes["at_ms"])

    def _metrics(self, trial: Trial, overall: Scorecard) -> dict[str, float]:
        """Returns objectives and worst margin, the worst metrics over seeds, and by seed those the lane can move."""
        lane, upstream, moved = self.lane, of_upstream(self.lane), by_seed(self.lane)
        values = self.ledger.named(trial)
        values.setdefault(views.WORST, overall.margin(lane.gates.bands[-1]))
        values |= {name: value for name, value in overall.metrics.items() if name not in upstream}
        for seed, card in self.ledger.cards(trial).items():
            values |= {f"seed_{seed}/{name}": value for name, value in card.metrics.items() if name in moved}
        margins = {row.id: row.margins.get(lane.gates.bands[-1]) for row in overall.gates}
        known = ((gate.id, margins.get(gate.id)) for gate in views.moved_gates(lane))
        values |= {views.MARGINS + name: margin for name, margin in known if margin is not None}
        values |= {f"seconds/{part}": value for part, value in trial.record.seconds.items()}
        return {name: value for name, value in values.items() if math.isfinite(value)}

    def _provenance(self, trial: Trial) -> dict[str, Any]:
        record = trial.record
        digests = {"pack": record.pack, "policies": dict(record.policies)}
        worlds = {str(seed): world for seed, world in record.worlds.items()}
        return {**digests, "worlds": worlds, "code": self.lane.engine.code_version, "transcript": record.chain}

    def _inputs(self, trial: Trial) -> tuple[Input, ...]:
        """Returns the world of every seed, with the metrics of it that come before the engine's first state."""
        lane, folder = self.lane, self.ledger.ground.world
        inputs: dict[str, Input] = {}  # by name, since all seeds share an imported world
        upstream = {name for name, metric in lane.gates.metrics.items() if metric.state not in lane.engine.states}
        for seed, world in trial.record.worlds.items():
            measured = {name: value for name, value in trial.record.measures[seed].items() if name in upstream}
            if folder is None:
                drawn = {"seed": seed, "engine": lane.engine.name}
                data = Input(f"seed_{seed}/world", world, "drawn", f"seed {seed}", drawn, measured)
            else:
                data = Input("world", world, "imported", "world", {"uri": str(folder)}, measured)
            inputs[data.name] = data
        return tuple(inputs.values())
