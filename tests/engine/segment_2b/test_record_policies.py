"""Policies in the record's form: read as a pack, written from one, and what is said of the rest."""

import json
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from record_readers import datasets

from lanelock.engine.segment_2b.record.policies import WORLD, read_policies, stream_of, write_policies
from lanelock.engine.segment_2b.run import EDGES, EFFECTS, LAYOUT, MIX, ROUTING, SEGMENT_2B
from lanelock.policies import PolicyError, load_pack, pack_of
from lanelock.policies.documents import ROOT as POLICIES
from lanelock.policies.documents import digest, read_json, shipped

SCHEMAS = SEGMENT_2B.policy_schemas
SHIPPED = sorted(name for name, path in shipped("packs").items() if path.parent.parent.name == "segment_2b")
BASE = load_pack("baseline", SCHEMAS)
KNEE = {f"{MIX}#/knee": 3.5, f"{MIX}#/law": "smooth_soft_cap_v1", f"{EFFECTS}#/rng_stream_id": "2B.my.days"}


def again(pack, base=BASE):
    """Returns a pack written in the record's form and read back over another one."""
    documents, _ = read_policies({f"{name}.json": text for name, text in write_policies(pack).items()}, base)
    return pack_of(pack.name, documents, SCHEMAS)


def recorded():
    """Returns policies of the record's form as the recorded system states them, with all that has no meaning here."""
    documents = write_policies(load_pack("p3_recorded", SCHEMAS))
    for document in documents.values():
        del document["extensions"]
        document |= {"version_tag": "v1", "policy_version": "1.2.0"}
    documents[MIX] |= {"notes": "later", "sha256_hex": "0" * 64}
    documents[EFFECTS] |= {"created_utc_policy_echo": True, "extensions": {"owner": "risk"}}
    documents[EFFECTS]["rng_derivation"] = {**documents[EFFECTS]["rng_derivation"], "domain_master": "2B.master"}
    documents[EFFECTS]["sha256_hex"] = digest({k: v for k, v in documents[EFFECTS].items() if k != "sha256_hex"})
    documents[EDGES] |= {"geo_metadata": {"source": "atlas"}, "notes": "four edges"}
    return documents


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_pack_comes_back(name):
    pack = load_pack(name, SCHEMAS)
    assert again(pack).digest == pack.digest == again(pack, load_pack("p3_wide", SCHEMAS)).digest
    for policy, document in write_policies(pack).items():
        datasets.POLICIES[policy].kind.value(document, policy)  # by the readers, which know nothing of this writer


@settings(max_examples=15, deadline=None)
@given(
    law=st.sampled_from(["smooth_soft_cap_v1", "uniform_blend_v1"]),
    effects=st.sampled_from(["scalar_sigma_v1", "sigma_gamma_policy_v2"]),
    weights=st.sampled_from(["uniform", "profile_mixture_v2"]),
    cap=st.floats(0.55, 1.0),
    jitter=st.sampled_from([0, 0.0, 0.5]) | st.floats(0.0, 0.95),
    days=st.integers(1, 400),
    stream=st.from_regex(r"[A-Za-z0-9_.-]{1,58}", fullmatch=True),
    rules=st.lists(st.tuples(st.sampled_from(["Europe/", "Asia/", "A"]), st.floats(0.1, 5.0)), max_size=4),
)
def test_any_pack_comes_back(law, effects, weights, cap, jitter, days, stream, rules):
    sigma = f"{EFFECTS}#/sigma_gamma_policy_v2"
    pack = BASE.with_knobs({
        f"{MIX}#/law": law, f"{MIX}#/max_p_group_soft_cap": cap, f"{LAYOUT}#/law": weights, f"{EFFECTS}#/law": effects,
        f"{EFFECTS}#/horizon/days": days, f"{EFFECTS}#/rng_stream_id": stream, f"{sigma}/jitter_amplitude": jitter,
        f"{sigma}/tz_multipliers": [{"prefix": prefix, "multiplier": factor} for prefix, factor in rules],
        f"{ROUTING}#/streams/group": f"{stream}.group", f"{ROUTING}#/streams/edge": "2B.edge",
    })  # fmt: skip
    assert again(pack).digest == pack.digest
    for policy, document in write_policies(pack).items():
        datasets.POLICIES[policy].kind.value(document, policy)


