"""`lanelock.toml`: the documents that it stands for, its defaults, and what it refuses."""

import json

import pytest

from lanelock.policies import PolicyError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.policies.notations import read_document
from lanelock.policies.project import FILE, find_project, read_project
from lanelock.scoring.gates import parse_gates

SHORT = """
[engine]
function = "inventory:simulate"
[params]
demand = 10
reorder_point = { value = 40, low = 10, high = 120 }
[gates]
fill = "fill_rate >= 0.95, 0.98"
"""
LONG = """
[engine]
id = "shop"
command = ["./shop", "{config}", "{out}"]
[params]
demand = 10
law = { value = "smooth", choices = ["smooth", "steps"] }
floor = { value = 0.2, low = 0.1, high = 0.5, unit = "share", what = "Least share." }
cap = { value = 1, low = 0.5, high = 1, minimum = 0, maximum = 1, when = "law == 'smooth'" }
weights = [0.2, 0.3, 0.5]
ceiling = 1.2
[knobs]
tilt = { at = "weights", by = "temper", low = 0.5, high = 2.0 }
[derived]
ceiling = "cap + 0.2"
[metrics]
wait_p90 = "quantile_cont(wait, 0.9)"
fill_rate = { unit = "share", worst = "lowest", what = "Share of demand that is met." }
[gates]
wait = "wait_p90 <= 3, 2, 1"
fill = { metric = "fill_rate", comparison = ">=", thresholds = { B = 0.9 }, why = "Orders are met." }
[vetoes]
space = "max_stock <= 200"
[rails]
kept = "fill_rate >= baseline - 0.01"
[sweep]
minimize = "mean_stock"
constraints = ["floor <= cap - 0.1"]
seeds = [7]
trials = 9
reserve = 0.1
max_failures = 3
sampler = { name = "random", seed = 3 }
"""


def project(tmp_path, text, name="warehouse"):
    file = tmp_path / name / FILE
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return read_project(file)


def test_a_short_file_has_a_default_for_everything_else(tmp_path):
    of = project(tmp_path, SHORT)
    assert of.id == "warehouse" and of.start == {"params": {"demand": 10, "reorder_point": 40}}
    assert of.gates["bands"] == ["B", "B+"] and list(of.gates["metrics"]) == ["fill_rate"]
    assert of.gates["metrics"]["fill_rate"]["worst"] == "lowest"
    assert of.lane["knobs"] == {"reorder_point": {"at": "params#/reorder_point", "low": 10, "high": 120}}
    assert (of.lane["seeds"], of.lane["budget"], of.lane["batch"]) == ([1, 2, 3], {"trials": 40, "seconds": 3600}, 4)
    assert of.lane["decision"] == {"accept_band": "B", "margin_reserve": 0, "confirm_seeds": 8}
    assert [row["name"] for row in of.lane["objectives"]] == ["margin"]


@pytest.mark.parametrize("text", [SHORT, LONG])
def test_what_it_stands_for_is_valid(tmp_path, text):
    of = project(tmp_path, text)
    validate(of.lane, shipped_schema("lane"), "lane")
    parse_gates(of.gates, "gates")
    validate(of.schema, shipped_schema("policy"), "schema")
    validate(of.start["params"], of.schema, "start")
    for document in (of.lane, of.gates, of.schema):
        assert json.loads(json.dumps(document)) == document


