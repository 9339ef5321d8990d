"""Metrics as data: what DuckDB gives is what a reader computes by hand, and what a query may not say is refused."""

import math
import threading
from itertools import pairwise
from types import SimpleNamespace

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lanelock.policies import DataError, PolicyError
from lanelock.scoring import queries
from lanelock.scoring.gates import parse_gates
from lanelock.scoring.scorecard import score
from lanelock.scoring.tables import TableMetrics

NUMBERS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


class Table:
    """A surface of an Arrow table, in as many chunks as it has."""

    def __init__(self, table):
        self._table = table

    def table(self):
        return self._table


def run_of(seed=1, numbers=None, **tables):
    surfaces = {name: Table(pa.table(columns)) for name, columns in tables.items()}
    if numbers is not None:
        surfaces["metrics"] = Table(
            pa.table({"name": list(numbers), "value": pa.array(numbers.values(), pa.float64())})
        )
    return SimpleNamespace(surfaces=surfaces, seed=seed, engine="e")


def gates_of(*names, rows=()):
    usual = {"severity": "gate", "comparison": ">=", "why": "w"}
    return {
        "id": "g", "title": "t", "bands": ["B"],
        "metrics": {name: {"unit": "1", "state": "e", "worst": "lowest", "what": "w"} for name in names},
        "gates": [
            {"id": f"g{at}", **usual, **row} for at, row in enumerate(rows or [{"metric": names[0], "threshold": 0}])
        ],
    }  # fmt: skip


def source_of(folder=".", rows=(), more=(), **definitions):
    return TableMetrics("e", gates_of(*definitions, *more, rows=rows), definitions, folder=folder)


def measured(run, **definitions):
    return source_of(**definitions).measure(run)


def quantile(values, share):
    """The value at a share of the way through the sorted values, between two of them in proportion."""
    ordered, at = sorted(values), share * (len(values) - 1)
    low, part = int(at), at - int(at)
    return ordered[low] if part == 0 else ordered[low] + part * (ordered[low + 1] - ordered[low])


@settings(max_examples=30)
@given(NUMBERS, st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]))
def test_a_quantile_a_mean_and_a_sum_are_those_of_the_rows(values, share):
    found = measured(
        run_of(output={"x": values}), q=f"quantile_cont(x, {share})", mean="avg(x)", total="sum(x)", n="count(*)",
        exact="fsum(x)", spread="stddev_samp(x)", negative="count(*) FILTER (WHERE x < 0)",
    )  # fmt: skip
    in_order = 0.0
    for value in values:
        in_order += value
    assert found["q"] == pytest.approx(quantile(values, share), rel=1e-12, abs=1e-9)
    assert found["total"] == in_order, "bit for bit: one thread adds the rows in their order"
    assert found["mean"] == pytest.approx(in_order / len(values), rel=1e-12, abs=1e-9)
    assert found["exact"] == pytest.approx(math.fsum(values), rel=1e-15, abs=1e-9)
    assert found["n"] == len(values) and found["negative"] == sum(value < 0 for value in values)
    assert math.isnan(found["spread"]) == (len(values) == 1)