def test_what_the_form_cannot_state_travels_as_an_extension():
    pack = load_pack("p1", SCHEMAS).with_knobs(KNEE)
    written = write_policies(pack)
    assert written[MIX]["extensions"]["lanelock"][MIX]["law"] == "smooth_soft_cap_v1"
    assert written[EFFECTS]["rng_stream_id"] == "2B.my.days"
    assert again(pack).digest == pack.digest


def test_edges_of_weight_zero_and_of_two_places_come_back():
    edges = BASE[EDGES]["default_edges"]
    moved = [{**edges[0], "edge_lat": 1.0}, {**edges[1], "weight": 0}]
    pack = pack_of(
        "x", {**BASE.documents(), EDGES: {"default_edges": edges, "merchant_overrides": {"7": moved}}}, SCHEMAS
    )
    assert again(pack).digest == pack.digest


def test_the_recorded_policies_are_read():
    """Laws follow from the fields that are there; what the form leaves out is the other pack's."""
    documents, _ = read_policies(recorded(), BASE)
    ours = load_pack("p3_recorded", SCHEMAS)
    assert documents[MIX] == {name: value for name, value in ours[MIX].items() if name != "$schema"}
    assert documents[LAYOUT]["profile_mixture_v2"] == ours[LAYOUT]["profile_mixture_v2"]
    assert documents[EFFECTS]["sigma_gamma_policy_v2"] == ours[EFFECTS]["sigma_gamma_policy_v2"]
    assert documents[EFFECTS]["horizon"] == {"start_day": "2026-01-01", "days": 90}
    assert documents[ROUTING]["roster"] == BASE[ROUTING]["roster"]
    assert documents[ROUTING]["streams"]["roster"] == "s5.roster" and documents["world_v1"] == BASE["world_v1"]


def test_a_field_that_the_extension_overrules_is_named():
    """Whoever edits an exported file is told if the edit changes nothing."""
    document = write_policies(BASE)[EFFECTS] | {"rng_stream_id": "2B.other"}
    read, unused = read_policies({"f.json": document}, BASE)
    assert read[EFFECTS]["rng_stream_id"] == "s3.day_effect" and "/rng_stream_id" in unused["f.json"]


def test_a_law_that_is_off_or_left_out_is_not_ours():
    documents = recorded()
    del documents[LAYOUT]["profile_mixture_v2"]
    documents[EFFECTS]["sigma_gamma_policy_v2"]["enabled"] = False
    read, _ = read_policies(documents, BASE)
    assert read[LAYOUT]["law"] == "uniform"
    assert read[EFFECTS]["law"] == "scalar_sigma_v1"
    assert read[EFFECTS]["scalar_sigma_v1"] == {"sigma": 0.12}
    assert read[EFFECTS]["sigma_gamma_policy_v2"]["sigma_max"] == 0.16, "kept for the day on which it is enabled"


def test_what_has_no_meaning_here_is_named():
    _, unused = read_policies(recorded(), BASE)
    head = ["/policy_version", "/version_tag"]
    assert unused == {
        LAYOUT: head,
        EFFECTS: ["/created_utc_policy_echo", "/extensions/owner", head[0], "/rng_derivation/domain_master", head[1]],
        MIX: ["/notes", *head, "/sha256_hex"],
        ROUTING: head,
        EDGES: ["/geo_metadata", "/notes", *head],
    }


def test_what_has_a_meaning_is_written_as_it_was_read():
    given = recorded()
    read, unused = read_policies(given, BASE)
    pack = pack_of("x", read, SCHEMAS)
    for name, document in write_policies(pack).items():
        odd = {pointer.split("/")[1] for pointer in unused[name]} | {"extensions", "sha256_hex"}
        assert {k: v for k, v in document.items() if k not in odd} == {
            k: v for k, v in given[name].items() if k not in odd
        }


