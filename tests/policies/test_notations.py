"""Documents in TOML and YAML: the JSON that they stand for, and what has none."""

import json

import pytest
import tomli_w
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lanelock.policies import PolicyError, load_pack
from lanelock.policies.notations import read_document

# PyYAML writes line separators within keys in a way that it reads back as spaces.
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")))
PLAIN = st.recursive(
    st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(TEXT, PLAIN, max_size=5))
def test_a_written_document_reads_back(tmp_path_factory, document):
    folder = tmp_path_factory.getbasetemp()
    for name, text in {
        "document.json": json.dumps(document),
        "document.toml": tomli_w.dumps(document),
        "document.yaml": yaml.safe_dump(document, allow_unicode=True),
    }.items():
        (folder / name).write_bytes(text.encode())
        assert read_document(folder / name) == document


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("a: no", "no"),  # YAML 1.1 reads False
        ("a: on", "on"),
        ("a: 1e-3", 0.001),  # YAML 1.1 reads a text
        ("a: 010", 10),  # YAML 1.1 reads 8
        ("a: 1_000", "1_000"),
        ("a: 12:30:00", "12:30:00"),
        ("a: 2020-01-01", "2020-01-01"),
        ("a: ~", None),
        ("a:", None),
        ("a: .5", 0.5),
        ("a: '1'", "1"),
    ],
)
def test_yaml_means_its_core_schema(tmp_path, text, meant):
    (tmp_path / "a.yaml").write_text(text)
    read = read_document(tmp_path / "a.yaml")["a"]
    assert (read, type(read)) == (meant, type(meant))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.toml", "d = 2020-01-01", "/d: a date has no JSON"),
        ("a.toml", "r = [{d = 10:30:00}]", "/r/0/d: a date"),
        ("a.toml", "x = nan", "/x: nan is not a JSON number"),
        ("a.toml", "x = 1\nx = 2", "not TOML"),
        ("a.toml", "x = " + "[" * 3000, "nested"),
        ("a.toml", "x = 9007199254740993", "/x: a whole number may be at most"),
        ("a.yaml", "a: &b 1\nc: *b", "line 1: anchors and aliases"),
        ("a.yaml", "a: 1\na: 2", "/a: the field is given twice"),
        ("a.yaml", "a: !!python/object:os.system x", "line 1: tags"),
        ("a.yaml", "a: 1\n---\nb: 1", "not YAML"),
        ("a.yaml", "1: a", "the key 1 is not a text"),
        ("a.yml", "a: [1, 2", "line 1 column 9: not YAML"),
        ("a.yaml", "a: " + "[" * 3000, "nested"),
        ("a.yaml", "a: .inf", "/a: inf is not a JSON number"),
        ("a.json", "{", "not JSON"),
    ],
)
def test_what_has_no_json_is_refused_in_one_line(tmp_path, name, text, why):
    (tmp_path / name).write_text(text)
    with pytest.raises(PolicyError) as refused:
        read_document(tmp_path / name)
    assert why in str(refused.value) and str(tmp_path / name) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_policy_may_be_in_any_notation_but_only_once(tmp_path):
    schema = {"type": "object", "additionalProperties": False, "properties": {"n": {"type": "integer", "maximum": 9}}}
    (tmp_path / "pack.json").write_text('{"engine": "x"}')
    (tmp_path / "policy.json").write_text('{"n": 3}')
    digest = load_pack(tmp_path, {"policy": schema}).digest
    (tmp_path / "policy.json").rename(tmp_path / "policy.json.old")
    for name, text in {"policy.toml": "n = 3", "policy.yaml": "n: 3"}.items():
        (tmp_path / name).write_text(text)
        assert load_pack(tmp_path, {"policy": schema}).digest == digest
        (tmp_path / name).write_text(text.replace("3", "12"))
        with pytest.raises(PolicyError, match=f"{name}: /n: 12 is above the maximum 9"):
            load_pack(tmp_path, {"policy": schema})
        (tmp_path / "policy.json").write_text('{"n": 3}')
        with pytest.raises(PolicyError, match="the same policy"):
            load_pack(tmp_path, {"policy": schema})
        (tmp_path / "policy.json").unlink()
        (tmp_path / name).unlink()
