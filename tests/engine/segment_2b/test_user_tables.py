"""A user's tables: the same rows in every form, and each fault named by file, row and field, with the rows like it."""

import codecs
import os
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from worlds import tiny_world

from lanelock.engine.segment_2b.cells import typed_columns
from lanelock.engine.segment_2b.roster_import import open_roster
from lanelock.engine.segment_2b.user_tables import file_digest, read_table
from lanelock.engine.segment_2b.world_import import open_world
from lanelock.policies import DataError

TYPES = {"id": pa.uint64(), "order": pa.int32(), "share": pa.float64(), "virtual": pa.bool_(), "name": pa.string()}
ROW = {"id": "7", "order": "1", "share": "0.5", "virtual": "true", "name": "x"}
SITES = """\
merchant_id,legal_country_iso,site_order,lat_deg,lon_deg
9223372036854775809,FR,1,48.8566,2.3522
9223372036854775810,PT,1,38.7223,-9.1393
"""
ROSTER = """\
utc_timestamp,merchant_id,utc_day,is_virtual,arrival_class,channel
2026-01-01T09:00:00Z,1,2026-01-01,false,purchase,in_store
2026-01-01T09:30:00Z,2,2026-01-01,false,purchase,in_store
"""
DAYS = ("2026-01-01", "2026-01-02")
MANY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def policy(packs):
    return packs("p3_recorded")


def read(path):
    return typed_columns(path, read_table(path), TYPES, tuple(TYPES))


def read_text(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(path)


def stored(tmp_path, **columns):
    """Reads a Parquet table of two good rows, with columns put in place of theirs."""
    pq.write_table(pa.table({name: [value] * 2 for name, value in ROW.items()} | columns), tmp_path / "t.parquet")
    return read(tmp_path / "t.parquet")


def with_cells(**cells):
    """A text table of three rows, the second with other cells."""
    lines = [ROW, ROW | cells, ROW]
    return "\n".join(",".join(line) for line in [list(ROW), *(list(line.values()) for line in lines)]) + "\n"


def refusal(of, *arguments, **named):
    with pytest.raises(DataError) as refused:
        of(*arguments, **named)
    text = str(refused.value)
    assert text.isprintable() and len(text) < 2_000
    return text


def folder_of(folder, **tables):
    """A folder with a file for each name=text; __ stands for the point."""
    folder.mkdir(exist_ok=True)
    for name, text in tables.items():
        (folder / name.replace("__", ".")).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


ROWS = st.lists(
    st.tuples(
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**31 - 1),
        st.floats(-180, 180),
        st.booleans(),
        st.text(st.characters(codec="utf-8", exclude_characters='\0"\r\n'), min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=9,
)


def text_of(rows, separator, ending, quoted):
    cells = [[str(each) for each in row] for row in [tuple(TYPES), *rows]]
    mark = '"' if quoted else ""
    return "".join(separator.join(f"{mark}{cell}{mark}" for cell in row) + ending for row in cells)


@MANY
@given(
    ROWS, st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.booleans(),
    st.sampled_from(["t.csv", "t.TSV"]),
)  # fmt: skip
def test_the_same_rows_are_the_same_table_in_every_form(tmp_path, rows, separator, ending, quoted, mark, name):
    assume(quoted or not any(separator in row[-1] for row in rows))
    text = text_of(rows, separator, ending, quoted).encode()
    columns = [pa.array(values, kind) for values, kind in zip(zip(*rows, strict=True), TYPES.values(), strict=True)]
    pq.write_table(pa.table(columns, list(TYPES)), tmp_path / "t.PQ")
    written, kept = read_text(tmp_path, codecs.BOM_UTF8 * mark + text, name), read(tmp_path / "t.PQ")
    for column in TYPES:
        assert written[column].dtype == kept[column].dtype
        assert written[column].tolist() == kept[column].tolist() == [row[list(TYPES).index(column)] for row in rows]


@MANY
@given(st.text(st.sampled_from("0123456789+-_.exEX \t٣é,"), min_size=1, max_size=22) | st.integers(0, 10**22).map(str))
def test_an_id_is_digits_in_range_or_refused_by_row(tmp_path, text):
    assume("\t" not in text or "," not in text)
    canonical = text.isascii() and text.isdigit() and str(int(text)) == text
    row = ",".join(f'"{cell}"' for cell in (ROW | {"id": text}).values())
    table = with_cells().replace("\n7,1,0.5,true,x\n", f"\n{row}\n", 1)
    if canonical and int(text) < 2**64:
        assert read_text(tmp_path, table)["id"].tolist() == [int(text), 7, 7]
    else:
        assert "row 1: id: " in refusal(read_text, tmp_path, table)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        *(("id", cell) for cell in ("007", "0x10", "1e19", "+7", "-1", "7 ", "1_0", "7.0", str(2**64), "٣")),
        *(("order", cell) for cell in ("2147483648", "-1", "01", "1.5")),
        *(("share", cell) for cell in ("nan", "inf", "-Infinity", "1e999", "0x1p3", "1 000", ".", "1e", "48°")),
        *(("virtual", cell) for cell in ("2", "yes", "0.3", "NaN", "tru")),
    ],
)
def test_a_cell_that_is_not_of_its_type_is_refused(tmp_path, column, cell):
    said = refusal(read_text, tmp_path, with_cells(**{column: cell}))
    assert said.startswith(f"{tmp_path / 't.csv'}: row 2: {column}: {cell!r} is not of type {TYPES[column]}: ")


