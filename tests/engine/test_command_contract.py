"""Commands under the contract of every engine: results on stdout, in a folder of files, and from a server."""

import atexit
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
from programs import SCHEMA, program

from lanelock.engine.command import CommandEngine
from lanelock.engine.testing import EngineContract
from lanelock.policies import pack_of

PYTHON = f"#!{sys.executable} -IS\nimport json, os, random, sys, time\n"
DRAWN = """
def drawn(level, count, seed):
    draw = random.Random(seed)
    return {"mean": level + draw.random(), "wait": [draw.gauss(level, 1) for _ in range(count)]}
"""
DEFAULTS = {
    **SCHEMA,
    "required": ["level", "count"],
    "properties": {
        "level": {**SCHEMA["properties"]["level"], "default": 1.5},
        "count": {**SCHEMA["properties"]["count"], "default": 2},
    },
}
ON_STDOUT = """
config = json.load(open(sys.argv[1]))
print("took", time.time(), file=sys.stderr)
print(json.dumps(drawn(**config)))
"""
IN_A_FOLDER = """
config = json.load(open(sys.argv[1]))
result = drawn(**config)
print("took", time.time())
with open(sys.argv[2] + "/metrics.json", "w") as file:
    json.dump({"mean": result["mean"]}, file)
with open(sys.argv[2] + "/waits.csv", "w") as file:
    file.write("wait,seed\\n" + "".join(f"{wait!r},{config['seed']}\\n" for wait in result["wait"]))
"""
ANSWERING = """
for line in sys.stdin:
    asked = json.loads(line)
    print("took", time.time(), file=sys.stderr)
    print(json.dumps({"id": asked["id"], "result": drawn(**asked["params"], seed=asked["seed"])}), flush=True)
"""


@cache
def home(text):
    """The folder of a program, also in a process that knows no fixtures."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    program(Path(folder.name), PYTHON + DRAWN + text)
    return Path(folder.name)


class Commands(EngineContract):
    text, command, output, server = "", "./program {config}", None, False

    def make_engine(self):
        return CommandEngine(
            "heater", self.command, DEFAULTS, folder=home(self.text), output=self.output, server=self.server
        )

    def make_pack(self):
        return pack_of("one", {"params": {"level": 1.5, "count": 3}}, {"params": DEFAULTS})


del EngineContract  # its tests are those of the classes below


class TestOnStdout(Commands):
    text = ON_STDOUT


class TestInAFolder(Commands):
    text, command, output = IN_A_FOLDER, "./program {config} {out}", "out/"


class TestServer(Commands):
    text, command, server = ANSWERING, "./program", True


@pytest.mark.parametrize("kind", [TestOnStdout, TestInAFolder, TestServer])
def test_a_published_run_keeps_what_the_program_read_wrote_and_said(kind, tmp_path):
    engine, pack = kind().make_engine(), kind().make_pack()
    folder = engine.publish(engine.evaluate(pack, 1), tmp_path / "runs").folder
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    kept = {
        TestOnStdout: {"files/config.json", "files/stdout", "logs/stderr"},
        TestInAFolder: {
            "files/config.json",
            "files/out/metrics.json",
            "files/out/waits.csv",
            "logs/stdout",
            "logs/stderr",
        },
        TestServer: {"files/request.json", "files/result.json"},
    }[kind]
    assert kept <= files
    assert engine.publish(engine.evaluate(pack, 1), tmp_path / "runs").folder == folder, "its log names another time"
    assert engine.replay(folder, tmp_path / "scratch").identical
    log = folder / "logs" / "stderr"
    if log.exists():
        log.write_bytes(log.read_bytes() + b"more")
        assert [file for file, _ in engine.faults(folder)] == ["logs/stderr"]
