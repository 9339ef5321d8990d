"""Where engines and their metrics are found: entry points, and nothing else.

`lanelock.engines` names an `engine.protocol.Engine`; `lanelock.metrics` names, under the same name, the
`scoring.scorecard.MetricSource` that measures its runs.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeVar

from lanelock.engine.keep.published import RECEIPT, engine_of
from lanelock.engine.protocol import Publishing
from lanelock.engine.resolved import PARTS, Resolved
from lanelock.policies import LaneError, Pack, PolicyError, load_pack
from lanelock.policies.documents import resolve
from lanelock.policies.pack import PACK, engine_in
from lanelock.scoring.scorecard import MetricSource

_ENGINES, _METRICS = "lanelock.engines", "lanelock.metrics"
Part = TypeVar("Part")


@cache
def engine_named(name: str) -> Resolved:
    """The engine behind a name. Raises LaneError naming what is installed."""
    engine = Resolved(_load(_ENGINES, name))
    if engine.name != name:
        raise LaneError(f"/engine: the entry point {name!r} gives an engine named {engine.name!r}; call both the same")
    return engine


@cache
def metrics_named(name: str) -> MetricSource:
    """The metrics of the engine behind a name."""
    source: MetricSource = _load(_METRICS, name)
    return source


def open_pack(name_or_path: str) -> tuple[Pack, Resolved]:
    """Returns a pack and the engine that it says it is for. Raises PolicyError naming file and field."""
    folder = resolve(name_or_path, "packs")
    try:
        engine = engine_named(engine_in(folder))
    except LaneError as error:
        raise PolicyError(f"{folder / PACK}: {error}") from None
    return load_pack(folder, engine.policy_schemas), engine


def engine_with(part: type[Part], name: str | None) -> Resolved:
    """Returns the engine of that name; without a name, the only one installed that has a part.

    Raises LaneError where none has it, or several.
    """
    if name is not None:
        return engine_named(name)
    able = [engine for engine in map(engine_named, _installed()) if isinstance(engine.own, part)]
    if len(able) == 1:
        return able[0]
    if not able:
        raise LaneError(f"no installed engine has {part.__name__} (lanelock.engine.protocol), of each {PARTS[part]}")
    raise LaneError(f"--engine: name one of {', '.join(engine.name for engine in able)}")


def publisher_of(folder: Path) -> Publishing:
    """Returns the engine that published a run, which its receipt names."""
    try:
        return engine_named(engine_of(folder)).part(Publishing)
    except LaneError as error:
        raise PolicyError(f"{folder / RECEIPT}: {error}") from None


def world_folder(path: str | None) -> Path | None:
    """A world brought in from outside, or none: the engine then draws its own."""
    if path is None:
        return None
    folder = Path(path)
    if not folder.is_dir():
        raise PolicyError(f"{folder}: --world names a folder that the engine reads its world from; this is none")
    return folder


def _installed() -> list[str]:
    return sorted({point.name for point in entry_points(group=_ENGINES)})


def _load(group: str, name: str):  # type: ignore[no-untyped-def]  # whatever the entry point names
    points = {point.name: point for point in entry_points(group=group)}
    if name not in points:
        raise LaneError(f"/engine: {name!r} is not installed under {group} (found: {', '.join(sorted(points))})")
    return points[name].load()
