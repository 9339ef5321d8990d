"""The record's readers open a tree made by hand, and find each single damage to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from record_readers import (
    CHECKS,
    Tree,
    Unreadable,
    datasets,
    floor_shares,
    p0_scores,
    p1_scores,
    p2_scores,
    p3_scores,
    read_all,
)
from record_readers.tiny import KEYS, Made, table_of, tree_in

Change = Callable[[Made], object]


def test_every_reader_opens_the_tree(tmp_path: Path) -> None:
    """The whole tree is read, and nothing in it is left over."""
    tree = tree_in(tmp_path)
    for check in CHECKS:
        check(tree)
    assert tree.unread() == []


def test_the_consumers_score_the_tree(tmp_path: Path) -> None:
    """P0 to P3 and the floor, from numbers that one can work out by hand."""
    tree = tree_in(tmp_path)
    assert p0_scores(tree) == {"arrivals": 6, "days": 2, "merchants": 3, "repeated": False}
    assert p1_scores(tree)["s1/gap"] == 0.5  # 3/4 - 1/4, 1/2 - 1/4 and 1: the middle one
    assert p2_scores(tree)["passes"]
    assert p2_scores(tree)["sources"] == ["scalar_sigma_v1"]
    scores = p3_scores(tree)
    assert scores["bundle"] == "PASS"
    assert scores["s4/max_p_median"] == 1.0
    assert scores["s4/tail_share"] == scores["s4/multigroup_share"] * 2 == pytest.approx(2 / 3)
    assert floor_shares(tree) == {"single_group_share": pytest.approx(2 / 3)}


def test_without_a_flag_p3_fails_whatever_the_numbers(tmp_path: Path) -> None:
    """The flag is what passes a run."""
    tree = tree_in(tmp_path)
    (tree.place(datasets.BUNDLE.path) / "_passed.flag").unlink()
    assert p3_scores(tree)["bundle"] == "FAIL"


def _rows(name: str, edit: Callable[[list[dict[str, Any]]], object]) -> Change:
    """Returns a change of a table's rows."""
    return lambda made: edit(made[name])


def _every(name: str, **fields: Any) -> Change:
    """Returns a change of a field in every row; to None: without it."""

    def change(made: Made) -> None:
        for row in made[name]:
            row.update(fields)
            for field in [field for field, value in fields.items() if value is None]:
                del row[field]

    return change


def _first(name: str, **fields: Any) -> Change:
    """Returns a change of fields in the first row."""
    return lambda made: made[name][0].update(fields)


def _event(label: str, **fields: Any) -> Change:
    """Returns a change of the first event of a family."""
    return lambda made: made["events"][label][0].update(fields)


def _policy(name: str, **fields: Any) -> Change:
    """Returns a change of a policy's fields."""
    return lambda made: made["policies"][name].update(fields)


def _swapped(name: str) -> Change:
    """Returns a change of the order of two columns."""

    def change(made: Made) -> None:
        table = table_of(made[name])
        names = table.column_names
        made[name] = table.select([*names[1::-1], *names[2:]])

    return change


def _retyped(name: str, column: str, kind: pa.DataType) -> Change:
    """Returns a change of a column's type."""

    def change(made: Made) -> None:
        table = table_of(made[name])
        made[name] = table.set_column(table.column_names.index(column), column, table[column].cast(kind))

    return change


def _with_null(name: str, column: str) -> Change:
    """Returns a change after which the first row has no value in a column."""

    def change(made: Made) -> None:
        table = made[name] if isinstance(made[name], pa.Table) else table_of(made[name])
        values = pa.array([None, *table[column].to_pylist()[1:]], table[column].type)
        made[name] = table.set_column(table.column_names.index(column), column, values)

    return change


def _slice_word(word: int, value: int) -> Change:
    """Returns a change of one u32 in the first alias slice."""

    def change(made: Made) -> None:
        piece = bytearray(made["slices"][11])
        piece[4 * word : 4 * word + 4] = value.to_bytes(4, "little")
        made["slices"][11] = bytes(piece)

    return change


