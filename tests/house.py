"""The rooms of the house and the imports between them, read from the code.

A room is a folder of modules, or a single module beside folders. Every import counts, including those inside functions
and those for types only. `python tests/house.py` prints the rooms in order.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("policies", "engine", "scoring", "sweeps")


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Yields every module that a file imports, anywhere in it; `from package import module` gives the module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if _file(inner) else str(node.module)


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


def picture() -> str:
    """Returns the folder graph as text, floor by floor."""
    graph = edges()
    lines = []
    for number, rooms in enumerate(floors(graph)):
        lines += [f"{number:2d}  {name:<22} ← {', '.join(sorted(graph[name])) or 'nothing'}" for name in rooms]
    return "\n".join(lines)


if __name__ == "__main__":
    print(picture())
