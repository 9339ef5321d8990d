"""A study as a page: its decision, its trials' results, the vetoes, each knob's effects, and the bounds.

Made from the sweep's lock and its durable study alone: no trial is run again.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lanelock.policies import PolicyError
from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.sides import asked
from lanelock.scoring.gates import Severity
from lanelock.sweeps.decision.decision import best_found, ranking
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.ledger import Ledger
from lanelock.sweeps.lanes.limits import limits_lines
from lanelock.sweeps.lanes.survey import Ground, objective_row
from lanelock.sweeps.lanes.trial import Trial, engine_runs
from lanelock.sweeps.pages import page
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.reports.study_figures import sensitivity_figures, trial_figures
from lanelock.sweeps.search.study import Studies
from lanelock.sweeps.sensitivity.sensitivity import sensitivity
from lanelock.sweeps.sensitivity.trial_arrays import Trials, trials_of
from lanelock.sweeps.trail import Note, notes, trail
from lanelock.sweeps.workspace import Workspace

_SHOWN = 12  # candidates in the table


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed sweep, as its lock and its study hold it."""

    lock: Lock
    history: Sequence[Trial]
    ledger: Ledger
    trials: Trials
    sensitivity: Mapping[str, Any]
    figures: tuple[Figure, ...]
    notes: tuple[Note, ...] = ()

    @property
    def lane(self) -> Lane:
        return self.ledger.ground.lane


def closed(sweep: str, workspace: Workspace) -> Closed:
    """Returns a sweep whose lock and study are in the workspace. Raises PolicyError where one is missing."""
    lock = Lock.read(find_lock(sweep, workspace))
    lane = lock.lane(sweep)
    studies = Studies(workspace.study_storage, reading=True)
    if lock.sweep not in studies.names():
        raise PolicyError(f"{sweep}: the lock is of sweep {lock.sweep}, whose study is not in {workspace.root}")
    study = studies.open(lock.sweep, lane)
    reach = tuple(GateReach(**row) for row in study.attributes.get("reach", ()))
    history, ledger = study.trials, Ledger(Ground(lane, None, lock.authority_metrics, reach))
    best = next((trial for trial in history if trial.number == lock.trial), None)
    trials = trials_of(lock.sweep, history, ledger, best)
    moved = sensitivity(lock.sweep, history, ledger)
    figures = (*trial_figures(trials), *sensitivity_figures(trials, moved))
    found = notes(workspace, lambda on: on is not None and on.name in (lock.sweep, lock.lock_id))
    return Closed(lock, history, ledger, trials, moved, figures, found)


def html(of: Closed) -> str:
    return page.as_html(f"sweep {of.lock.sweep}: {of.lock.decision}", blocks(of), page.STYLE)


def markdown(of: Closed) -> str:
    return page.as_markdown(blocks(of))


def blocks(of: Closed) -> Iterator[page.Block]:
    yield _banner(of)
    yield _facts(of)
    yield page.Paragraph(str(of.lane.document["why"]))
    yield page.Heading(2, "What its trials reached")
    yield page.drawn(of.figures)
    yield page.Heading(2, "The best trials without a veto")
    yield from _best(of)
    yield page.Heading(2, "Vetoes")
    yield vetoes_table(of.history, of.ledger)
    if (failures := failures_table(of.history)) is not None:
        yield page.Heading(2, "Failed trials")
        yield failures
    yield page.Heading(2, "Proven bounds")
    yield from _bounds(of)
    yield page.Heading(2, "Knobs")
    yield _knobs(of.lane)
    yield from trail(of.notes)
    yield page.Heading(2, "Reproduce this page")
    yield page.Points((f"`lanelock report {of.lock.sweep} --html FILE`", f"`lanelock verify {of.lock.short_id}`",
                  f"`lanelock report {of.lock.short_id} --html FILE`"))  # fmt: skip


