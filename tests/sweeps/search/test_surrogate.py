"""The surrogate sampler: what it proposes, from what, and that nothing but the trials and the seed decides."""

import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from lanelock.sweeps.search import surrogate
from lanelock.sweeps.search.gaussian import Kernel
from lanelock.sweeps.search.surrogate import SurrogateSampler
from lanelock.sweeps.search.unit_cube import Cube

SQUARE = {name: FloatDistribution(0.0, 1.0) for name in ("x", "y")}
MIXED = {
    "step": FloatDistribution(0.1, 0.8, step=0.1),
    "log": FloatDistribution(1e-3, 1e3, log=True),
    "int": IntDistribution(-4, 8, step=3),
    "log_int": IntDistribution(1, 1000, log=True),
    "choice": CategoricalDistribution(("a", "b", "c")),
    "flag": CategoricalDistribution((False, True)),
    "fixed": FloatDistribution(2.5, 2.5),
}


def rim(params):
    """Least x + y within a circle about (1, 1): the optimum lies on its edge."""
    x, y = params["x"], params["y"]
    return x + y, {"circle": (x - 1) ** 2 + (y - 1) ** 2 - 0.64}


def searched(sampler, law, space, trials, directions=("minimize",), study=None):
    """Returns a study of the law, asked one by one; `sampler` may be a function of the trial's number."""
    study = optuna.create_study(directions=list(directions)) if study is None else study
    for number in range(len(study.trials), trials):
        study.sampler = sampler(number) if callable(sampler) else sampler
        trial = study.ask(space)
        outcome = law(trial.params)
        if outcome is None:
            study.tell(trial, state=TrialState.FAIL)
            continue
        for name, value in outcome[1].items():
            trial.set_constraint(name, value)
        study.tell(trial, outcome[0])
    return study


def points(study):
    return [tuple(trial.params.values()) for trial in study.trials]


def best(study):
    held = [trial.value for trial in study.trials if trial.value is not None and max(trial.constraints.values()) <= 0]
    return min(held, default=math.inf)


def test_the_same_trials_and_seed_give_the_same_proposal_bit_for_bit():
    memory = {}

    def shared(number):
        return SurrogateSampler(seed=7, memory=memory, n_startup_trials=5, space=SQUARE)

    def fresh(number):
        return SurrogateSampler(seed=7, n_startup_trials=5, space=SQUARE)

    with_memory, without = searched(shared, rim, SQUARE, 14), searched(fresh, rim, SQUARE, 14)
    assert points(with_memory) == points(without) and memory
    resumed = optuna.create_study()
    resumed.add_trials(without.trials[:9])
    assert points(searched(fresh, rim, SQUARE, 14, study=resumed)) == points(without)
    other = searched(SurrogateSampler(seed=8, n_startup_trials=5, space=SQUARE), rim, SQUARE, 14)
    assert points(other) != points(without)


def test_it_finds_an_optimum_on_the_edge_where_random_does_not():
    exact = 2 - math.sqrt(1.28)
    for seed in range(3):
        ours = best(searched(SurrogateSampler(seed=seed, n_startup_trials=6), rim, SQUARE, 20))
        random = best(searched(optuna.samplers.RandomSampler(seed), rim, SQUARE, 20))
        assert exact <= ours < exact + 0.003 and ours - exact < 0.2 * (random - exact)


def test_running_trials_are_believed_so_a_batch_spreads():
    study = searched(SurrogateSampler(seed=1, n_startup_trials=6, space=SQUARE), rim, SQUARE, 7)
    batch = np.array([list(study.ask(SQUARE).params.values()) for _ in range(4)])
    away = np.abs(batch[:, None] - batch[None]).max(axis=2) + np.eye(4)
    assert away.min() > 1e-3


def test_values_fit_their_distributions_and_read_well():
    def law(params):
        far = abs(math.log(params["log"])) + abs(math.log(params["log_int"] / 30)) + abs(params["step"] - 0.3)
        return far + 3 * (params["choice"] != "b") + params["flag"] + abs(params["int"] - 2), {}

    study = searched(SurrogateSampler(seed=3, n_startup_trials=8, space=MIXED), law, MIXED, 30)
    for trial in study.trials:
        assert all(
            distribution._contains(distribution.to_internal_repr(trial.params[name]))
            for name, distribution in MIXED.items()
        )
        assert trial.params["step"] in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)  # not 0.30000000000000004
        assert len(f"{trial.params['log']!r}".strip("0.")) < 12
    assert len(set(points(study))) == 30
    assert study.best_params["choice"] == "b" and study.best_params["flag"] is False and study.best_value < 1.5


