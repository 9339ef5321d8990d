"""What programs leave, read exactly or refused by name: no guess, no link, no pickle, nothing past its bounds."""

import io
import json
import math
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanelock.engine.commands import outputs
from lanelock.engine.commands.outputs import collected, result_of
from lanelock.engine.tables import surfaces_of
from lanelock.policies import DataError


def read(name, data):
    """The content of an output file by surface: columns, and their types."""
    surfaces = surfaces_of(result_of({name: data}, False), "engine heater")
    return {key: surface.table().to_pydict() for key, surface in surfaces.items()}


def types(data):
    return [str(kind) for kind in result_of({"a.csv": data}, False).schema.types]


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def written(writes, table):
    sink = pa.BufferOutputStream()
    writes(table, sink)
    return sink.getvalue().to_pybytes()


def stream(table, sink):
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


# --- CSV ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "kinds", "columns"),
    [
        (b"a,b,c\n1,2.5,x\n-2,nan,y\n", ["int64", "double", "string"], {"a": [1, -2], "c": ["x", "y"]}),
        (b"\xef\xbb\xbfa,b\r\n1,x\r\n2,y\r\n\r\n", ["int64", "string"], {"a": [1, 2], "b": ["x", "y"]}),
        (b"a,b", ["double", "double"], {"a": [], "b": []}),
        (b"a\n007\n8\n", ["string"], {"a": ["007", "8"]}),
        (b"a\n99999999999999999999\n1\n", ["string"], {"a": ["99999999999999999999", "1"]}),
        (b"a\n9223372036854775807\n-9223372036854775808\n", ["int64"], {"a": [2**63 - 1, -(2**63)]}),
        (b"a\n1\n2.0\n", ["double"], {"a": [1.0, 2.0]}),
        (b"a\n+1\n-2E5\n.5\n5.\n-Infinity\n1e999\n", ["double"], {"a": [1, -2e5, 0.5, 5, -math.inf, math.inf]}),
        (b'a,b\n"1","x\ny"\n2,"q""z"\n', ["int64", "string"], {"a": [1, 2], "b": ["x\ny", 'q"z']}),
        (b"a,b\n,x\n,y\n", ["string", "string"], {"a": ["", ""], "b": ["x", "y"]}),
        (b"a\ntrue\n2020-01-01\n", ["string"], {"a": ["true", "2020-01-01"]}),
        (b"a\n2020-01-01\n", ["string"], {"a": ["2020-01-01"]}),
        (b"a\nNA\nnull\n", ["string"], {"a": ["NA", "null"]}),
    ],
)
def test_a_csv_has_whole_numbers_numbers_and_texts(data, kinds, columns):
    assert types(data) == kinds
    table = read("a.csv", data)["output"]
    assert {name: table[name] for name in columns} == columns


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\n\n", "a.csv"),
        (b"a,a\n1,2\n", "line 1: 'a'"),
        (b"a,\n1,2\n", "line 1: ''"),
        (b"a;b\n1;2\n", "commas"),
        (b"a\tb\n1\t2\n", "commas"),
        (b"a,b\n1,2,3\n", "Expected 2 columns, got 3"),
        (b"a,b\n1\n", "Expected 2 columns, got 1"),
        (b"a,b\n1,x\n,y\n", "column a: row 2 is empty among numbers; write nan"),
        (b"a\n1\n\n2\n", "column a: row 2 is empty among numbers"),
        (b"a,b\n1,\xff\n", "UTF8"),
        (b"a\xff,b\n1,2\n", "a.csv"),
    ],
)
def test_a_csv_that_says_two_things_is_refused(data, said):
    with pytest.raises(DataError) as refused:
        read("a.csv", data)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.floats(), st.text("ab ,\"'\r\n;é\t0", min_size=1)), min_size=1
    )
)
def test_a_csv_reads_back_as_it_was_written(rows):
    import csv

    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows(
        [("whole", "number", "text"), *((whole, repr(number), f"t{text}") for whole, number, text in rows)]
    )
    table = result_of({"a.csv": file.getvalue().encode()}, False)
    assert table["whole"].to_pylist() == [row[0] for row in rows]
    numbers = table["number"].to_pylist()
    assert list(map(repr, map(float, numbers))) == [repr(row[1]) for row in rows]
    assert table["text"].to_pylist() == [f"t{row[2]}" for row in rows]


# --- the other forms ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "surfaces"),
    [
        ({"x": 1, "y": 2.5}, {"metrics": {"name": ["x", "y"], "value": [1.0, 2.5]}}),
        ({"x": [1, 2], "y": ["a", "b"]}, {"output": {"x": [1, 2], "y": ["a", "b"]}}),
        ([{"x": 1, "y": "a"}, {"x": 2, "y": "b"}], {"output": {"x": [1, 2], "y": ["a", "b"]}}),
        (
            {"n": 2, "waits": {"x": [1]}, "stops": [{"y": 1}, {"y": 2}]},
            {"metrics": {"name": ["n"], "value": [2.0]}, "waits": {"x": [1]}, "stops": {"y": [1, 2]}},
        ),
    ],
)
def test_json_holds_numbers_columns_and_tables(document, surfaces):
    assert read("out.json", json.dumps(document).encode()) == surfaces
    assert read("out.json", b"\xef\xbb\xbf" + json.dumps(document).encode()) == surfaces


