"""A run in the record's form: paths, columns, rows, counters, digests; and its upstream read back or refused."""

import hashlib
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from queue_engine import QueueEngine
from worlds import tiny_world

from lanelock.engine.keep.receipts import digests, flag_text
from lanelock.engine.resolved import Resolved
from lanelock.engine.segment_2b import store, world_import
from lanelock.engine.segment_2b.lines import lines, texts
from lanelock.engine.segment_2b.record import bundle, form, given, logs
from lanelock.engine.segment_2b.record.form import write_record
from lanelock.engine.segment_2b.run import SEGMENT_2B, Segment2B
from lanelock.engine.segment_2b.tables import constant, published
from lanelock.engine.segment_2b.world_import import open_world
from lanelock.engine.segment_2b.zones import zones
from lanelock.engine.surface import Categories
from lanelock.policies import DataError, IntegrityError, PolicyError

ROUTING = "route_rng_policy_v1#/roster/arrivals_per_merchant_day"
_ROW = '{"path": "a", "sha256_hex": "00"}'
MICROS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
COLUMNS = {
    "s1_site_weights": "merchant_id legal_country_iso site_order p_weight weight_source quantised_bits floor_applied"
    " created_utc",
    "s3_day_effects": "merchant_id utc_day tz_group_id gamma log_gamma sigma_gamma rng_stream_id rng_counter_lo"
    " rng_counter_hi created_utc",
    "s4_group_weights": "merchant_id utc_day tz_group_id p_group base_share gamma created_utc mass_raw denom_raw",
}