def test_each_table_becomes_its_document(tmp_path):
    of = project(tmp_path, LONG)
    assert of.gates["bands"] == ["B", "B+", "A"]
    assert {row["id"]: row["severity"] for row in of.gates["gates"]} == {
        "wait": "gate", "fill": "gate", "space": "veto", "kept": "rail",
    }  # fmt: skip
    assert of.schema["properties"]["cap"] == {"type": "number", "minimum": 0, "maximum": 1, "default": 1}
    assert of.schema["properties"]["floor"] == {"type": "number", "default": 0.2, "description": "Least share. [share]"}
    assert of.schema["properties"]["weights"] == {"type": "array", "default": [0.2, 0.3, 0.5]}
    assert of.lane["knobs"]["tilt"] == {"at": "params#/weights", "by": "temper", "low": 0.5, "high": 2.0}
    assert of.lane["knobs"]["cap"]["when"] == "law == 'smooth'" and "minimum" not in of.lane["knobs"]["cap"]
    assert of.lane["derived"] == {"params#/ceiling": "cap + 0.2"}
    assert of.lane["constraints"] == ["floor <= cap - 0.1"]
    assert of.lane["objectives"][1] == {"name": "mean_stock", "direction": "minimize", "metric": "mean_stock"}
    assert of.lane["budget"] == {"trials": 9, "seconds": 3600, "max_failures": 3}
    assert of.lane["decision"] == {"accept_band": "B", "margin_reserve": 0.1, "confirm_seeds": 8}
    assert of.lane["sampler"] == {"name": "random", "seed": 3}
    assert {"max_stock", "mean_stock", "wait_p90", "fill_rate"} == set(of.gates["metrics"])


def test_an_objective_may_weigh_several_metrics(tmp_path):
    of = project(tmp_path, SHORT + '[sweep]\nmaximize = "fill_rate - 0.01 * stock"\n')
    assert of.lane["objectives"][1] == {
        "name": "objective", "direction": "maximize", "expression": "fill_rate - 0.01 * stock",
    }  # fmt: skip
    assert set(of.gates["metrics"]) == {"fill_rate", "stock"}


def test_a_wider_range_leaves_the_schema_as_it_was(tmp_path):
    """Else a lock of the old range would be of a pack that is no longer valid."""
    one, other = project(tmp_path, SHORT), project(tmp_path, SHORT.replace("120", "90"), "other")
    assert one.schema["properties"] == other.schema["properties"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SHORT.replace("[engine]\n", "[engine]\nid = 'A b'\n"), "/engine/id: 'A b' is no name: small letters"),
        (SHORT.replace("function", "functions"), "/engine"),
        (SHORT.replace("[gates]", "[gate]"), "unknown field gate (known: "),
        (SHORT.replace("function", "command = 'x'\nfunction"), "/engine: give exactly one of: function, or command"),
        (SHORT.replace(", low = 10", ", lo = 10"), "/params/reorder_point: unknown field lo (known: "),
        (SHORT.replace(", low = 10, high = 120", ""), "/params: none of them may move; give one a range"),
        (SHORT.replace("low = 10", "low = 'ten'"), '/params/reorder_point/low: "ten" is not of type number'),
        (SHORT.replace("value = 40", "value = '40'"), "/params/reorder_point: its values are of several types"),
        (SHORT.replace(">= 0.95", "=> 0.95"), "/gates: gate fill: column 11"),
        (SHORT.replace('fill = "fill_rate >= 0.95, 0.98"', ""), "/gates: missing; give one at least"),
        (SHORT + '[sweep]\nminimize = "a"\nmaximize = "b"\n', "/sweep: give minimize or maximize, not both"),
        (SHORT.replace("[params]", "[sweep]\n[params2]"), "unknown field params2"),
        (SHORT + "[sweep]\nminimise = 'stock'\n", "/sweep: unknown field minimise (known: accept, "),
        ("[engine]\nfunction = 'a:b'\n", "/params: missing"),
    ],
)
def test_a_wrong_file_is_refused_with_its_field(tmp_path, text, why):
    with pytest.raises(PolicyError) as refused:
        of = project(tmp_path, text)
        _ = of.lane, of.gates, of.schema
    assert why in str(refused.value).replace("\\'", "'").replace('"A b"', "'A b'")
    assert FILE in str(refused.value) and "\n" not in str(refused.value)


def test_it_is_found_upwards(tmp_path):
    inner = tmp_path / "warehouse" / "deep" / "deeper"
    inner.mkdir(parents=True)
    assert find_project(inner) is None
    project(tmp_path, SHORT)
    assert find_project(inner) == tmp_path / "warehouse" / FILE


def test_the_schema_for_editors_allows_what_is_read(tmp_path):
    for text in (SHORT, LONG):
        file = project(tmp_path, text).file
        validate(read_document(file), shipped_schema("project"), str(file))
