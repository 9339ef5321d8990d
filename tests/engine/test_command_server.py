"""Programs that stay and answer: one start for many runs, and what comes of those that answer otherwise."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from programs import SCHEMA, lives, pack, pids, program, tables, until

from lanelock.engine.command import CommandEngine
from lanelock.policies import EngineError, IntegrityError, pack_of

ANSWER = """
import json, os, sys, time
here = sys.argv[1]
with open(f"{here}/.{os.getpid()}", "w") as file:
    file.write(str(os.getpid()))
os.makedirs(f"{here}/pids", exist_ok=True)
os.rename(f"{here}/.{os.getpid()}", f"{here}/pids/{os.getpid()}")

def answer(text):
    sys.stdout.write(text)
    sys.stdout.flush()

for line in sys.stdin:
    asked = json.loads(line)
    name, id = asked["params"].get("law", ""), asked["id"]
    good = {"id": id, "result": {"level": asked["params"]["level"] + asked["seed"], "served": [1] * 3}}
    print("about to answer", file=sys.stderr)
    if name == "says why": answer(json.dumps({"id": id, "error": "no\\nlaw \\x1b[31mfits"}) + "\\n")
    elif name == "garbage": answer("Loading model...\\n")
    elif name == "half": answer('{"id": ')
    elif name == "half" or name == "silent": time.sleep(1000)
    elif name == "other id": answer(json.dumps({**good, "id": id + 1}) + "\\n")
    elif name == "more": answer(json.dumps({**good, "more": 1}) + "\\n")
    elif name == "twice": answer(2 * (json.dumps(good) + "\\n"))
    elif name == "nan": answer('{"id": %d, "result": {"a": NaN}}\\n' % id)
    elif name == "exit": sys.exit("out of fuel")
    elif name == "crash": os.kill(os.getpid(), 11)
    elif name == "hangs up": os.close(1); time.sleep(1000)
    elif name == "endless":
        while True: answer("x" * 65536)
    elif name == "memory": x = bytearray(400 << 20); time.sleep(1000)
    else: answer(json.dumps(good) + "\\n")
"""


def engine(folder, **options):
    program(folder, f"#!{sys.executable} -IS\n{ANSWER}")
    options = {"timeout_s": 60, "output_mb": 1, **options}
    return CommandEngine("heater", "./program {folder}", SCHEMA, folder=folder, server=True, **options)


def test_one_start_answers_many_runs(tmp_path):
    made = engine(tmp_path)
    for seed in range(20):
        run = made.evaluate(pack(level=2.5), seed)
        assert tables(run) == {"metrics": {"name": ["level"], "value": [2.5 + seed]}, "output": {"served": [1, 1, 1]}}
    assert len(pids(tmp_path, 1)) == 1


def test_callers_at_once_have_a_server_each(tmp_path):
    made = engine(tmp_path)
    with ThreadPoolExecutor(3) as pool:
        runs = [*pool.map(lambda seed: made.evaluate(pack(), seed), range(30))]
    assert [tables(run)["metrics"]["value"][0] for run in runs] == [1.5 + seed for seed in range(30)]
    assert 1 <= len(pids(tmp_path, 1)) <= 3


@pytest.mark.parametrize(
    ("law", "options", "said"),
    [
        ("garbage", {}, "'Loading model...': answer: line 1 column 1: not JSON"),
        ("half", {"timeout_s": 0.5}, "did not answer in 0.5 s, killed: about to answer"),
        ("silent", {"timeout_s": 0.5}, "did not answer in 0.5 s, killed"),
        ("other id", {}, 'instead of {"id": 2'),
        ("more", {}, 'instead of {"id": 2'),
        ("nan", {}, "nan is not a JSON number"),
        ("exit", {}, "exit 1: about to answer | out of fuel"),
        ("crash", {}, "killed by SIGSEGV"),
        ("hangs up", {}, "closed its stdout, killed"),
        ("endless", {}, "answered with more than 1 MiB, killed"),
        ("memory", {"memory_mb": 200}, "used more than 200 MiB of memory, killed"),
    ],
)
def test_what_is_no_answer_fails_its_run_and_the_next_has_another_server(tmp_path, law, options, said):
    made = engine(tmp_path, **options)
    first = made.evaluate(pack(), 1).digests()
    before = pids(tmp_path, 1)
    with pytest.raises(EngineError) as failed:
        made.evaluate(pack(law=law), 1)
    assert said in str(failed.value) and str(failed.value).isprintable()
    assert failed.value.details == "about to answer\n" or "out of fuel" in failed.value.details
    assert not any(map(lives, before))
    assert made.evaluate(pack(), 1).digests() == first
    assert len(pids(tmp_path, 2)) == 2


def test_an_error_that_the_server_gives_is_the_reason_and_costs_no_start(tmp_path):
    made = engine(tmp_path)
    with pytest.raises(EngineError, match=r"heater: no \| law fits$"):
        made.evaluate(pack(law="says why"), 1)
    made.evaluate(pack(), 1)
    assert len(pids(tmp_path, 1)) == 1


def test_an_answer_too_many_is_noticed(tmp_path):
    made = engine(tmp_path)
    failures = 0
    for _ in range(2):  # the second line may come after the first was taken
        try:
            made.evaluate(pack(law="twice"), 1)
        except EngineError as error:
            failures += 1
            assert "unasked" in str(error) or "instead of" in str(error)
    assert failures
    assert tables(made.evaluate(pack(), 1))["metrics"]["value"] == [2.5]


def test_a_server_that_ended_between_two_runs_costs_no_run(tmp_path):
    made = engine(tmp_path)
    first = made.evaluate(pack(), 1).digests()
    [pid] = pids(tmp_path, 1)
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not lives(pid))
    assert made.evaluate(pack(), 1).digests() == first


def test_a_configuration_larger_than_a_pipe_reaches_it(tmp_path):
    schema = {**SCHEMA, "properties": {**SCHEMA["properties"], "law": {"type": "string"}}}
    program(tmp_path, f"#!{sys.executable} -IS\n{ANSWER}")
    made = CommandEngine("heater", "./program {folder}", schema, folder=tmp_path, server=True, timeout_s=60)
    large = pack_of("one", {"params": {"level": 1, "count": 1, "law": "x" * 3_000_000}}, {"params": schema})
    assert tables(made.evaluate(large, 1))["metrics"]["value"] == [2.0]


def test_a_server_whose_program_changed_answers_no_more(tmp_path):
    made = engine(tmp_path)
    made.evaluate(pack(), 1)
    program(tmp_path, f"#!{sys.executable} -IS\n{ANSWER}# changed\n")
    with pytest.raises(IntegrityError, match="program was changed"):
        made.evaluate(pack(), 1)