def _thresholds_first(made: Made) -> None:
    """Lays a slice out with all thresholds before all aliases."""
    words = [made["slices"][12][4 * at : 4 * at + 4] for at in range(10)]
    made["slices"][12] = b"".join([*words[:4], *words[4::2], *words[5::2]])


FIVE, SEVEN, NONE = ("2026-01-01T00:00:00." + "0" * digits + "Z" for digits in (5, 7, 0))
BEFORE_SEALING: dict[str, tuple[Change, str]] = {
    # the tables
    "a column too many": (_every("s1", alpha_used=1.0), "columns .*alpha_used"),
    "a column missing": (_every("s1", weight_source=None), "columns"),
    "two columns swapped": (_swapped("s1"), "columns"),
    "provenance left in S3": (_every("s3", sigma_value=0.1), "columns"),
    "provenance left in S4": (_every("s4", regularizer_applied=False), "columns"),
    "a wrong type": (_retyped("s1", "p_weight", pa.float32()), "p_weight: float"),
    "ids as text": (_retyped("s3", "merchant_id", pa.string()), "merchant_id: string"),
    "a null": (_with_null("s3", "gamma"), "gamma: missing in 1 rows"),
    "rows out of order": (_rows("s3", list.reverse), "not in the order"),
    "a row twice": (_rows("s4", lambda rows: rows.insert(0, rows[0])), "two rows have the same"),
    "a row missing": (_rows("s3", list.pop), "not every merchant, zone and day"),
    "five digits": (_every("s1", created_utc=FIVE), "not a text of the form"),
    "seven digits in a table": (_every("s3", created_utc=SEVEN), "not a text of the form"),
    "no fraction": (_every("s4", created_utc=NONE), "not a text of the form"),
    "another time": (_every("s4", created_utc="2026-01-02T00:00:00.000000Z"), "created_utc: 2026-01-02"),
    "a country in small letters": (_first("s1", legal_country_iso="zz"), "not a text of the form"),
    "a site order from zero": (_first("s1", site_order=0), "not a whole number"),
    "an id of zero": (_first("s1", merchant_id=0), "not a whole number"),
    "a negative weight": (_first("s1", p_weight=-0.1), "out of bounds"),
    "weights that miss one": (_first("s1", p_weight=0.7), "weights sum to"),
    "other bits than the policy's": (_every("s1", quantised_bits=20), "not the policy's"),
    "a site of no upstream": (_rows("site_timezones", list.pop), "not those of S1"),
    "a merchant of another zone": (_first("site_timezones", tzid="Europe/Madrid"), "not every merchant, zone and day"),
    "gamma of another logarithm": (_first("s3", gamma=2.0), "not the exponential"),
    "gamma of zero": (_first("s3", gamma=0.0), "out of bounds"),
    "gamma that is no number": (_first("s3", gamma=float("nan")), "not finite"),
    "one counter for two draws": (_every("s3", rng_counter_lo=1), "same rng_counter"),
    "a stream of no policy": (_every("s3", rng_stream_id="2B.other"), "not the policy's"),
    "a gamma not echoed": (_first("s4", gamma=1.5), "gamma: not S3's"),
    "a share that misses one": (_first("s4", p_group=0.5), "does not sum to one"),
    "a base share of other weights": (_first("s4", base_share=0.5), "sum of its sites' weights"),
    "a mass of another product": (_first("s4", mass_raw=0.5), "not base_share times gamma"),
    "a denominator of other masses": (_first("s4", denom_raw=9.0), "does not sum to denom_raw"),
    # the alias blob
    "thresholds before aliases": (_thresholds_first, "alias"),
    "a threshold changed": (_slice_word(6, 1), "does not decode"),
    "other bits in a slice": (_slice_word(1, 31), "head of the slice"),
    "a reserved word that is not zero": (_slice_word(2, 1), "head of the slice"),
    "an alias past the sites": (_slice_word(7, 9), "beyond the sites"),
    "a slice of four bytes more": (lambda made: made["slices"].update({11: made["slices"][11] + bytes(4)}), "head"),
    # the logs
    "a roster field too many": (_every("roster", channel="online"), "unexpected field"),
    "a roster field missing": (_every("roster", utc_day=None), "utc_day: missing"),
    "a roster out of order": (_rows("roster", list.reverse), "not in the order"),
    "a roster of five digits": (_first("roster", utc_timestamp="2026-01-01T00:00:00.00000Z"), "form"),
    "an arrival not routed": (_rows("selections", list.pop), "not the roster's arrivals"),
    "an arrival without an edge": (_rows("edges", list.pop), "not the roster's virtual arrivals"),
    "an edge for no virtual arrival": (_first("edges", is_virtual=False), "False: not True"),
    "an id as text in a log": (_first("selections", site_id="1"), "JSON parse error"),
    "a day of another moment": (_first("roster", utc_day="2026-01-02"), "not the day of utc_timestamp"),
    "a zone of another merchant": (_first("selections", tz_group_id="Asia/Tokyo"), "does not have"),
    "a log of another stream": (_first("edges", rng_stream_id="2B.other"), "not the policy's"),
    "a log of another world": (_first("selections", manifest_fingerprint="f" * 64), "another partition|f{64}"),
    "a field of the envelope missing": (_event("alias_pick_site", run_id=None), "run_id: missing"),
    "another module": (_event("alias_pick_group", module="2B.S6"), "'2B.S6': not"),
    "draws as a number": (_event("alias_pick_group", draws=1), "JSON parse error"),
    "two draws": (_event("alias_pick_site", draws="2"), "'2': not '1'"),
    "a share above one": (_event("alias_pick_group", p_group=1.5), "out of bounds"),
    "a counter that steps by two": (_event("alias_pick_group", rng_counter_after_lo=2), "does not step by one"),
    "a counter that stands": (_event("cdn_edge_pick", rng_counter_after_lo=0), "does not step by one"),
    "another counter than the log's": (
        _event("cdn_edge_pick", rng_counter_before_lo=5, rng_counter_after_lo=6), "counters are not those"
    ),
    "an event that is not logged": (lambda made: made["events"]["alias_pick_site"].pop(), "not those of"),
    "a trace that is not cumulative": (_first("trace", events_total=2), "not cumulative"),
    "a trace of too few draws": (_rows("trace", lambda rows: rows[-1].update(draws_total=1)), "not cumulative"),
    "a trace of an unknown stream": (
        _rows("trace", lambda rows: rows.append({**rows[-1], "substream_label": "x"})), "no known substream"
    ),
    "another generator": (_first("audit_log", algorithm="pcg64"), "'pcg64': not"),
    "two rows of audit": (_rows("audit_log", lambda rows: rows.append(rows[0])), "not one row"),
    # the policies
    "a policy's unknown field": (_policy("group_mix_regularizer_v1", knee=1.0), "the field knee is not known"),
    "a policy of another name": (_policy("alias_layout_policy_v1", policy_id="x"), "'x': not"),
    "a version of two numbers": (_policy("route_rng_policy_v1", policy_version="1.0"), "not a text of the form"),
    "a stream of another segment": (_policy("day_effect_policy_v1", rng_stream_id="s3.day"), "not a text of the form"),
    "a digest in capitals": (_policy("day_effect_policy_v1", sha256_hex="E" * 64), "not a text of the form"),
    "a cap of zero": (_policy("group_mix_regularizer_v1", max_p_group_soft_cap=0.0), "out of bounds"),
    "days of another range": (
        _policy("day_effect_policy_v1", day_range={"start_day": "2026-01-01", "end_day": "2026-01-03"}), "not the"
    ),
}  # fmt: skip


