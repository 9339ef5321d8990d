"""S7 finds each kind of damage, names it, and passes nothing that it could not look at."""

import dataclasses

import numpy as np
import pytest
from worlds import tiny_world

from engine.run import Segment2B
from engine.states import s7_audit
from engine.states.s0_gate import seal
from engine.tables import TABLES
from engine.types import Categories, Surface
from engine.world_import import write_world


@pytest.fixture(scope="module")
def evidence(packs, tmp_path_factory):
    """A sound run of a tiny world with virtual merchants."""
    folder = tmp_path_factory.mktemp("world")
    write_world(tiny_world(virtual=[3]), folder)
    run = Segment2B().evaluate(packs("p3"), 42, world=folder)
    sealed = seal(run.upstream, run.pack, run.seed)
    return s7_audit.Evidence(run.upstream, run.pack, run.seed, sealed, run.surfaces)


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


def test_a_sound_run_passes_every_check_over_every_row(evidence):
    audit = s7_audit.audit(evidence)
    document = audit.as_document()
    assert audit.passed and document["summary"] == {
        "overall_status": "PASS",
        "fail_count": 0,
        "failed": [],
        "checks": len(TABLES) + len(s7_audit._CHECKS),
    }
    rows = {check.name: check.rows for check in audit.checks}
    for name, surface in evidence.surfaces.items():
        assert rows[f"{name}: contract"] == surface.rows > 0


ONE, ALIAS = "site weights sum to one", "alias slices decode to the weights"
ROUTED = "every physical arrival is routed once"
DAMAGE = [
    ("s1_site_weights", "p_weight", at(0, lambda p: p + 2.0**-20), {ONE, ALIAS, "base shares are the weights' sums"}),
    ("s1_site_weights", "site_order", at(0, 99), {"s1_site_weights: contract", "sites are the world's"}),
    ("s2_alias_blob", "blob", at(0, flip), {ALIAS, "alias blob is whole"}),
    ("s2_alias_index", "sha256", at(1, "0" * 64), {ALIAS}),
    ("s2_alias_index", "length", at(0, lambda n: n - 8), {ALIAS, "alias blob is whole"}),
    ("s3_day_effects", "gamma", at(5, -1.0), {"gamma is positive", "gamma is echoed"}),
    ("s3_day_effects", "gamma", at(5, lambda g: np.nextafter(g, 2)), {"gamma is echoed"}),
    ("s3_day_effects", "utc_day", at(0, 1), {"s3_day_effects: contract", "day grid is the policy's (S3)"}),
    ("s4_group_weights", "p_group", at(0, lambda p: p + 2.0**-48), {"shares sum to exactly one"}),
    ("s4_group_weights", "base_share", at(0, lambda b: b / 2), {"base shares are the weights' sums"}),
    ("s4_group_weights", "tz_group_id", swap, {"s4_group_weights: contract", "day grid is the policy's (S4)"}),
    ("s5_arrival_roster", "utc_day", at(0, 1), {"arrivals are the world's, on their day"}),
    ("s5_arrival_roster", "occurrence", at(0, 1), {"every physical arrival is routed once"}),
    ("s5_arrival_roster", "merchant_id", at(-1, 77), {"arrivals are the world's, on their day", ROUTED}),
    ("s5_selection_log", "tz_group_id", at(slice(0, 9), lambda z: (z + 1) % 8), {"zones and sites are the merchant's"}),
    ("s5_selection_log", "site_id", at(3, lambda s: s + np.uint64(50)), {"zones and sites are the merchant's"}),
    ("s5_selection_log", "ctr_site_lo", at(3, lambda c: c + np.uint64(1)), {ROUTED, "site draws are logged"}),
    ("s5_rng_event_group", "draws", at(2, 2), {"zone draws are logged", "draws are accounted"}),
    ("s5_rng_trace", "draws", at(0, lambda n: n + 1), {"draws are accounted"}),
    ("s6_edge_log", "edge_lat", at(0, 0.0), {"edges are those offered"}),
    ("s6_edge_log", "ctr_edge_hi", at(0, 1), {"every virtual arrival has an edge", "edge draws are logged"}),
    ("s6_rng_trace", "events", at(0, 0), {"edge draws are accounted"}),
]  # fmt: skip


@pytest.mark.parametrize(("surface", "column", "change", "found"), DAMAGE, ids=[f"{row[0]}.{row[1]}" for row in DAMAGE])
def test_each_damage_is_found_by_the_checks_that_should(evidence, surface, column, change, found):
    assert failed(changed(evidence, surface, column, change)) == found


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
    assert "every physical arrival is routed once" in failed(less)


def test_inputs_that_are_not_those_sealed_fail(evidence, packs):
    other = packs("p3").with_knobs({"route_rng_policy_v1#/roster/size_exponent": 0.25})
    assert failed(dataclasses.replace(evidence, pack=other)) == {"inputs are those sealed"}


def test_an_audit_of_nothing_fails(evidence):
    audit = s7_audit.audit(dataclasses.replace(evidence, surfaces={}))
    assert not audit.passed and audit.as_document()["summary"]["overall_status"] == "FAIL"
    assert not s7_audit.Audit(()).passed
