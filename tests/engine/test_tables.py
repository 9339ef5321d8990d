"""What engines return, as surfaces and as published runs: the same content gives the same bytes."""

import datetime as dt
import json
import struct
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanelock.engine.resolved import run_of
from lanelock.engine.surface import digest_of, table_digest
from lanelock.engine.tables import TableRuns, metrics_of, surfaces_of
from lanelock.policies import DataError, IntegrityError, pack_of

ROWS = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.floats(allow_nan=True, width=64),
        st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=5)),
        st.one_of(st.none(), st.booleans()),
        st.one_of(st.none(), st.datetimes(dt.datetime(1990, 1, 1), dt.datetime(2100, 1, 1))),
        st.one_of(st.none(), st.lists(st.integers(0, 9), max_size=3)),
    ),
    min_size=1,
    max_size=20,
)
KINDS = [pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.timestamp("us"), pa.list_(pa.int64())]
NAMES = ["count", "wait", "law", "open", "at", "path"]


def output(result):
    return surfaces_of(result, "engine e")["output"]


def table_of(rows):
    columns = zip(*rows, strict=True)
    return pa.table([pa.array(column, kind) for column, kind in zip(columns, KINDS, strict=True)], names=NAMES)


def in_other_forms(table):
    """The same content as other libraries hold it."""
    yield table
    yield table.to_batches()[0]
    yield pa.concat_tables([table.slice(0, 1), table.slice(1)])
    yield pa.concat_tables([table, table]).slice(table.num_rows)
    law = table.column_names.index("law")
    yield table.set_column(law, "law", table["law"].dictionary_encode())
    yield table.set_column(law, "law", table["law"].cast(pa.large_string()))
    yield table.set_column(law, "law", table["law"].cast(pa.string_view()))
    yield table.replace_schema_metadata({"made": "by hand"})
    yield pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=2))
    yield {name: table[name] for name in table.column_names}
    yield {name: table[name].to_pylist() for name in ("count", "wait")} | {name: table[name] for name in NAMES[2:]}
    kinds = {pa.bool_(): pd.BooleanDtype(), pa.string(): pd.StringDtype(), KINDS[-1]: pd.ArrowDtype(KINDS[-1])}
    frame = table.to_pandas(types_mapper=kinds.get)
    frame["wait"] = table["wait"].to_numpy()
    yield frame
    yield pd.concat([frame, frame]).iloc[len(frame) :]
    yield frame.astype({"law": "category"}).set_axis([f"row {i}" for i in range(len(frame))])
    yield frame.set_index("count")
    yield {name: frame[name].array for name in NAMES}


@settings(max_examples=15)
@given(rows=ROWS)
def test_the_same_content_gives_the_same_bytes(rows):
    table = table_of(rows)
    expected = output(table)
    one_zero = [{**row, "wait": row["wait"] + 0.0} for row in table.to_pylist()]
    assert repr(expected.table().to_pylist()) == repr(one_zero)
    for number, form in enumerate(in_other_forms(table)):
        other = output(form)
        other.table().validate(full=True)
        assert (other.schema, other.rows) == (expected.schema, expected.rows), number
        assert other.digest() == expected.digest() == table_digest(other.table()), number


@settings(max_examples=15)
@given(rows=ROWS)
def test_other_content_gives_other_bytes(rows):
    table = table_of(rows)
    moved = table.set_column(0, "count", pa.array([row[0] ^ 1 for row in rows]))
    renamed = table.rename_columns({"count": "counts"})
    turned = table.select([*reversed(NAMES)])
    taken = [output(one).digest() for one in (table, moved, renamed, turned)]
    assert len(set(taken)) == 4


