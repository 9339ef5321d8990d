"""Policies in the record's form: read as a pack's documents, and written from a pack.

`read_policies(write_policies(pack))` gives the pack's documents back, whatever they are, because `write_policies` puts
what the form cannot state under `extensions/lanelock`: a JSON merge patch (RFC 7386) from what the form says to the
document itself. In the other direction, a field that has a meaning here is written as it was read; that is how those
without one are found. The form's policies, with what they say here:

    alias_layout_policy_v1     S1's law: `profile_mixture_v2` where it is stated and enabled, else `uniform`
    day_effect_policy_v1       S3's law: `sigma_gamma_policy_v2` where it is stated and enabled, else one sigma; the
                               recorded segments, which the form does not state
    group_mix_regularizer_v1   S4's law `uniform_blend_v1`, the recorded one
    route_rng_policy_v1        names of streams; the roster is no part of the form
    virtual_edge_policy_v1     edges and their weights

`sha256_hex` is the SHA-256 of the canonical JSON (RFC 8785) of the document without that field. `version_tag` is
`sha256-` and the first twelve digits of the digest of the pack's own policy.
"""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

from lanelock.policies import Pack, PolicyError
from lanelock.policies.documents import ROOT, digest, read_schema, validate
from lanelock.policies.pack import changes

ALIAS, EFFECTS, MIX, ROUTING, EDGES = (
    "alias_layout_policy_v1",
    "day_effect_policy_v1",
    "group_mix_regularizer_v1",
    "route_rng_policy_v1",
    "virtual_edge_policy_v1",
)
WORLD = "world_v1"  # of the world the form has no policy: it travels with that of the sites
_OWN = "lanelock"  # the key below `extensions`
_VERSION = "1.0.0"  # of the form
_SEGMENTS = {"counts": "distinct_site_orders", "mid_from": 9, "large_from": 25}
_SIGMA = {  # field of the form -> ours, below sigma_gamma_policy_v2
    "sigma_base_by_segment": "base_sigma",
    "weekly_component_amp_by_segment": "weekly_amplitude",
    "sigma_min": "sigma_min",
    "sigma_max": "sigma_max",
}
_REGULARIZER = (
    "enabled", "apply_when_groups_ge", "max_p_group_soft_cap", "regularization_strength", "entropy_floor",
    "preserve_rank_order", "sum_to_one",
)  # fmt: skip
Document = Mapping[str, Any]


def read_policies(documents: Mapping[str, Document], base: Pack) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Returns the documents of a pack, and by file the fields (JSON pointers) that have no meaning here.

    `documents` has policies in the record's form by the name of their file. What neither the form nor its extension
    states is that of `base`. Raises PolicyError naming file, field and bound.
    """
    found: dict[str, Any] = {}
    unused: dict[str, list[str]] = {}
    for where, document in documents.items():
        name = _named(document, where)
        if name in found:
            raise PolicyError(f"{where}: /policy_id: {name} is in another of the files as well; keep one of them")
        own = _extension(name, document, where)
        read = _patched(_READ[name](document, where), own.get(name, {}))
        found[name] = _filled(read, base[name], base.schemas[name])
        validate(found[name], base.schemas[name], f"{where}, as {name} of a pack")
        unused[where] = _unused(name, document, found[name])
        if WORLD in own:
            validate(own[WORLD], base.schemas[WORLD], f"{where}: /extensions/{_OWN}/{WORLD}")
            found[WORLD] = own[WORLD]
    return {**base.documents(), **found}, unused


def write_policies(pack: Pack) -> dict[str, dict[str, Any]]:
    """Returns the pack's policies in the record's form, by policy_id.

    Raises PolicyError if the form does not allow a value that the pack has.
    """
    written = {name: _whole(name, pack[name], pack.policies[name].digest) for name in _WRITE}
    written[ALIAS]["extensions"] = {_OWN: {**written[ALIAS].get("extensions", {}).get(_OWN, {}), WORLD: pack[WORLD]}}
    for name, document in written.items():
        validate(document, _schema(name), f"pack {pack.name}: {name} in the record's form")
    return copy.deepcopy(written)


def stream_of(name: str, ending: str = "") -> str:
    """Returns the record's name of a random stream of ours: in segment 2B, without the ending of a single draw."""
    named = name.removesuffix(ending)
    return named if named.startswith("2B.") else f"2B.{named}"


