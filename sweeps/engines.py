"""Finds engines and their metrics by entry point.

An entry point of `lanelock.engines` gives an `engine.protocol.Engine`; the entry point of the same name in
`lanelock.metrics` gives the `scoring.scorecard.MetricSource` that measures its runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from lanelock.engine.keep.published import RECEIPT, engine_of
from lanelock.engine.protocol import Publishing
from lanelock.engine.resolved import PARTS, Resolved
from lanelock.policies import EngineError, LaneError, Pack, PolicyError, load_pack
from lanelock.policies.documents import resolve
from lanelock.policies.errors import blamed, cause
from lanelock.policies.pack import PACK, engine_in
from lanelock.scoring.scorecard import MetricSource

_ENGINES, _METRICS = "lanelock.engines", "lanelock.metrics"
Part = TypeVar("Part")
PackFinder = Callable[[str], tuple[Pack, Resolved]]  # a name as a user gives it -> the pack, and its engine


@cache
def engine_named(name: str) -> Resolved:
    """Returns the engine of that name. Raises LaneError naming the installed engines."""
    point, found = _load(_ENGINES, name)
    try:
        engine = Resolved(found)
    except LaneError as error:
        raise LaneError(f"{point}: {error}") from error
    if engine.name != name:
        raise LaneError(f"/engine: the entry point {name!r} gives an engine named {engine.name!r}; name both alike")
    return engine


@cache
def metrics_named(name: str) -> MetricSource:
    """Returns the metrics of the engine of that name. Raises LaneError naming what is installed, or what they lack."""
    point, found = _load(_METRICS, name)
    with blamed(point):
        for part in ("gates_file", "measure"):
            if isinstance(found, type) or not hasattr(found, part):
                lacks = "it is a class" if isinstance(found, type) else f"it has no {part}"
                raise LaneError(f"{point}: {_named(found)} measures no engine: {lacks} (lanelock.scoring.scorecard)")
        if not isinstance(found.gates_file, str | Path | Mapping):
            given = f"{found.gates_file!r}"[:60]
            raise LaneError(f"{point}: {_named(found)}: gates_file: {given} is no text, no path and no mapping")
    source: MetricSource = found
    return source


def open_pack(name_or_path: str) -> tuple[Pack, Resolved]:
    """Returns a pack and the engine that it names. Raises PolicyError naming file and field."""
    folder = resolve(name_or_path, "packs")
    try:
        engine = engine_named(engine_in(folder))
    except LaneError as error:
        raise PolicyError(f"{folder / PACK}: {error}") from error
    return load_pack(folder, engine.policy_schemas), engine


def engine_with(part: type[Part], name: str | None) -> Resolved:
    """Returns the engine of that name; without a name, the only installed engine that has `part`.

    Raises LaneError where no engine or several engines have it.
    """
    if name is not None:
        return engine_named(name)
    names = sorted({point.name for point in entry_points(group=_ENGINES)})
    able = [engine for engine in map(engine_named, names) if isinstance(engine.own, part)]
    if len(able) == 1:
        return able[0]
    if not able:
        raise LaneError(f"no installed engine has {part.__name__} (lanelock.engine.protocol): {PARTS[part]}")
    raise LaneError(f"--engine: name one of {', '.join(engine.name for engine in able)}")


def publisher_of(folder: Path) -> Publishing:
    """Returns the engine that published a run, as named by the run's receipt."""
    try:
        return engine_named(engine_of(folder)).part(Publishing)
    except LaneError as error:
        raise PolicyError(f"{folder / RECEIPT}: {error}") from error


def world_folder(path: str | None) -> Path | None:
    """Returns the folder of an imported world; None where the engine draws its own."""
    if path is None:
        return None
    folder = Path(path)
    if not folder.is_dir():
        raise PolicyError(f"{folder}: --world must name the folder of an imported world; this is not a folder")
    return folder


def _load(group: str, name: str) -> tuple[str, Any]:
    """Returns an entry point as errors name it, and the object that it gives."""
    points = {point.name: point for point in entry_points(group=group)}
    if name not in points:
        raise LaneError(f"/engine: {name!r} is not installed under {group} (found: {', '.join(sorted(points))})")
    where = f"entry point {name} = {points[name].value} of {group}"
    try:
        return where, points[name].load()
    except (Exception, SystemExit) as error:
        raise EngineError(where, cause(error)) from error


def _named(found: Any) -> str:
    kind = found if isinstance(found, type) else type(found)
    return f"{kind.__module__}.{kind.__qualname__}"