def test_what_a_cell_may_be(tmp_path):
    assert read_text(tmp_path, with_cells(id=str(2**64 - 1)))["id"].tolist() == [7, 2**64 - 1, 7]
    for cell, value in (("-1.5e-3", -0.0015), ("+2", 2.0), ("3.", 3.0), (".5", 0.5), ("1E2", 100.0)):
        assert read_text(tmp_path, with_cells(share=cell))["share"][1] == value
    for cell, value in (("True", True), ("FALSE", False), ("0", False), ("1", True)):
        assert read_text(tmp_path, with_cells(virtual=cell))["virtual"][1] == value


def test_a_decimal_comma_is_told_of_the_point(tmp_path):
    table = with_cells().replace(",", ";").replace("0.5", "0,5")
    assert "row 1: share: '0,5' is not of type double: a finite number, with a decimal point" in refusal(
        read_text, tmp_path, table
    )


def test_the_faults_of_all_columns_are_told_at_once_and_counted(tmp_path):
    rows = [ROW | {"share": "nan"} if n % 2 else ROW for n in range(20)]
    rows[4] = rows[4] | {"id": "x", "order": ""}
    table = "\n".join(",".join(row.values()) for row in [dict(zip(ROW, ROW, strict=True)), *rows])
    assert refusal(read_text, tmp_path, table).removeprefix(f"{tmp_path / 't.csv'}: ") == (
        "row 2: share: 'nan' is not of type double: a finite number, with a decimal point; 9 more rows like it "
        "(4, 6, 8, …); row 5: id: 'x' is not of type uint64: digits without a leading zero, at most "
        "18446744073709551615; row 5: order: empty, a value of type int32 is needed"
    )


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"id": [1.0, 2.0]}, "row 1: id: 1.0 is not of type uint64: digits without a leading zero"),
        ({"id": [float(2**53), float(2**53 + 2)]}, "a floating-point column is not exact; 1 more row like it (2)"),
        ({"id": [True, False]}, "row 1: id: True is not of type uint64"),
        ({"id": [1, -1]}, "row 2: id: -1 is not of type uint64"),
        ({"id": [1, None]}, "row 2: id: empty"),
        ({"id": pa.nulls(2)}, "row 1: id: empty"),
        ({"id": [[1], [2]]}, "row 1: id: a value of type list<"),
        ({"id": [Decimal("1.5"), Decimal("2.0")]}, "row 1: id: '1.5' is not of type uint64"),
        ({"order": [1, 2**31]}, "row 2: order: 2147483648 is not of type int32"),
        ({"share": [0.5, float("nan")]}, "row 2: share: nan is not of type double"),
        ({"share": [float("inf"), 0.5]}, "row 1: share: inf is not of type double"),
        ({"share": [True, False]}, "row 1: share: True is not of type double"),
        ({"virtual": [0.3, float("nan")]}, "row 1: virtual: 0.3 is not of type bool"),
        ({"virtual": [1, 2]}, "row 2: virtual: 2 is not of type bool"),
        ({"name": [{"a": 1}] * 2}, "row 1: name: a value of type struct<"),
        ({"name": [b"\xff"] * 2}, "name: binary cannot be read: "),
        ({"name": pa.array([2**63 - 1] * 2, pa.timestamp("ns"))}, "row 1: name: a value of type timestamp[ns]"),
        ({"other": ["x", "y"]}, "unknown column other"),
    ],
)
def test_a_stored_column_of_another_type_is_refused(tmp_path, columns, said):
    assert said in refusal(stored, tmp_path, **columns)


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([3, 2**63], pa.uint64()),
        pa.array([Decimal(3), Decimal(2**63)], pa.decimal128(20, 0)),
        pa.array(["3", str(2**63)], pa.large_string()),
        pa.array(["3", str(2**63)]).dictionary_encode(),
        pa.array([b"3", str(2**63).encode()]),
    ],
)
def test_an_id_may_be_stored_in_any_exact_way(tmp_path, ids):
    assert stored(tmp_path, id=ids)["id"].tolist() == [3, 2**63]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the table is empty"),
        (codecs.BOM_UTF8 + b"\n\n", "the table is empty"),
        (",".join(ROW).encode(), "the table is empty"),
        (with_cells().encode("utf-16"), "not text in UTF-8 (UTF-16, perhaps"),
        (with_cells().encode("utf-16-be"), "not text in UTF-8 (UTF-16, perhaps"),
        (with_cells(name="é").encode("latin-1"), "row 2: the byte 0xe9 is not UTF-8; save it as UTF-8"),
        (with_cells(name='"x'), 'a quote (") is not closed'),
        (with_cells(id='"1"2'), 'row 2: a quote (") inside a cell'),
        (with_cells(id='1"2"'), 'row 2: a quote (") inside a cell'),
        (with_cells(id='"1\n2"'), "row 2: id: '1\\n2' is not of type uint64"),
        (with_cells(name="x,y"), "row 2: 6 cells, the header has 5"),
        (with_cells().replace("7,1", "7"), "row 1: 4 cells, the header has 5; 2 more rows like it (2, 3)"),
        (with_cells().replace("name", "name,"), "column 6 has no name"),
        (with_cells().replace("name", "id"), "column name is missing"),
        (with_cells().replace("name", "name,id").replace("x\n", "x,7\n"), "the column id is given twice"),
        (with_cells().replace("id", " id"), "column id is missing (needed: id, order, share, virtual, name; found: ' "),
        ("7,1,0.5,true,x\n" * 2, "columns id, order, share, virtual, name are missing"),
        (with_cells().replace(",", " "), "the header is one column, 'id order share virtual name'; columns are sep"),
        (with_cells() + "7,1,0.5,true,x\n" * 80_000 + "x" * 3_000_000, "cannot be read: a row of over a megabyte"),
        (with_cells(id="9" * 9_000), f"row 2: id: '{'9' * 58}… is not of type uint64"),
        (with_cells(id="7\x1b[31m\u202e"), "row 2: id: '7\\x1b[31m\\u202e' is not of type uint64"),
    ],
)  # fmt: skip
def test_a_text_that_is_not_a_table_is_refused(tmp_path, data, said):
    assert said in refusal(read_text, tmp_path, data)


