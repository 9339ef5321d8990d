"""The net under every command: whatever is raised is one line and an exit code that no CI takes for an answer."""

import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import click
import pytest
from conftest import child_environment
from lanes import QUEUE, lane_with, refused

from lanelock.policies import EngineError, LaneError, PolicyError
from lanelock.policies.errors import blamed, cause
from lanelock.sweeps.search.beginning import Beginning
from lanelock.sweeps.sweep import play
from lanelock.sweeps.terminal import cli, net
from lanelock.sweeps.workspace import Workspace

FAKES = """
class Engine:
    name = "fake"
    code_version = "0" * 64
    policy_schemas = {"queue_policy_v1": {"$id": "queue_policy_v1", "type": "object"}}
    def evaluate(self, pack, seed):
        raise RuntimeError("pump burst")
class Metrics:
    gates_file = __file__
    def measure(self, run):
        return {}
class Leaves(Engine):
    def evaluate(self, pack, seed):
        raise SystemExit(0)
class Silent(Engine):
    def evaluate(self, pack, seed):
        return None
class Deep(Engine):
    def evaluate(self, pack, seed):
        return self.evaluate(pack, seed)
class Named(Engine):
    name = 7
class Listed(Engine):
    policy_schemas = ["queue_policy_v1"]
class Seedless(Engine):
    def evaluate(self, pack):
        return None
class Spelled(Engine):
    states = "Q1"
class Torn(Engine):
    @property
    def policy_schemas(self):
        raise KeyError("no such file in the archive")
class Gateless:
    def measure(self, run):
        return {}
class Numbered(Gateless):
    gates_file = 4
"""


@pytest.fixture
def fake(lanelock, tmp_path):
    """Runs `lanelock run` where an entry point of the name `fake` is installed, as given."""

    def call(engine, metrics="fakes:Metrics()", *command):
        (tmp_path / "fakes.py").write_text(FAKES + f"\nENGINE = {engine.partition(':')[2] or None}\n")
        info = tmp_path / "fake-0.1.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fake\nVersion: 0.1\n")
        point = "fakes:ENGINE" if engine.startswith("fakes:") else engine
        (info / "entry_points.txt").write_text(f"[lanelock.engines]\nfake = {point}\n")
        pack = tmp_path / "pack"
        shutil.copytree(QUEUE / "pack", pack, dirs_exist_ok=True)
        (pack / "pack.json").write_text('{"engine": "fake"}')
        path = os.pathsep.join([child_environment()["PYTHONPATH"], str(tmp_path)])
        return lanelock("run", "--pack", pack, "--seed", 3, workspace=tmp_path / "w", PYTHONPATH=path)

    return call


def traceback_in(line):
    """Returns the file that a line names, and its text."""
    path = Path(line.rpartition("traceback: ")[2].strip())
    return path, path.read_text()


@pytest.mark.parametrize(
    ("engine", "parts"),
    [
        ("fakes:Engine()", ["engine fake: pack pack, seed 3: RuntimeError: pump burst", "traceback: "]),
        ("fakes:Leaves()", ["engine fake: pack pack, seed 3: SystemExit: 0"]),
        ("fakes:Deep()", ["engine fake: pack pack, seed 3: RecursionError"]),
        ("fakes:Silent()", ["engine fake: pack pack, seed 3: the engine returned NoneType instead of a run"]),
        ("fakes:Engine", ["fakes.Engine is no engine", "it is a class; the entry point must name an instance"]),
        ("fakes:Named()", ["fakes.Named is no engine: its name is 7"]),
        ("fakes:Listed()", ["its policy_schemas is list ['queue_policy_v1'] instead of a mapping"]),
        ("fakes:Seedless()", ["its evaluate does not take (pack, seed)"]),
        ("fakes:Spelled()", ["its states is str 'Q1' instead of a sequence of names"]),
        ("fakes:Torn()", ["KeyError: 'no such file in the archive'", "traceback: "]),
        ("fakes:object()", ["is no engine: it has no name"]),
        ("nowhere:ENGINE", ["entry point fake = nowhere:ENGINE of lanelock.engines: ModuleNotFoundError: No module"]),
        ("json:ENGINE", ["entry point fake = json:ENGINE", "AttributeError"]),
        ("this is no name", ["entry point fake = this is no name"]),
    ],
)  # fmt: skip
def test_an_engine_that_is_none_or_raises_is_one_line_that_names_it(fake, engine, parts):
    line = refused(fake(engine), *parts)
    if "traceback: " in line:
        path, text = traceback_in(line)
        assert path.parent.name == "errors" or path.parent == Path(tempfile.gettempdir())
        assert text.splitlines()[0].startswith("lanelock ") and "--seed 3" in text and "Traceback" in text
        path.unlink()


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("bad"), EngineError, "engine x: ValueError: bad"),
        (SystemExit(0), EngineError, "engine x: SystemExit: 0"),
        (PolicyError("p.json: /a"), PolicyError, "p.json: /a"),
        (OSError(28, "No space left on device"), OSError, "No space left"),
        (MemoryError(), MemoryError, ""),
    ],
)
def test_an_engine_is_blamed_for_what_is_its_own(error, kind, message):
    with pytest.raises(kind) as raised, blamed("engine x"):
        raise error
    assert message in str(raised.value)
    if kind is EngineError:
        assert isinstance(raised.value, LaneError) and cause(raised.value) == message.partition(": ")[2]


