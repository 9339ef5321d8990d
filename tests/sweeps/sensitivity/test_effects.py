"""Effects against functions whose Sobol indices are known; functions drawn from a posterior against its formulas."""

import numpy as np
import pytest
from scipy.stats import qmc, sobol_indices, uniform

from lanelock.sweeps.lanes.knob import Knob, When
from lanelock.sweeps.search.gaussian import Process, curve
from lanelock.sweeps.sensitivity.effects import PAIRS, ROWS, TRUSTED, Box, Surrogate, effects
from lanelock.sweeps.sensitivity.posterior import Draws

BOX = [Knob(name, "p#/f", 0.0, 1.0) for name in ("a", "b", "c", "idle")]


def effects_of(knobs, function, count, seed=1):
    """The effects that a design of `count` candidates shows of a function of values by name."""
    units = qmc.Sobol(len(knobs), rng=seed).random(count)
    trials = [{knob.name: knob.drawn(unit) for knob, unit in zip(knobs, row, strict=True)} for row in units]
    return effects(knobs, {knob.name: knob.extent[0] for knob in knobs}, trials, [function(trial) for trial in trials])


def holds(of, share):
    return of["low"] <= share <= of["high"]


def line_and_product(of):
    a, b, c = (of[name] - 0.5 for name in "abc")
    return 4 * a + 2 * b + 6 * a * c


def ishigami(of):
    a, b, c = (np.pi * (2 * of[name] - 1) for name in "abc")
    return np.sin(a) + 7 * np.sin(b) ** 2 + 0.1 * c**4 * np.sin(a)


LINE_AND_PRODUCT = {"a": (16 / 23, 19 / 23), "b": (4 / 23, 4 / 23), "c": (0, 3 / 23), "idle": (0, 0)}
ISHIGAMI = {"a": (0.3139, 0.5576), "b": (0.4424, 0.4424), "c": (0, 0.2437)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("function", "known", "together", "count", "widest"),
    [(line_and_product, LINE_AND_PRODUCT, 3 / 23, 32, 0.05), (ishigami, ISHIGAMI, 0.2437, 128, 0.6)],
)
def test_intervals_contain_the_known_indices(function, known, together, count, widest, seed):
    document = effects_of(BOX[: len(known)], function, count, seed)
    assert document["trusted"] and set(document["effects"]) == set(known)
    for name, (alone, total) in known.items():
        of = document["effects"][name]
        assert holds(of["alone"], alone) and holds(of["total"], total), name
        assert max(of[kind]["high"] - of[kind]["low"] for kind in of) < widest
    first, *others = document["pairs"]
    assert set(first["knobs"]) == {"a", "c"} and holds(first["together"], together)
    assert len(others) == PAIRS - 1 and all(other["together"]["low"] == 0 for other in others)


def test_a_knob_that_does_nothing_may_weigh_nothing():
    for of in effects_of(BOX, line_and_product, 16)["effects"]["idle"].values():
        assert of["low"] == 0 and of["high"] < 0.2


MIXED = [
    Knob("kind", "p#/f", choices=("flat", "steep", "deep")),
    Knob("scale", "p#/f", 0.01, 100.0, log=True),
    Knob("count", "p#/f", 1, 9, integral=True),
]


def mixed(of):
    slope = {"flat": 0.0, "steep": 2.0, "deep": 1.5}[of["kind"]]
    return slope * np.log10(of["scale"]) + (of["count"] - 5) ** 2 / 8 + 2.0 * (of["kind"] == "deep")


def test_a_knob_with_choices_has_one_index_and_a_log_scale_counts_by_ratio():
    def at(units):
        rows = ({knob.name: knob.drawn(unit) for knob, unit in zip(MIXED, row, strict=True)} for row in units.T)
        return np.array([mixed(row) for row in rows])

    known = sobol_indices(func=at, n=2**12, dists=[uniform()] * 3, rng=np.random.default_rng(3))
    document = effects_of(MIXED, mixed, 64)
    for place, knob in enumerate(MIXED):
        of = document["effects"][knob.name]
        for kind, index in (("alone", known.first_order), ("total", known.total_order)):
            assert of[kind]["share"] == pytest.approx(index[place], abs=0.05)
            assert of[kind]["low"] - 0.02 <= index[place] <= of[kind]["high"] + 0.02, "0.02: SciPy's own error"
    curve_of = document["curves"]
    assert [point["at"] for point in curve_of["kind"]] == ["flat", "steep", "deep"]
    assert [point["at"] for point in curve_of["count"]] == list(range(1, 10))
    for point in curve_of["count"]:
        assert point["low"] <= point["mean"] <= point["high"]
        assert point["mean"] == pytest.approx((point["at"] - 5) ** 2 / 8 + 2 / 3, abs=0.2)


