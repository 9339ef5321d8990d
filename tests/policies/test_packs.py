"""Packs: strict reading, schemas, digests, moved knobs, differences."""

import json
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from lanelock.engine.segment_2b.run import SEGMENT_2B
from lanelock.policies import PolicyError, diff, load_pack
from lanelock.policies.documents import ROOT, SCHEMAS, digest, read_json, shipped, shipped_schema, validate

SCHEMA_NAMES = sorted(path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.json"))


def nodes(schema, pointer=""):
    yield pointer, schema
    for key in ("properties", "$defs"):
        for name, inner in schema.get(key, {}).items():
            yield from nodes(inner, f"{pointer}/{name}")
    for key in ("items", "additionalProperties"):
        inner = schema.get(key)
        if isinstance(inner, dict):
            yield from nodes(inner, f"{pointer}/{key}")
    for index, inner in enumerate(schema.get("prefixItems", ())):
        yield from nodes(inner, f"{pointer}/{index}")


@pytest.mark.plan("1.5", "P3.1.1", "P2.0.2")
@pytest.mark.parametrize("name", SEGMENT_2B.policy_schemas)
def test_every_field_of_a_policy_is_closed_bounded_and_described(name):
    for pointer, node in nodes(SEGMENT_2B.policy_schemas[name]):
        kinds = node.get("type", [])
        kinds = {kinds} if isinstance(kinds, str) else set(kinds)
        if "object" in kinds:
            assert node.get("additionalProperties") is False or isinstance(node["additionalProperties"], dict), pointer
        if kinds & {"number", "integer"}:
            assert {"minimum", "exclusiveMinimum"} & set(node) and {"maximum", "exclusiveMaximum"} & set(node), pointer
        if pointer and not pointer.rpartition("/")[2].isdigit() and "$ref" not in node and "/items" not in pointer:
            assert node.get("description"), f"{name}{pointer} is not described"


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"x-frist-state": "S1"}, "x-frist-state"),
        ({"properties": {"deep": {"items": {"x-note": "mine"}}}}, "/properties/deep/items/'x-note'"),
        ({"properties": {"deep": {"x-first-state": 4}}}, "4 is not of type string"),
        ({"properties": {"deep": {"type": "nmber"}}}, "/properties/deep/type: 'nmber'"),
    ],
)
def test_a_policys_schema_has_one_key_of_ours_at_any_depth(node, said):
    schema = {"type": "object", "x-first-state": "S1", "additionalProperties": False}
    validate(schema, shipped_schema("policy"), "mine")
    with pytest.raises(PolicyError, match=said):
        validate({**schema, **node}, shipped_schema("policy"), "mine")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.schema.json")), ids=lambda path: path.name)
def test_every_shipped_schema_is_a_json_schema(path):
    """Held here, so that no start has to."""
    Draft202012Validator.check_schema(read_json(path))


@pytest.mark.parametrize("kind", ["packs/*/*", "gates", "lanes/*", "campaigns/*"])
def test_shipped_files_name_their_schema_so_that_an_editor_completes_them(kind):
    paths = sorted(ROOT.glob(f"*/{kind}.json"))
    assert paths
    for path in paths:
        named = read_json(path)["$schema"]
        assert (path.parent / named).resolve().is_file(), path


@pytest.mark.plan("P2.2.2")
@pytest.mark.parametrize("name", shipped("packs"))
def test_shipped_packs_are_valid(name):
    pack = load_pack(name, SEGMENT_2B.policy_schemas)
    assert pack.name == name and set(pack.policies) == set(SEGMENT_2B.policy_schemas)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(JSON)
def test_a_digest_sees_values_and_nothing_of_how_they_are_written(document):
    def turned(node):
        if isinstance(node, dict):
            return {key: turned(node[key]) for key in reversed(list(node))}
        return [turned(inner) for inner in node] if isinstance(node, list) else node

    assert digest(document) == digest(turned(document)) == digest(json.loads(json.dumps(document, indent=3)))


def broken(tmp_path, policy, change):
    """A copy of p2 with one policy's text changed."""
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "segment_2b" / "packs" / "p2", folder)
    path = folder / f"{policy}.json"
    path.write_text(change(path.read_text()))
    return folder


MIX = "group_mix_regularizer_v1"