def _named(document: Document, where: str) -> str:
    """Returns the policy_id of a document that the form allows."""
    known = read_schema(_SCHEMA)["properties"]
    name = document.get("policy_id") if isinstance(document, Mapping) else None
    if not isinstance(name, str) or name not in known:
        raise PolicyError(f"{where}: /policy_id: {name!r} is not one of {', '.join(known)}")
    validate(document, known[name], where)
    return name


_SCHEMA = ROOT / "segment_2b" / "schemas" / "record_policies.schema.json"


def _schema(name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = read_schema(_SCHEMA)["properties"][name]
    return found


def _extension(name: str, document: Document, where: str) -> Document:
    """Returns what a document states beyond the form: of its own policy, and beside that of the sites, of the world."""
    own = document.get("extensions", {}).get(_OWN, {})
    if not isinstance(own, Mapping):
        raise PolicyError(f"{where}: /extensions/{_OWN}: not an object")
    known = (name, WORLD) if name == ALIAS else (name,)
    if unknown := own.keys() - set(known):
        raise PolicyError(f"{where}: /extensions/{_OWN}: unknown field {min(unknown)} (known: {', '.join(known)})")
    return own


def _whole(name: str, policy: Document, sha256: str) -> dict[str, Any]:
    """Returns one policy in the record's form, with what it cannot state as an extension."""
    head = {"policy_id": name, "version_tag": f"sha256-{sha256[:12]}", "policy_version": _VERSION}
    document: dict[str, Any] = {**head, **_WRITE[name](policy)}
    if patch := _patch(_READ[name](document, name), policy):
        document["extensions"] = {_OWN: {name: patch}}
    return {**document, "sha256_hex": digest(document)} if name in (EFFECTS, MIX) else document


def _unused(name: str, document: Document, read: Document) -> list[str]:
    """Returns the fields of a document that are not written as they were read."""
    body = {field: value for field, value in document.items() if field != "sha256_hex"}
    sha256 = digest(body)
    body["extensions"] = {key: value for key, value in body.get("extensions", {}).items() if key != _OWN}
    if name == EDGES and "default_edges" not in body:
        body |= {"default_edges": _weighed(read["default_edges"]), "edges": _placed(read["default_edges"])}
    again = {"policy_id": name, "policy_version": _VERSION, "extensions": {}, **_WRITE[name](read)}
    fields = [pointer for pointer, before, _ in changes(body, again) if before is not None]
    return fields + (["/sha256_hex"] if document.get("sha256_hex", sha256) != sha256 else [])


def _filled(document: Any, base: Document, schema: Mapping[str, Any]) -> Any:
    """Returns a document with the fields that its schema requires and it lacks, from another."""
    if not isinstance(document, Mapping):
        return document  # what is no object is refused by the schema
    made = dict(document)
    for name in schema.get("required", ()):
        if name not in made:
            made[name] = base[name]
        elif isinstance(made[name], Mapping) and isinstance(base.get(name), Mapping):
            made[name] = _filled(made[name], base[name], schema["properties"][name])
    return made


# --- each policy, read and written --------------------------------------------------------------------------


def _read_alias(document: Document, where: str) -> dict[str, Any]:
    law = dict(document.get("profile_mixture_v2", {}))
    enabled = law.pop("enabled", bool(law))
    read = {"law": "profile_mixture_v2" if enabled else "uniform", "quantised_bits": document["quantised_bits"]}
    return {**read, "profile_mixture_v2": law} if law else read


def _write_alias(policy: Document) -> dict[str, Any]:
    digested = {"algorithm": "sha256", "encoding": "hex"}
    uniform = policy["law"] == "uniform"
    written = {
        "layout_version": "1.0.0",
        "endianness": "little",
        "alignment_bytes": 8,
        "padding_rule": {"pad_byte_hex": "00"},
        "quantised_bits": policy["quantised_bits"],
        "normalisation_epsilon": 1e-12,
        "quantisation_epsilon": 2.0 ** -policy["quantised_bits"],
        "weight_source": {"law": policy["law"]},
        "floor_spec": {"law": "none"},
        "fallback": {"law": "uniform"},
        "required_s1_provenance": {"columns": ["weight_source", "quantised_bits", "floor_applied"]},
        "encode_spec": {"law": "walker_vose", "rounding": "half_even", "settled_by": "largest_remainder"},
        "decode_law": "walker_vose_q0_32",
        "record_layout": {"prob_qbits": 32},
        "checksum": {**digested, "scope": "slice"},
        "blob_digest": {**digested, "scope": "blob"},
        "required_index_fields": {"header": _HEADER, "merchant_row": _ROW},
    }
    return written if uniform else {**written, "profile_mixture_v2": dict(policy["profile_mixture_v2"])}


_HEADER = [
    "layout_version", "endianness", "alignment_bytes", "quantised_bits", "created_utc", "policy_id", "policy_digest",
    "blob_sha256", "blob_size_bytes", "merchants_count",
]  # fmt: skip
_ROW = ["merchant_id", "offset", "length", "sites", "quantised_bits", "checksum"]


def _read_effects(document: Document, where: str) -> dict[str, Any]:
    first, last = (
        _day(document["day_range"][f"{end}_day"], f"{where}: /day_range/{end}_day") for end in ("start", "end")
    )
    if last < first:
        raise PolicyError(f"{where}: /day_range/end_day: {last}: before start_day, {first}")
    law = document.get("sigma_gamma_policy_v2")
    read: dict[str, Any] = {
        "law": "sigma_gamma_policy_v2" if law is not None and law["enabled"] else "scalar_sigma_v1",
        "horizon": {"start_day": first.isoformat(), "days": (last - first).days + 1},
        "rng_stream_id": document["rng_stream_id"],
        "scalar_sigma_v1": {"sigma": document["sigma_gamma"]},
    }
    return read if law is None else {**read, "sigma_gamma_policy_v2": _read_sigma(law)}


def _day(text: str, where: str) -> dt.date:
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise PolicyError(f"{where}: {text}: no day of the calendar") from None


def _read_sigma(law: Document) -> dict[str, Any]:
    zones, jitter = law["sigma_multiplier_by_tz_group"], law["sigma_jitter_by_merchant"]
    return {
        "segments": _SEGMENTS,
        **{ours: law[theirs] for theirs, ours in _SIGMA.items()},
        "tz_multipliers": zones.get("prefix_rules", []),
        "tz_multiplier_default": zones["default"],
        "jitter_amplitude": jitter["amplitude"] if jitter["enabled"] else 0,
        "gamma_clip": [law["gamma_clip"]["min"], law["gamma_clip"]["max"]],
    }


def _write_effects(policy: Document) -> dict[str, Any]:
    first = dt.date.fromisoformat(policy["horizon"]["start_day"])
    last = first + dt.timedelta(days=policy["horizon"]["days"] - 1)
    key = ["manifest_fingerprint_bytes", "seed_u64", "rng_stream_id"]
    return {
        "rng_engine": "philox2x64-10",
        "rng_stream_id": stream_of(policy["rng_stream_id"]),
        "draws_per_row": 1,
        "sigma_gamma": policy["scalar_sigma_v1"]["sigma"],
        "day_range": {"start_day": first.isoformat(), "end_day": last.isoformat()},
        "rng_derivation": {
            "domain_master": "manifest_fingerprint",
            "domain_stream": "rng_stream_id",
            "low64_rule": "LE64_tail_bytes_24_31",
            "counter_split_rule": "BE64_bytes_16_23_and_24_31",
            "key_basis": key,
            "base_counter_basis": key,
        },
        "record_fields": _FIELDS,
        "created_utc_policy_echo": False,
        "sigma_gamma_policy_v2": _write_sigma(
            policy["sigma_gamma_policy_v2"], policy["law"] == "sigma_gamma_policy_v2"
        ),
    }


_FIELDS = ["gamma", "log_gamma", "sigma_gamma", "rng_stream_id", "rng_counter_lo", "rng_counter_hi", "created_utc"]


def _write_sigma(law: Document, enabled: bool) -> dict[str, Any]:
    amplitude = law["jitter_amplitude"]
    low, high = law["gamma_clip"]
    return {
        "enabled": enabled,
        **{theirs: law[ours] for theirs, ours in _SIGMA.items()},
        "sigma_multiplier_by_tz_group": {
            "default": law["tz_multiplier_default"],
            "prefix_rules": law["tz_multipliers"],
        },
        "sigma_jitter_by_merchant": {"enabled": amplitude > 0, "amplitude": amplitude, "seed_scope": "merchant_id"},
        "gamma_clip": {"min": low, "max": high},
    }


def _read_mix(document: Document, where: str) -> dict[str, Any]:
    return {**{field: document[field] for field in _REGULARIZER}, "law": "uniform_blend_v1", "knee": 1.0}


def _write_mix(policy: Document) -> dict[str, Any]:
    return {field: policy[field] for field in _REGULARIZER}


def _read_routing(document: Document, where: str) -> dict[str, Any]:
    streams = document["streams"]
    both = streams["routing_selection"]["rng_stream_id"]
    return {
        "streams": {"group": f"{both}.group", "site": f"{both}.site", "edge": streams["routing_edge"]["rng_stream_id"]}
    }


def _write_routing(policy: Document) -> dict[str, Any]:
    streams = policy["streams"]
    picks = {"alias_pick_group": 1, "alias_pick_site": 1}
    return {
        "rng_engine": "philox2x64-10",
        "streams": {
            "routing_selection": _stream(stream_of(streams["group"], ".group"), picks, "draws_per_selection"),
            "routing_edge": _stream(stream_of(streams["edge"]), {"cdn_edge_pick": 1}, "draws_per_virtual"),
            "virtual_edge_catalogue": _stream("3B.edges", {"edge_jitter": 2}, "draws_per_edge"),
        },
    }


def _stream(name: str, draws: Mapping[str, int], unit: str) -> dict[str, Any]:
    """Returns a stream of the form. `draws`: event family -> uniforms per event."""
    return {
        "rng_stream_id": name,
        "basis": {
            "key_basis": ["seed", "parameter_hash", "run_id"],
            "counter_start": {"hi": 0, "lo": 0},
            "counter_step_per_event": 1,
            "counter_wrap_policy": "abort_on_wrap",
        },
        "event_families": {
            family: {"substream_label": family, "blocks": 1, "draws": str(count)} for family, count in draws.items()
        },
        "draws_per_unit": {unit: sum(draws.values())},
    }


def _read_edges(document: Document, where: str) -> dict[str, Any]:
    catalogue = document.get("edges", [])
    known = {edge["edge_id"]: edge for edge in reversed(catalogue)}

    def found(edges: Any, field: str) -> list[dict[str, Any]]:
        for place, edge in enumerate(edges):
            if edge["edge_id"] not in known:
                why = f"{edge['edge_id']}: /edges does not say where it lies; it has {', '.join(known) or 'none'}"
                raise PolicyError(f"{where}: {field}/{place}/edge_id: {why}")
        whole = ({"weight": 1.0, **known[edge["edge_id"]], **edge} for edge in edges)
        return [{name: edge[name] for name in (*_PLACE, "weight")} for edge in whole]

    overrides = document.get("merchant_overrides", {}).items()
    return {
        "default_edges": found(document.get("default_edges", catalogue), "/default_edges"),
        "merchant_overrides": {id_: found(edges, f"/merchant_overrides/{id_}") for id_, edges in overrides},
    }


def _write_edges(policy: Document) -> dict[str, Any]:
    own = policy["merchant_overrides"]
    return {
        "edges": _placed([edge for edges in (policy["default_edges"], *own.values()) for edge in edges]),
        "default_edges": _weighed(policy["default_edges"]),
        "merchant_overrides": {merchant: _weighed(edges) for merchant, edges in own.items()},
    }


_PLACE = ("edge_id", "ip_country", "edge_lat", "edge_lon")


def _placed(edges: Any) -> list[dict[str, Any]]:
    """Returns where edges lie, each once."""
    return list({edge["edge_id"]: {name: edge[name] for name in _PLACE} for edge in edges}.values())


def _weighed(edges: Any) -> list[dict[str, Any]]:
    """Returns the weights of edges; the form has no weight of 0."""
    return [{name: edge[name] for name in (*_PLACE[:2], "weight")} for edge in edges if edge["weight"] > 0]


_READ: Mapping[str, Callable[[Document, str], dict[str, Any]]] = {
    ALIAS: _read_alias, EFFECTS: _read_effects, MIX: _read_mix, ROUTING: _read_routing, EDGES: _read_edges,
}  # fmt: skip
_WRITE: Mapping[str, Callable[[Document], dict[str, Any]]] = {
    ALIAS: _write_alias, EFFECTS: _write_effects, MIX: _write_mix, ROUTING: _write_routing, EDGES: _write_edges,
}  # fmt: skip


# --- JSON merge patches (RFC 7386) --------------------------------------------------------------------------


def _patch(before: Any, after: Any) -> Any:
    """Returns what makes `after` of `before`: fields to set, and null for fields to take away."""
    gone = dict.fromkeys(before.keys() - after.keys())
    changed: dict[str, Any] = {}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if inner := _patch(old, value):
                changed[name] = inner
        elif old != value or type(old) is not type(value):
            changed[name] = value
    return {**gone, **changed}


def _patched(document: Any, patch: Any) -> Any:
    """Returns a document after a patch."""
    if not isinstance(patch, Mapping):
        return patch
    old = document if isinstance(document, Mapping) else {}
    made = {name: value for name, value in old.items() if patch.get(name, value) is not None}
    return {**made, **{name: _patched(made.get(name), value) for name, value in patch.items() if value is not None}}
