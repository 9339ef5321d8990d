"""Some inputs of every kind, those that failed once, and whether the machine sees what it looks for."""

import json
import time
from dataclasses import replace

import pytest

from lanelock.policies import IntegrityError, PolicyError

from . import lines, trial
from .changes import MAKE, changed
from .ground import build
from .judge import Answer, fault, stated
from .machine import Tally, drawn, play, recipes
from .subjects import BY_NAME, Reader
from .trial import KINDS, Bench, Input

SEED, EACH = 2026, 6  # of `make fuzz`, whose inputs are others, as many as one likes


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("fuzz")
    return Bench.at(build(root / "kept"), root / "ground")


def failing(bench, inputs):
    tally = Tally()
    play(bench, inputs, tally)
    return [f"{failure.fault}: {failure.recipe[:400]} {failure.message[:400]!a}" for failure in tally.failures]


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_of_every_kind_end_in_a_line_or_in_the_same_answer(bench, kind):
    assert not failing(bench, drawn(bench.ground, [kind], SEED, 0, 1, EACH))


def test_what_failed_once_does_not_fail_again(bench):
    assert not failing(bench, (Input.read(recipe, where) for where, recipe in recipes()))


def test_an_input_follows_from_its_name_and_is_held_by_a_line_of_text(bench):
    for kind in KINDS:
        one = Input.drawn(kind, 1, 7, bench.ground)
        assert one == Input.drawn(kind, 1, 7, bench.ground)
        assert json.loads(one.recipe) == json.loads(Input.read(one.recipe).recipe)
        assert Input.drawn(kind, 2, 7, bench.ground) != one


def test_every_change_changes_a_file_that_has_a_place_for_it(bench):
    """A change that does nothing would be an input that tries nothing."""
    seen = set()
    for number in range(60):
        for kind in ("lock", "journal", "world_csv", "world_parquet"):
            one = Input.drawn(kind, SEED, number, bench.ground)
            content = BY_NAME[kind].where(bench.ground)[0].read_bytes()
            seen |= {change[0] for change in one.changes if change[0] in MAKE and changed(content, [change]) != content}
    assert seen == set(MAKE)


# What the machine looks for


def put(bench, call, kind="policy", change=("set", ["servers"], "9"), law="free", command=False):
    """Returns what is said of an input whose reader is `call`."""
    subject = BY_NAME[kind]
    reader = Reader(f"a reader {id(call)}", law, call, command)
    bench._before[kind, reader.name] = Answer("value", "as it was")
    BY_NAME[kind] = replace(subject, readers=(*subject.readers, reader))
    try:
        return bench.tried(Input(kind, 1, reader.name, (change,))).fault
    finally:
        BY_NAME[kind] = subject


def raising(error):
    def call(ground):
        raise error

    return call


def test_it_sees_a_crash_a_hang_and_a_message_that_names_no_file(bench, monkeypatch):
    monkeypatch.setattr(trial, "PATIENCE", 0.05)
    monkeypatch.setattr(trial.answer, "__defaults__", (0.05,))
    assert "ZeroDivisionError" in put(bench, lambda ground: 1 // 0)
    assert put(bench, lambda ground: time.sleep(30)).startswith("hang")
    assert "MemoryError" in put(bench, lambda ground: bytearray(2 * trial.MEMORY))
    assert put(bench, raising(PolicyError("something is wrong"))).startswith("names no file")
    assert put(bench, raising(PolicyError("queue_policy_v1.json: /servers: is wrong"))) is None


def test_it_sees_what_is_accepted_in_silence(bench):
    other = {"law": "held", "change": ("set", ["servers"], "9")}
    assert put(bench, lambda ground: "something else", **other) == "accepted, though it carries its digest"
    assert put(bench, raising(IntegrityError("queue_policy_v1.json: changed")), **other) is None
    assert put(bench, lambda ground: "something else") is None, "another valid policy is another input"
    same = ("insert", 0, "efbbbf")
    assert put(bench, lambda ground: "something else", change=same).startswith("changed, though")
    for nothing in (("cut", 20), ("set", ["servers"], "NaN"), ("twice", ["servers"], "9"), ("become", "fifo")):
        assert put(bench, lambda ground: "as it was", change=nothing).startswith("accepted, though the file states")


def test_it_sees_what_a_reading_command_wrote_and_puts_it_back(bench):
    def call(ground):
        (ground.workspace.root / "left").write_text("here")
        return ["policy", "digest", str(ground.files / "queue" / "pack")]

    assert put(bench, call, command=True) == "wrote workspace/left"
    assert not (bench.ground.workspace.root / "left").exists()


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("lanelock: x: a\u202eb\n", "reaches the terminal"),
        ("lanelock: x: \x1b[2J\n", "reaches the terminal"),
        (f"lanelock: x: {'y' * 2_000}\n", "a line of 2000 characters"),
        ("lanelock: x\nand more\n", "lines"),
        ("Traceback (most recent call last):\nValueError: x\n", "traceback"),
        ("", "without a word"),
    ],
)
def test_it_sees_a_line_that_is_not_clean(message, found):
    assert found in fault("free", "other", Answer("value"), Answer("refused", 2, message, code=2), ["x"])
    assert found in lines.fault(["run"], Answer("refused", 2, message, code=2))


def test_what_a_changed_file_states_is_told_from_its_bytes():
    assert stated(b'{"a": 4}', b'{ "a" : 4.0 }', "json") == "same"
    assert stated(b'{"a": 1}', b'{"a": true}', "json") == "other"
    assert [stated(b'{"a": 1}', text, "json") for text in (b'{"a": 1', b'{"a": 1e999}', b"[" * 10**5)] == [
        "nothing"
    ] * 3
    assert stated(b"a,b\n1,2\n", b'\xef\xbb\xbf"a",b\r\n1,2\r\n', "csv") == "same"
    assert stated(b"a,b\n1,2\n", b"a,b\n1,3\n", "csv") == "other"


def test_every_command_has_its_lines():
    """A command that is added later is tried without being named here."""
    named = {words for words, _ in lines.commands()}
    assert {("sweep",), ("policy", "diff"), ("lock", "show"), ("world", "build")} <= named
