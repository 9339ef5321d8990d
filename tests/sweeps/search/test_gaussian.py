"""The Gaussian process against its textbook formulas, written out slowly."""

import numpy as np
import pytest

from lanelock.sweeps.search import gaussian
from lanelock.sweeps.search.gaussian import Kernel, Process

KERNEL = Kernel(np.array([0.4, 1.1, 3.0]), np.array([0.8, 0.1, 0.0]), 1e-3)


def correlation(kernel, a, b):
    """The kernel of two places, in plain arithmetic."""
    radius = np.sqrt(sum(((x - y) / length) ** 2 for x, y, length in zip(a, b, kernel.lengths, strict=True)))
    line = sum(slope**2 * (x - 0.5) * (y - 0.5) for x, y, slope in zip(a, b, kernel.slopes, strict=True))
    matern = (1 + np.sqrt(5) * radius + 5 * radius**2 / 3) * np.exp(-np.sqrt(5) * radius)
    return 1 + line + matern


def table(kernel, rows, places):
    return np.array([[correlation(kernel, a, b) for b in places] for a in rows])


@pytest.fixture
def measured():
    rng = np.random.default_rng(1)
    rows = rng.random((9, 3))
    return rows, np.column_stack([np.sin(4 * rows[:, 0]), rows[:, 1] - rows[:, 0] ** 2])


def test_predictions_follow_the_formulas(measured):
    rows, outputs = measured
    places = np.random.default_rng(2).random((5, 3))
    process = Process.of(KERNEL, rows, outputs, scales=np.array([1.0, 2.5]))
    mean, sd = process.at(places)
    covariance = table(KERNEL, rows, rows) + (KERNEL.noise + 1e-9) * np.eye(9)
    cross = table(KERNEL, rows, places)
    variance = np.diag(table(KERNEL, places, places)) - np.diag(cross.T @ np.linalg.solve(covariance, cross))
    assert mean == pytest.approx(cross.T @ np.linalg.solve(covariance, outputs))
    assert sd == pytest.approx(np.sqrt(variance)[:, None] * [1.0, 2.5])


def test_a_scale_is_the_posterior_energy_of_its_output(measured):
    rows, outputs = measured
    covariance = table(KERNEL, rows, rows) + (KERNEL.noise + 1e-9) * np.eye(9)
    energy = np.array([y @ np.linalg.solve(covariance, y) for y in outputs.T])
    expected = np.sqrt((energy + 2 * outputs.var(axis=0)) / (9 + 2))
    assert Process.of(KERNEL, rows, outputs).scales == pytest.approx(expected)


def test_left_out_predictions_are_those_of_a_process_without_the_row(measured):
    rows, outputs = measured
    process = Process.of(KERNEL, rows, outputs)
    mean, sd = process.left_out()
    for row in range(len(rows)):
        rest = np.arange(len(rows)) != row
        expected, spread = Process.of(KERNEL, rows[rest], outputs[rest], process.scales).at(rows[[row]])
        assert mean[row] == pytest.approx(expected[0])
        noisy = np.sqrt(spread[0] ** 2 + (KERNEL.noise + 1e-9) * process.scales**2)
        assert sd[row] == pytest.approx(noisy)


def test_believing_moves_no_mean_and_leaves_nothing_uncertain_there(measured):
    process = Process.of(KERNEL, *measured)
    place, elsewhere = np.full((1, 3), 0.3), np.array([[0.9, 0.1, 0.5]])
    believing = process.believing(place)
    assert believing.at(elsewhere)[0] == pytest.approx(process.at(elsewhere)[0], rel=1e-6)
    assert (believing.at(place)[1] < 0.25 * process.at(place)[1]).all()
    assert (believing.at(elsewhere)[1] <= process.at(elsewhere)[1]).all()


def test_the_gradient_is_the_slope_of_the_cost(measured):
    rows, outputs = measured
    squares = np.ascontiguousarray(((rows[:, None] - rows[None]) ** 2).reshape(-1, 3).T)
    logs = np.random.default_rng(3).normal(scale=0.5, size=7) - 0.5
    steps = 1e-5 * np.eye(7)
    costs = [[gaussian.cost(logs + s * step, rows, outputs[:, 0], squares)[0] for s in (1, -1)] for step in steps]
    slope = [(above - below) / 2e-5 for above, below in costs]
    assert gaussian.cost(logs, rows, outputs[:, 0], squares)[1] == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_a_fit_finds_the_coordinate_that_matters_and_predicts():
    rng = np.random.default_rng(4)
    rows, places = rng.random((40, 5)), rng.random((50, 5))

    def law(at):
        return 100 + 7 * np.sin(5 * at[:, 2]) + 3 * at[:, 0]

    curve = gaussian.curve(rows, law(rows))
    assert curve.process.kernel.lengths.argmin() == 2
    mean, sd = curve.at(places)
    assert np.median(np.abs(mean - law(places))) < 0.01 and np.abs(mean - law(places)).max() < 2
    left_out, spread = curve.left_out()
    assert np.abs((left_out - law(rows)) / spread).max() < 5
    assert (sd > 0).all()


def test_what_never_varies_is_predicted_so():
    mean, _ = gaussian.curve(np.random.default_rng(5).random((8, 2)), np.full(8, 3.0)).at(np.full((1, 2), 0.5))
    assert mean == pytest.approx([3.0])
