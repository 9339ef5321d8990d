"""A study as a page: how it closed, what its trials reached, what ended them, which knob moved what, and the bounds.

From the sweep's lock and its durable study alone: no trial is run again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lanelock.policies import PolicyError
from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.figures.drawing import Figure
from lanelock.scoring.figures.sides import asked
from lanelock.scoring.gates import Severity
from lanelock.sweeps.lanes.decision import Ledger, best_found, ranking
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.sensitivity import sensitivity
from lanelock.sweeps.lanes.study import Studies
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.lanes.trial import Trial
from lanelock.sweeps.lanes.trial_arrays import Trials, trials_of
from lanelock.sweeps.pages.page import CARD_STYLE as STYLE
from lanelock.sweeps.pages.page import (
    FIGURE_STYLE,
    Block,
    Heading,
    Markup,
    Paragraph,
    Points,
    as_html,
    as_markdown,
    banner,
    drawn,
    facts,
    table,
)
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.reports.study_figures import sensitivity_figures, trial_figures
from lanelock.sweeps.workspace import Workspace

_SHOWN = 12  # candidates in the table


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed sweep as its records hold it."""

    lock: Lock
    history: Sequence[Trial]
    ledger: Ledger
    trials: Trials
    sensitivity: Mapping[str, Any]
    figures: tuple[Figure, ...]

    @property
    def lane(self) -> Lane:
        return self.ledger.ground.lane


def closed(sweep: str, workspace: Workspace) -> Closed:
    """A sweep whose lock and study are in the workspace. Raises PolicyError where they are not."""
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
    found = sensitivity(lock.sweep, history, ledger)
    figures = (*trial_figures(trials), *sensitivity_figures(trials, found))
    return Closed(lock, history, ledger, trials, found, figures)


def html(of: Closed) -> str:
    """The page as one file that needs nothing beside it."""
    return as_html(f"sweep {of.lock.sweep}: {of.lock.decision}", _blocks(of), STYLE + FIGURE_STYLE)


def markdown(of: Closed) -> str:
    """The same in words and tables."""
    return as_markdown(_blocks(of))


def _blocks(of: Closed) -> Iterator[Block]:
    yield _banner(of)
    yield _facts(of)
    yield Paragraph(str(of.lane.document["why"]))
    yield Heading(2, "What its trials reached")
    yield drawn(of.figures)
    yield Heading(2, "The best that held")
    yield from _best(of)
    yield Heading(2, "What ended trials")
    yield from _vetoes(of)
    yield Heading(2, "What no trial can pass")
    yield from _bounds(of)
    yield Heading(2, "What it may touch")
    yield _knobs(of.lane)
    yield Heading(2, "Find it again")
    yield Points((f"`lanelock report {of.lock.sweep} --html FILE`", f"`lanelock verify {of.lock.short_id}`",
                  f"`lanelock report {of.lock.short_id} --html FILE`"))  # fmt: skip


def _banner(of: Closed) -> Markup:
    lock = of.lock
    invalid = lock.verdict == str(of.lane.gates.invalid)
    return banner(
        lock.verdict,
        "good" if lock.decision == "GO" else "unsure" if invalid else "bad",
        f"sweep {lock.sweep} of lane {of.lane.id}: {of.lane.title}",
        f"{lock.decision}: {lock.reason}",
        f"for the {lock.candidate} candidate",
    )


def _facts(of: Closed) -> Markup:
    lock, vetoes = of.lock, sum(map(bool, map(of.ledger.vetoed, of.history)))
    return facts({
        "trials": f"{len(of.history)}, of which vetoes ended {vetoes}",
        "seeds": ", ".join(map(str, of.lane.seeds)),
        "locked": "none" if lock.trial is None else f"trial {lock.trial}",
        "knobs": ", ".join(f"{name} {short(value)}" for name, value in lock.knobs.items()) or "none",
        "lock": lock.lock_id,
        "authority": f"{lock.authority.name} {lock.authority.digest}",
    })  # fmt: skip