@pytest.mark.parametrize(
    ("name", "writes"),
    [("a.parquet", pq.write_table), ("a.feather", feather.write_feather), ("a.arrow", stream)],
)
def test_a_table_file_is_the_table(name, writes):
    table = pa.table({"x": [1, 2], "y": [0.1, math.inf], "z": ["a", "é"]})
    assert read(name, written(writes, table)) == {"output": table.to_pydict()}


def test_arrays_are_columns():
    assert read("a.npy", npy(np.arange(3))) == {"output": {"value": [0, 1, 2]}}
    assert read("a.npy", npy(np.array([[1, 2], [3, 4]], order="F"))) == {"output": {"c0": [1, 3], "c1": [2, 4]}}
    assert read("a.npy", npy(np.array([(1, 2.5)], [("x", ">i4"), ("y", "f8")]))) == {"output": {"x": [1], "y": [2.5]}}
    assert read("a.npz", npz(x=np.arange(2), y=np.ones(2))) == {"output": {"x": [0, 1], "y": [1, 1]}}
    assert read("a.npz", npz(x=np.arange(2), n=np.float64(3))) == {
        "output": {"x": [0, 1]}, "metrics": {"name": ["n"], "value": [3.0]},
    }  # fmt: skip
    assert read("a.npz", npz(x=np.arange(2), y=np.ones((1, 2)))) == {
        "x": {"value": [0, 1]},
        "y": {"c0": [1], "c1": [1]},
    }


def _lying(array, shape):
    return npy(array).replace(str(array.shape).encode(), shape.ljust(len(str(array.shape))).encode())


def _bomb():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(30 << 20))
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.npy", npy(np.array(["a", None], object), allow_pickle=True), "pickled objects are not read"),
        ("a.npy", npy(np.array([(1, None)], [("x", "i4"), ("y", "O")]), allow_pickle=True), "pickled objects"),
        ("a.npy", npy(np.arange(30))[:-8], "states 240 bytes of values and has 232"),
        ("a.npy", npy(np.arange(30)) + b"more", "states 240 bytes of values and has 244"),
        ("a.npy", npy(np.arange(3)).replace(b"(3,)", b"(9999999999999,)"), "bytes of values and has"),
        ("a.npy", npy(np.float64(1)), "a single number"),
        ("a.npy", npy(np.ones((2, 2, 2))), "one or two dimensions"),
        ("a.npy", b"\x93NUMPY", "a.npy: cannot be read"),
        ("a.npz", b"PK\x03\x04", "a.npz: cannot be read"),
        ("a.npz", npz(x=np.array([None])), "pickled objects"),
        ("a.parquet", b"PAR1 no table PAR1", "a.parquet: cannot be read"),
        ("a.arrow", b"ARROW1 no table", "a.arrow: cannot be read"),
        ("a.arrow", b"no table", "a.arrow: cannot be read"),
        ("a.json", b'{"a": 1', "a.json: line 1"),
        ("a.json", b'{"a": Infinity}', "inf is not a JSON number"),
        ("a.json", b"\xff", "not UTF-8"),
        ("a.json", b"[" * 100_000, "deep"),
        ("a.txt", b"1", "a.txt: none of .json"),
    ],
)
def test_a_broken_file_is_refused_by_name(name, data, said):
    with pytest.raises(DataError) as refused:
        read(name, data)
    assert said in str(refused.value) and str(refused.value).isprintable()


def test_what_expands_beyond_bounds_is_refused_unread(monkeypatch):
    monkeypatch.setattr(outputs, "_EXPANDED", 1 << 20)
    table = pa.table({"x": np.zeros(2_000_000)})
    for name, data in (("a.npz", _bomb()), ("a.parquet", written(pq.write_table, table))):
        assert len(data) < 1 << 17
        with pytest.raises(DataError, match=f"{name}: would take .* MiB of memory; at most 1 are read"):
            read(name, data)


def test_a_folder_holds_a_table_for_each_file(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "waits.csv").write_text("x\n1\n")
    (folder / "metrics.json").write_text('{"mean": 1.5, "late": {"y": [2]}}')
    (folder / "columns.json").write_text('{"z": [1, 2]}')
    np.save(folder / "array.npy", np.arange(2))
    files = collected(tmp_path, "out/", 1 << 20)
    assert [*files] == ["out/array.npy", "out/columns.json", "out/metrics.json", "out/waits.csv"]
    surfaces = surfaces_of(result_of(files, True), "engine heater")
    assert {name: surface.table().to_pydict() for name, surface in surfaces.items()} == {
        "metrics": {"name": ["mean"], "value": [1.5]}, "late": {"y": [2]}, "waits": {"x": [1]},
        "columns": {"z": [1, 2]}, "array": {"value": [0, 1]},
    }  # fmt: skip