def test_the_cube_gives_back_every_value():
    cube = Cube.of(MIXED)
    places = cube.everywhere(64, np.random.default_rng(0))
    values = [cube.values(place) for place in places]
    assert cube.places(values) == pytest.approx(places, abs=1e-6)
    assert [cube.values(place) for place in cube.snapped(cube.places(values))] == values
    assert cube.features(places).shape == (64, 4 + 3 + 1)
    moved = cube.around(places[:1], 200, (0.01,), np.random.default_rng(1))
    assert (moved != places[0]).any(axis=1).mean() > 0.9  # a move shorter than a step is a step


def test_a_space_is_spent_before_anything_is_repeated():
    space = {"n": IntDistribution(0, 3), "c": CategoricalDistribution(("a", "b", "c"))}
    study = searched(SurrogateSampler(seed=5, n_startup_trials=4, space=space), lambda at: (at["n"], {}), space, 14)
    assert len(set(points(study)[:12])) == 12
    assert set(points(study)[12:]) <= set(points(study)[:12])


def test_only_what_is_allowed_is_proposed_in_its_canonical_form():
    def allowed(params):
        if params["x"] + params["y"] > 1.2:
            return None
        return {**params, "y": round(params["y"], 1) / 3 * 3}

    study = searched(SurrogateSampler(seed=2, n_startup_trials=5, allowed=allowed, space=SQUARE), rim, SQUARE, 14)
    for trial in study.trials:
        assert (
            trial.params["x"] + trial.params["y"] <= 1.26 and trial.params["y"] == round(trial.params["y"], 1) / 3 * 3
        )
    assert len(set(points(study))) == 14


def test_it_keeps_out_of_where_trials_fail():
    def law(params):
        x, y = params["x"], params["y"]
        return None if x > 0.55 or y > 0.7 else ((x - 0.5) ** 2 + (y - 0.4) ** 2 + 0.2 * np.sin(9 * y), {"none": -1.0})

    failed = np.zeros(30)
    for seed in range(3):
        study = searched(SurrogateSampler(seed=seed, n_startup_trials=8, space=SQUARE), law, SQUARE, 30)
        failed += [trial.state == TrialState.FAIL for trial in study.trials]
    assert failed[:8].mean() > 1.7 and failed[8:].mean() < 1.4  # of three
    assert study.best_value < -0.186


def test_a_sweep_that_only_fails_goes_on():
    study = searched(SurrogateSampler(seed=4, n_startup_trials=3, space=SQUARE), lambda _: None, SQUARE, 8)
    assert len(set(points(study))) == 8


def test_without_a_space_it_is_learned_from_the_trials():
    study = optuna.create_study(sampler=SurrogateSampler(seed=6, n_startup_trials=4))
    study.optimize(lambda trial: trial.suggest_float("x", -5, 5) ** 2 + trial.suggest_int("n", 0, 9), n_trials=16)
    assert study.best_value < 1e-2


def front_of(study):
    return np.array([trial.values for trial in study.best_trials])


def area(front, corner):
    """The area that a front dominates below a corner, by sorting."""
    held = sorted(map(tuple, front[(front <= corner).all(axis=1)]))
    total, top = 0.0, corner[1]
    for x, y in held:
        total += (corner[0] - x) * max(0.0, top - y)
        top = min(top, y)
    return total


def test_two_objectives_are_spread_along_the_front():
    def law(params):
        x, y = params["x"], params["y"]
        return (x**2 + y, (x - 1) ** 2 + 2 * y), {"band": 0.05 - y}

    both, corner = ("minimize", "minimize"), np.array([1.5, 1.5])
    ours = front_of(searched(SurrogateSampler(seed=1, n_startup_trials=6), law, SQUARE, 24, both))
    random = front_of(searched(optuna.samplers.RandomSampler(1), law, SQUARE, 24, both))
    assert area(ours, corner) > area(random, corner) + 0.1 and len(ours) > 6


def test_three_objectives_are_searched_by_weights():
    def law(params):
        x, y = params["x"], params["y"]
        return (x, 1 - y, (x - 0.5) ** 2 - y), {}

    study = searched(
        SurrogateSampler(seed=1, n_startup_trials=5), law, SQUARE, 14, ("minimize", "maximize", "minimize")
    )
    assert len(set(points(study))) == 14