def _best(of: Closed) -> Iterator[Block]:
    """The trials without a veto, by the first objective, and what each was made of."""
    trials, lane = of.trials, of.lane
    places = {trial.number: row for row, trial in enumerate(of.history)}
    rows = [places[trial.number] for trial in ranking(of.history, of.ledger) if trials.valid[places[trial.number]]]
    if not rows:
        yield Paragraph("None: every trial was vetoed or could not be graded.")
        return
    shown = rows[:_SHOWN]
    yield Paragraph(
        f"Of {len(rows)} trials without a veto, the first in the order by which the sweep takes one: {_order(trials)}. "
        "Gates are the worst over seeds."
    )
    head = ("trial", "outcome", *(of.name for of in trials.objectives), *(strip.gate.id for strip in trials.strips),
            *(knob.name for knob in lane.knobs))  # fmt: skip
    yield table(head, (tuple(_candidate(of, row)) for row in shown))


def _order(trials: Trials) -> str:
    """How the decision ranks trials, in words."""
    first, *others = trials.objectives
    if not others:
        return f"the highest band, then {first.name}"
    rest = ", then ".join(f"the {'greatest' if one.maximize else 'least'} {one.name}" for one in (*others, first))
    return f"the highest band, then {first.name} as far as {trials.reserve:g}, then {rest}"


def _candidate(of: Closed, row: int) -> Iterator[str]:
    trials, trial = of.trials, of.history[row]
    yield f"{trial.number}{' (locked)' if row == trials.chosen else ''}"
    yield trials.outcome[row]
    yield from (f"{value:.4g}" for value in trials.scores[row])
    yield from (f"{strip.values[row]:.4g}" for strip in trials.strips)
    yield from (short(trial.values[knob.name]) for knob in of.lane.knobs)


def _vetoes(of: Closed) -> Iterator[Block]:
    counts = of.ledger.vetoes(of.history)
    rows = [gate for gate in of.lane.gates.gates if gate.severity.ends_trial]
    if not counts:
        yield Paragraph(f"Nothing: no trial failed one of the lane's {len(rows)} vetoes and rails.")
        return
    rows = sorted((gate for gate in rows if counts[gate.id]), key=lambda gate: -counts[gate.id])
    yield table(
        ("veto", "kind", "trials ended", "asks", "why"),
        ((gate.id, str(gate.severity), str(counts[gate.id]), asked(gate.comparison, gate.thresholds), gate.why)
         for gate in rows),
    )  # fmt: skip


def _bounds(of: Closed) -> Iterator[Block]:
    rows = [row for row in of.ledger.ground.reach if row.bound is not None]
    rows = [row for row in rows if _severity(of.lane, row.gate) is Severity.GATE]
    if not rows:
        yield Paragraph("No bound was proved, or the sweep is older than the keeping of them.")
        return
    yield Paragraph("Proved before the first trial, from what the lane leaves frozen and the box of its knobs.")
    best = best_found(of.lock.card(of.lane), of.history, of.ledger)
    yield table(
        ("gate", "asks", "best possible", "best found", "gap", "out of reach", "proof", "movable by"),
        (
            (row.gate, asked(row.comparison, row.thresholds), short(row.bound), short(best.get(row.gate)),
             short(abs(best[row.gate] - row.bound)) if row.bound is not None and row.gate in best else "–",
             ", ".join(band for band, can in row.reachable.items() if not can) or "–", row.proof, row.movable_by)
            for row in rows
        ),
    )  # fmt: skip


def _knobs(lane: Lane) -> Block:
    return table(
        ("knob", "field", "from", "to", "step"),
        (
            (knob.name, knob.at, *((knob.range_text(), "", "") if knob.choices else
             (short(knob.low), short(knob.high), "log" if knob.log else short(knob.step))))
            for knob in lane.knobs
        ),
    )  # fmt: skip


def _severity(lane: Lane, gate: str) -> Severity:
    return next(row.severity for row in lane.gates.gates if row.id == gate)
