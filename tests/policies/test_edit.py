"""Values change in a JSON text, and no byte around them: law `parse(edited(text, wanted)) == wanted`."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.policies import PolicyError
from lanelock.policies.edit import edited

NAMES = st.text(st.characters(codec="utf-8"), max_size=4)
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.none() | st.booleans() | NUMBERS | st.text(st.characters(codec="utf-8"), max_size=6)
SPACE = st.text(" \t\r\n", max_size=3)


@st.composite
def shapes(draw, depth=3):
    """A document, and another of the same structure: same keys, arrays for arrays, plain values for plain values."""
    kind = draw(st.sampled_from(["plain", "object", "array"] if depth else ["plain"]))
    if kind == "plain":
        return draw(PLAIN), draw(PLAIN)
    if kind == "array":
        pairs = draw(st.lists(shapes(depth - 1), max_size=3))
        cut = draw(st.integers(0, len(pairs)))
        return [old for old, _ in pairs], [new for _, new in pairs][:cut]
    names = draw(st.lists(NAMES, max_size=4, unique=True))
    pairs = {name: draw(shapes(depth - 1)) for name in names}
    order = draw(st.permutations(names))
    return {name: pairs[name][0] for name in names}, {name: pairs[name][1] for name in order}


@st.composite
def spelled(draw, value, ascii_only):
    """A document as text, with spaces anywhere and numbers spelled as a person may."""

    def spaced(text):
        return f"{draw(SPACE)}{text}{draw(SPACE)}"

    if isinstance(value, dict):
        rows = [
            spaced(json.dumps(k, ensure_ascii=ascii_only)) + ":" + draw(spelled(v, ascii_only))
            for k, v in value.items()
        ]
        return spaced("{" + (",".join(rows) or draw(SPACE)) + "}")
    if isinstance(value, list):
        return spaced("[" + (",".join(draw(spelled(item, ascii_only)) for item in value) or draw(SPACE)) + "]")
    text = json.dumps(value, ensure_ascii=ascii_only)
    if isinstance(value, float) and "e" not in text and draw(st.booleans()):
        text += draw(st.sampled_from(["0", "00", "e0", "E+0"]))
    return spaced(text)


def same(a, b):
    """Equal as JSON: 1 is 1.0, and true is not 1."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b and isinstance(a, bool) == isinstance(b, bool)


@given(shapes().flatmap(lambda pair: st.tuples(st.just(pair), st.booleans().flatmap(lambda a: spelled(pair[0], a)))))
def test_the_text_becomes_the_document_and_its_own_document_changes_nothing(drawn):
    (old, new), text = drawn
    assert edited(text, old, "f.json") == text
    assert same(json.loads(edited(text, new, "f.json")), new)


@given(st.lists(st.tuples(NAMES, NUMBERS, NUMBERS, SPACE), min_size=1, max_size=6, unique_by=lambda row: row[0]))
def test_no_byte_outside_the_changed_values_moves(rows):
    """The text is cut at its values: what lies between them is the same before and after, and so is what stays."""
    between = [f"{space}{json.dumps(name)} :{space}" for name, *_, space in rows]
    before = (
        "{" + ",".join(f"{head}{json.dumps(old)}" for head, (_, old, *_) in zip(between, rows, strict=True)) + "}\n"
    )
    after = edited(before, {name: new for name, _, new, _ in rows}, "f.json")
    wanted = ((old if old == new else new) for _, old, new, _ in rows)
    assert after == "{" + ",".join(f"{head}{json.dumps(v)}" for head, v in zip(between, wanted, strict=True)) + "}\n"


def test_what_a_person_wrote_stays_as_it_was_written():
    text = '{\r\n\t"b": 0.10, "law":"é",\n  "a" : [1e-3,  2.50, {"on": true}],\n"n": 1e2 }'
    wanted = {"a": [0.001, 3, {"on": False}], "b": 0.1, "law": "è", "n": 100}
    assert (
        edited(text, wanted, "f.json") == '{\r\n\t"b": 0.10, "law":"è",\n  "a" : [1e-3,  3, {"on": false}],\n"n": 1e2 }'
    )
    assert edited('{"a": [ 1, 2 ]}', {"a": [1]}, "f") == '{"a": [1]}', "an array of another length is written anew"
    assert edited('{"a": 1}', {"a": True}, "f") == '{"a": true}' and edited(" 1 ", 2, "f") == " 2 "


@pytest.mark.parametrize(
    ("text", "wanted", "said"),
    [
        ('{"a": {"x": 1}}', {"a": {"x": 1, "y/z": 2}}, "f.json: /a/y~1z: is missing from the file"),
        ('{"a": {"x": 1, "y": 2}}', {"a": {"x": 1}}, "f.json: /a/y: is in the file, not in the pack"),
        ('{"a": 1}', {"a": {"x": 1}}, "f.json: /a: is a plain value in the file"),
        ('{"a": [1]}', {"a": 2}, "f.json: /a: is an array in the file"),
        ('{"a": [{}]}', {"a": [[]]}, "f.json: /a/0: is an object in the file"),
        ("[]", {}, "f.json: /: is an array in the file"),
    ],
)
def test_a_structure_that_differs_is_named(text, wanted, said):
    with pytest.raises(PolicyError, match=re.escape(said)):
        edited(text, wanted, "f.json")