def test_a_mass_may_be_left_out_and_no_other_is_excused_by_it(tmp_path: Path) -> None:
    def change(made: Made) -> None:
        made["s4"][-1]["mass_raw"] = 0.5
        for column in ("mass_raw", "denom_raw"):
            _with_null("s4", column)(made)

    read_all(tree_in(tmp_path / "whole", _with_null("s4", "mass_raw")))
    with pytest.raises(Unreadable, match="not base_share times gamma"):
        read_all(tree_in(tmp_path / "wrong", change))


@pytest.mark.parametrize("damage", BEFORE_SEALING)
def test_a_damage_is_found_though_every_digest_is_right(damage: str, tmp_path: Path) -> None:
    """What was sealed and flagged with the damage in it is refused for the damage itself."""
    change, why = BEFORE_SEALING[damage]
    tree = tree_in(tmp_path, change)
    with pytest.raises(Unreadable, match=why):
        read_all(tree)


Edit = Callable[[Any], object]


def _edited(tree: Tree, path: str, edit: Edit) -> None:
    place = tree.place(path)
    document = json.loads(place.read_text())
    edit(document)
    place.write_text(json.dumps(document))


INDEX, REPORT = f"{datasets.BUNDLE.path}/index.json", datasets.report("S3").path
AFTERWARDS: dict[str, tuple[str, Edit, str]] = {
    "a receipt's unknown field": (datasets.RECEIPT.path, lambda doc: doc.update(host="x"), "host is not known"),
    "a receipt's missing field": (datasets.RECEIPT.path, lambda doc: doc.pop("seed"), "seed is missing"),
    "a receipt of five digits": (datasets.RECEIPT.path, lambda doc: doc.update(verified_at_utc=FIVE), "form"),
    "a receipt of another seed": (datasets.RECEIPT.path, lambda doc: doc.update(seed=7), "seed: 7, not 42"),
    "a receipt of other assets": (datasets.RECEIPT.path, lambda doc: doc["sealed_inputs"].pop(), "not the assets"),
    "a receipt of other policies": (
        datasets.RECEIPT.path, lambda doc: doc["determinism_receipt"]["policy_ids"].reverse(), "not those sealed"
    ),
    "a sealed file's other digest": (
        datasets.SEALED.path, lambda doc: doc[0].update(sha256_hex="0" * 64), "not that of config"
    ),
    "a digest in capitals": (
        datasets.SEALED.path, lambda doc: doc[0].update(sha256_hex=doc[0]["sha256_hex"].upper()), "form"
    ),
    "a sealed file that is not there": (datasets.SEALED.path, lambda doc: doc[0].update(path="x"), "missing"),
    "an asset twice": (datasets.SEALED.path, lambda doc: doc.insert(0, doc[0]), "each once"),
    "an asset without a partition": (datasets.SEALED.path, lambda doc: doc[1].pop("partition"), "partition is missing"),
    "another partition": (datasets.SEALED.path, lambda doc: doc[0].update(partition={"seed": "1"}), "that of its path"),
    "an index of another blob": (datasets.S2_INDEX.path, lambda doc: doc.update(blob_sha256="0" * 64), "the blob's"),
    "an offset that is not aligned": (
        datasets.S2_INDEX.path, lambda doc: doc["merchants"][1].update(offset=36), "next aligned byte"
    ),
    "an offset into the slice before": (
        datasets.S2_INDEX.path, lambda doc: doc["merchants"][1].update(offset=8), "next aligned byte"
    ),
    "another checksum": (datasets.S2_INDEX.path, lambda doc: doc["merchants"][0].update(checksum="00"), "checksum"),
    "merchants out of order": (datasets.S2_INDEX.path, lambda doc: doc["merchants"].reverse(), "in order"),
    "too many merchants stated": (datasets.S2_INDEX.path, lambda doc: doc.update(merchants_count=4), "in order"),
    "other sites than the slice": (datasets.S2_INDEX.path, lambda doc: doc["merchants"][0].update(sites=3), "sites"),
    "an index of another policy": (
        datasets.S2_INDEX.path, lambda doc: doc.update(policy_digest="0" * 64), "not that sealed"
    ),
    "another endianness": (datasets.S2_INDEX.path, lambda doc: doc.update(endianness="big"), "not the policy's"),
    "an audit that hides a failure": (
        datasets.S7.path, lambda doc: doc["checks"][0].update(status="FAIL"), "does not count the statuses"
    ),
    "an audit's other status": (datasets.S7.path, lambda doc: doc["checks"][0].update(status="OK"), "'OK': not"),
    "an audit of other draws": (
        datasets.S7.path, lambda doc: doc["metrics"].update(draws_observed=1), "draws_observed: 1, not"
    ),
    "an audit's unknown metric": (datasets.S7.path, lambda doc: doc["metrics"].update(x=1), "x is not known"),
    "a report that hides a failure": (
        REPORT, lambda doc: doc["validators"][0].update(status="FAIL"), "does not count the statuses"
    ),
    "a report without a summary's field": (REPORT, lambda doc: doc["summary"].pop("warn_count"), "is missing"),
    "a report of other rows": (REPORT, lambda doc: doc["rng_accounting"].update(rows_written=1), "rows_written: 1"),
    "a report of another extreme": (
        REPORT, lambda doc: doc["rng_accounting"].update(max_abs_log_gamma=9.0), "max_abs_log_gamma: 9"
    ),
    "samples without provenance": (
        REPORT, lambda doc: doc["samples"]["rows"][0].pop("sigma_source"), "lacks .*sigma_source"
    ),
    "too many samples": (REPORT, lambda doc: doc["samples"].update(rows=doc["samples"]["rows"] * 3), "more samples"),
    "validators out of number": (REPORT, lambda doc: doc["validators"][0].update(id="V-02"), "not numbered"),
    "a report's other policy": (
        REPORT, lambda doc: doc["policies"][0].update(sha256_hex="0" * 64), "not that sealed"
    ),
    "a report of another file": (
        REPORT,
        lambda doc: doc.update(
            publish={"outputs": [{"path": "data/layer1/1B", "files": 1, "bytes": 1}], "bytes": 1, "write_once": True}
        ),
        "not 1 files with 1 bytes",
    ),
    "an index out of order": (INDEX, list.reverse, "ASCII order"),
    "an index of another digest": (INDEX, lambda doc: doc[0].update(sha256_hex="0" * 64), "not that of the index"),
    "an index above its folder": (INDEX, lambda doc: doc[0].update(path="../x"), "form"),
    "an index of fewer files": (INDEX, list.pop, "does not pass"),
}  # fmt: skip


