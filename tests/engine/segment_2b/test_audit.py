"""S7 finds each kind of damage, names it, and passes nothing that it could not look at."""

import dataclasses

import numpy as np
import pytest
from worlds import tiny_world

from lanelock.engine.segment_2b.run import Segment2B
from lanelock.engine.segment_2b.states import s3_day_effects, s5_routing, s6_edges, s7_audit, s7_evidence
from lanelock.engine.segment_2b.states.s0_gate import seal
from lanelock.engine.segment_2b.tables import TABLES
from lanelock.engine.segment_2b.world_import import write_world
from lanelock.engine.surface import Categories, Surface


@pytest.fixture(scope="module")
def evidence(packs, tmp_path_factory):
    """A sound run of a tiny world with virtual merchants."""
    folder = tmp_path_factory.mktemp("world")
    write_world(tiny_world(virtual=[3]), folder)
    run = Segment2B().evaluate(packs("p3_recorded"), 42, world=folder)
    sealed = seal(run.upstream, run.pack, run.seed)
    return s7_evidence.Evidence(run.upstream, run.pack, run.seed, sealed, run.surfaces)


def failed(evidence):
    return {check.name for check in s7_audit.audit(evidence).checks if not check.passed}


def changed(evidence, surface, column, change):
    """The evidence with one column replaced by `change(values)`."""
    old = evidence[surface]
    values = old[column]
    new = (
        Categories(change(values.codes.copy()), values.values)
        if isinstance(values, Categories)
        else change(values.copy())
    )
    columns = {**old.columns, column: new}
    return dataclasses.replace(evidence, surfaces={**evidence.surfaces, surface: Surface(surface, old.schema, columns)})


def at(row, value):
    def change(values):
        values[row] = value(values[row]) if callable(value) else value
        return values

    return change


def swap(values):
    values[[0, 1]] = values[[1, 0]]
    return values


def flip(blob):
    damaged = bytearray(blob)
    damaged[40] ^= 1
    return bytes(damaged)


@pytest.mark.plan("P2.3.2")
def test_a_sound_run_passes_every_check_over_every_row(evidence):
    audit = s7_audit.audit(evidence)
    document = audit.as_document()
    assert audit.passed and document["summary"] == {
        "overall_status": "PASS",
        "fail_count": 0,
        "failed": [],
        "checks": len(TABLES) + len(s7_audit.CHECKS),
    }
    rows = {check.name: check.rows for check in audit.checks}
    for name, surface in evidence.surfaces.items():
        assert rows[f"{name}: contract"] == surface.rows > 0


