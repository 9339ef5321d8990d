"""The engines of examples/ by themselves: deterministic per seed, and believable, each by a law of its field."""

import importlib.util
import shutil
import subprocess

import numpy as np
import pyarrow.csv
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

EXAMPLES = ROOT / "examples"


def model(example, name):
    """A module of an example, under a name of its own: nothing else in this process imports by that name."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / example / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


inventory, patients = model("inventory", "inventory"), model("patients", "patients")
SHOP = {"demand": 12.0, "clumping": 3.0, "lead_times": [3, 4, 4, 5, 7], "truck": 1000}


@settings(max_examples=25)
@given(st.integers(20, 140), st.integers(1, 120), st.integers(0, 2**32 - 1))
def test_a_higher_reorder_point_serves_no_worse_and_stores_no_less(reorder_point, room, seed):
    """Demand and lead times are the same for one seed, so the two warehouses differ in nothing else."""
    low, again, high = (
        inventory.simulate({**SHOP, "reorder_point": s, "order_up_to": s + room}, seed)
        for s in (reorder_point, reorder_point, reorder_point + 60)
    )
    assert low == again
    assert 0 <= low["fill_rate"] <= high["fill_rate"] <= 1
    assert low["mean_stock"] < high["mean_stock"] and high["max_stock"] <= reorder_point + 60 + room


def test_an_order_that_fits_on_no_truck_is_an_error_that_says_so():
    with pytest.raises(ValueError, match=r"day \d+: an order of 1\d\d pieces, and the truck takes 150"):
        inventory.simulate({**SHOP, "truck": 150, "reorder_point": 30, "order_up_to": 200}, 1)


@settings(max_examples=25)
@given(st.floats(0.0, 2.0), st.floats(3.0, 40.0), st.floats(0.8, 1.2), st.integers(0, 2**32 - 1))
def test_patients_are_plausible_and_the_same_for_the_same_seed(strength, tail, spread, seed):
    skews = {f"skew_{name}": 0.3 for name in patients.COLUMNS}
    asked = {"patients": 300, "strength": strength, "tail": tail, "spread": spread, **skews}
    table, again = patients.generate(asked, seed), patients.generate(asked, seed)
    for name, (mean, deviation, low, high, _) in patients.COLUMNS.items():
        assert len(table[name]) == 300 and low <= table[name].min() and table[name].max() <= high
        assert abs(table[name].mean() - mean) < 6 * deviation / np.sqrt(300)
        assert np.array_equal(table[name], again[name])


def test_correlations_that_no_table_can_have_are_an_error():
    skews = {f"skew_{name}": 0.0 for name in patients.COLUMNS}
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        patients.generate({"patients": 10, "strength": 2.6, "tail": 8.0, "spread": 1.0, **skews}, 1)


@pytest.fixture(scope="module")
def oven(tmp_path_factory):
    """Plays an hour: (exit code, stderr, the table's bytes, the table)."""
    if not (shutil.which("cc") and shutil.which("make")):
        pytest.skip("the oven is a C program, and this machine has no compiler or no make")
    folder = tmp_path_factory.mktemp("oven")
    for name in ("heater.c", "Makefile"):
        shutil.copy(EXAMPLES / "heater" / name, folder)
    subprocess.run(["make", "-s", "-C", folder], check=True)

    def hour(out="hour.csv", **arguments):
        words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        child = subprocess.run([folder / "heater", *words, "--out", folder / out], capture_output=True, text=True)
        table = pyarrow.csv.read_csv(folder / out).to_pandas() if (folder / out).exists() else None
        return child.returncode, child.stderr, table

    return hour


CALM = {"kp": 120, "ki": 0.03, "kd": 1000, "setpoint": 80}


def test_the_oven_keeps_its_setpoint_and_its_energy_books(oven):
    code, said, hour = oven(**CALM, seed=1)
    assert (code, said) == (0, "") and list(hour.columns) == ["t", "temperature", "power"] and len(hour) == 3600
    settled = hour[(hour.t > 1200) & (hour.t < 1800)]
    assert (settled.temperature - 80).abs().max() < 1
    assert hour[(hour.t >= 1800) & (hour.t < 1830)].temperature.min() < 79.5, "the door was open"
    steady = settled.power.mean() / (80 - hour.temperature[0])
    assert 6.0 < steady < 7.5, "at the setpoint the heater gives what the walls lose: 6.5 W/K"
    assert hour.power.between(0, 1500).all()


def test_the_oven_is_the_same_for_the_same_seed_and_another_for_another(oven):
    one, same, other = (oven(**CALM, seed=seed)[2] for seed in (1, 1, 2))
    assert one.equals(same) and not one.equals(other)


def test_the_cut_out_is_exit_code_7_and_a_missing_gain_2(oven):
    code, said, _ = oven(kp=60, ki=0.1, kd=0, setpoint=80, seed=1)
    assert code == 7 and said.startswith("heater: thermal cut-out at 95.0 deg C after ")
    assert oven(out="none.csv", kp=60, ki=0.1, setpoint=80, seed=1)[:2] == (2, "heater: --kd is missing\n")
