"""One reader: which files, encodings, sizes, depths and numbers it takes, and the one line for all others."""

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.policies import PolicyError
from lanelock.policies.documents import DEEPEST, WHOLE, parse_json, read_json, shipped_schema, validate
from lanelock.policies.edit import edited
from lanelock.policies.files import open_file, read_bytes

LEAVES = st.none() | st.booleans() | st.integers(1 - WHOLE, WHOLE - 1) | st.floats(-1e300, 1e300)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DOCUMENTS = st.recursive(
    LEAVES | TEXTS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)
FAULTS = {
    "NaN": "nan is not a JSON number",
    "-Infinity": "-inf is not a JSON number",
    "1e999": "inf is not a JSON number",
    str(WHOLE): "a whole number may be at most 9007199254740991",
    str(-WHOLE): "a whole number may be at most 9007199254740991",
    "1" * 4000: "a whole number may be at most 9007199254740991",
    '"\\ud800"': "half a surrogate pair",
    '{"\\udfff": 1}': "half a surrogate pair",
}


def refusal(call):
    with pytest.raises(PolicyError) as refused:
        call()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def pipe(path):
    os.mkfifo(path)


def door(path):
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(path.parent, os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{here}/{path.name}")  # the whole path may be too long for a socket
        os.close(here)


STRANGE = {
    "a named pipe, not a file": pipe,
    "a device, not a file": lambda path: path.symlink_to("/dev/zero"),
    "a socket, not a file": door,
    "a folder, not a file": Path.mkdir,
    "no such file": lambda path: path.symlink_to("nowhere"),
    "Too many levels of symbolic links": lambda path: path.symlink_to(path.name),
    "larger than 134,217,728 bytes": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}


@pytest.mark.parametrize("said", STRANGE)
def test_only_a_regular_file_of_bounded_size_is_read(tmp_path, said):
    path = tmp_path / "document.json"
    STRANGE[said](path)
    line = refusal(lambda: read_json(path))
    assert line.startswith(f"{path}: ") and said in line


@pytest.mark.parametrize("make", [pipe, door, Path.mkdir, lambda path: path.symlink_to("/dev/null")])
def test_whatever_opens_a_file_opens_no_other_thing(tmp_path, make):
    make(tmp_path / "it")
    with pytest.raises(OSError, match="not a file") as refused:
        open_file(tmp_path / "it")
    assert refused.value.filename == str(tmp_path / "it") and refused.value.strerror


def test_a_file_that_states_no_size_is_bounded_while_it_is_read():
    path = Path("/proc/self/environ")
    assert path.stat().st_size == 0
    with pytest.raises(OSError, match="larger than 3 bytes"):
        read_bytes(path, 3)
    assert len(read_bytes(path, 1 << 22)) > 3


def test_a_file_of_just_the_largest_size_is_read(tmp_path):
    path = tmp_path / "document.json"
    path.write_bytes(b'"four"')
    assert read_json(path, largest=6) == "four"
    assert "larger than 5 bytes" in refusal(lambda: read_json(path, largest=5))


@given(DOCUMENTS, st.booleans(), st.booleans())
def test_what_is_written_is_read_with_or_without_a_byte_order_mark(document, mark, escaped):
    text = json.dumps(document, ensure_ascii=escaped)
    data = (b"\xef\xbb\xbf" if mark else b"") + text.encode()
    assert parse_json(data, "x") == document
    assert parse_json(data.decode(), "x") == document


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_another_encoding_is_refused(encoding):
    line = refusal(lambda: parse_json('{"name": "é"}'.encode(encoding), "a.json"))
    assert line.startswith("a.json: ") and ("not UTF-8" in line or "not JSON" in line)


@given(DOCUMENTS, st.sampled_from(sorted(FAULTS)), st.lists(st.sampled_from(["a", 0]), max_size=5))
def test_a_value_that_strict_json_does_not_have_is_named_by_its_place(beside, fault, way):
    text = fault
    for step in reversed(way):
        text = f'{{"a": {text}}}' if step == "a" else f"[{text}, {json.dumps(beside)}]"
    line = refusal(lambda: parse_json(text, "a.json"))
    assert line.startswith(f"a.json: {''.join(f'/{step}' for step in way) or '/'}: ") and FAULTS[fault] in line


def test_ids_of_a_table_may_be_larger_than_other_numbers():
    assert parse_json(f"[{2**64 - 1}]", "x", ids=True) == [2**64 - 1]
    assert "nan" in refusal(lambda: parse_json("[NaN]", "x", ids=True))


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_nesting_is_bounded(opened, closed):
    levels = opened.count("[") + opened.count("{")
    most = DEEPEST // levels
    parse_json(opened * most + "1" + closed * most, "x")
    for count in (most + 1, 900, 200_000):
        assert "x: " in (line := refusal(lambda: parse_json(opened * count + "1" + closed * count, "x"))), count  # noqa: B023
        assert "nested deeper than 100 levels" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "a": 1}', "x: /a: the field is given twice"),
        ('[{"a": {"b": 1, "b": 2}}]', "x: /b: the field is given twice"),
        ("", "x: line 1 column 1: not JSON"),
        ("[1,\n2,\n]", "x: line 3 column 1: not JSON"),
        ("1 2", "x: line 1 column 3: not JSON"),
        ("\ufeff\ufeff1", "not JSON"),
        ("1" * 5000, "x: Exceeds the limit (4300 digits)"),
    ],
)
def test_text_that_is_not_strict_json_is_refused(text, said):
    assert said in refusal(lambda: parse_json(text, "x"))


@given(st.floats(-1e9, 1e9).map(round).map(float))
def test_an_integer_is_written_without_a_point(value):
    schema = {"type": "object", "properties": {"batch": {"type": "integer"}, "rate": {"type": "number"}}}
    validate({"batch": int(value), "rate": value}, schema, "x")
    line = refusal(lambda: validate({"batch": value}, schema, "x"))
    assert line.startswith("x: /batch: ") and line.endswith("is not of type integer")


@pytest.mark.parametrize("value", [True, 1.0, np.float64(1), "1", None, [1]])
def test_no_other_type_is_an_integer(value):
    assert "/seeds/0: " in refusal(lambda: validate({"seeds": [value]}, {"properties": {"seeds": SEEDS}}, "x"))


SEEDS = {"type": "array", "items": {"type": "integer"}}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), WHOLE, 10**400, np.float64("nan"), "\ud800"])
def test_a_document_made_in_memory_is_held_to_the_same(value):
    assert "x: /a/0: " in refusal(lambda: validate({"a": [value]}, {}, "x"))


@pytest.mark.parametrize("kind", ["run_receipt", "run_record", "registry", "campaign_phase", "campaign_run", "letter"])
def test_a_document_that_is_no_object_is_refused_under_each_schema(kind):
    for document in ([], 1, "x", None):
        assert "x: /: " in refusal(lambda: validate(document, shipped_schema(kind), "x"))  # noqa: B023


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_file_keeps_its_byte_order_mark_when_a_value_is_changed(mark):
    text = f'{mark}{{"a": 0.10, "b": 2}}'
    assert edited(text, {"a": 0.1, "b": 3}, "x") == f'{mark}{{"a": 0.10, "b": 3}}'