def test_no_value_stands_twice_in_a_curve():
    few = Knob("few", "p#/f", 1, 4, log=True, integral=True)
    document = effects_of([few, BOX[0]], lambda of: np.log(of["few"]) + of["a"], 16)
    assert [point["at"] for point in document["curves"]["few"]] == [1, 2, 3, 4]
    constant = effects_of([Knob("only", "p#/f", choices=("this",)), BOX[0]], lambda of: of["a"], 16)
    assert constant["effects"]["only"]["total"]["share"] == 0
    assert constant["effects"]["a"]["alone"]["share"] == pytest.approx(1, abs=0.01)


def test_an_inactive_knob_does_nothing():
    knobs = [
        Knob("law", "p#/f", choices=("plain", "deep")),
        Knob("depth", "p#/f", 0.0, 1.0, when=When("law", ("deep",))),
    ]
    box = Box.of(knobs, {"law": "plain", "depth": 0.3})
    places = np.array([[0.0, 0.9], [0.0, 0.1], [1.0, 0.9]])
    assert box.features(places).tolist() == [[0.0, 0.3], [0.0, 0.3], [1.0, 0.9]]
    child = Knob("edge", "p#/f", 0.0, 1.0, when=When("mode", (2,)))
    chain = [*knobs[:1], Knob("mode", "p#/f", choices=(1, 2), when=When("law", ("deep",))), child]
    box = Box.of(chain, {"law": "plain", "mode": 2, "edge": 0.5})
    assert box.features(np.array([[0.0, 0.0, 0.9], [1.0, 0.0, 0.9], [1.0, 1.0, 0.9]])).tolist() == [
        [0.0, 1.0, 0.5], [1.0, 0.0, 0.5], [1.0, 1.0, 0.9],
    ]  # fmt: skip
    alone = Box.of([child], {"edge": 0.5})
    assert alone.features(np.array([[0.9]])).tolist() == [[0.9]], "a condition on a knob outside the box holds"


def test_noise_is_not_to_be_trusted_and_may_be_anything():
    noise = iter(np.random.default_rng(5).standard_normal(32))
    document = effects_of(BOX, lambda of: float(next(noise)), 32)
    assert not document["trusted"] and document["error"]["r2"] < TRUSTED
    for of in document["effects"].values():
        assert of["total"]["low"] == 0 and of["total"]["high"] > 0.5


def test_the_error_is_of_predictions_from_all_other_trials():
    rows = np.random.default_rng(2).random((12, 4)).round(6)
    trials = [dict(zip(("a", "b", "c", "idle"), map(float, row), strict=True)) for row in rows]
    outputs = np.array([ishigami(trial) for trial in trials])
    surrogate = Surrogate.of(Box.of(BOX, {}), trials, outputs.tolist())
    process, away = surrogate.curve.process, []
    for row in range(len(rows)):
        rest = np.arange(len(rows)) != row
        without = Process.of(process.kernel, rows[rest], process.outputs[rest])
        mean = outputs.mean() + outputs.std() * without.at(rows[[row]])[0][0, 0]
        away.append(outputs[row] - mean)
    error = surrogate.error()
    assert error["rmse"] == pytest.approx(np.sqrt(np.mean(np.square(away))), rel=1e-4)
    assert error["r2"] == pytest.approx(1 - np.mean(np.square(away)) / outputs.var(), rel=1e-4)


def test_drawn_functions_have_the_posteriors_mean_and_spread():
    rng = np.random.default_rng(4)
    rows, places = rng.random((15, 2)), rng.random((6, 2))
    fitted = curve(rows, np.sin(6 * rows[:, 0]) + rows[:, 1])
    draws = [Draws.from_(fitted, 64, np.random.default_rng(seed)).at(np.vstack([places, rows])) for seed in range(40)]
    mean, sd = fitted.at(np.vstack([places, rows]))
    for functions in draws:
        assert functions.mean(axis=1) == pytest.approx(mean), "they come in mirrored pairs"
    assert np.std(np.hstack(draws), axis=1) == pytest.approx(sd, rel=0.15)


def test_the_same_trials_give_the_same_bytes_and_many_trials_are_thinned():
    assert repr(effects_of(BOX, ishigami, 32)) == repr(effects_of(BOX, ishigami, 32))
    trials = [{knob.name: place / 599 for knob in BOX} for place in range(600)]
    surrogate = Surrogate.of(Box.of(BOX, {}), trials, [trial["a"] for trial in trials])
    kept = surrogate.curve.process.rows[:, 0]
    assert len(kept) == ROWS and (kept[0], kept[-1]) == (0.0, 1.0) and np.diff(kept).max() < 0.01
