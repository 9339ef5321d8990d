"""Shared by all tests: packs, the command in this or another process, forged locks, small disks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.policies import load_pack
from lanelock.policies.documents import digest, read_json
from lanelock.sweeps.terminal.cli import main

ROOT = Path(__file__).resolve().parent.parent
settings.register_profile(
    "lanelock", deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("lanelock")


@pytest.fixture(scope="session")
def packs():
    """Returns a shipped pack by name."""
    return lambda name: load_pack(name, SEGMENT_2B.policy_schemas)


@pytest.fixture(scope="session")
def lanelock(tmp_path_factory):
    """Runs the command in a process of its own: (exit code, stdout, stderr). With `--json`, stdout is parsed."""
    usual = tmp_path_factory.mktemp("workspace")

    def call(*arguments, workspace=usual, **environment):
        command = [sys.executable, "-m", "lanelock", *map(str, arguments)]
        place = {"LANELOCK_WORKSPACE": str(workspace)}
        done = subprocess.run(command, capture_output=True, text=True, env=child_environment(**place, **environment))
        out = json.loads(done.stdout) if "--json" in arguments and done.stdout else done.stdout
        return done.returncode, out, done.stderr

    return call


@pytest.fixture
def here(capfd):
    """Runs the command in this process, where the engine is already loaded: (exit code, stdout, stderr)."""

    def call(*arguments, workspace):
        with pytest.raises(SystemExit) as left:
            main([*map(str, arguments), "--workspace", str(workspace)])
        return left.value.code, *capfd.readouterr()

    return call


def child_environment(**more):
    """Returns an environment in which a child process finds the packages and the second engine."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests" / "queue_engine")])
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "200", **more}


def forged(lock, folder, **fields):
    """Writes a lock with fields replaced and its id recomputed, as a forger would."""
    body = {key: value for key, value in read_json(lock).items() if key != "lock_id"} | fields
    path = folder / "forged.json"
    path.write_text(json.dumps({**body, "lock_id": digest(body)}))
    return path


@contextmanager
def small_disk(folder, size):
    """Mounts a file system of `size` in memory; skips the test if this process may not mount."""
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("a file system of its own needs the right to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def read_only(folder):
    """The same folder, on a file system that takes nothing."""
    if subprocess.run(["mount", "--bind", folder, folder], capture_output=True).returncode:
        pytest.skip("a read-only file system needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder, options):
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)


@pytest.fixture(scope="session")
def screenshots(request):
    """Returns the folder for the screenshots of docs/, or None without --screenshots."""
    folder = request.config.getoption("--screenshots")
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def pytest_addoption(parser):
    parser.addoption(
        "--screenshots", type=Path, metavar="DIR", help="Write screenshots of the browser tests, for docs/images."
    )
    parser.addoption("--golden", action="store_true", help="Rewrite the golden files from the current results.")