def nan(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_there_is_one_zero_and_one_nan(kind):
    odd, plain = np.array([nan(0xFFF8000000000001), nan(0x7FF0000000000001), -0.0]), np.array([np.nan, np.nan, 0.0])
    with np.errstate(invalid="ignore"):
        odd = odd.astype(kind)
    assert output({"x": odd}).digest() == output({"x": plain.astype(kind)}).digest()
    assert metrics_of({"x": -0.0}).digest() == metrics_of({"x": 0.0}).digest()
    assert metrics_of({"x": nan(0xFFF8000000000001)}).digest() == metrics_of({"x": np.nan}).digest()
    assert output({"x": [0.0]}).digest() != output({"x": [1e-300]}).digest()


def test_what_lies_below_a_null_and_behind_the_end_is_not_kept():
    bits = pa.py_buffer(bytes([0b101]))
    one, other = (
        pa.Array.from_buffers(pa.int32(), 3, [bits, pa.py_buffer(np.array([1, below, 3, after], np.int32))])
        for below, after in ((7, 8), (9, 10))
    )
    assert output({"x": one}).digest() == output({"x": other}).digest()
    assert (
        output({"x": pa.array(range(9), pa.int8()).slice(2, 3)}).digest()
        == output({"x": np.array([2, 3, 4], np.int8)}).digest()
    )


def test_moments_with_a_time_zone_are_in_utc():
    berlin = pd.DataFrame({"at": pd.date_range("2026-01-01", periods=3, freq="h", tz="Europe/Berlin")})
    utc = pd.DataFrame({"at": berlin["at"].dt.tz_convert("UTC")})
    naive = pd.DataFrame({"at": berlin["at"].dt.tz_localize(None)})
    assert output(berlin).digest() == output(utc).digest() != output(naive).digest()


def test_a_nan_stays_one_and_what_is_missing_is_a_null():
    texts = pd.Series(["a", np.nan], dtype=object)
    frame = pd.DataFrame({"x": [1.0, np.nan], "n": pd.array([1, None], "Int64"), "t": texts})
    (_, row) = output(frame).table().to_pylist()
    assert np.isnan(row["x"]) and row["n"] is None and row["t"] is None


def test_named_levels_of_an_index_are_columns_and_others_are_dropped():
    frame = pd.DataFrame({"x": [1.0, 2.0]}, pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["law", None]))
    assert output(frame).table().to_pylist() == [{"law": "a", "x": 1.0}, {"law": "b", "x": 2.0}]


def test_numbers_columns_and_tables_may_be_mixed():
    surfaces = surfaces_of(
        {"share": 0.5, "wait": [1.0, 2.0], "stock": pd.DataFrame({"day": [1]}), "days": [{"day": 1}, {"rain": 2}],
         "most": np.int64(3), "ok": True, "exact": Decimal("0.25"), "third": Fraction(1, 4), "flat": np.array(2.5)},
        "engine e",
    )  # fmt: skip
    assert [*surfaces] == ["metrics", "output", "stock", "days"]
    rows = {row["name"]: row["value"] for row in surfaces["metrics"].table().to_pylist()}
    assert rows == {"share": 0.5, "most": 3.0, "ok": 1.0, "exact": 0.25, "third": 0.25, "flat": 2.5}
    assert surfaces["days"].table().to_pylist() == [{"day": 1, "rain": None}, {"day": None, "rain": 2}]
    assert surfaces_of(pd.Series({"share": 0.5}), "engine e")["metrics"].rows == 1


def test_an_engine_may_use_its_buffers_again():
    buffer = np.arange(3.0)
    surface = output({"x": buffer})
    before = surface.digest()
    buffer[:] = 7
    assert digest_of(surface) == before == table_digest(surface.table()) and [*surface["x"]] == [0, 1, 2]


def test_an_empty_table_has_its_columns():
    empty = output(pd.DataFrame({"x": np.array([], float)}))
    assert empty.rows == 0 and empty.digest() == output(pa.table({"x": pa.chunked_array([], pa.float64())})).digest()


NO_UTF8 = pa.StringArray.from_buffers(1, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff"))
MAPS = pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64()))
REFUSED = [
    (None, "the result is None; give a mapping of names to numbers, columns or tables, or a table"),
    (0.5, "the result is float 0.5; give"),
    ([], "the result is list []; give"),
    (np.zeros(3), "the result is ndarray"),
    ({}, "the result is empty; give"),
    ({1: 2}, "1: the name of what is returned is a text"),
    ({"x": None}, "x: None is neither a number, a column nor a table; a number that cannot be measured is"),
    ({"x": "1"}, "x: str '1' is neither"),
    ({"x": 1j}, "x: complex 1j is neither"),
    ({"x": np.complex64(1)}, "x: complex64"),
    ({"x": {1, 2}}, "x: set {1, 2} is neither"),
    ({"x": iter([1])}, "x: list_iterator"),
    ({"x": [1, 2], "y": [1]}, "output: column y: it has 1 rows, column x has 2"),
    ({"x": [1, "a", 3]}, "output: column x, row 2: str 'a' does not fit the rows above"),
    ({"x": [1, object()]}, "output: column x, row 2: object <object"),
    ({"x": [2**70]}, "output: column x, row 1: int 1180591620717411303424 is of no type that Arrow has"),
    ({"x": ["a", "\ud800"]}, r"output: column x, row 2: str '\ud800' is of no type"),
    ({"x": np.zeros((2, 2))}, "output: column x: it has 2 dimensions; a column has one"),
    ({"x": np.array([1j])}, "output: column x: Unsupported numpy type"),
    ({"x": [1], "output": {"y": [2]}}, "output: given twice: as a table and as the columns x"),
    ({"metrics": {"x": [1]}}, "metrics: a table may not have this name"),
    ({"../t": {"x": [1]}}, "'../t' is not a name for a table"),
    ({"t": {"x": 3}}, "t: column x: int 3 is not a column"),
    ({"t": {}}, "t: the table has no column"),
    (pd.DataFrame(), "output: the table has no column"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "output: column a: there are two of this name"),
    (pd.DataFrame([[1, 2]]), "output: 0: the name of a column is a text"),
    (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), "output: ('a', 'b'): the name of a column"),
    (pa.table([pa.array([1])] * 2, names=["a", "a"]), "output: column a: there are two of this name"),
    (pa.table({"m": MAPS}), "output: column m: values of the type map"),
    (pa.table({"x": NO_UTF8}), "output: Column 0: In chunk 0: Invalid: Invalid UTF8"),
]