@pytest.fixture(scope="module")
def run(packs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world_import.write_world(tiny_world(virtual=[3]), folder)
    return Segment2B().evaluate(packs("p3_recorded").with_knobs({ROUTING: 2.0}), 42, world=folder)


@pytest.fixture(scope="module")
def tree(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exports") / "a.record"
    write_record(run, folder)
    return folder


@pytest.fixture
def copy(tree, tmp_path):
    """The upstream of the tree alone, to be damaged."""
    for segment in ("1B", "2A"):
        shutil.copytree(tree / "data/layer1" / segment, tmp_path / "data/layer1" / segment)
    return tmp_path


def rows_of(tree, pattern):
    """Every row of the JSON Lines files that match, in order of path."""
    return [json.loads(line) for path in sorted(tree.glob(pattern)) for line in path.read_text().splitlines()]


def documents(tree, pattern):
    (path,) = tree.glob(pattern)
    return json.loads(path.read_text())


def policy(tree, name):
    return json.loads((tree / f"config/layer1/2B/policy/{name}.json").read_text())


def in_json(surface, names):
    """Rows of a surface as its JSON Lines hold them."""
    table = surface.table().select(names).to_pylist()
    return [{**row, "utc_timestamp": row["utc_timestamp"].strftime("%Y-%m-%dT%H:%M:%S.%fZ")} for row in table]


def test_everything_lies_where_the_record_looks_for_it(run, tree):
    world = f"manifest_fingerprint={run.world_digest}"
    table, log = f"seed=42/{world}", f"seed=42/parameter_hash={run.pack.digest}/run_id={run.run_id}"
    part = "part-00000.parquet"
    expected = {
        f"data/layer1/1B/site_locations/{table}/{part}",
        *(f"data/layer1/1B/validation/{world}/{name}" for name in ("index.json", "_passed.flag")),
        f"data/layer1/2A/site_timezones/{table}/{part}",
        f"data/layer1/2A/tz_timetable_cache/{world}/{part}",
        f"data/layer1/2B/s0_gate_receipt/{world}/s0_gate_receipt_2B.json",
        f"data/layer1/2B/sealed_inputs/{world}/sealed_inputs_2B.json",
        *(f"data/layer1/2B/{name}/{table}/{part}" for name in COLUMNS),
        f"data/layer1/2B/s2_alias_index/{table}/index.json",
        f"data/layer1/2B/s2_alias_blob/{table}/alias.bin",
        f"data/layer1/2B/s5_arrival_roster/{log}/arrival_roster.jsonl",
        f"data/layer1/2B/s5_selection_log/{log}/utc_day=2026-02-03/selection_log.jsonl",
        f"logs/layer1/2B/edge/{log}/utc_day=2026-03-31/s6_edge_log.jsonl",
        f"logs/layer1/2B/rng/audit/{log}/rng_audit_log.jsonl",
        f"logs/layer1/2B/rng/trace/{log}/rng_trace_log.jsonl",
        *(f"logs/layer1/2B/rng/events/{event}/{log}/part-00089.jsonl"
          for event in ("alias_pick_group", "alias_pick_site", "cdn_edge_pick")),
        f"data/layer1/2B/s7_audit_report/{table}/s7_audit_report.json",
        *(f"data/layer1/2B/validation/{world}/{name}" for name in ("index.json", "_passed.flag")),
    }  # fmt: skip
    assert expected <= set(digests(tree))


@pytest.mark.parametrize("name", COLUMNS)
def test_a_table_has_the_columns_of_the_record_and_our_rows(run, tree, name):
    (path,) = tree.glob(f"data/layer1/2B/{name}/**/*.parquet")
    table = pq.ParquetFile(path).read()
    assert table.column_names == COLUMNS[name].split()
    assert set(table["created_utc"].to_pylist()) == {run.sealed.created_utc}
    if "rng_stream_id" in table.column_names:
        assert set(table["rng_stream_id"].to_pylist()) == {policy(tree, "day_effect_policy_v1")["rng_stream_id"]}
    rest = [column for column in table.column_names if column not in ("created_utc", "rng_stream_id")]
    assert table.select(rest).to_pylist() == run.surfaces[name].table().select(rest).to_pylist()


def test_the_logs_hold_the_rows_of_ours(run, tree):
    names = {
        "s5_arrival_roster/**/*.jsonl": ("s5_arrival_roster", ["is_virtual"]),
        "s5_selection_log/**/*.jsonl": ("s5_selection_log", ["tz_group_id", "site_id", "ctr_group_hi",
                                                              "ctr_group_lo", "ctr_site_hi", "ctr_site_lo"]),
    }  # fmt: skip
    for pattern, (name, more) in names.items():
        shared = ["merchant_id", "utc_timestamp", "utc_day", *more]
        found = rows_of(tree, f"data/layer1/2B/{pattern}")
        assert [{column: row[column] for column in shared} for row in found] == in_json(run.surfaces[name], shared)
    shared = ["merchant_id", "utc_timestamp", "utc_day", "edge_id", "ip_country", "edge_lat", "edge_lon"]
    shared += ["ctr_edge_hi", "ctr_edge_lo"]
    edges = rows_of(tree, "logs/layer1/2B/edge/**/*.jsonl")
    assert [{column: row[column] for column in shared} for row in edges] == in_json(run.surfaces["s6_edge_log"], shared)
    assert all(row["is_virtual"] and row["tz_group_id"] == "Asia/Tokyo" for row in edges), (
        "merchant 3 has no other zone"
    )
    assert {row["site_id"] & 0xFFFFFFFF for row in edges} <= set(range(1, 7)) and len(edges) > 0
    streams = policy(tree, "route_rng_policy_v1")["streams"]
    assert {row["rng_stream_id"] for row in edges} == {streams["routing_edge"]["rng_stream_id"]}
    assert {row["rng_stream_id"] for row in found} == {streams["routing_selection"]["rng_stream_id"]}
    for row in (*edges, *found):
        assert MICROS.fullmatch(row["utc_timestamp"]) and MICROS.fullmatch(row["created_utc"])
        assert row["manifest_fingerprint"] == run.world_digest


def test_every_draw_is_an_event_and_a_cumulative_row_of_the_trace(run, tree):
    trace, logged = rows_of(tree, "logs/layer1/2B/rng/trace/**/*.jsonl"), 0
    share = {
        (row["merchant_id"], row["utc_day"], row["tz_group_id"]): row["p_group"]
        for row in run.surfaces["s4_group_weights"].table().to_pylist()
    }
    for event, name, counter in (
        ("alias_pick_group", "s5_selection_log", "ctr_group"),
        ("alias_pick_site", "s5_selection_log", "ctr_site"),
        ("cdn_edge_pick", "s6_edge_log", "ctr_edge"),
    ):
        events = rows_of(tree, f"logs/layer1/2B/rng/events/{event}/**/*.jsonl")
        drawn = run.surfaces[name].table().to_pylist()
        totals = [row for row in trace if row["substream_label"] == event]
        assert len(events) == len(drawn) == len(totals) > 0
        for number, (row, arrival, total) in enumerate(zip(events, drawn, totals, strict=True), 1):
            assert row["rng_counter_before_lo"] == arrival[f"{counter}_lo"] == row["rng_counter_after_lo"] - 1
            assert row["rng_counter_before_hi"] == arrival[f"{counter}_hi"] == row["rng_counter_after_hi"]
            assert (row["draws"], row["blocks"], row["merchant_id"]) == ("1", 1, arrival["merchant_id"])
            assert {total[field] for field in ("draws_total", "blocks_total", "events_total")} == {number}
            for field in total.keys() - {"draws_total", "blocks_total", "events_total"}:
                assert total[field] == row[field], field
        if event == "alias_pick_group":
            assert all(
                row["p_group"] == share[row["merchant_id"], row["utc_day"], row["tz_group_id"]] for row in events
            )
        logged += len(events)
    assert logged == len(trace)
    (audit,) = rows_of(tree, "logs/layer1/2B/rng/audit/**/*.jsonl")
    assert audit["algorithm"] == "philox2x64-10" and audit["build_commit"] == run.code_version
    assert not {"hostname", "platform"} & audit.keys(), "what depends on the host is left out"


def test_a_counter_at_its_end_carries_into_the_upper_word():
    counters = logs._before_and_after(np.array([7, 7], np.uint64), np.array([2**64 - 1, 5], np.uint64))
    assert {name: value.to_pylist() for name, value in counters.items()} == {
        "rng_counter_before_lo": ["18446744073709551615", "5"],
        "rng_counter_before_hi": ["7", "7"],
        "rng_counter_after_lo": ["0", "6"],
        "rng_counter_after_hi": ["8", "7"],
    }


def test_what_is_sealed_digests_to_what_is_stated(run, tree):
    sealed = documents(tree, "data/layer1/2B/sealed_inputs/*/*.json")
    ids = [asset["asset_id"] for asset in sealed]
    assert ids == sorted(ids) and {
        "site_locations",
        "site_timezones",
        "tz_timetable_cache",
        "validation_bundle_1B",
    } <= {*ids}
    for asset in sealed:
        place = tree / asset["path"]
        files = [place] if place.is_file() else sorted(place.rglob("*.*"))
        data = [path.read_bytes() for path in files if path.name != "_passed.flag"]
        assert data and asset["sha256_hex"] == hashlib.sha256(b"".join(data)).hexdigest()
        assert all(f"{key}={value}" in asset["path"] for key, value in asset["partition"].items())
    receipt = documents(tree, "data/layer1/2B/s0_gate_receipt/*/*.json")
    assert [row["id"] for row in receipt["sealed_inputs"]] == ids and MICROS.fullmatch(receipt["verified_at_utc"])


def test_flag_index_and_list_of_files_cover_every_file(run, tree):
    folder = tree / f"data/layer1/2B/validation/manifest_fingerprint={run.world_digest}"
    index = json.loads((folder / "index.json").read_text())
    assert [row["path"] for row in index] == sorted(row["path"] for row in index)
    whole = hashlib.sha256(b"".join((folder / row["path"]).read_bytes() for row in index)).hexdigest()
    assert (folder / "_passed.flag").read_text() == flag_text(whole)
    assert all(hashlib.sha256((folder / row["path"]).read_bytes()).hexdigest() == row["sha256_hex"] for row in index)
    listed = {row["path"]: row["sha256_hex"] for row in json.loads((folder / "files.json").read_text())}
    own = {
        (folder / name).relative_to(tree).as_posix()
        for name in ("index.json", "_passed.flag", *(r["path"] for r in index))
    }
    assert listed == {name: sha256 for name, sha256 in digests(tree).items() if name not in own}


def test_the_index_and_the_audit_say_what_the_tables_hold(run, tree):
    index = documents(tree, "data/layer1/2B/s2_alias_index/**/index.json")
    (blob,) = tree.glob("data/layer1/2B/s2_alias_blob/**/alias.bin")
    data = blob.read_bytes()
    assert (index["blob_size_bytes"], index["blob_sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert index["merchants_count"] == len(index["merchants"]) == 5 and MICROS.fullmatch(index["created_utc"])
    for row in index["merchants"]:
        piece = data[row["offset"] : row["offset"] + row["length"]]
        assert row["checksum"] == hashlib.sha256(piece).hexdigest() and row["quantised_bits"] == 24
    report = documents(tree, "data/layer1/2B/s7_audit_report/**/*.json")
    assert report["component"] == "2B.S7" and report["summary"] == {
        "overall_status": "PASS",
        "warn_count": 0,
        "fail_count": 0,
    }
    assert {check["status"] for check in report["checks"]} == {"PASS"} and not any(
        check["codes"] for check in report["checks"]
    )
    metrics, arrivals = report["metrics"], run.surfaces["s5_arrival_roster"]
    assert (metrics["merchants_total"], metrics["groups_total"], metrics["days_total"]) == (5, 9, 90)
    virtual = int(np.asarray(arrivals["is_virtual"]).sum())
    assert metrics["draws_expected"] == metrics["draws_observed"] == 2 * (arrivals.rows - virtual) + virtual
    assert metrics["max_abs_mass_error_s4"] == 0.0 and metrics["alias_decode_max_abs_delta"] <= 1.2e-7


@pytest.mark.parametrize("days", [1, 2])
def test_the_mass_of_each_merchants_day_is_its_own(packs, tmp_path, days):
    """Also of a single day, on which only the merchant changes from row to row."""
    moves = {"day_effect_policy_v1#/horizon/days": days, "world_v1#/merchants/count": 20}
    write_record(Segment2B().evaluate(packs("p3_recorded").with_knobs(moves), 42), tmp_path / "short")
    metrics = documents(tmp_path / "short", "data/layer1/2B/s7_audit_report/**/*.json")["metrics"]
    assert metrics["max_abs_mass_error_s4"] == 0.0 and metrics["days_total"] == days


def test_a_failed_check_has_a_code_and_a_failed_run_no_flag(run, tmp_path):
    first, *others = run.audit.checks
    bad = replace(first, passed=False, failures=2, first=7, reason="row 7")
    write_record(replace(run, audit=replace(run.audit, checks=(bad, *others))), tmp_path / "bad")
    report = documents(tmp_path / "bad", "data/layer1/2B/s7_audit_report/**/*.json")
    assert report["summary"] == {"overall_status": "FAIL", "warn_count": 0, "fail_count": 1}
    row = report["checks"][0]
    assert row["status"] == "FAIL" and row["codes"] == ["2B-S7-S1_SITE_WEIGHTS-CONTRACT"]
    assert row["context"]["first"] == 7
    assert not [*(tmp_path / "bad").glob("data/layer1/2B/validation/*/_passed.flag")]


def test_the_timetable_holds_the_changes_of_the_worlds_zones(run, tree):
    (path,) = tree.glob("data/layer1/2A/tz_timetable_cache/*/*.parquet")
    found = {}
    for row in pq.ParquetFile(path).read().to_pylist():
        found.setdefault(row["tzid"], []).append((row["utc_second"], row["offset_seconds"]))
    known = {name: zones()[name] for name in run.upstream.zones}
    assert found == {
        name: [*zip(zone.since.tolist(), zone.offset.tolist(), strict=True)] for name, zone in known.items()
    }


def test_every_states_report_says_what_it_wrote_and_by_which_code(run, tree):
    reports = [json.loads(path.read_text()) for path in tree.glob("reports/**/*.json")]
    assert len(reports) == 9
    for report in reports:
        outputs, found = report["publish"]["outputs"], {}
        for path in (output["path"] for output in outputs):
            files = [file for file in (tree / path, *(tree / path).rglob("*")) if file.is_file()]
            found[path] = [file.stat().st_size for file in files]
        assert {output["path"]: (output["files"], output["bytes"]) for output in outputs} == {
            path: (len(sizes), sum(sizes)) for path, sizes in found.items()
        }
        assert report["publish"]["bytes"] == sum(map(sum, found.values())) > 0
        assert report["environment"]["engine_commit"] == run.code_version


def test_from_the_published_run_it_is_the_same_to_the_byte(run, tree, tmp_path):
    opened = SEGMENT_2B.open_run(store.publish(run, tmp_path / "runs"))
    assert SEGMENT_2B.lay_out(opened, "record", tmp_path / "again") == tmp_path / "again"
    assert digests(tmp_path / "again") == digests(tree)


@pytest.fixture(scope="module")
def fed_run(run, tmp_path_factory):
    """The same run with one physical arrival, brought in from outside."""
    folder = tmp_path_factory.mktemp("fed")
    world, file = folder / "world", folder / "arrivals.csv"
    world_import.write_world(run.upstream, world)
    head = "utc_timestamp,merchant_id,utc_day,is_virtual,arrival_class,channel"
    file.write_text(f"{head}\n2026-01-01T00:00:01Z,1,2026-01-01,false,purchase,online\n")
    return Segment2B().evaluate(run.pack, 42, world=world, roster=file)


def test_a_published_run_without_a_single_edge_gives_the_same_form(fed_run, tmp_path):
    write_record(fed_run, tmp_path / "live")
    write_record(SEGMENT_2B.open_run(store.publish(fed_run, tmp_path / "runs")), tmp_path / "published")
    assert digests(tmp_path / "live") == digests(tmp_path / "published")


def test_arrivals_from_outside_are_sealed_and_drawn_ones_are_not(fed_run, tree, tmp_path):
    write_record(fed_run, tmp_path / "fed")
    drawn, fed = (
        {asset["asset_id"]: asset for asset in documents(root, "data/layer1/2B/sealed_inputs/*/*.json")}
        for root in (tree, tmp_path / "fed")
    )
    assert fed.keys() - drawn.keys() == {"s5_arrival_roster"} and drawn.keys() < fed.keys()
    roster = tmp_path / "fed" / fed["s5_arrival_roster"]["path"]
    assert fed["s5_arrival_roster"]["sha256_hex"] == hashlib.sha256(roster.read_bytes()).hexdigest()
    assert not [*(tmp_path / "fed").glob("logs/layer1/2B/edge/**/*.jsonl")], (
        "no arrival is virtual, so no file is there"
    )
    assert len(rows_of(tmp_path / "fed", "logs/layer1/2B/rng/trace/**/*.jsonl")) == 2


def test_a_form_that_cannot_be_finished_leaves_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(form, "upstream_files", lambda *_: (_ for _ in ()).throw(OSError("the disk is full")))
    with pytest.raises(OSError, match="the disk is full"):
        write_record(run, tmp_path / "exports" / "half")
    assert not [*(tmp_path / "exports").iterdir()]


# --- the upstream, read back ------------------------------------------------------------------------------


def test_the_world_in_it_gives_the_same_world_and_the_same_tables(run, tree):
    again = Segment2B().evaluate(run.pack, 42, world=tree, until="S4")
    assert again.world_digest == run.world_digest
    ours = run.digests()
    assert again.digests() == {name: ours[name] for name in again.surfaces}
    assert set(again.surfaces) == {"s1_site_weights", "s3_day_effects", "s4_group_weights"}


def test_every_damage_to_the_upstream_is_found_before_a_table_is_read(run, copy, monkeypatch):
    monkeypatch.setattr(given, "read_table", lambda path: pytest.fail(f"{path} was read"))
    for name, data in {name: (copy / name).read_bytes() for name in digests(copy)}.items():
        path, draw = copy / name, np.random.default_rng(len(name))
        for place in {0, len(data) - 1, *draw.integers(0, len(data), 3).tolist()}:
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            with pytest.raises(IntegrityError):
                open_world(copy, run.pack["world_v1"])
        for damaged in (data + b" ", data[:-1], b""):
            path.write_bytes(damaged)
            with pytest.raises(IntegrityError):
                open_world(copy, run.pack["world_v1"])
        path.unlink()
        with pytest.raises(IntegrityError, match=path.name):
            open_world(copy, run.pack["world_v1"])
        path.write_bytes(data)
        more = path.with_name("part-00001.parquet")
        more.write_bytes(b"")
        with pytest.raises(IntegrityError, match="part-00001"):
            open_world(copy, run.pack["world_v1"])
        more.unlink()
    monkeypatch.undo()
    assert open_world(copy, run.pack["world_v1"]).digest == run.world_digest


def test_a_bundle_that_is_gone_means_nothing_is_read(run, copy):
    shutil.rmtree(next(copy.glob("data/layer1/1B/validation")))
    with pytest.raises(IntegrityError, match=r"1B.*no PASS, no read"):
        open_world(copy, run.pack["world_v1"])


def anothers(copy, evidence):
    """Turns the tree into one of another system: other evidence in its bundle, more columns, two parts."""
    (folder,) = copy.glob("data/layer1/1B/validation/*")
    for path in folder.iterdir():
        path.unlink()
    for name, data in bundle.bundled(evidence).items():
        (folder / name).write_bytes(data)
    index = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(index))  # in a form of its own
    (path,) = copy.glob("data/layer1/1B/site_locations/**/*.parquet")
    table = pq.ParquetFile(path).read()
    table = table.append_column("created_utc", pa.array(["2026-01-01T00:00:00.000000Z"] * len(table)))
    pq.write_table(table.slice(0, 7), path)
    pq.write_table(table.slice(7), path.with_name("part-00001.parquet"))


def test_anothers_tree_is_read_once_its_flag_passes(run, copy):
    anothers(copy, {"evidence.json": b"{}"})
    world = open_world(copy, run.pack["world_v1"])
    assert len(world.lat_deg) == len(run.upstream.lat_deg) and world.zones == run.upstream.zones
    assert not world.is_virtual.any(), "nothing says which merchants are"
    flag = next(copy.glob("data/layer1/1B/validation/*/_passed.flag"))
    flag.write_text(flag_text("0" * 64))
    with pytest.raises(IntegrityError, match=r"_passed\.flag: it does not pass"):
        open_world(copy, run.pack["world_v1"])


def test_a_link_brings_no_table_in_that_no_bundle_lists(run, copy, tmp_path_factory):
    (folder,) = copy.glob("data/layer1/1B/site_locations/*/*")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "sites"
    shutil.move(folder, elsewhere)
    folder.symlink_to(elsewhere)
    assert open_world(copy, run.pack["world_v1"]).digest == run.world_digest
    sites = pq.ParquetFile(elsewhere / "part-00000.parquet").read()
    one_more = sites.slice(0, 1).set_column(0, sites.schema.field(0), [pa.array([10**9], pa.uint64())])
    pq.write_table(one_more, elsewhere / "part-00001.parquet")
    with pytest.raises(IntegrityError, match=r"part-00001\.parquet: no bundle lists"):
        open_world(copy, run.pack["world_v1"])


def test_a_folder_named_like_a_table_is_refused_in_one_line(run, copy):
    anothers(copy, {"evidence.json": b"{}"})
    next(copy.glob("data/layer1/2A/site_timezones/*/*")).joinpath("part-00001.parquet").mkdir()
    with pytest.raises(IntegrityError, match=r"part-00001\.parquet: a folder, not a file"):
        open_world(copy, run.pack["world_v1"])


def test_a_tree_with_two_seeds_or_no_zones_is_refused(run, copy):
    anothers(copy, {"evidence.json": b"{}"})
    seed = next(copy.glob("data/layer1/1B/site_locations/seed=42"))
    shutil.copytree(seed, seed.with_name("seed=7"))
    with pytest.raises(DataError, match=r"seed=42.*seed=7.*keep one"):
        open_world(copy, run.pack["world_v1"])
    shutil.rmtree(seed.with_name("seed=7"))
    shutil.rmtree(copy / "data/layer1/2A")
    with pytest.raises(DataError, match="no table site_timezones"):
        open_world(copy, run.pack["world_v1"])


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a\\b", "", "a\0b"])
def test_an_index_that_leads_out_of_its_folder_is_refused(tmp_path, path):
    with pytest.raises(IntegrityError, match="leads out of its folder"):
        bundle.listed_in(tmp_path, json.dumps([{"path": path, "sha256_hex": "0" * 64}]).encode())


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "[1]", '[{"path": "a"}]', "[[]]", f"[{_ROW}, {_ROW}]"])
def test_what_is_no_index_is_refused(tmp_path, text):
    with pytest.raises(IntegrityError, match="not a list of files"):
        bundle.listed_in(tmp_path, text.encode())


# --- lines, and the command -------------------------------------------------------------------------------


def test_lines_are_the_rows_as_json():
    names = ('a"b', "ü\n")
    surface = published(
        "s5_arrival_roster",
        utc_timestamp=np.array([1_767_225_600_000_001, -1], np.int64),
        merchant_id=np.array([2**64 - 1, 0], np.uint64),
        utc_day=Categories(np.array([1, 0], np.int8), names),
        is_virtual=np.array([True, False]),
        arrival_class=constant("x", 2),
        channel=constant("y", 2),
        occurrence=np.array([0, 1], np.int32),
        created_utc=constant("now", 2),
    )
    names_ = ("utc_timestamp", "merchant_id", "utc_day", "is_virtual")
    fields = {name: texts(surface, name, slice(0, 2)) for name in names_}
    found = [json.loads(line) for line in bytes(lines({**fields, "k": 1}, {"only": "constants"})).splitlines()]
    rows = [
        ("2026-01-01T00:00:00.000001Z", 2**64 - 1, names[1], True),
        ("1969-12-31T23:59:59.999999Z", 0, names[0], False),
    ]
    assert found[::2] == [{**dict(zip(names_, row, strict=True)), "k": 1} for row in rows]
    assert found[1::2] == [{"only": "constants"}] * 2
    assert lines({"a": 1.5, "b": None}) == b'{"a":1.5,"b":null}\n'


def test_the_command_publishes_and_lays_out_and_exports_the_same(here, run, tree, tmp_path):
    world = tmp_path / "world"
    world_import.write_world(run.upstream, world)
    pack = tmp_path / "pack"
    pack.mkdir()
    for name, document in {**run.pack.documents(), "pack": {"engine": "segment_2b"}}.items():
        (pack / f"{name}.json").write_text(json.dumps(document))
    place = tmp_path / "w"
    call = ("run", "--pack", pack, "--seed", 42, "--world", world, "--publish", "--layout", "record", "--json")
    code, out, err = here(*call, workspace=place)
    assert code == 0, err
    made = json.loads(out)
    laid_out = Path(made["laid_out"])
    assert laid_out == place / "exports" / f"{made['run_id']}.record" and digests(laid_out) == digests(tree)
    assert (place / "runs" / made["run_id"] / "run_receipt.json").is_file()
    shutil.rmtree(laid_out)
    code, out, err = here("export", made["run_id"], "--layout", "record", "--json", workspace=place)
    assert code == 0 and json.loads(out)["laid_out"] == made["laid_out"], err
    assert digests(laid_out) == digests(tree)
    next(laid_out.rglob("alias.bin")).write_bytes(b"x")
    code, _, err = here("export", made["run_id"], "--layout", "record", workspace=place)
    assert code == 3 and "alias.bin: written before with other bytes" in err and err.count("\n") == 1
    code, _, err = here("export", made["run_id"], "--layout", "parquet", workspace=place)
    assert code == 2 and "--layout: 'parquet' is not a layout of engine segment_2b (record: " in err
    code, _, err = here("export", made["run_id"], "--layout", "record", "--csv", "x.csv", workspace=place)
    assert code == 2 and "--layout writes a run" in err


def test_an_engine_without_layouts_says_so():
    with pytest.raises(Exception, match="--layout: engine queue lacks Layouts") as refusal:
        Resolved(QueueEngine()).with_layout("record")
    assert refusal.value.exit_code == 2
    with pytest.raises(PolicyError, match="'x' is not a layout of engine segment_2b"):
        Resolved(SEGMENT_2B).with_layout("x")
