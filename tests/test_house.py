"""The house stands as its table says: imports run one way, in no circle; outside libraries come in by their doors."""

import ast
import re

import house
import pytest

from lanelock.policies.documents import read_json

DOORS = {
    "mlflow": {"sweeps/record/mlflow_store.py", "sweeps/record/registry.py"},
    "optuna": {"sweeps/lanes/study.py"},
}


def test_rooms_import_one_way_and_in_no_circle():
    assert len(house.floors(house.edges())) > 1
    print(house.picture())


@pytest.mark.parametrize("package", house.PACKAGES)
def test_each_outside_library_has_its_doors(package):
    for path in house.modules(package):
        for name in house.imports(path):
            doors = DOORS.get(name.partition(".")[0], {str(path.relative_to(house.ROOT))})
            assert str(path.relative_to(house.ROOT)) in doors, f"{path}: {name} comes in by {sorted(doors)}"


def test_sweeps_name_no_state_and_no_gate_of_segment_2b():
    gates = read_json(house.ROOT / "policies" / "segment_2b" / "gates.json")
    words = {row["id"] for row in gates["gates"]} | set(gates["metrics"]) | {f"S{state}" for state in range(9)}
    for path in house.modules("sweeps"):
        strings = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
        for text in filter(lambda value: isinstance(value, str), strings):
            named = words & set(re.split(r"[^A-Za-z0-9_/]+", text))
            assert not named, f"{path}: {text!r} names {named}"