@pytest.mark.parametrize(("result", "message"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_table_is_refused_by_table_column_and_row(result, message):
    with pytest.raises(DataError) as refused:
        surfaces_of(result, "engine e")
    assert str(refused.value).startswith(f"engine e: {message}") and "\n" not in str(refused.value)


# --- published runs -------------------------------------------------------------------------------------------------

COLUMNS = {
    **{
        str(kind): pa.array([1, None, 0], kind)
        for kind in (
            pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.timestamp("s"), pa.timestamp("ns"),
            pa.timestamp("us", "Asia/Tokyo"), pa.time32("s"), pa.time64("ns"), pa.date32(),
            pa.duration("s"), pa.duration("ns"), pa.decimal32(5, 2), pa.decimal256(50, 3),
        )
    },
    "day": pa.array([86_400_000, None, 0], pa.date64()),
    "text": ["a", None, "\0é"],
    "bytes": pa.array([b"ab", None, b""]),
    "two": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "flag": [True, None, False],
    "nothing": [None, None, None],
    "lists": [[[1.5], None, []], None, []],
    "parts": pa.array([{"x": [1.0, np.nan], "y": None}, None, {"x": None, "y": "b"}]),
    "pair": pa.array([[1, 2], None, [3, 4]], pa.list_(pa.int64(), 2)),
}  # fmt: skip


class Printing(TableRuns):
    """An engine whose log says something else in each run."""

    name, policy_schemas = "printing", {"params": {"type": "object", "additionalProperties": False}}
    code_version, runs = "0" * 64, 0

    def evaluate(self, pack, seed):
        self.runs += 1
        return run_of(self, pack, seed, surfaces_of({"seed": seed, **COLUMNS}, "engine printing"))

    def files(self, run):
        return {"in/config.json": b"{}"}

    def logs(self, run):
        return {"stderr.txt": f"run {self.runs}".encode()}


def printed(tmp_path):
    engine = Printing()
    pack = pack_of("start", {"params": {}}, engine.policy_schemas)
    run = engine.evaluate(pack, 1)
    return engine, pack, run, engine.publish(run, tmp_path / "runs").folder


def test_every_kind_of_column_comes_back_from_a_published_run(tmp_path):
    engine, _, run, folder = printed(tmp_path)
    opened = engine.open_run(folder)
    assert opened.surfaces["output"].schema == run.surfaces["output"].schema
    assert opened.digests() == run.digests() and opened.states[0].address == run.states[0].address
    lines = (engine.export(run, tmp_path / "exports") / "output.jsonl").read_text().splitlines()
    assert len(lines) == 3 and [json.loads(line)["text"] for line in lines] == ["a", None, "\0é"]


def test_what_a_program_printed_is_kept_and_not_compared(tmp_path):
    engine, pack, _, folder = printed(tmp_path)
    assert (folder / "logs" / "stderr.txt").read_text() == "run 1" and (folder / "files/in/config.json").is_file()
    assert engine.publish(engine.evaluate(pack, 1), tmp_path / "runs").folder == folder
    assert engine.replay(folder, tmp_path / "scratch").identical
    (folder / "logs" / "stderr.txt").write_text("another")
    assert [name for name, _ in engine.faults(folder)] == ["logs/stderr.txt"]
    with pytest.raises(IntegrityError, match=r"run_receipt\.json: published before with other bytes"):
        engine.publish(engine.evaluate(pack, 1), tmp_path / "runs")
