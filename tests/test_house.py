"""The house stands as its table says: imports run one way, in no circle, and each outside library has its one door."""

import ast
import re

import house
import pytest

from lanelock.policies.documents import read_json
from lanelock.sweeps.workspace import Place, Workspace

DOORS = {"mlflow": "sweeps/record/tracking.py", "optuna": "sweeps/lanes/study.py"}


def test_rooms_import_one_way_and_in_no_circle():
    assert len(house.floors(house.edges())) > 1
    print(house.picture())


@pytest.mark.parametrize("package", house.PACKAGES)
def test_each_outside_library_has_its_one_door(package):
    for path in house.modules(package):
        for name in house.imports(path):
            top = name.partition(".")[0]
            assert top not in DOORS or path == house.ROOT / DOORS[top], f"{path}: {top} comes in by {DOORS[top]}"


def test_sweeps_name_no_state_and_no_gate_of_segment_2b():
    gates = read_json(house.ROOT / "policies" / "segment_2b" / "gates.json")
    words = {row["id"] for row in gates["gates"]} | set(gates["metrics"]) | {f"S{state}" for state in range(9)}
    for path in house.modules("sweeps"):
        strings = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
        for text in filter(lambda value: isinstance(value, str), strings):
            named = words & set(re.split(r"[^A-Za-z0-9_/]+", text))
            assert not named, f"{path}: {text!r} names {named}"


def test_no_module_but_the_workspace_names_what_lies_in_one():
    names = {place.name for place in vars(Workspace).values() if isinstance(place, Place)}
    assert {"mlflow.db", "campaigns", "outbox"} <= names
    for path in house.modules("sweeps"):
        for node in ast.walk(ast.parse(path.read_text())) if path.name != "workspace.py" else ():
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
                inside = isinstance(node.left, ast.Attribute) and node.left.attr == "root"
                assert not inside and node.right.value not in names, f"{path}:{node.lineno}: ask the workspace for it"
            if isinstance(node, ast.Attribute) and node.attr == "glob" and isinstance(node.value, ast.Attribute):
                assert node.value.attr != "root", f"{path}:{node.lineno}: ask the workspace for it"