@settings(max_examples=15)
@given(st.lists(st.floats(-1e9, 1e9), min_size=5, max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_neither_chunks_nor_threads_change_a_bit(values, cuts):
    source = source_of(total="sum(x)", mean="avg(x)", spread="stddev_pop(x)", s="avg(x * x)")
    whole = source.measure(run_of(output={"x": values}))
    edges = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    pieces = [pa.table({"x": values[low:high]}) for low, high in pairwise(edges)]
    cut, elsewhere = run_of(), []
    cut.surfaces["output"] = Table(pa.concat_tables(pieces))
    thread = threading.Thread(target=lambda: elsewhere.append(source.measure(run_of(output={"x": values}))))
    thread.start()
    thread.join()
    assert source.measure(cut) == whole == elsewhere[0]


def test_a_metric_without_a_definition_is_the_engines_number_of_that_name_and_a_key_of_another():
    run = run_of(numbers={"fill": 0.9, "service.level": 0.5, "more": 1.0, "broken": None}, output={"x": [1.0]})
    source = source_of(more=("fill", "broken", "absent"), level={"key": "service.level"})
    found = source.measure(run)
    assert found.pop("broken") != found.get("broken") and found == {"fill": 0.9, "level": 0.5}


def test_rows_may_be_chosen_tables_named_and_whole_queries_written():
    run = run_of(a={"x": [1.0, 2.0, 3.0], "g": ["u", "v", "v"]}, b={"y": [10.0]})
    found = measured(
        run, chosen={"sql": "avg(x)", "table": "a", "where": "g = 'v'"}, cased={"sql": "SELECT avg(x) FROM A"},
        both={"sql": "sum(x) + (SELECT max(y) FROM b)", "table": "a"},
        whole={"sql": "WITH r AS (SELECT x FROM a) SELECT max(x) FROM r"},
    )  # fmt: skip
    assert found == {"chosen": 2.5, "both": 16.0, "whole": 3.0, "cased": 2.0}


@settings(max_examples=30)
@given(st.lists(st.tuples(st.sampled_from(["north", "süd", "a b", None]), st.floats(-9, 9)), min_size=1, max_size=20))
def test_strata_are_the_metric_of_each_group_and_how_many_there_are(rows):
    run = run_of(output={"x": [x for _, x in rows], "g": pa.array([g for g, _ in rows], pa.string())})
    found = measured(run, m={"sql": "max(x)", "by": "g"})
    names = {"north": "north", "süd": "s_d", "a b": "a_b", None: "null"}
    expected = {f"m/strata/{names[g]}": max(x for other, x in rows if other == g) for g in {g for g, _ in rows}}
    assert found == {"m": max(x for _, x in rows), "m/strata": len(expected), **expected}


@given(
    st.lists(st.floats(-9, 9), min_size=1, max_size=12),
    st.sampled_from([">=", "<="]),
    st.one_of(st.just("all"), st.integers(1, 12).map(lambda n: {"at_least": n}), st.just({"share": 0.5})),
    st.floats(-9, 9),
)
def test_a_gate_by_strata_holds_exactly_where_enough_of_them_hold(values, comparison, asked, threshold):
    row = {"metric": "m", "comparison": comparison, "threshold": threshold, "strata": asked}
    gates = parse_gates(gates_of("m", rows=[row]), "g")
    metrics = {"m": 0.0, "m/strata": float(len(values)), **{f"m/strata/s{at}": v for at, v in enumerate(values)}}
    card = score(metrics, gates, seed=1, authority=None)
    holding = sum(value >= threshold if comparison == ">=" else value <= threshold for value in values)
    half = math.ceil(len(values) / 2)
    needed = len(values) if asked == "all" else asked.get("at_least", half)
    assert card.gates[0].known == (needed <= len(values)) and card.verdict.invalid == (needed > len(values))
    assert card.gates[0].full == (holding >= needed)


def test_a_stratum_without_a_value_is_not_left_out_of_all():
    metrics = {"m": 1.0, "m/strata": 2.0, "m/strata/a": 5.0}
    for asked, verdict in (("all", "INVALID"), ({"at_least": 1}, "PASS_B")):
        gates = parse_gates(gates_of("m", rows=[{"metric": "m", "threshold": 1, "strata": asked}]), "g")
        assert str(score(metrics, gates, seed=1, authority=None).verdict) == verdict


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("random()", r"random\(\) is not allowed: it does not give the same"),
        ("avg(x) + epoch(now())", r"now\(\) is not allowed"),
        ("ago(INTERVAL 1 DAY)", r"ago\(\) is not allowed"),
        ("CURRENT_DATE", "CURRENT_DATE is not allowed: it may be a clock"),
        ("approx_quantile(x, 0.5)", r"approx_quantile\(\) is not allowed"),
        ("SELECT * FROM read_csv('/etc/passwd')", r"read_csv\(\) is not allowed"),
        ("SELECT * FROM query('SELECT 1')", r"query\(\) is not allowed"),
        (
            "SELECT count(*) FROM information_schema.tables",
            "tables is not allowed: a table of the run has a plain name",
        ),
        ("SELECT x FROM output USING SAMPLE 3", "a sample is not allowed"),
        ("DESCRIBE output", "no SQL expression and no SELECT"),
        ("?", "a parameter is not allowed"),
        ("avg(x)) FROM output; DROP TABLE output --", "is no SQL expression and no SELECT"),
        ("avg(x); SELECT 1", "only one statement is allowed"),
        ("avg(x) FROM output", "is no single expression; write a whole query as select"),
        ("avg(x), avg(x)", "is no single expression"),
        ("*", r"\* is not allowed in an expression"),
        ("COPY output TO '/tmp/x'", "is no SQL expression"),
        ("avg(x", "is no SQL expression and no SELECT: syntax error"),
        (" ", "is no SQL expression and no SELECT"),
    ],
)
def test_a_query_that_reaches_beyond_its_tables_is_refused_when_the_file_is_read(sql, said):
    with pytest.raises(PolicyError, match=rf"^metrics of e: metric m: sql: .*{said}"):
        source_of(m=sql)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("x", "gives 3 rows, not one number; aggregate them"),
        ("avg(x) OVER ()", "gives 3 rows, not one number"),
        ("SELECT x FROM output", "gives several rows, not one number"),
        ("SELECT 1, 2", "gives 2 columns, not one number"),
        ("max(s)", "gives str 'c', not a number; cast it"),
        ("max(INTERVAL 1 DAY)", "gives timedelta"),
        ("[avg(x)]", "gives list"),
        ("avg(speed)", 'Referenced column "speed" not found'),
        ("SELECT avg(x) FROM others", "'others' is not one of the run's tables: output"),
        pytest.param("SELECT list(x) FROM range(1000000000) t(x)", "Out of Memory", marks=pytest.mark.slow),
        ("frobnicate(x)", "frobnicate does not exist"),
    ],
)
def test_what_a_query_cannot_give_is_one_line_with_its_metric(sql, said):
    run = run_of(output={"x": [1.0, 2.0, 3.0], "s": ["a", "b", "c"]})
    with pytest.raises(DataError, match=rf"^metric m: .*{said}") as refused:
        source_of(m=sql, fine="avg(x)").measure(run)
    assert "\n" not in str(refused.value)
    assert source_of(fine="avg(x)").measure(run) == {"fine": 2.0}, "the connection goes on"