class Wordless(Exception):
    def __str__(self):
        raise RuntimeError("nothing to say")


@pytest.fixture
def raising(here, monkeypatch, tmp_path):
    """Runs `lanelock status` in this process where it raises."""

    def call(error):
        monkeypatch.setattr(cli, "_imported", lambda name: command(error))
        return here("status", workspace=tmp_path / "w")

    def command(error):
        from lanelock.sweeps.terminal.session import common_options

        @click.command()
        @common_options
        def status(session):
            raise error

        return status

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return call


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'Engine' object has no attribute 'states'"),
        UnicodeEncodeError("latin-1", "–", 0, 1, "ordinal not in range"),
        BrokenPipeError(32, "Broken pipe"),
        EOFError("Ran out of input"),
        SystemExit(0),
        SystemExit(1),
        SystemExit("a library's last words"),
        MemoryError(),
        RecursionError("maximum recursion depth exceeded"),
        GeneratorExit(),
        AssertionError(),
        Wordless(),
        ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
        ValueError("first line\nsecond line \x1b[31mred"),
        ValueError("x" * 100_000),
    ],
    ids=lambda error: type(error).__name__ + str(len(error.args and str(error.args[0]))),
)
def test_what_nobody_expected_is_one_line_and_70(raising, error):
    line = refused(raising(error), "unexpected error: ", code=70)
    assert len(line) < 2_000 and line.rstrip("\n").isprintable()
    path, text = traceback_in(line)
    assert text.startswith("lanelock ") and "lanelock status --workspace" in text and "Traceback" in text
    assert path.stat().st_mode & 0o077 == 0, "it may quote what it was given"


@pytest.mark.parametrize("error", [ImportError("no module of that name"), SyntaxError("torn"), SystemExit(0)])
def test_a_command_that_cannot_be_imported_falls_into_the_net(here, monkeypatch, tmp_path, error):
    def torn(name):
        raise error

    monkeypatch.setattr(cli, "import_module", torn)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    refused(here("status", workspace=tmp_path / "w"), type(error).__name__, code=70)


def test_the_traceback_lies_in_the_workspace_if_there_is_one_and_no_workspace_is_made_for_it(raising, tmp_path):
    root = tmp_path / "w"
    assert traceback_in(raising(ValueError())[2])[0].parent == tmp_path and not root.exists()
    (root / "locks").mkdir(parents=True)
    assert traceback_in(raising(ValueError())[2])[0].parent == root / "errors"
    (root / "errors" / "kept").touch()
    shutil.rmtree(root / "errors")
    (root / "errors").write_text("a file in its place")
    assert traceback_in(raising(ValueError())[2])[0].parent == tmp_path
    line = refused(raising_nowhere(raising, tmp_path), "cannot be written", "raised in ", code=70)
    assert "test_net.py:" in line


def raising_nowhere(raising, tmp_path):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path / "w" / "errors"))  # a file
        return raising(ValueError("no place"))


def test_no_secret_is_in_line_or_file(raising, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter22@host.example/x")
    line = raising(ValueError("cannot reach http://me:hunter22@host.example/x"))[2]
    assert "hunter22" not in line + traceback_in(line)[1] and "host.example" in line


def test_errors_in_threads_and_on_the_way_out_are_a_line_each(capfd, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for hook in ("excepthook", "unraisablehook"):
        owner = threading if hook == "excepthook" else sys
        monkeypatch.setattr(owner, hook, getattr(owner, hook))
    monkeypatch.setattr(net, "_place", [])
    net.hold_threads_and_exit()
    thread = threading.Thread(target=lambda: 1 / 0, name="pump")
    thread.start()
    thread.join()

    class Torn:
        def __del__(self):
            raise ValueError("torn down")

    torn = Torn()
    del torn
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2 and "in thread pump: ZeroDivisionError" in lines[0] and "torn down" in lines[1]
    assert all(line.startswith("lanelock: note: ") and "Traceback" in traceback_in(line)[1] for line in lines)


def test_without_a_command_the_help_is_readable(capfd):
    with pytest.raises(SystemExit) as left:
        cli.main([])
    out, err = capfd.readouterr()
    assert left.value.code == 2 and out == "" and "\n  sweep " in err


def test_what_begins_a_sweep_is_refused_where_one_goes_on(tmp_path):
    lane, workspace = lane_with(tmp_path, budget__trials=2), Workspace.at(tmp_path / "w")
    play(lane, workspace, track=False)
    lane, enqueued = lane_with(tmp_path, budget__trials=4), tmp_path / "list.json"
    enqueued.write_text("[]")
    for option, beginning in (("--enqueue", Beginning(enqueue=enqueued)), ("--sobol", Beginning(design=4))):
        with pytest.raises(LaneError, match=f"{option} .*: queue-1 is continued as it began; {option} belongs to a"):
            play(lane, workspace, resume=True, track=False, beginning=beginning)
    assert len(play(lane, workspace, resume=True, track=False).trials) == 4
