"""The counters of a run, each held to its law written out slowly, and the run reports of the record's form."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from oracle import laws
from record_readers import datasets

from lanelock.engine.segment_2b.counters import counters_of, day_effect_draws
from lanelock.engine.segment_2b.record.reports import SAMPLES, STATES, record_reports
from lanelock.engine.segment_2b.reports import state_reports
from lanelock.engine.segment_2b.run import EFFECTS, LAYOUT, MIX, ROUTING, SEGMENT_2B
from lanelock.policies import load_pack

SMALL = {f"{ROUTING}#/roster/mode": "smoke", f"{EFFECTS}#/horizon/days": 5, "world_v1#/merchants/count": 60}
TIGHT = {f"{MIX}#/entropy_floor": 0.6, f"{MIX}#/max_p_group_soft_cap": 0.78}
NARROW = {f"{EFFECTS}#/sigma_gamma_policy_v2/gamma_clip": [0.95, 1.05]}


@pytest.fixture(scope="module")
def run_of():
    """Returns a run of a shipped pack on a small world, with fields moved; each once."""
    made = {}

    def run(name, **moves):
        key = (name, str(sorted(moves.items())))
        if key not in made:
            pack = load_pack(name, SEGMENT_2B.policy_schemas).with_knobs({**SMALL, **moves})
            made[key] = SEGMENT_2B.evaluate(pack, 42)
        return made[key]

    return run


def merchants(run):
    """Yields per merchant: its sites' rows in S1, and their orders."""
    for begin, end in zip(run.upstream.site_offsets, run.upstream.site_offsets[1:], strict=False):
        yield slice(begin, end), run.upstream.site_order[begin:end].tolist()