def test_edges_alone_are_the_default_ones():
    given = recorded()[EDGES]
    weights = {edge["edge_id"]: edge["weight"] for edge in given.pop("default_edges")}
    given["edges"] = [{**edge, "weight": weights[edge["edge_id"]]} for edge in given["edges"]]
    read, unused = read_policies({"edges.json": given}, BASE)
    assert read[EDGES]["default_edges"] == BASE[EDGES]["default_edges"]
    assert "/edges" not in unused["edges.json"]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (MIX, {"max_p_group_soft_cap": 0.5}, "max_p_group_soft_cap: 0.5.*0.55"),
        (MIX, {"knee": 1.0}, ": unknown field knee"),
        (MIX, {"policy_id": "group_mix_v9"}, "policy_id: 'group_mix_v9' is not one of"),
        (MIX, {"policy_id": [MIX]}, r"policy_id: \['group_mix_regularizer_v1'\] is not one of"),
        (MIX, {"extensions": {"lanelock": 3}}, "extensions/lanelock: not an object"),
        (MIX, {"extensions": {"lanelock": {EDGES: {}}}}, "extensions/lanelock: unknown field virtual_edge_policy_v1"),
        (MIX, {"extensions": {"lanelock": {WORLD: {}}}}, "extensions/lanelock: unknown field world_v1"),
        (LAYOUT, {"extensions": {"lanelock": {WORLD: {}}}}, "extensions/lanelock/world_v1.*missing field"),
        (MIX, {"extensions": {"lanelock": {MIX: {"knee": 99}}}}, r", as group_mix_regularizer_v1 of a pack: /knee: 99"),
        (MIX, {"extensions": {"lanelock": {MIX: 3}}}, ", as group_mix_regularizer_v1 of a pack: /: 3 is not of type"),
        (
            ROUTING,
            {"extensions": {"lanelock": {ROUTING: {"streams": 7}}}},
            ", as route_rng_policy_v1 of a pack: /streams",
        ),
        (
            EFFECTS,
            {"day_range": {"start_day": "2026-02-30", "end_day": "2026-03-01"}},
            "/day_range/start_day: 2026-02-30",
        ),
        (EFFECTS, {"day_range": {"start_day": "2026-01-01", "end_day": "2028-01-01"}}, ", as .* /horizon/days: 731"),
        (LAYOUT, {"endianness": "big"}, 'endianness: "big" is not one of'),
        (LAYOUT, {"alignment_bytes": 16}, "alignment_bytes: 16"),
        (EFFECTS, {"rng_stream_id": "s3.days"}, "rng_stream_id: 's3.days'"),
        (
            EFFECTS,
            {"day_range": {"start_day": "2026-02-01", "end_day": "2026-01-01"}},
            "day_range/end_day: 2026-01-01: before",
        ),
        (EDGES, {"edges": []}, "default_edges/0/edge_id: iad-us: /edges does not say"),
    ],
)
def test_what_is_not_allowed_is_refused_with_file_field_and_bound(name, change, said):
    documents = recorded()
    documents[name] |= change
    with pytest.raises(PolicyError, match=rf"f\.json(: /?)?{said}"):
        read_policies({"f.json": documents[name]}, BASE)


def test_a_policy_twice_is_refused():
    one = recorded()[MIX]
    with pytest.raises(PolicyError, match=r"b\.json: /policy_id: group_mix_regularizer_v1 is in another"):
        read_policies({"a.json": one, "b.json": one}, BASE)


def test_a_value_that_the_form_does_not_allow_is_not_written():
    pack = BASE.with_knobs({f"{EFFECTS}#/scalar_sigma_v1/sigma": 0.0})
    with pytest.raises(PolicyError, match="day_effect_policy_v1 in the record's form: /sigma_gamma: 0"):
        write_policies(pack)


def test_the_digest_is_that_of_the_document_without_it():
    for name in (MIX, EFFECTS):
        document = write_policies(BASE)[name]
        assert document.pop("sha256_hex") == digest(document)