@pytest.mark.parametrize("damage", AFTERWARDS)
def test_a_document_changed_afterwards_is_found(damage: str, tmp_path: Path) -> None:
    """Each field of a document is held to its schema, and to the files that it speaks of."""
    path, edit, why = AFTERWARDS[damage]
    tree = tree_in(tmp_path)
    _edited(tree, path, edit)
    with pytest.raises(Unreadable, match=why):
        read_all(tree)


@pytest.mark.parametrize(
    ("path", "data", "why"),
    [
        (f"{datasets.BUNDLE.path}/_passed.flag", "sha256_hex = " + "0" * 64 + "\n", "does not pass"),
        (f"{datasets.BUNDLE.path}/_passed.flag", "0" * 64 + "\n", "not one line"),
        (f"{datasets.UPSTREAM_BUNDLE.path}/report.json", "{}", "not that of the index"),
        (f"{datasets.UPSTREAM_BUNDLE.path}/_passed.flag", "sha256_hex = " + "0" * 64 + "\n", "does not pass"),
        (f"{datasets.ZONE_TABLES.path}/zones.json", "{}", "not that of"),
        (datasets.ROSTER.path, "{}", "not one object a line"),
        (datasets.S7.path, '{"seed": 1, "seed": 1}', "twice"),
        ("data/layer1/2B/extra.json", "{}", "no reader opens"),
    ],
)  # fmt: skip
def test_another_content_is_found(path: str, data: str, why: str, tmp_path: Path) -> None:
    """Flags, sealed files and files that belong to no dataset."""
    tree = tree_in(tmp_path)
    tree.place(path).write_text(data)
    with pytest.raises(Unreadable, match=why):
        read_all(tree)


def test_every_file_of_the_tree_is_missed(tmp_path: Path) -> None:
    """No file may be lacking, whichever it is."""
    tree = tree_in(tmp_path)
    for path in sorted(path for path in tmp_path.rglob("*") if path.is_file()):
        data = path.read_bytes()
        path.unlink()
        with pytest.raises(Unreadable):
            read_all(Tree(tmp_path, **KEYS))
        path.write_bytes(data)
    read_all(tree)
