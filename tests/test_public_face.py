"""`import lanelock`: fifteen names that resolve, are documented, and cost nothing until they are asked for."""

import json
import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from conftest import ROOT, child_environment

import lanelock.service
from lanelock.sweeps.proof.model_files import LOADER

HEAVY = {"numpy", "pyarrow", "pandas", "optuna", "mlflow", "numba", "matplotlib", "jsonschema", "click", "rich"}


@pytest.mark.parametrize("name", lanelock.__all__)
def test_a_public_name_resolves_and_says_what_it_is(name):
    assert getattr(lanelock, name).__doc__.strip()


def test_the_public_names_are_those_of_the_page():
    table = (ROOT / "docs" / "versions.md").read_text().partition("## What `import lanelock` gives")[2]
    assert sorted(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == sorted(lanelock.__all__)


def test_the_service_gives_its_loader_and_keeps_the_name_that_registered_models_have():
    assert lanelock.service.__all__ == ["LockedModel", "_load_pyfunc", "load"] and LOADER == "lanelock.service"
    assert all(getattr(lanelock.service, name).__doc__.strip() for name in lanelock.service.__all__)
    assert "`lanelock.service` gives `load`" in (ROOT / "docs" / "versions.md").read_text()


def test_another_name_is_refused_with_the_public_ones():
    with pytest.raises(AttributeError, match="no attribute 'sweeper'; its public names are Engine, Failed, "):
        lanelock.sweeper  # noqa: B018
    assert lanelock.__version__ == version("lanelock")


def test_importing_it_imports_nothing_heavy():
    code = "import json, sys, lanelock; print(json.dumps(sorted(sys.modules)))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=child_environment())
    modules = json.loads(child.stdout)
    assert [name for name in modules if name.startswith("lanelock")] == ["lanelock"] and not HEAVY & set(modules)