ONE, ALIAS, BLOB = "site weights sum to one", "alias slices decode to the weights", "alias blob is whole"
SITES, SITE_LAW, BASE = "sites are the world's", "site weights are the law's", "base shares are the weights' sums"
GRID, OTHER_GRID = "day grid is the policy's (S3)", "day grid is the policy's (S4)"
DAY_LAW, ADDRESSES = "day effects are the law's", "day draws have their own addresses"
POSITIVE, ECHO = "gamma is positive", "gamma is echoed"
SUM, MIX_LAW = "shares sum to exactly one", "shares are the law's"
ARRIVALS, COVER = "arrivals are the world's, on their day", "arrivals cover their days"
ROUTED, ZONES = "every physical arrival is routed once", "zones and sites are the merchant's"
ZONE_DRAWS, SITE_DRAWS, TOTALS = "zone draws are logged", "site draws are logged", "draws are accounted"
EDGED, EDGES = "every virtual arrival has an edge", "edges are those offered"
EDGE_DRAWS, EDGE_TOTALS = "edge draws are logged", "edge draws are accounted"
DAMAGE = [
    ("s1_site_weights", "p_weight", at(0, lambda p: p + 2.0**-20), {ONE, ALIAS, SITE_LAW, BASE, MIX_LAW}),
    ("s1_site_weights", "site_order", at(0, 99), {"s1_site_weights: contract", SITES}),
    ("s1_site_weights", "floor_applied", at(0, True), {SITE_LAW}),
    ("s2_alias_blob", "blob", at(0, flip), {ALIAS, BLOB}),
    ("s2_alias_blob", "size", at(0, 12), {BLOB}),
    ("s2_alias_index", "sha256", at(1, "0" * 64), {ALIAS}),
    ("s2_alias_index", "sites", at(1, 2), {ALIAS}),
    ("s2_alias_index", "length", at(0, lambda n: n - 8), {ALIAS, BLOB}),
    ("s3_day_effects", "gamma", at(5, -1.0), {POSITIVE, DAY_LAW, ECHO, MIX_LAW}),
    ("s3_day_effects", "gamma", at(5, lambda g: np.nextafter(g, 2)), {ECHO, MIX_LAW}),
    ("s3_day_effects", "log_gamma", at(5, lambda g: g + 1e-9), {DAY_LAW}),
    ("s3_day_effects", "sigma_gamma", at(5, lambda s: np.nextafter(s, 2)), {DAY_LAW}),
    ("s3_day_effects", "rng_counter_lo", at(5, lambda c: c + np.uint64(1)), {ADDRESSES}),
    ("s3_day_effects", "utc_day", at(0, 1), {"s3_day_effects: contract", GRID}),
    ("s4_group_weights", "p_group", at(0, lambda p: p + 2.0**-48), {SUM, MIX_LAW}),
    ("s4_group_weights", "base_share", at(0, lambda b: b / 2), {BASE}),
    ("s4_group_weights", "gamma", at(0, lambda g: np.nextafter(g, 2)), {ECHO}),
    ("s4_group_weights", "regularizer_delta_mass", at(0, 0.5), {MIX_LAW}),
    ("s4_group_weights", "tz_group_id", swap, {"s4_group_weights: contract", OTHER_GRID}),
    ("s5_arrival_roster", "utc_day", at(0, 1), {ARRIVALS, ROUTED}),
    ("s5_arrival_roster", "occurrence", at(0, 1), {ARRIVALS, ROUTED}),
    ("s5_arrival_roster", "merchant_id", at(-1, 77), {ARRIVALS, ROUTED}),
    ("s5_selection_log", "utc_day", at(0, 1), {ROUTED, ZONE_DRAWS, SITE_DRAWS}),
    ("s5_selection_log", "tz_group_id", at(slice(0, 9), lambda z: (z + 1) % 8), {ZONES}),
    ("s5_selection_log", "site_id", at(3, lambda s: s + np.uint64(50)), {ZONES}),
    ("s5_selection_log", "ctr_site_lo", at(3, lambda c: c + np.uint64(1)), {ROUTED, SITE_DRAWS}),
    ("s5_rng_event_group", "draws", at(2, 2), {ZONE_DRAWS, TOTALS}),
    ("s5_rng_event_site", "rng_counter_hi", at(2, 99), {SITE_DRAWS}),
    ("s5_rng_trace", "draws", at(0, lambda n: n + 1), {TOTALS}),
    ("s6_edge_log", "edge_lat", at(0, 0.0), {EDGES}),
    ("s6_edge_log", "ctr_edge_hi", at(0, 1), {EDGED, EDGE_DRAWS}),
    ("s6_rng_event_edge", "utc_day", at(0, 1), {EDGE_DRAWS}),
    ("s6_rng_trace", "events", at(0, 0), {EDGE_TOTALS}),
]  # fmt: skip


@pytest.mark.plan("1.3", "3.2.15", "2.4", "P1.2")
@pytest.mark.parametrize(("surface", "column", "change", "found"), DAMAGE, ids=[f"{row[0]}.{row[1]}" for row in DAMAGE])
def test_each_damage_is_found_by_the_checks_that_should(evidence, surface, column, change, found):
    assert failed(changed(evidence, surface, column, change)) == found


def other(column, row):
    """The column with another value of its kind in one row."""
    if isinstance(column, Categories):
        values = (*column.values, "another")
        return Categories(at(row, len(column.values))(column.codes.copy()), values)
    change = {"b": np.logical_not, "f": lambda x: x + 2.0**-20, "O": lambda x: flip(x) if isinstance(x, bytes) else "?"}
    return at(row, change.get(column.dtype.kind, lambda x: x + column.dtype.type(1)))(column.copy())


@pytest.mark.plan("1.3", "3.2.17", "P2.3.1")
@pytest.mark.parametrize("name", TABLES)
def test_no_column_can_be_damaged_unseen(evidence, name):
    surface, unseen = evidence[name], set()
    for column in surface.schema.names:
        row = surface.rows // 2
        columns = {**surface.columns, column: other(surface[column], row)}
        damaged = Surface(name, surface.schema, columns)
        if not failed(dataclasses.replace(evidence, surfaces={**evidence.surfaces, name: damaged})):
            unseen.add(column)
    assert not unseen