def _banner(of: Closed) -> page.Block:
    lock = of.lock
    invalid = lock.verdict == str(of.lane.gates.invalid)
    return page.banner(
        lock.verdict,
        "good" if lock.decision == "GO" else "unsure" if invalid else "bad",
        f"sweep {lock.sweep} of lane {of.lane.id}: {of.lane.title}",
        lock.decision if lock.trial is None else f"{lock.decision}: trial {lock.trial}",
        f"for the {lock.candidate} candidate: {lock.because}",
    )


def _facts(of: Closed) -> page.Block:
    lock = of.lock
    count = Counter(map(of.ledger.state, of.history))
    ended = ", ".join(f"{count[state]} {state}" for state in ("vetoed", "behind", "failed") if count[state])
    return page.facts({
        "trials": f"{len(of.history)} ({ended or 'all complete'}), in {engine_runs(of.history)} engine runs",
        "seeds": ", ".join(map(str, of.lane.seeds)),
        **limits_fact(of.lane, of.history),
        "locked": "none" if lock.trial is None else f"trial {lock.trial}",
        "knobs": ", ".join(f"{name} {short(value)}" for name, value in lock.knobs.items()) or "none",
        "lock": lock.lock_id,
        "authority": f"{lock.authority.name} {lock.authority.digest}",
    })  # fmt: skip


def limits_fact(lane: Lane, history: Sequence[Trial]) -> dict[str, str]:
    """Returns the limits of a lane's runs with what was used of them, as a fact of a page; nothing if it has none."""
    text = "; ".join(limits_lines(lane, history))
    return {"limits": text} if text else {}


def _best(of: Closed) -> Iterator[page.Block]:
    """Yields a table of the best trials without a veto: outcome, objectives, gates and knobs."""
    trials, lane = of.trials, of.lane
    places = {trial.number: row for row, trial in enumerate(of.history)}
    ranked = (places[trial.number] for trial in ranking(of.history, of.ledger))
    rows = [row for row in ranked if trials.valid[row]]
    if not rows:
        yield page.Paragraph("None: every trial was vetoed or could not be graded.")
        return
    yield page.Paragraph(
        f"The first of {len(rows)} trials without a veto, in the order of the decision: {order_text(trials)}. "
        "Gates are the worst over seeds."
    )
    gates = [strip.gate.id for strip in trials.strips]
    names = (*(row.name for row in trials.objectives), *gates, *(knob.name for knob in lane.knobs))
    yield page.table(("trial", "outcome", *names), (tuple(_candidate(of, row)) for row in rows[:_SHOWN]))
    yield from _terms(of, [of.history[row] for row in rows[:_SHOWN]])


def _terms(of: Closed, trials: Sequence[Trial]) -> Iterator[page.Block]:
    """Yields the terms of each objective that is an expression, for the same trials."""
    for objective in (row for row in of.lane.objectives if row.expression is not None):
        found = [of.ledger.terms(trial)[objective.name] for trial in trials]
        yield page.Paragraph(f"What {objective.name} is made of: {objective.expression}, each term's mean over seeds.")
        rows = (
            (str(trial.number), *(f"{value:.4g}" for value in terms.values()), f"{sum(terms.values()):.4g}")
            for trial, terms in zip(trials, found, strict=True)
        )
        yield page.table(("trial", *found[0], objective.name), rows)


def order_text(trials: Trials) -> str:
    """Returns the decision's order in words."""
    first, *others = trials.objectives
    if not others:
        return f"the highest band, then {first.name}"
    rest = ", then ".join(f"the {'greatest' if of.maximize else 'least'} {of.name}" for of in (*others, first))
    return f"the highest band, then {first.name} up to {trials.reserve:g}, then {rest}"


def _candidate(of: Closed, row: int) -> Iterator[str]:
    trials, trial = of.trials, of.history[row]
    yield f"{trial.number}{' (locked)' if row == trials.chosen else ''}"
    yield trials.outcome[row]
    yield from (f"{value:.4g}" for value in trials.scores[row])
    yield from (f"{strip.values[row]:.4g}" for strip in trials.strips)
    yield from (short(trial.values[knob.name]) for knob in of.lane.knobs)


