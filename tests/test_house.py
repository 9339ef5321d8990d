"""The house stands as its table says: imports run one way, in no circle; outside libraries come in by their doors."""

import ast
import re

import house
import pytest

from lanelock.policies.documents import read_json
from lanelock.sweeps.workspace import Place, Workspace

DOORS = {
    "cryptography": {"sweeps/proof/envelopes.py"},
    "securesystemslib": {"sweeps/proof/envelopes.py"},
    "mlflow": {
        "sweeps/record/mlflow_store.py",
        "sweeps/record/comparison.py",
        "sweeps/record/registry.py",
        "sweeps/service.py",
    },
    "optuna": {
        f"sweeps/search/{name}.py" for name in ("study", "proposals", "samplers", "surrogate", "composite", "unit_cube")
    },
    "starlette": {"sweeps/live/app.py", "sweeps/live/guards.py"},
    "uvicorn": {"sweeps/live/server.py"},
}


def test_rooms_import_what_the_table_allows_and_nothing_else():
    """Prints the graph. A new arrow is a decision: it goes into the table, and into ARCHITECTURE.md's picture."""
    print(house.picture())
    allowed = house.allowed()
    for here, rooms in house.edges().items():
        assert set(rooms) <= allowed.get(here, set()), f"{here} imports {sorted(set(rooms) - allowed.get(here, set()))}"
    needed = house.reduced(house.edges())
    unused = {room: sorted(rooms - set(needed[room])) for room, rooms in house.STANDS_ON.items()}
    assert not any(unused.values()), f"the table allows what nothing uses: {unused}"


def test_rooms_and_modules_stand_in_no_circle():
    assert len(house.floors(house.edges())) > 1
    assert len(house.floors(house.module_edges())) > 1


def test_the_architecture_shows_the_graph_as_it_is():
    assert house.picture() in (house.ROOT / "ARCHITECTURE.md").read_text()


@pytest.mark.parametrize("package", house.PACKAGES)
def test_each_outside_library_has_its_doors(package):
    for path in house.modules(package):
        for name in house.imports(path):
            doors = DOORS.get(name.partition(".")[0], {str(path.relative_to(house.ROOT))})
            assert str(path.relative_to(house.ROOT)) in doors, f"{path}: {name} comes in by {sorted(doors)}"


SEGMENT = "segment_2b"
WORDS = re.compile(
    r"merchant|\bsites?\b(?!-packages)|\bsite_|_sites?\b|(?-i:\btz(id)?\b)|tz_group|\bzones?\b|_zones?\b|\brosters?\b|_roster"
    r"|world_v1|layer1|\b2B\b|segment[-_ ]2b",
    re.IGNORECASE,
)


def neutral():
    """Every file of the product outside a folder that is named after segment 2B."""
    files = [path for package in house.PACKAGES for path in house.modules(package)]
    return [path for path in (*files, *(house.ROOT / "src" / "lanelock").glob("*.py")) if SEGMENT not in path.parts]


def strings_of(path):
    """Every string of a file, docstrings among them; an attribute's name in `getattr` is none."""
    calls = (node for node in house.nodes(path) if isinstance(node, ast.Call))
    names = {id(call.args[1]) for call in calls if isinstance(call.func, ast.Name) and call.func.id == "getattr"}
    constants = (node for node in house.nodes(path) if isinstance(node, ast.Constant) and id(node) not in names)
    return [node.value for node in constants if isinstance(node.value, str)]


def names_of(path):
    """Every name that a file gives or uses."""
    for node in house.nodes(path):
        names = (getattr(node, part, None) for part in ("id", "attr", "arg", "name", "asname"))
        yield from (name for name in names if isinstance(name, str))


def test_nothing_outside_its_folders_imports_segment_2b():
    assert len(neutral()) > 80
    for path in neutral():
        named = [module for module in house.imports(path) if SEGMENT in module.split(".")]
        assert not named, f"{path}: imports {named}"


def test_nothing_outside_its_folders_speaks_of_segment_2b():
    """Its nouns, its paths and its policies; nor is any of its packs, states, gates or metrics named."""
    folder = house.ROOT / "policies" / SEGMENT
    gates = read_json(folder / "gates.json")
    own = {row["id"] for row in gates["gates"]} | set(gates["metrics"]) | {f"S{state}" for state in range(9)}
    packs = {path.name for path in (folder / "packs").iterdir()} - {"baseline"}  # a plain word: what a rail follows
    for path in neutral():
        for text in (*strings_of(path), *names_of(path)):
            assert not WORDS.search(text), f"{path}: {text!r}"
        for text in strings_of(path):
            named = own & set(re.split(r"[^A-Za-z0-9_/]+", text)) | packs & {text}
            assert not named, f"{path}: {text!r} names {named}"


def test_the_words_that_are_looked_for_are_those_of_segment_2b():
    """The list means something: every one of its words is said where segment 2B is at home."""
    home = house.ROOT / "engine" / SEGMENT
    said = " ".join(text for path in home.rglob("*.py") for text in (*strings_of(path), *names_of(path)))
    for word in ("merchant_id", "site_order", "tz_group_id", "zone", "roster", "world_v1", "data/layer1/2B"):
        assert word in said and WORDS.search(word), word


@pytest.mark.parametrize("path", sorted((house.ROOT / "policies" / "schemas").glob("*.json")), ids=lambda p: p.name)
def test_no_schema_of_our_own_speaks_of_segment_2b(path):
    assert not WORDS.search(path.read_text())


def test_no_module_but_the_workspace_names_what_lies_in_one():
    names = {place.name for place in vars(Workspace).values() if isinstance(place, Place)}
    assert {"mlflow.db", "campaigns", "outbox"} <= names
    for path in house.modules("sweeps"):
        for node in house.nodes(path) if path.name != "workspace.py" else ():
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant):
                inside = isinstance(node.left, ast.Attribute) and node.left.attr == "root"
                assert not inside and node.right.value not in names, f"{path}:{node.lineno}: ask the workspace for it"
            if isinstance(node, ast.Attribute) and node.attr == "glob" and isinstance(node.value, ast.Attribute):
                assert node.value.attr != "root", f"{path}:{node.lineno}: ask the workspace for it"