@pytest.mark.plan("3.2.17")
@pytest.mark.parametrize("name", TABLES)
def test_a_column_of_another_type_or_length_or_stamp_breaks_the_contract(evidence, name):
    def broken(columns):
        damaged = Surface(name, evidence[name].schema, columns)
        return failed(dataclasses.replace(evidence, surfaces={**evidence.surfaces, name: damaged}))

    columns = evidence[name].columns
    first, plain = next(iter(columns)), next(c for c in columns if not isinstance(columns[c], Categories))
    assert f"{name}: contract" in broken({**columns, plain: columns[plain].astype("S")})
    assert f"{name}: contract" in broken({**columns, first: columns[first][:-1]})
    assert f"{name}: contract" in broken(dict(reversed(columns.items())))
    if "created_utc" in columns:
        late = Categories(columns["created_utc"].codes, ("2026-01-01T00:00:01Z",))
        assert broken({**columns, "created_utc": late}) == {f"{name}: contract"}


def test_every_check_is_seen_to_fail():
    shown = set().union(*(found for *_, found in DAMAGE), {"inputs are those sealed", COVER})
    assert {name for name, *_ in s7_audit.CHECKS} <= shown


@pytest.mark.parametrize("mode", ["smoke", "realism"])
def test_a_roster_that_leaves_a_day_out_fails(packs, evidence, tmp_path, mode):
    """All that S5 and S6 make of the roster is made again, so that nothing but the day is amiss."""
    write_world(evidence.world, tmp_path)
    run = Segment2B().evaluate(
        packs("p3_recorded").with_knobs({"route_rng_policy_v1#/roster/mode": mode}), 42, world=tmp_path
    )
    roster, pack = run.surfaces["s5_arrival_roster"], run.pack
    left = roster.part(np.flatnonzero((roster["merchant_id"] != 2) | (roster["utc_day"].codes > 0)))
    routing, stamp = pack["route_rng_policy_v1"], run.sealed.created_utc
    s1, s4 = run.surfaces["s1_site_weights"], run.surfaces["s4_group_weights"]
    days = s3_day_effects.horizon(pack["day_effect_policy_v1"])
    again = (
        *s5_routing.routed(run.upstream, days, s1, s4, left, routing, 42, stamp),
        *s6_edges.logged(
            s6_edges.edges(run.upstream, left, pack["virtual_edge_policy_v1"], routing, 42, stamp), routing, stamp
        ),
    )
    surfaces = {**run.surfaces, **{surface.name: surface for surface in (left, *again)}}
    found = s7_evidence.Evidence(run.upstream, pack, 42, run.sealed, surfaces)
    assert run.audit.passed and failed(found) == {COVER}


@pytest.mark.parametrize("name", TABLES)
def test_a_missing_surface_fails_and_says_so(evidence, name):
    less = dataclasses.replace(evidence, surfaces={k: v for k, v in evidence.surfaces.items() if k != name})
    audit = s7_audit.audit(less)
    (contract,) = (check for check in audit.checks if check.name == f"{name}: contract")
    assert not audit.passed and contract.reason == f"the surface {name} is missing" and contract.rows == 0


def test_an_arrival_routed_to_nobody_and_a_log_with_a_row_too_few_fail(evidence):
    log = evidence["s5_selection_log"]
    short = {
        name: Categories(c.codes[:-1], c.values) if isinstance(c, Categories) else c[:-1]
        for name, c in log.columns.items()
    }
    less = dataclasses.replace(evidence, surfaces={**evidence.surfaces, log.name: Surface(log.name, log.schema, short)})
    assert ROUTED in failed(less)


@pytest.mark.plan("2.3")
def test_inputs_that_are_not_those_sealed_fail(evidence, packs):
    other = packs("p3_recorded").with_knobs({"route_rng_policy_v1#/roster/size_exponent": 0.25})
    assert failed(dataclasses.replace(evidence, pack=other)) == {"inputs are those sealed"}


def test_an_audit_of_nothing_fails(evidence):
    audit = s7_audit.audit(dataclasses.replace(evidence, surfaces={}))
    assert not audit.passed and audit.as_document()["summary"]["overall_status"] == "FAIL"
    assert not s7_audit.Audit(()).passed