@pytest.mark.parametrize("name", ["t.jsonl", "t.xlsx", "t.csv.gz", "t", "t.csv~"])
def test_an_ending_that_is_not_read_is_told_those_that_are(tmp_path, name):
    assert "the name of a table ends in .csv, .tsv, .parquet or .pq" in refusal(read_text, tmp_path, with_cells(), name)


@pytest.mark.parametrize("data", [b"", b"PAR1", with_cells().encode(), b"PAR1" + b"\xff" * 64 + b"PAR1"])
def test_a_file_that_only_claims_to_be_parquet_is_refused(tmp_path, data):
    assert "t.parquet: cannot be read: " in refusal(read_text, tmp_path, data, "t.parquet")


def test_parquet_that_was_changed_is_read_or_refused(tmp_path):
    stored(tmp_path)
    whole, draw = bytearray((tmp_path / "t.parquet").read_bytes()), np.random.default_rng(17)
    for _ in range(150):
        data = bytearray(whole)
        data[draw.integers(len(data))] = draw.integers(256)
        try:
            read_text(tmp_path, bytes(data), "t.parquet")
        except DataError as refused:
            assert str(refused).isprintable() and len(str(refused)) < 2_000


def test_parquet_strings_that_are_not_utf8_are_refused(tmp_path):
    odd = pa.array([b"\xff", b"\xfe"]).view(pa.string())
    assert "cannot be read: " in refusal(stored, tmp_path, name=odd)