def vetoes_table(history: Sequence[Trial], ledger: Ledger) -> page.Block:
    """Returns how many trials each veto and rail ended, the last of them, and what it asks."""
    lane, last = ledger.ground.lane, dict[str, int]()
    for trial in history:
        last |= dict.fromkeys(ledger.vetoed(trial), trial.number)
    rows = [gate for gate in lane.gates.gates if gate.severity.ends_trial]
    if not last:
        return page.Paragraph(f"No trial failed any of the lane's {len(rows)} vetoes and rails.")
    counts = ledger.vetoes(history)
    rows = sorted((gate for gate in rows if counts[gate.id]), key=lambda gate: -counts[gate.id])
    cells = (
        (gate.id, str(gate.severity), str(counts[gate.id]), str(last[gate.id]),
         asked(gate.comparison, gate.thresholds), gate.why)
        for gate in rows
    )  # fmt: skip
    return page.table(("veto", "kind", "trials ended", "the last", "asks", "why"), cells)


def failures_table(history: Sequence[Trial]) -> page.Block | None:
    """Returns the reasons for which trials failed, the most frequent first, each with its last trials; None without."""
    by_reason = defaultdict[str, list[int]](list)
    for trial in history:
        if trial.failed:
            by_reason[trial.record.failure].append(trial.number)
    rows = sorted(by_reason.items(), key=lambda row: -len(row[1]))[:_SHOWN]
    cells = ((reason, str(len(numbers)), ", ".join(map(str, numbers[:-9:-1]))) for reason, numbers in rows)
    return page.table(("reason", "trials", "the last"), cells) if rows else None


def bounds_table(ledger: Ledger, best: Mapping[str, float], chosen: Trial | None) -> page.Block | None:
    """Returns each proven bound beside what was found; None where no bound was proved.

    `best`: gate -> the best that any trial reached. `chosen`: the trial whose objectives stand beside their bounds.
    """
    graded = {gate.id for gate in ledger.ground.lane.gates.gates if gate.severity is Severity.GATE}
    named = {} if chosen is None else {objective_row(name): at for name, at in ledger.named(chosen).items()}
    rows = [row for row in ledger.ground.reach if row.bound is not None and row.gate in graded | named.keys()]
    head = ("gate", "asks", "best possible", "best found", "gap", "out of reach", "proof", "movable by")
    return page.table(head, (tuple(_bound(row, {**best, **named}.get(row.gate))) for row in rows)) if rows else None


def _bound(row: GateReach, found: float | None) -> Iterator[str]:
    yield row.gate
    yield asked(row.comparison, row.thresholds) if row.thresholds else "–"
    yield short(row.bound)
    yield short(found)
    yield "–" if found is None or row.bound is None else short(abs(found - row.bound))
    yield ", ".join(band for band, can in row.reachable.items() if not can) or "–"
    yield row.proof
    yield row.movable_by


def _bounds(of: Closed) -> Iterator[page.Block]:
    chosen = next((trial for trial in of.history if trial.number == of.lock.trial), None)
    rows = bounds_table(of.ledger, best_found(of.lock.card(of.lane), of.history, of.ledger), chosen)
    if rows is None:
        yield page.Paragraph("No bound was proved, or an older version made this sweep and did not store bounds.")
        return
    yield page.Paragraph("Proved before the first trial, from what the lane leaves frozen and the ranges of its knobs.")
    yield rows


def _knobs(lane: Lane) -> page.Block:
    rows = []
    for knob in lane.knobs:
        limits = short(knob.low), short(knob.high), "log" if knob.log else short(knob.step)
        rows.append((knob.name, knob.fields_text, *((knob.range_text(), "", "") if knob.choices else limits)))
    return page.table(("knob", "field", "from", "to", "step"), rows)