@pytest.mark.parametrize(
    ("name", "ending", "theirs"),
    [("s3.days", "", "2B.s3.days"), ("2B.x", "", "2B.x"), ("2B.x.group", ".group", "2B.x"), ("s5.a", ".a", "2B.s5")],
)  # fmt: skip
def test_streams_are_named_in_segment_2b(name, ending, theirs):
    assert stream_of(name, ending) == theirs


def test_from_the_command_line(here, tmp_path: Path):
    """Exports a pack, imports it again, and changes a policy on the way."""
    there, mine = tmp_path / "record", tmp_path / "mine"
    code, out, _ = here(
        "policy", "export", "p3_recorded", "--form", "record", "--to", there, "--json", workspace=tmp_path / "ws"
    )
    assert code == 0 and len(json.loads(out)["files"]) == 5
    document = json.loads((there / f"{MIX}.json").read_text())
    (there / f"{MIX}.json").write_text(json.dumps({**document, "entropy_floor": 0.5, "notes": "more"}))
    code, out, err = here(
        "policy",
        "import",
        *sorted(there.glob("*.json")),
        "--to",
        mine,
        "--base",
        "p1",
        "--json",
        workspace=tmp_path / "ws",
    )
    answer = json.loads(out)
    assert code == 0 and answer["changed"] == [EFFECTS, MIX]
    assert answer["unused"][str(there / f"{MIX}.json")] == ["/notes", "/version_tag", "/sha256_hex"]
    assert f"{there / f'{MIX}.json'}: no meaning here: /notes, /version_tag, /sha256_hex" in err
    code, out, _ = here("policy", "diff", "p3_recorded", mine, "--json", workspace=tmp_path / "ws")
    assert [(row["pointer"], row["after"]) for row in json.loads(out)["changes"]] == [("/entropy_floor", 0.5)]
    code, out, err = here("policy", "import", there / f"{MIX}.json", "--to", mine, workspace=tmp_path / "ws")
    assert code == 2 and out == "" and "exists; name another place" in err


def test_an_engine_without_forms_says_so(here, tmp_path):
    call = ("export", ROOT / "tests" / "queue_engine" / "pack", "--to", tmp_path / "x")
    code, out, err = here("policy", *call, workspace=tmp_path / "ws")
    assert code == 2 and out == "" and "engine queue lacks PolicyForms" in err and "no form but their own" in err


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (("export", "p1", "--form", "other", "--to", "x"), "--form: other: engine segment_2b knows record"),
        (("import", "none.json", "--to", "x"), "none.json: no such file"),
    ],
)
def test_a_wrong_call_is_one_line(here, tmp_path, call, said):
    code, out, err = here("policy", *call, workspace=tmp_path / "ws")
    assert code == 2 and out == "" and said in err and err.count("\n") == 1


def test_a_place_that_is_no_folder_is_named_as_itself(here, tmp_path):
    file = tmp_path / "taken"
    file.write_text("mine")
    for place in (file, file / "below"):
        code, out, err = here("policy", "export", "p1", "--to", place, workspace=tmp_path / "ws")
        assert (code, out, err) == (2, "", f"lanelock: {place}: it is not a folder; name another place\n")
    assert file.read_text() == "mine"


FREE = """cap_spec country_weights encode_spec extensions fallback floor_spec geo_metadata required_s1_provenance
    weight_source"""


def test_every_field_of_the_form_is_closed_bounded_and_described():
    """All but the objects that the record leaves free."""

    def look(node, name, where):
        kind = node.get("type")
        assert node.get("description"), where
        if kind in ("number", "integer"):
            assert {"minimum", "exclusiveMinimum"} & set(node) and {"maximum"} & set(node), where
        if kind == "array":
            assert "maxItems" in node, where
            look(node["items"], "", f"{where}/items")
        if kind == "object" and name not in FREE.split():
            inner = node.get("additionalProperties")
            if isinstance(inner, dict):
                look(inner, "", f"{where}/*")
            else:
                assert inner is False, where
        for field, inside in node.get("properties", {}).items():
            look(inside, field, f"{where}/{field}")

    look(read_json(POLICIES / "segment_2b" / "schemas" / "record_policies.schema.json"), "", "")
