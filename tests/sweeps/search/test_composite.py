"""A lane's composite gives the numbers of its scorecards, for any metrics."""

import math
from functools import cache

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanelock.scoring.feasibility import GateReach
from lanelock.scoring.gates import Severity, ends
from lanelock.scoring.scorecard import MISSING, score
from lanelock.sweeps.lanes.lane import load_lane
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.search.composite import LaneComposite

RESERVE = 0.05


@cache
def ground_of(name, unreachable=""):
    """A lane with an authority near its thresholds; nothing runs."""
    lane = load_lane(name)
    by_end = sorted(
        lane.gates.gates, key=lambda gate: bool(gate.thresholds)
    )  # of a metric's gates, one with an end wins
    metrics = {gate.metric: _near(gate) for gate in by_end} | {row.metric: 0.1 for row in lane.objectives}
    rows = [
        GateReach(gate.id, gate.metric, gate.comparison, {}, None, None, dict.fromkeys(lane.gates.bands, False), "", "")
        for gate in lane.gates.gates
        if gate.id == unreachable
    ]
    return Ground(lane, None, dict.fromkeys(lane.seeds, metrics), tuple(rows))


def _near(gate):
    return float(np.mean(ends([0.5, *gate.thresholds.values()][-1])))


def composite_of(ground, measures, **kwargs):
    composite = LaneComposite(ground, RESERVE, **kwargs)
    objectives, violation = composite.score(composite.of_measures(measures)[None, None])
    return objectives[0, 0], violation[0, 0]


def cards_of(ground, measures):
    gates = ground.lane.gates
    return [score(row, gates, seed=seed, authority=ground.authority[seed]) for seed, row in measures.items()]


def expected(ground, measures):
    """Returns the margin, the second objective and the violation, from scorecards."""
    cards = cards_of(ground, measures)
    first, *others = ground.lane.objectives
    margins = [card.margin(first.band, ground.unreachable[first.band]) for card in cards]
    margin = min(-MISSING if math.isinf(margin) else margin for margin in margins)
    by_gate = [card.violations() for card in cards]
    violation = sum(max(0.0, *(row[name] for row in by_gate)) for name in by_gate[0])
    for gates in zip(
        *([row for row in card.gates if row.severity is Severity.PRECONDITION] for card in cards), strict=True
    ):
        lowest = [-MISSING if not row.known else next(iter(row.margins.values())) for row in gates]
        violation += max(0.0, -min(lowest))
    means = [np.mean([card.metrics[row.metric] for card in cards]) * (-1 if row.maximize else 1) for row in others]
    return margin, means, violation


@st.composite
def measures_near(draw, ground):
    """Draws metrics about the thresholds on every seed, some exactly the authority's."""
    factor = st.one_of(st.just(1.0), st.floats(0.2, 2.0))
    return {
        seed: {name: value * draw(factor) for name, value in metrics.items()}
        for seed, metrics in ground.authority.items()
    }


@pytest.mark.parametrize(
    "name, unreachable", [("p3_wide", ""), ("p3_wide", "s4_tail"), ("joint", ""), ("p1", "s1_gap")]
)
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_it_equals_the_scorecards(name, unreachable, data):
    ground = ground_of(name, unreachable)
    measures = data.draw(measures_near(ground))
    margin, others, violation = expected(ground, measures)
    front, vetoes = composite_of(ground, measures, front=True)
    assert front == pytest.approx([-margin, *others], rel=1e-12) and vetoes == pytest.approx(violation, rel=1e-12)
    aimed, lacking = composite_of(ground, measures)
    if others:
        assert aimed == pytest.approx(others[:1], rel=1e-12)
        assert lacking == pytest.approx(violation + max(0.0, RESERVE - margin), rel=1e-12)


def test_the_reserve_is_met_exactly_where_the_margin_is():
    """The optimum lies on the edge: no rounding may move it."""
    ground = ground_of("p3_wide")
    measures = {seed: dict(row) for seed, row in ground.authority.items()}
    margin, _, violation = expected(ground, measures)
    assert LaneComposite(ground, margin).score(LaneComposite(ground, margin).of_measures(measures))[1] == violation
    more = LaneComposite(ground, math.nextafter(margin, 1))
    assert violation == 0 and 0 < more.score(more.of_measures(measures))[1] < 1e-15


def test_a_missing_metric_misses_by_ten_scales():
    ground = ground_of("p3_wide")
    measures = {seed: dict(row) for seed, row in ground.authority.items()}
    del measures[ground.lane.seeds[0]]["s4/tail_share"]
    _, before = composite_of(ground, {seed: dict(row) for seed, row in ground.authority.items()})
    assert composite_of(ground, measures)[1] > before + MISSING - 1


def finished(measures):
    trial = optuna.trial.create_trial(value=0.0)
    document = {"measures": measures, "worlds": {}, "pack": "", "policies": {}, "seconds": {}, "at_ms": 0}
    trial.set_user_attr("lanelock", document)
    return trial


def test_outputs_are_read_from_the_record_by_metric_and_seed():
    ground = ground_of("p3_wide")
    composite = LaneComposite(ground, RESERVE)
    first, second, *_ = ground.lane.seeds
    outputs = composite.outputs(finished({str(second): ground.authority[second]}))
    for group in composite.groups:
        assert np.isnan(outputs[list(group)]).tolist() == [seed != second for seed in ground.lane.seeds]
    assert composite.outputs(finished({})) is None and composite.outputs(optuna.trial.create_trial(value=0.0)) is None
    partial = {str(first): {"s4/tail_share": 0.1}}
    assert composite.outputs(finished(partial)) is None  # ran, and could not be graded
