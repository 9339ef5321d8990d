"""A name is one part of a path and needs no quoting; every schema states the same pattern."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lanelock.policies import PolicyError
from lanelock.policies.documents import SCHEMAS, read_json, resolve, shipped_schema, validate
from lanelock.policies.names import ALIASES, NAME, PACK_NAME, check_name, inside, is_name, name_from, path_named
from lanelock.sweeps.proof.promotion import ALIASES as RULES

NO_NAMES = (
    "", ".", "..", "../up", "/root", "a/b", "a\\b", "a\0b", "a\nb", "a\n", "\x1b[2J", "-rf", ".hidden", "~", "a b",
    "a'b", 'a"b', "a`b", "$HOME", "*", "naïve", "a" * 201,
)  # fmt: skip


def test_names_are_parts_of_a_path():
    for text in ("p1-3", "segment_2b-1.joint", "queue-1.7.0123456789ab", "_", "0", "1.0+dev", "a" * 200):
        assert is_name(text) and check_name(text, "x") == text and inside(Path("/w"), text) == Path("/w") / text
    for text in NO_NAMES:
        assert not is_name(text), text
        with pytest.raises(PolicyError, match="is not a name for a file or folder: a letter, digit or _") as refused:
            inside(Path("/w"), "locks", text)
        assert str(refused.value).isprintable() and len(str(refused.value)) < 200, "and the message does no harm"
    for value in (None, 7, ["a"]):
        assert not is_name(value)
    with pytest.raises(PolicyError, match=r"lock\.json: /sweep: '\.\.' is not a name for a sweep"):
        check_name("..", "a sweep", "lock.json: /sweep")


@given(st.text(max_size=210))
@example("../" * 20)
def test_whatever_the_text_the_path_stays_in_its_folder(text):
    if is_name(text):
        assert inside(Path("/w/f"), text).resolve().parent == Path("/w/f")
    assert is_name(name_from(text)) and (not is_name(text) or name_from(text) == text)


def test_a_folder_that_is_no_name_gives_one():
    assert [name_from(text) for text in ("my pack (2)", "-x", "", "..", "größe")] == [
        "my_pack__2_", "_x", "_", "_.", "gr__e",
    ]  # fmt: skip


def test_an_alias_is_never_a_path(tmp_path, monkeypatch):
    assert set(ALIASES) == set(RULES)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "certified").mkdir()
    assert path_named("certified") is None and path_named("./certified") == Path("certified") and not path_named("")
    with pytest.raises(PolicyError, match="neither a path"):
        resolve("certified", "packs")
    with pytest.raises(PolicyError, match="neither a path"):
        resolve("", "packs")
    assert resolve("./certified", "packs") == Path("certified")


NAMED = {  # schema -> the fields that become a path, a query or an id
    "lock": ("sweep", "engine"),
    "move": ("to/properties/sweep", "to/properties/engine", "to/properties/evidence"),
    "evidence": ("sweep", "engine"),
    "campaign": ("engine",),
    "lane": ("engine",),
    "pack": ("engine",),
    "trust": ("keys/items/properties/name",),
}


def test_every_schema_states_the_same_pattern():
    for schema, fields in NAMED.items():
        for field in fields:
            node = shipped_schema(schema)["properties"]
            for part in field.split("/"):
                node = node[part]
            assert node["pattern"] == NAME, (schema, field)
    lock = shipped_schema("lock")
    assert lock["properties"]["authority"]["properties"]["name"]["pattern"] == PACK_NAME
    assert lock["$defs"]["pack"]["properties"]["name"]["pattern"] == PACK_NAME


def test_a_field_that_holds_a_name_has_a_pattern_wherever_it_stands():
    """Whoever adds a document says which strings of it are names."""
    fields = {"sweep", "engine", "alias", "lock_id", "evidence", "run_id"}
    for path in sorted(SCHEMAS.glob("*.schema.json")):
        for name, node in _properties(read_json(path)):
            if name in fields and "string" in json.dumps(node.get("type", "")):
                assert "pattern" in node or "const" in node or "enum" in node, (path.name, name)


def _properties(node):
    if isinstance(node, dict):
        yield from ((name, inner) for name, inner in node.get("properties", {}).items() if isinstance(inner, dict))
        node = list(node.values())
    if isinstance(node, list):
        for inner in node:
            yield from _properties(inner)


def test_a_pattern_ends_where_the_text_ends():
    schema = {"$id": "one", "type": "string", "pattern": "^[a-z]$"}
    validate("a", schema, "x")
    with pytest.raises(PolicyError, match="does not match"):
        validate("a\n", schema, "x")
    validate("anything", {"$id": "two", "type": "string", "pattern": "y"}, "x")
    validate("5$ each", {"$id": "three", "type": "string", "pattern": "[0-9]\\$"}, "x")