def test_a_query_without_an_end_is_interrupted(monkeypatch):
    monkeypatch.setattr(queries, "LIMIT_S", 0.3)
    with pytest.raises(DataError, match=r"^metric m: took longer than 0\.3 s and was ended$"):
        measured(run_of(), m="WITH RECURSIVE r AS (SELECT 1 x UNION ALL SELECT x + 1 FROM r) SELECT max(x) FROM r")


def test_numbers_of_every_kind_are_floats_and_nothing_is_nan():
    run = run_of(output={"x": pa.array([], pa.float64()), "n": pa.array([], pa.int64())})
    found = measured(
        run, none="avg(x)", count="count(*)", true="true", decimal="1.5::DECIMAL(10, 2)",
        huge="10::HUGEINT * 1000000000000", infinite="'inf'::DOUBLE", empty="SELECT x FROM output",
    )  # fmt: skip
    assert math.isnan(found.pop("none")) and math.isnan(found.pop("empty"))
    assert found == {"count": 0, "true": 1, "decimal": 1.5, "huge": 1e13, "infinite": math.inf}
    nulls = run_of(output={"x": pa.array([None, None], pa.float64())})
    assert math.isnan(measured(nulls, m="avg(x)")["m"])


def test_names_of_tables_and_columns_are_names_whatever_is_in_them():
    odd = 'select "; drop table x --'
    run = run_of(**{odd: {"größe in m²": [1.0, 3.0], "from": [2.0, 2.0]}})
    assert measured(run, m='avg("größe in m²") + max("from")') == {"m": 4.0}
    found = measured(run, m={"sql": 'avg("from")', "table": odd})
    assert found == {"m": 2.0}


def test_names_that_differ_in_case_alone_are_refused_where_they_are_read():
    columns = run_of(output=pa.Table.from_arrays([pa.array([1.0]), pa.array([2.0])], names=["x", "X"]))
    with pytest.raises(DataError, match="columns of output 'x' and 'X' are one name in SQL"):
        measured(columns, m="avg(x)")
    tables = run_of(waits={"x": [1.0]}, Waits={"x": [2.0]})
    with pytest.raises(DataError, match="'waits' and 'Waits' are one name in SQL"):
        measured(tables, m="SELECT avg(x) FROM waits")
    assert measured(tables, m={"sql": "avg(x)", "table": "waits"}) == {"m": 1.0}


def test_several_tables_ask_for_a_name():
    with pytest.raises(DataError, match="metric m: name its table: a, b"):
        measured(run_of(a={"x": [1.0]}, b={"x": [1.0]}, numbers={"k": 1.0}), m="avg(x)")


@pytest.mark.parametrize(
    ("definition", "said"),
    [
        ({"key": "a", "table": "t"}, "/metrics/m/definition/table: beside key stands nothing"),
        ({"sql": "avg(x)", "bins": 3}, "/bins: beside sql stands by, table, where"),
        ({"sql": "SELECT 1", "table": "t"}, "a whole select names its tables and rows itself; leave out table"),
        ({"distance": "wasserstein", "reference": "authority"}, "a distance needs column"),
        ({"distance": "wasserstein", "column": "x"}, "a distance needs reference"),
        ({"sql": "avg(x)", "sha256": "0" * 64}, "/sha256: beside sql stands"),
        ({"function": "no_such_module:f"}, "module 'no_such_module' is not a Python file"),
        ({"distance": "wasserstein", "column": "x", "reference": "gone.csv"}, "gone.csv: cannot be read: No such file"),
    ],
)
def test_a_definition_that_is_none_is_refused_when_it_is_read(definition, said, tmp_path):
    with pytest.raises(PolicyError) as refused:
        source_of(tmp_path, m=definition)
    assert said in str(refused.value)


def test_a_function_is_of_the_bytes_that_its_digest_states(tmp_path):
    (tmp_path / "own.py").write_text("def f(tables):\n    return len(tables['output'])\n\n\nclass C:\n    text = 'a'\n")
    source = source_of(tmp_path, m={"function": "own:f"})
    run = run_of(output={"x": [1.0, 2.0]})
    assert source.measure(run) == {"m": 2.0}
    for name, said in (("f2", "has no f2"), ("C.text", "is str, not a function")):
        with pytest.raises(PolicyError, match=said):
            source_of(tmp_path, m={"function": f"own:{name}"}).measure(run)
    (tmp_path / "own.py").write_text("def f(tables):\n    return 7\n")
    assert source_of(tmp_path, m={"function": "own:f"}).measure(run) == {"m": 7.0}, "whatever was imported before"
