"""Where engines and their metrics are found: entry points, and nothing else.

`lanelock.engines` names an `engine.protocol.Engine`; `lanelock.metrics` names, under the same name, the
`scoring.scorecard.MetricSource` that measures its runs.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from lanelock.engine.protocol import Engine, Publishing, Serving, Sharding
from lanelock.policies import LaneError, Pack, PolicyError, load_pack
from lanelock.policies.documents import resolve
from lanelock.scoring.scorecard import MetricSource


@cache
def engine_named(name: str) -> Engine:
    """The engine behind a name. Raises LaneError naming what is installed."""
    engine: Engine = _load("lanelock.engines", name)
    return engine


@cache
def metrics_named(name: str) -> MetricSource:
    """The metrics of the engine behind a name."""
    source: MetricSource = _load("lanelock.metrics", name)
    return source


def open_pack(name_or_path: str) -> tuple[Pack, Engine]:
    """A pack, and the engine whose policies it holds: the one that declares the most of its files."""
    folder = resolve(name_or_path, "packs")
    if not folder.is_dir():
        raise PolicyError(f"{folder}: a pack is a folder with one JSON file a policy")
    files = {path.stem for path in folder.glob("*.json")}
    names = sorted({point.name for point in entry_points(group="lanelock.engines")})
    engines = [engine_named(name) for name in names]
    engine = max(engines, key=lambda candidate: len(files & set(candidate.policy_schemas)))
    return load_pack(folder, engine.policy_schemas), engine


def publishing(engine: Engine | Sharding) -> Publishing:
    """The engine as one whose runs can be kept. Raises LaneError where it cannot."""
    if not isinstance(engine, Publishing):
        raise LaneError(f"engine {engine.name}: its runs can be swept and scored, not kept")
    return engine


def _load(group: str, name: str):  # type: ignore[no-untyped-def]  # whatever the entry point names
    found = {point.name: point for point in entry_points(group=group)}
    if name not in found:
        raise LaneError(f"/engine: {name!r} is not installed under {group} (found: {', '.join(sorted(found))})")
    return found[name].load()


def world_folder(path: str | None) -> Path | None:
    """A world brought in from outside, or none: the engine then draws its own."""
    if path is None:
        return None
    folder = Path(path)
    if not folder.is_dir():
        raise PolicyError(f"{folder}: --world names a folder with site_locations and, optionally, site_timezones")
    return folder


def serving(engine: Engine) -> Serving:
    """The engine as one whose candidates can be served. Raises LaneError where they cannot."""
    if not isinstance(engine, Serving):
        raise LaneError(f"engine {engine.name}: its candidates can be locked, not served")
    return engine