@pytest.mark.parametrize("seed", range(5))
def test_the_gain_in_hypervolume_is_the_difference_of_two_areas(seed):
    rng = np.random.default_rng(seed)
    front = surrogate._unbeaten(rng.random((6, 2)))
    corner = front.max(axis=0) + np.maximum(0.1 * np.ptp(front, axis=0), 0.1)
    new = rng.random((20, 2)) * 1.4 - 0.2
    gains = surrogate._hypervolume_gain(front, new)
    for point, gain in zip(new, gains, strict=True):
        expected = area(np.vstack([front, point]), corner) - area(front, corner)
        assert max(gain, 0.0) == pytest.approx(expected, abs=1e-12)


class TwoSeeds:
    """A metric on two seeds; least mean is sought."""

    groups = ((0, 1),)

    def outputs(self, trial):
        return np.array(trial.user_attrs["measured"])

    def score(self, outputs):
        return outputs.mean(axis=-1, keepdims=True), np.zeros(outputs.shape[:-1])


def law_on(seed, x):
    return np.sin(6 * x) + 0.1 * seed + 0.02 * seed * x


def test_trials_that_ended_after_one_seed_tell_about_all():
    rng = np.random.default_rng(0)
    rows, places = rng.random((14, 1)), rng.random((30, 1))
    outputs = np.column_stack([law_on(0, rows[:, 0]), law_on(1, rows[:, 0])])
    outputs[4:12, 1], outputs[12:, 0] = np.nan, np.nan
    group = surrogate._Group.of(rows, outputs, (0, 1), Kernel(np.array([0.4]), np.array([1.0]), 1e-6))
    first, second = group.sampled(places, np.zeros((2, 1)))[:, 0]
    assert np.abs(first - law_on(0, places[:, 0])).max() < 0.1
    assert np.abs(second - law_on(1, places[:, 0])).max() < 0.1


def test_an_unmeasured_seed_makes_no_incumbent():
    trials = [
        create_trial(params={"x": x}, distributions={"x": SQUARE["x"]}, value=0.0, user_attrs={"measured": row})
        for x, row in ((0.2, [1.0, 1.2]), (0.6, [0.1, math.nan]), (0.9, [0.8, 0.9]))
    ]
    cube = Cube.of({"x": SQUARE["x"]})
    known = cube.places([trial.params for trial in trials])
    history = surrogate._History.of(trials, TwoSeeds(), cube, known, {}, "study")
    assert history.feasible.tolist() == [True, False, True] and history.order()[0] == 2


def test_a_long_study_keeps_the_best_and_the_newest_rows():
    rng = np.random.default_rng(0)
    count = 600
    trials = [
        create_trial(
            params={"x": float(x)}, distributions={"x": SQUARE["x"]}, value=float(x), user_attrs={"measured": [x, x]}
        )
        for x in rng.random(count)
    ]
    cube = Cube.of({"x": SQUARE["x"]})
    history = surrogate._History.of(trials, TwoSeeds(), cube, cube.places([row.params for row in trials]), {}, "study")
    kept = history.kept()
    assert len(kept) == surrogate.ROWS and len(set(kept.tolist())) == surrogate.ROWS
    assert {int(history.objectives[:, 0].argmin()), count - 1} <= set(kept.tolist())


def test_a_fit_is_made_anew_only_at_some_numbers_of_rows():
    sizes = [surrogate._scheduled(count) for count in range(1, 200)]
    assert sizes == sorted(sizes) and all(size <= count for count, size in enumerate(sizes, 1))
    assert len(set(sizes)) < 25 and sizes[63] >= 50


def test_far_tails_are_squashed_and_come_back():
    values = np.concatenate([np.linspace(-1, 1, 20), [1e6, -1e9]])
    warp = surrogate._Warp.of(values)
    assert np.abs(warp.to(values)).max() < 30
    assert warp.back(warp.to(values)) == pytest.approx(values)


def test_a_seed_that_one_trial_reached_is_no_constant():
    rows = np.linspace(0, 1, 8)[:, None]
    outputs = np.column_stack([law_on(0, rows[:, 0]), np.full(8, np.nan), np.full(8, 5.0)])
    outputs[0, 1] = 0.3
    assert np.isnan(surrogate._constants(outputs)).tolist() == [True, True, False]
    assert surrogate._constants(outputs[:, 1:]).tolist()[1] == 5.0
