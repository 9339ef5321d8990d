"""A new user's first hour, typed from an empty folder with nothing but the wheel: docs/first-hour.md, word by word."""

import os
import re
import shutil
import subprocess

import pytest
from conftest import ROOT
from servers import answers, free_port
from test_docs import Saved, holds, steps
from test_wheel import installed, wheel  # noqa: F401  fixtures

PAGE = ROOT / "docs" / "first-hour.md"
SAVED = {step.name: step.text for step in steps(PAGE) if isinstance(step, Saved)}


def lines_of(name):
    """The lines of a file that are neither empty nor a remark."""
    return [line for line in SAVED[name].splitlines() if line.strip() and not line.strip().startswith("#")]


def test_a_simulator_and_its_configuration_take_fifteen_lines_each():
    assert len(lines_of("desk.py")) <= 15 and len(lines_of("lanelock.toml")) <= 15
    assert len(lines_of("reservoir/lanelock.toml")) <= 17


@pytest.mark.slow
def test_a_new_user_with_a_wheel_gets_from_an_empty_folder_to_a_promoted_lock(installed, tmp_path):  # noqa: F811
    if not shutil.which("awk"):
        pytest.skip("the page's second program is in awk, which this machine lacks")
    ours = re.compile("LANELOCK_|MLFLOW_|PYTHONPATH")
    path = f"{installed.python.parent}:{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not ours.match(name)} | {"PATH": path}
    for step in steps(PAGE):
        if isinstance(step, Saved):
            (tmp_path / step.name).parent.mkdir(exist_ok=True)
            (tmp_path / step.name).write_text(step.text)
        elif step.serves:
            port = free_port()
            call = ["bash", "-c", f"exec {step.command} --port {port}"]
            assert answers(call, port, environment, tmp_path), step.command
        else:
            call = ["bash", "-c", step.command]
            child = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, text=True)
            assert child.returncode == step.exit_code, (step.command, child.stdout[-2000:], child.stderr[-2000:])
            fine, row = holds(step.quoted, child.stdout) if step.quoted else (True, "")
            assert fine, f"{step.command}\nis quoted with: {row}\nand said:\n{child.stdout}"
    assert not (tmp_path / "mlruns").exists() and (tmp_path / ".lanelock").is_dir()