def slow_weights(merchant_id, orders, component, alpha, law):
    """Returns one merchant's weights before quantisation, and how many the cap and the floor changed."""
    n, size = len(orders), laws.bucket(len(orders))
    by_rank = {
        "hub_spoke": lambda r: r ** -max(alpha, 1.0) * (max(1.0, alpha * max(2, n // 2)) if r == 1 else 1.0),
        "heavy_tail": lambda r: r ** -max(alpha, 0.5),
        "near_uniform": lambda r: 1 + alpha / (r + 1),
    }
    weights = laws.normalised([by_rank[component](rank) for rank in range(1, n + 1)])
    cap, floor, capped, floored = law["top1_soft_cap"][size], law["second_site_floor"][size], 0, 0
    if n > 1 and weights[0] > cap:
        capped, rest = n, (1 - cap) / (1 - weights[0])
        weights = [cap, *(weight * rest for weight in weights[1:])]
    if n > 1 and weights[1] < floor:
        floored, both = 2, weights[0] + weights[1]
        weights[1] = min(floor, both / 2)
        weights[0] = both - weights[1]
    ranks = sorted(range(n), key=lambda i: laws.hashed(merchant_id, orders[i], "site"))
    return dict(zip(ranks, weights, strict=True)), capped, floored


LOW = {f"{LAYOUT}#/profile_mixture_v2/top1_soft_cap/{size}": 0.2 for size in ("small", "mid", "large")}


@pytest.mark.parametrize(("name", "moves"), [("p1", {}), ("p2_lively", {}), ("p1", LOW)])
def test_site_weights_are_counted(run_of, name, moves):
    """Also where a low cap leaves the first site less than the second one."""
    run = run_of(name, **moves)
    s1, law = run.surfaces["s1_site_weights"].table().to_pydict(), run.pack[LAYOUT]["profile_mixture_v2"]
    capped = floored = 0
    worst, components, buckets = 0.0, dict.fromkeys(law["mixture"], 0), dict.fromkeys(("small", "mid", "large"), 0)
    for rows, orders in merchants(run):
        component, alpha = s1["mixture_component"][rows.start], s1["alpha_used"][rows.start]
        weights, by_cap, by_floor = slow_weights(s1["merchant_id"][rows.start], orders, component, alpha, law)
        capped, floored = capped + by_cap, floored + by_floor
        components[component] += 1
        buckets[laws.bucket(len(orders))] += 1
        worst = max(worst, *(abs(s1["p_weight"][rows.start + at] - weight) for at, weight in weights.items()))
    found = counters_of(run)["S1"]
    assert capped > 0 and floored > 0
    assert (found["soft_cap_rows"], found["floor_rows"]) == (capped, floored)
    assert (found["merchants_by_component"], found["merchants_by_bucket"]) == (components, buckets)
    assert found["max_abs_quantisation_error"] == pytest.approx(worst, abs=1e-12) and worst < 2**-24
    assert found["zero_mass_fallbacks"] == 0 and found["rows_written"] == len(s1["p_weight"])


def test_the_uniform_law_has_no_cap_and_no_component(run_of):
    found = counters_of(run_of("baseline"))["S1"]
    assert found["soft_cap_rows"] == found["floor_rows"] == 0 and found["merchants_by_component"] == {}
    assert 0.0 < found["max_abs_quantisation_error"] <= 2**-24


def blend(raw, policy, cap, floor):
    """Returns the fraction of the distance from uniform that one merchant-day keeps under these limits."""
    if len(raw) < max(2, policy["apply_when_groups_ge"]):
        return 1.0
    law = laws.recorded_blend if policy["law"] == "uniform_blend_v1" else laws.smooth_blend
    return 1.0 - law(raw, {**policy, "max_p_group_soft_cap": cap, "entropy_floor": floor})


@pytest.mark.parametrize(
    ("name", "moves"), [("p3_recorded", {}), ("p3_recorded", TIGHT), ("p3_smooth", TIGHT), ("p2", {})]
)
def test_blends_are_counted(run_of, name, moves):
    run = run_of(name, **moves)
    policy, days = run.pack[MIX], {}
    for row in run.surfaces["s4_group_weights"].table().to_pylist():
        days.setdefault((row["merchant_id"], row["utc_day"]), []).append(row)
    by_cap = by_floor = 0.0
    cap, floor = policy["max_p_group_soft_cap"], policy["entropy_floor"]
    for rows in days.values() if policy["enabled"] else ():
        raw = [row["mass_raw"] / row["denom_raw"] for row in rows]
        strength, capped, whole = (blend(raw, policy, *limits) for limits in ((1.0, 0.0), (cap, 0.0), (cap, floor)))
        by_cap, by_floor = max(by_cap, 1 - capped / strength), max(by_floor, 1 - whole / capped)
    found = counters_of(run)["S4"]
    assert found["blend_by_cap_max"] == pytest.approx(by_cap, abs=1e-9)
    assert found["blend_by_entropy_floor_max"] == pytest.approx(by_floor, abs=1e-9)
    assert (by_floor > 0.0) == (moves == TIGHT) and (by_cap > 0.0) == policy["enabled"]
    moved = [rows[0]["regularizer_delta_mass"] for rows in days.values()]
    assert found["moved_mass_total"] == pytest.approx(math.fsum(moved)) and found["moved_mass_max"] == max(moved)
    assert found["rows_regularised"] == sum(row["regularizer_applied"] for rows in days.values() for row in rows)


def test_day_effects_are_counted(run_of):
    run = run_of("p2", **NARROW)
    rows = run.surfaces["s3_day_effects"].table().to_pylist()
    found, drawn = counters_of(run)["S3"], day_effect_draws(run)
    assert found["clipped_rows"] == drawn["gamma_clipped_rows"] == sum(row["gamma"] in (0.95, 1.05) for row in rows) > 0
    assert (found["sigma_min"], found["sigma_max"]) == (
        min(row["sigma_gamma"] for row in rows), max(row["sigma_gamma"] for row in rows)
    )  # fmt: skip
    for name, row in (("first", rows[0]), ("last", rows[-1])):
        assert found[f"rng_counter_{name}"] == {"hi": row["rng_counter_hi"], "lo": row["rng_counter_lo"]}
    assert drawn["max_abs_log_gamma"] == max(abs(row["log_gamma"]) for row in rows)


def test_arrivals_are_counted(run_of):
    found, run = counters_of(run_of("p1")), run_of("p1")
    assert found["S5"]["arrivals"] == found["S5"]["rows_written"] + found["S6"]["rows_written"] == 60
    assert (
        found["S6"]["rows_written"] == found["S5"]["virtual_arrivals"] == sum(found["S6"]["rows_by_edge"].values()) > 0
    )
    assert found["S5"]["draws"] == 2 * found["S5"]["rows_written"]
    assert found["S2"]["slots"] == found["S0"]["sites"] == run.upstream.rows


def test_our_own_reports_have_the_counters(run_of):
    run = run_of("p3_recorded")
    assert {state: report["counters"] for state, report in state_reports(run).items()} == counters_of(run)


def test_record_reports_are_those_of_the_form(run_of):
    """Each report is as the record's readers want it, and the same for the same run, whoever asks."""
    run = run_of("p3_recorded")
    reports = json.loads(json.dumps(record_reports(run)))
    assert list(reports) == list(STATES)
    for state, report in reports.items():
        datasets.report(state).kind.value(report, state)
        assert len(report["samples"]["rows"]) <= SAMPLES
        assert report["validators"] and report["summary"] == {
            "overall_status": "PASS",
            "fail_count": 0,
            "warn_count": 0,
        }
        assert (
            set(report["environment"].values()) == {run.code_version, "not recorded"} and "durations_ms" not in report
        )
    again = SEGMENT_2B.__class__().evaluate(run.pack, 42)
    assert json.loads(json.dumps(record_reports(again))) == reports


def test_samples_are_rows_of_the_tables_with_their_provenance(run_of):
    run = run_of("p3_recorded")
    reports = record_reports(run)
    for state, name, columns in (
        ("S1", "s1_site_weights", {"weight_profile", "mixture_component", "alpha_used"}),
        ("S3", "s3_day_effects", set(datasets.S3_SAMPLE)),
        ("S4", "s4_group_weights", {"regularizer_applied", "regularizer_strength", "regularizer_delta_mass"}),
    ):
        rows, table = reports[state]["samples"]["rows"], run.surfaces[name].table().to_pylist()
        places = [next(at for at, row in enumerate(table) if row.items() >= sample.items()) for sample in rows]
        assert (
            places == sorted(set(places)) and len(places) == SAMPLES and places[0] == 0 and places[-1] == len(table) - 1
        )
        assert all(columns <= set(sample) for sample in rows)


def test_what_differs_between_hosts_is_stated_only_where_it_is_given(run_of):
    environment = {"engine_commit": "abc", "python_version": "3.11.4", "platform": "linux"}
    written = {"data/layer1/2B/s3_day_effects/seed=42/part-00000.parquet": 7, "logs/layer1/2B/edge/seed=42/a.jsonl": 5}
    report = record_reports(run_of("p1"), environment=environment, timed=True, written=written)["S3"]
    assert report["environment"] == environment and report["durations_ms"]["wall"] >= 0.0
    assert report["publish"] == {
        "outputs": [{"path": "data/layer1/2B/s3_day_effects/seed=42/", "files": 1, "bytes": 7}], "bytes": 7,
        "write_once": True,
    }  # fmt: skip


def test_a_check_that_fails_is_in_the_summary_of_its_state(run_of):
    run = run_of("p1")
    checks = [
        replace(check, passed=False, failures=2, first=1, reason="row 1")
        if check.name == "gamma is positive"
        else check
        for check in run.audit.checks
    ]
    reports = record_reports(replace(run, audit=replace(run.audit, checks=tuple(checks))))
    assert [reports[state]["summary"]["fail_count"] for state in ("S2", "S3", "S4", "S7", "S8")] == [0, 1, 0, 1, 1]
    failed = [one for one in reports["S3"]["validators"] if one["status"] == "FAIL"]
    assert [(one["name"], one["codes"], one["context"]["first"]) for one in failed] == [
        ("gamma is positive", ["GAMMA-IS-POSITIVE"], 1)
    ]


def test_ties_do_not_change_what_is_counted(run_of):
    """Ranks are read off the weights; sites of equal weight may stand in either order."""
    run = run_of("p1", **{f"{LAYOUT}#/quantised_bits": 8})
    weights = np.asarray(run.surfaces["s1_site_weights"]["p_weight"])
    assert len(np.unique(weights)) < len(weights)
    fine, coarse = counters_of(run_of("p1"))["S1"], counters_of(run)["S1"]
    assert [coarse[name] for name in ("soft_cap_rows", "floor_rows")] == [
        fine[name] for name in ("soft_cap_rows", "floor_rows")
    ]
