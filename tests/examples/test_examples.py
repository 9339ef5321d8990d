"""The projects of examples/: each is checked, swept, proved, and shows its failing corner, as its page says."""

import json
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT, child_environment

EXAMPLES = ROOT / "examples"
# example -> values of its knobs at which its engine fails, and what it says
CORNERS = {
    "inventory": ({"reorder_point": 30, "order_up_to": 250}, "an order of"),
    "heater": ({"kp": 60, "ki": 0.1, "kd": 0}, "thermal cut-out at 95.0 deg C"),
    "patients": ({"strength": 2.6}, "not positive definite"),
}


def project(example, folder):
    """A copy of an example, built as its page says: no test leaves anything in the checkout."""
    place = folder / example
    shutil.copytree(EXAMPLES / example, place, ignore=shutil.ignore_patterns("__pycache__", "heater", "*.parquet"))
    if example == "heater":
        if not (shutil.which("cc") and shutil.which("make")):
            pytest.skip("the oven is a C program, and this machine has no compiler or no make")
        subprocess.run(["make", "-s", "-C", place], check=True)
    if example == "patients":
        subprocess.run([sys.executable, place / "reference.py"], check=True)
    return place


def lanelock(*arguments, cwd):
    """The answer as JSON, and the exit code, of a command in a folder."""
    call = [sys.executable, "-m", "lanelock", *map(str, arguments), "--json"]
    place = {"LANELOCK_WORKSPACE": str(cwd / ".lanelock")}
    child = subprocess.run(call, capture_output=True, text=True, cwd=cwd, env=child_environment(**place))
    assert child.stdout, child.stderr
    return json.loads(child.stdout), child.returncode


@pytest.mark.parametrize("example", CORNERS)
def test_an_example_is_ready_sweeps_past_its_failing_corner_and_is_proved(example, tmp_path):
    place = project(example, tmp_path)
    checked, code = lanelock("check", cwd=place)
    assert (checked["ok"], code) == (True, 0), checked["problems"]

    corner, said = CORNERS[example]
    (place / "corner.json").write_text(json.dumps([corner]))
    swept, _ = lanelock("sweep", "--trials", 4, "--enqueue", "corner.json", cwd=place)
    assert swept["trials"]["number"] == 4 and swept["trials"]["failed"] == 1
    assert said in json.dumps(swept)
    verified, code = lanelock("verify", swept["sweep"], cwd=place)
    assert (verified["ok"], code) == (True, 0)


@pytest.mark.slow
@pytest.mark.parametrize("example", CORNERS)
def test_an_example_ends_with_a_lock_in_its_highest_band(example, tmp_path):
    place = project(example, tmp_path)
    swept, code = lanelock("sweep", cwd=place)
    assert (swept["decision"], code) == ("GO", 0), swept["reason"]
    assert swept["best"]["verdict"] == "PASS_BPLUS"


@pytest.mark.parametrize("example", CORNERS)
def test_a_page_says_what_the_file_says(example):
    page = (EXAMPLES / example / "README.md").read_text()
    document = tomllib.loads((EXAMPLES / example / "lanelock.toml").read_text())
    assert len(page.splitlines()) < 60, "one screen"
    assert f"{document['sweep']['trials']} trials" in page and f"make example-{example}" in page
    assert f"\nexample-{example}:" in (ROOT / "Makefile").read_text()
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert link.startswith("http") or (EXAMPLES / example / link).exists(), link