def test_parquet_without_columns_or_rows_is_refused(tmp_path):
    pq.write_table(pa.table({}), tmp_path / "none.parquet")
    assert "the table is empty" in refusal(read, tmp_path / "none.parquet")


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
@pytest.mark.parametrize("read_file", [read_table, file_digest])
def test_what_is_no_file_is_refused_without_waiting(tmp_path, kind, read_file):
    path = tmp_path / "t.csv"
    {"link": lambda: path.symlink_to("nowhere"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    said = {"link": "a link to a file that is not there", "pipe": "named pipe", "folder": "folder"}[kind]
    assert said in refusal(read_file, path)


def test_a_world_is_the_same_in_every_form_of_its_tables(policy, tmp_path):
    zones = "merchant_id,legal_country_iso,site_order,tzid\n9223372036854775809,FR,1,Europe/Paris\n"
    zones += "9223372036854775810,PT,1,Europe/Lisbon\n"
    plain = folder_of(tmp_path / "plain", site_locations__csv=SITES, site_timezones__csv=zones)
    digest = open_world(plain, policy["world_v1"]).digest
    marked = codecs.BOM_UTF8 + SITES.replace(",", ";").replace("\n", "\r\n").encode()
    other = folder_of(tmp_path / "other", site_locations__CSV=marked, Site_Timezones__tsv=zones.replace(",", "\t"))
    assert open_world(other, policy["world_v1"]).digest == digest
    assert open_world(plain, policy["world_v1"]).merchant_id.tolist() == [2**63 + 1, 2**63 + 2]


@pytest.mark.parametrize("name", ["site_timezones.csv", "merchants.parquet", "MERCHANTS.csv"])
@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_table_that_is_no_file_is_not_taken_as_absent(policy, tmp_path, name, kind):
    folder = folder_of(tmp_path, site_locations__csv=SITES)
    path = folder / name
    {"link": lambda: path.symlink_to("nowhere"), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    assert name in refusal(open_world, folder, policy["world_v1"])


@pytest.mark.parametrize(
    "name",
    ["site_timezone.csv", "site-timezones.csv", "site_timezones.xlsx", "merchant.pq", "merchants", "Merchants.csv.gz"],
)
def test_a_table_whose_name_is_nearly_right_is_not_left_out_in_silence(policy, tmp_path, name):
    folder = folder_of(tmp_path, site_locations__csv=SITES, arrivals__csv="", notes__txt="", upstream__json="")
    open_world(folder, policy["world_v1"])
    (folder / name).touch()
    assert f"{name}: not read: the table " in refusal(open_world, folder, policy["world_v1"])


def test_a_table_is_given_once_and_the_sites_at_all(policy, tmp_path):
    folder = folder_of(tmp_path, site_locations__csv=SITES, site_locations__TSV=SITES)
    assert "both site_locations.TSV and site_locations.csv: keep one" in refusal(open_world, folder, policy["world_v1"])
    empty = folder_of(tmp_path / "empty")
    assert "no table site_locations; it is a file site_locations ending in .csv" in refusal(
        open_world, empty, policy["world_v1"]
    )


def test_a_roster_is_the_same_in_every_form(policy, tmp_path):
    tabs, marked = ROSTER.replace(",", "\t"), codecs.BOM_UTF8 + ROSTER.replace(",", "|").encode()
    folder = folder_of(tmp_path, a__csv=ROSTER, b__CSV=ROSTER, c__tsv=tabs, d__csv=tabs, e__Csv=marked)
    for path in sorted(folder.iterdir()):
        found = open_roster(path, tiny_world(), DAYS, policy["route_rng_policy_v1"], "t")
        assert found["merchant_id"].tolist() == [1, 2] and found["is_virtual"].tolist() == [False, False]


def test_all_faulty_times_of_a_roster_are_counted(policy, tmp_path):
    path = tmp_path / "roster.csv"
    path.write_text(ROSTER.replace("00Z", "00") + ROSTER.split("\n", 1)[1].replace("00Z", "00"))
    said = refusal(open_roster, path, tiny_world(), DAYS, policy["route_rng_policy_v1"], "t")
    assert said.endswith("'2026-01-01T09:00:00' has no offset; write it as UTC; 3 more rows like it (2, 3, 4)")


def test_the_faults_of_a_roster_are_told_at_once(policy, tmp_path):
    path = tmp_path / "roster.csv"
    path.write_text(ROSTER.replace("purchase", "gift").replace(",2,", ",99,"))
    said = refusal(open_roster, path, tiny_world(), DAYS, policy["route_rng_policy_v1"], "t")
    assert "row 1: arrival_class: not one of" in said and "1 more row like it (2); row 2: merchant_id: not a m" in said
