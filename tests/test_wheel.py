"""What is installed is `lanelock` and nothing else: it works beside a project that has folders of the same names."""

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from lanes import QUEUE

FOLDERS = ("policies", "engine", "scoring", "sweeps")
BUILD = "import sys, setuptools.build_meta; setuptools.build_meta.build_wheel(sys.argv[1])"
LOAD = """
import sys, mlflow, pandas
model = mlflow.pyfunc.load_model("models:/queue@certified")
waits = model.predict(pandas.DataFrame({"customer": [0, 7, 1999]}))["wait"]
print(len(waits), waits.min() >= 0, sys.modules["lanelock"].__file__, "engine" in sys.modules)
"""


def run(*command, **settings):
    """What a command says; it must succeed."""
    child = subprocess.run([*map(str, command)], capture_output=True, text=True, **settings)
    assert child.returncode == 0, (command, child.stdout[-2000:], child.stderr[-4000:])
    return child.stdout


def built(source, target):
    """The wheel of a source tree, built as pip builds it, without the index."""
    run(sys.executable, "-c", BUILD, target, cwd=source)
    (wheel,) = target.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Lanelock's wheel, built from a copy: a build leaves folders behind in the tree it is built from."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    for name in ("src", *FOLDERS):
        left_behind = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=left_behind)
    return built(source, tmp_path_factory.mktemp("wheel"))


class Installation:
    """A virtual environment with a wheel in it, over the libraries of this one and without this one's Lanelock."""

    def __init__(self, folder, wheel):
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        self.packages = Path(run(self.python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
        libraries = Path(pytest.__file__).parent.parent
        (self.packages / "libraries.pth").write_text(f"{libraries}\n")  # a path: what .pth files say there is not read
        self.pip("install", "--no-deps", "--no-index", wheel)

    def pip(self, *arguments):
        quiet = ("--disable-pip-version-check", "--quiet")
        return run(sys.executable, "-m", "pip", "--python", self.python, *quiet, *arguments)

    def ours(self):
        """Digests of what Lanelock's wheel has put here."""
        files = [path for path in (self.packages / "lanelock").rglob("*") if path.is_file() and path.suffix != ".pyc"]
        return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def installed(tmp_path_factory, wheel):
    return Installation(tmp_path_factory.mktemp("installed") / "venv", wheel)


@pytest.fixture
def project(tmp_path):
    """A user's project with packages of our folders' names, each of which ends whatever imports it."""
    for name in FOLDERS:
        (tmp_path / "project" / name).mkdir(parents=True)
        (tmp_path / "project" / name / "__init__.py").write_text(f"raise SystemExit('their {name} was imported')\n")
    return tmp_path / "project"


def clean(**more):
    """An environment that names no workspace, no record and no path but the second engine's."""
    ours = ("LANELOCK_WORKSPACE", "LANELOCK_STUDY_STORAGE", "MLFLOW_TRACKING_URI")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, "PYTHONPATH": str(QUEUE), **more}


def test_the_wheel_holds_the_package_whole_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = {entry.filename: entry for entry in archive.infolist()}
        assert {name.partition("/")[0] for name in files} == {"lanelock", "lanelock-0.2.0.dist-info"}
        assert not [name for name, entry in files.items() if stat.S_ISLNK(entry.external_attr >> 16)]
        kinds = ("py", "json", "dsse")
        shipped = [path for folder in FOLDERS for kind in kinds for path in (ROOT / folder).rglob(f"*.{kind}")]
        shipped = [path for path in shipped if "evidence" not in path.parts]  # in a checkout only
        missing = [path for path in shipped if f"lanelock/{path.relative_to(ROOT)}" not in files]
        assert len(shipped) > 150 and not missing
        assert {"lanelock/py.typed", "lanelock/service.py", "lanelock/__main__.py"} <= set(files)
        licence = archive.read("lanelock-0.2.0.dist-info/licenses/LICENSE")
        assert licence == (ROOT / "LICENSE").read_bytes() and b"Apache License" in licence
        metadata = archive.read("lanelock-0.2.0.dist-info/METADATA").decode()
        assert "\nLicense-Expression: Apache-2.0\n" in metadata and "\nProvides-Extra: postgres\n" in metadata


def test_it_works_in_a_project_that_has_folders_of_the_same_names(installed, project):
    def lanelock(*arguments):
        return json.loads(run(installed.python, "-m", "lanelock", *arguments, "--json", cwd=inner, env=clean()))

    inner = project / "notebooks"
    inner.mkdir()
    (project / ".lanelock").mkdir()  # as `git init`: found from every folder below
    (project / "mlruns").mkdir()  # MLflow's own default, never ours
    swept = lanelock("sweep", QUEUE / "lane.json", "--trials", 12)
    assert swept["decision"] == "GO" and Path(swept["lock"]).parent == project / ".lanelock" / "locks"
    assert lanelock("verify", swept["sweep"])["ok"]
    assert lanelock("certify", swept["sweep"], "--holdout-seeds", 2)["verdict"].startswith("PASS")
    assert lanelock("promote", swept["sweep"], "--to", "certified")["version"] == "1"
    record = f"sqlite:///{project / '.lanelock' / 'mlflow.db'}"
    said = run(installed.python, "-c", LOAD, cwd=inner, env=clean(MLFLOW_TRACKING_URI=record))
    assert said.split() == ["3", "True", str(installed.packages / "lanelock" / "__init__.py"), "False"]
    assert sorted(path.name for path in project.iterdir()) == sorted([".lanelock", "mlruns", "notebooks", *FOLDERS])
    assert not [*inner.iterdir(), *(project / "mlruns").iterdir()]


def test_the_folders_of_a_project_do_not_shadow_ours(installed, project):
    """`python -m` puts the current folder first on the path, where their `engine` lies."""
    said = run(
        installed.python, "-m", "lanelock", "policy", "digest", "p3_recorded", "--json", cwd=project, env=clean()
    )
    assert json.loads(said)["pack"] == "p3_recorded"
    assert run(installed.packages.parents[2] / "bin" / "lanelock", "--version", cwd=project, env=clean()).endswith(
        "0.2.0\n"
    )
    child = subprocess.run([installed.python, "-c", "import engine"], cwd=project, capture_output=True, text=True)
    assert child.stderr == "their engine was imported\n", "it is theirs that the name stands for"


def test_a_wheel_with_a_package_of_a_folders_name_comes_and_goes_beside_ours(installed, tmp_path):
    (tmp_path / "theirs" / "engine").mkdir(parents=True)
    (tmp_path / "theirs" / "engine" / "__init__.py").write_text("OWNER = 'theirs'\n")
    (tmp_path / "theirs" / "pyproject.toml").write_text(
        "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
        "[project]\nname = 'theirs'\nversion = '1'\n[tool.setuptools]\npackages = ['engine']\n"
    )
    other, ours = built(tmp_path / "theirs", tmp_path), installed.ours()
    assert len(ours) > 150
    both = "import engine, lanelock.engine.protocol; print(engine.OWNER, lanelock.engine.__name__)"
    installed.pip("install", "--no-deps", "--no-index", other)
    assert run(installed.python, "-c", both, cwd=tmp_path, env=clean()) == "theirs lanelock.engine\n"
    assert installed.ours() == ours
    installed.pip("uninstall", "--yes", "theirs")
    assert not (installed.packages / "engine").exists() and installed.ours() == ours