@pytest.mark.plan("1.5")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace('"knee"', '"kneee"'), "/: unknown field kneee"),
        (lambda text: text.replace('"knee": 1.0', '"knee": 99999'), "/knee: 99999 is above the maximum 12"),
        (lambda text: text.replace('"knee": 1.0', '"knee": 0'), "/knee: 0 is below the minimum 0.25"),
        (lambda text: text.replace('"knee": 1.0', '"knee": NaN'), "/knee: nan is not a JSON number"),
        (lambda text: text.replace('"knee": 1.0', '"knee": 1e999'), "/knee: inf is not a JSON number"),
        (lambda text: text.replace('"knee": 1.0', '"knee": "x"'), '/knee: "x" is not of type number'),
        (lambda text: text.replace('"knee": 1.0', '"knee": true'), "/knee: true is not of type number"),
        (lambda text: text.replace('"knee": 1.0', '"knee": 1.0, "knee": 2.0'), "/knee: the field is given twice"),
        (lambda text: text[: len(text) // 2], "not JSON"),
        (lambda text: "[]", "/: [] is not of type object"),
        (lambda text: "", "line 1 column 1: not JSON"),
        (
            lambda text: text.replace('"law": "smooth_soft_cap_v1"', '"law": "magic"').replace(
                '"law": "uniform_blend_v1"', '"law": "magic"'
            ),
            "/law",
        ),
    ],
)
def test_a_bad_policy_is_refused_with_file_field_and_bound(tmp_path, change, said):
    with pytest.raises(PolicyError) as refused:
        load_pack(broken(tmp_path, MIX, change), SEGMENT_2B.policy_schemas)
    assert said in str(refused.value) and f"{MIX}.json" in str(refused.value) and "\n" not in str(refused.value)


def test_a_pack_has_exactly_its_policies(tmp_path):
    folder = tmp_path / "mine"
    shutil.copytree(ROOT / "segment_2b" / "packs" / "p2", folder)
    (folder / "route_rng_policy_v1.json").unlink()
    with pytest.raises(PolicyError, match=r"route_rng_policy_v1\.json: the policy is missing"):
        load_pack(folder, SEGMENT_2B.policy_schemas)
    (folder / "other.json").write_text("{}")
    with pytest.raises(PolicyError, match=r"other\.json: not a policy"):
        load_pack(folder, SEGMENT_2B.policy_schemas)
    shipped = "baseline, p1, p2, p2_lively, p2_r1, p3_first, p3_recorded, p3_smooth, p3_wide"
    with pytest.raises(PolicyError, match=f"neither a path nor one of the shipped packs: {shipped}"):
        load_pack("nope", SEGMENT_2B.policy_schemas)


def test_knobs_move_what_exists_within_its_bounds_and_nothing_else(packs):
    pack = packs("p2")
    moved = pack.with_knobs({f"{MIX}#/knee": 2.5})
    assert moved[MIX]["knee"] == 2.5 and pack[MIX]["knee"] == 1.0
    assert moved.digest != pack.digest and moved.with_knobs({f"{MIX}#/knee": 1.0}).digest == pack.digest
    for address, value in {
        f"{MIX}#/knee": 99,
        f"{MIX}#/other": 1,
        "other#/knee": 1,
        f"{MIX}/knee": 1,
        f"{MIX}#/knee/deep": 1,
    }.items():
        with pytest.raises(PolicyError):
            pack.with_knobs({address: value})
    with pytest.raises(PolicyError):
        pack.with_knobs({f"{MIX}#/knee": math.nan})


def test_a_difference_names_the_field_and_the_first_state_it_touches(packs):
    rows = {(change.policy, change.pointer): change for change in diff(packs("baseline"), packs("p3_recorded"))}
    assert rows["alias_layout_policy_v1", "/law"].state == "S1"
    assert rows["day_effect_policy_v1", "/law"].state == "S3"
    enabled = rows[MIX, "/enabled"]
    assert (enabled.before, enabled.after, enabled.state) == (False, True, "S4")
    assert diff(packs("p3_recorded"), packs("p3_recorded")) == []
    wide = {change.pointer: change.state for change in diff(packs("p2"), packs("p3_wide"))}
    assert wide["/breadth/breadth"] == "1B" or wide["/breadth/breadth"] == "1A"


def test_a_schema_is_named_in_the_message_it_refuses_with():
    with pytest.raises(PolicyError, match=r"^mine\.json: /: missing field id"):
        document = read_json(Path(ROOT / "segment_2b" / "lanes" / "p3.json"))
        del document["id"]
        validate(document, shipped_schema("lane"), "mine.json")
