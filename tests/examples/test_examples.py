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


@pytest.mark.parametrize("example", CORNERS)
def test_an_example_is_ready_sweeps_past_its_failing_corner_and_is_proved(example, tmp_path, monkeypatch, here):
    place = project(example, tmp_path)
    monkeypatch.chdir(place)
    code, out, err = here("check", workspace=tmp_path / "ws")
    assert code == 0 and "each twice, with the same bytes" in out, (out, err)

    corner, said = CORNERS[example]
    (place / "corner.json").write_text(json.dumps([corner]))
    code, out, err = here("sweep", "--trials", 3, "--enqueue", "corner.json", workspace=tmp_path / "ws")
    assert code in (0, 1) and "\n3 trials in " in out, (out, err)
    assert re.search(rf"; failed [123]: seed \d: .*{said}", out), out
    code, out, err = here("verify", f"{example}-1", workspace=tmp_path / "ws")
    assert code == 0 and "checks, 0 differ" in out, (out, err)


@pytest.mark.slow
@pytest.mark.parametrize("example", CORNERS)
def test_an_example_ends_with_a_lock_in_its_highest_band(example, tmp_path):
    call = [sys.executable, "-m", "lanelock", "sweep", "--json", "--workspace", str(tmp_path / "ws")]
    folder = project(example, tmp_path)  # played in a process of its own, since each has modules of the same names
    done = subprocess.run(call, cwd=folder, env=child_environment(), capture_output=True, text=True)
    code, out = done.returncode, done.stdout
    assert out, done.stderr
    swept = json.loads(out)
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
