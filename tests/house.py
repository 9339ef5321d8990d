"""The rooms of the house and the imports allowed between them: a literal table, compared with the imports in the code.

A room is a folder of modules, or a single module beside folders. Every import counts, including those inside functions
and those for types only. `python tests/house.py` prints the rooms in order: the picture in ARCHITECTURE.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("policies", "engine", "scoring", "sweeps")
STANDS_ON = {  # room -> the rooms it may import; it may also import what those may import
    "engine": set(),
    "engine.compiled": set(),
    "engine.arithmetic": {"engine.compiled"},
    "engine.columns": set(),
    "engine.surface": {"engine.columns"},
    "engine.plain": {"engine.columns", "policies"},
    "engine.tables": {"engine.keep", "engine.plain"},
    "engine.workers": set(),
    "engine.commands": {"policies"},
    "engine.command": {"engine.commands", "engine.resolved", "engine.tables"},
    "policies": set(),
    "sweeps": set(),
    "sweeps.interrupts": set(),
    "sweeps.secrets": set(),
    "engine.protocol": {"engine.surface", "engine.workers", "policies"},
    "scoring.gates": {"policies"},
    "sweeps.workspace": {"policies", "sweeps"},
    "engine.keep": {"engine.protocol"},
    "engine.sources": {"policies"},
    "engine.resolved": {"engine.protocol", "engine.sources"},
    "engine.function": {"engine.resolved", "engine.tables"},
    "scoring.feasibility": {"engine.protocol", "scoring.gates"},
    "engine.steps": {"engine.keep"},
    "engine.alone": {"engine.steps"},
    "engine.chain": {"engine.resolved", "engine.tables"},
    "engine.testing": {"engine.function"},
    "scoring.scorecard": {"engine.plain", "scoring.feasibility"},
    "engine.segment_2b": {"engine.alone", "engine.arithmetic"},
    "scoring.chained": {"scoring.scorecard"},
    "scoring.certification": {"scoring.scorecard"},
    "scoring.distances": {"policies"},
    "scoring.queries": {"policies"},
    "scoring.resampling": {"scoring.gates", "scoring.queries"},
    "scoring.tables": {"engine.tables", "scoring.distances", "scoring.resampling"},
    "scoring.figures": {"scoring.scorecard"},
    "sweeps.engines": {"engine.chain", "engine.command", "engine.function", "scoring.chained", "scoring.tables"},
    "scoring.segment_2b": {"engine.segment_2b", "scoring.figures"},
    "sweeps.locations": {"sweeps.workspace"},
    "sweeps.lanes": {"engine.arithmetic", "sweeps.engines"},
    "sweeps.pages": {"scoring.certification", "scoring.figures"},
    "sweeps.trail": {"sweeps.pages", "sweeps.provenance", "sweeps.workspace"},
    "sweeps.decision": {"sweeps.lanes"},
    "sweeps.provenance": set(),
    "sweeps.perf": {"sweeps.record"},
    "sweeps.search": {"sweeps.decision", "sweeps.secrets", "sweeps.workspace"},
    "sweeps.trial": {"sweeps.decision"},
    "sweeps.screening": {"sweeps.search", "sweeps.trial"},
    "sweeps.batch": {"sweeps.screening"},
    "sweeps.work": {"engine.steps", "sweeps.search", "sweeps.trial"},
    "sweeps.proof": {"sweeps.pages", "sweeps.provenance", "sweeps.search"},
    "sweeps.sensitivity": {"sweeps.search"},
    "sweeps.reports": {"sweeps.proof", "sweeps.sensitivity", "sweeps.trail"},
    "sweeps.probing": {"sweeps.reports", "sweeps.work"},
    "sweeps.service": {"sweeps.locations", "sweeps.proof"},
    "sweeps.record": {"sweeps.locations", "sweeps.reports"},
    "sweeps.audit": {"sweeps.batch", "sweeps.proof", "sweeps.work"},
    "sweeps.sweep": {"sweeps.batch", "sweeps.interrupts", "sweeps.record", "sweeps.work"},
    "sweeps.upkeep": {"sweeps.record"},
    "sweeps.campaign": {"sweeps.perf", "sweeps.sweep", "sweeps.upkeep"},
    "sweeps.live": {"sweeps.campaign"},
    "sweeps.repository": {"sweeps.proof"},
    "sweeps.project": {"sweeps.lanes", "sweeps.workspace"},
    "sweeps.notebook": {"engine", "sweeps.sweep"},
    "sweeps.terminal": {"sweeps.audit", "sweeps.live", "sweeps.probing", "sweeps.project", "sweeps.repository"},
    "scoring": set(),
}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Returns every node of a file's syntax tree, which many tests walk."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Returns every module that a file imports, anywhere in it; `from package import module` gives the module."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if _file(inner) else str(node.module)


@cache
def _file(module: str) -> Path | None:
    """Returns the file of one of our modules, or None for any other name."""
    place = ROOT.joinpath(*module.removeprefix("lanelock.").split("."))
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((file for file in files if module.startswith("lanelock.") and file.is_file()), None)


def room(path: Path) -> str:
    """Returns the room of a file: its folder, or the module itself if there are folders beside it."""
    path = path.relative_to(ROOT)
    if path.name == "__init__.py":
        path = path.parent / "__init__"
    folder = Path(*path.parent.parts[:2])  # a folder within a room belongs to it
    alone = folder.parts in (("engine",), ("scoring",), ("sweeps",))
    return ".".join((path.with_suffix("") if alone else folder).parts).removesuffix(".__init__")


def edges() -> dict[str, dict[str, int]]:
    """Returns room -> imported room -> number of imports."""
    graph: dict[str, dict[str, int]] = {}
    for package in PACKAGES:
        for path in modules(package):
            here = graph.setdefault(room(path), {})
            for module in imports(path):
                file = _file(module) if module.startswith("lanelock") else None
                if file is not None and (there := room(file)) != room(path):
                    here[there] = here.get(there, 0) + 1
    return graph


def module_edges() -> dict[str, dict[str, int]]:
    """Returns module -> imported module, types included."""
    graph: dict[str, dict[str, int]] = {}
    for path in (path for package in PACKAGES for path in modules(package)):
        files = {_file(module) for module in imports(path) if module.startswith("lanelock")} - {None, path}
        graph[str(path)] = {str(file): 1 for file in files}
    return graph


def allowed() -> dict[str, set[str]]:
    """Returns room -> every room it may import, by the table."""

    def closed(name: str) -> set[str]:
        return {inner for to in STANDS_ON[name] for inner in (to, *closed(to))}

    return {name: closed(name) for name in STANDS_ON}


def floors(graph: dict[str, dict[str, int]]) -> list[list[str]]:
    """Returns the rooms by floor, those without imports first. Raises ValueError naming the rooms of a circle."""
    left, done, levels = dict(graph), set[str](), list[list[str]]()
    while left:
        ready = sorted(name for name, to in left.items() if set(to) <= done)
        if not ready:
            raise ValueError(f"a circle among {sorted(left)}")
        levels.append(ready)
        done |= set(ready)
        left = {name: to for name, to in left.items() if name not in done}
    return levels


def reduced(graph: dict[str, dict[str, int]]) -> dict[str, list[str]]:
    """Returns room -> the rooms it imports, without those it also reaches through another of them."""

    def below(name: str) -> set[str]:
        return {inner for to in graph[name] for inner in (to, *below(to))}

    return {name: sorted(set(to) - {far for near in to for far in below(near)}) for name, to in graph.items()}


def picture() -> str:
    """Returns the graph as text, rooms without imports first, without arrows that follow from others."""
    graph = edges()
    ordered = floors(graph)
    arrows = reduced(graph)
    rooms = [name for floor in ordered for name in floor if "." in name or name == "policies"]
    return "\n".join(f"{name:<22} ← {', '.join(arrows[name])}".rstrip(" ←") for name in rooms)


if __name__ == "__main__":
    print(picture())
