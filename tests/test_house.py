"""The house stands as ARCHITECTURE.md draws it: imports run one way, and each outside library has its one door."""

import ast
import re
from pathlib import Path

import pytest

from lanelock.policies.documents import read_json

ROOT = Path(__file__).parent.parent
BELOW = {  # what each package may import of the others
    "policies": set(),
    "engine": {"policies"},
    "scoring": {"policies", "engine"},
    "sweeps": {"policies", "engine", "scoring"},
}
DOORS = {"mlflow": "sweeps/record/tracking.py", "optuna": "sweeps/lanes/study.py"}


def imports(path):
    """(module, whether only for types) of every import, wherever in the file it stands."""
    tree = ast.parse(path.read_text())
    typed = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    for_types = {id(inner) for block in typed for inner in ast.walk(block)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in for_types) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield str(node.module), id(node) in for_types


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", BELOW)
def test_imports_run_one_way(package):
    for path in modules(package):
        for name, _ in imports(path):
            top = name.partition(".")[0]
            assert top == package or top not in BELOW or top in BELOW[package], f"{path}: {name}"
            assert top not in DOORS or path == ROOT / DOORS[top], f"{path}: {top} comes in by {DOORS[top]}"


def test_modules_of_a_package_import_one_another_in_one_direction():
    """No cycles at run time: what is imported for its types alone does not count."""
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path for package in BELOW for path in modules(package)
    }
    graph = {
        name: {found for found, for_types in imports(path) if found in names and not for_types}
        for name, path in names.items()
    }
    done: set[str] = set()

    def visit(name, above):
        assert name not in above, f"cycle: {' -> '.join([*above, name])}"
        if name not in done:
            for inner in graph[name]:
                visit(inner, [*above, name])
            done.add(name)

    for name in graph:
        visit(name, [])


def test_sweeps_name_no_state_and_no_gate_of_segment_2b():
    gates = read_json(ROOT / "policies" / "segment_2b" / "gates.json")
    words = {row["id"] for row in gates["gates"]} | set(gates["metrics"]) | {f"S{state}" for state in range(9)}
    for path in modules("sweeps"):
        strings = [n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)]
        for text in filter(lambda value: isinstance(value, str), strings):
            named = words & set(re.split(r"[^A-Za-z0-9_/]+", text))
            assert not named, f"{path}: {text!r} names {named}"


def test_no_module_is_a_drawer_or_a_scroll():
    for package in BELOW:
        for path in modules(package):
            assert path.stem not in ("utils", "helpers", "common", "base", "manager", "misc"), path
            assert len(path.read_text().splitlines()) <= 480, f"{path}: split it"
