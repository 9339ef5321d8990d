"""Finds engines and their metrics by name: by entry point, or of the project in the current folder.

An entry point of `lanelock.engines` gives an `engine.protocol.Engine`; the entry point of the same name in
`lanelock.metrics` gives the `scoring.scorecard.MetricSource` that measures its runs. A project (`lanelock.toml`, found
upwards from the current folder) brings an engine, its metrics, the pack `start` and a lane without being installed; one
that a program made in memory is `enlisted` instead. An engine that names another as its world is given as the chain of
both, and so are its metrics.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cache, lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

from lanelock.engine.chain import Chain, bind, upstream_codes
from lanelock.engine.keep.published import RECEIPT, engine_of
from lanelock.engine.protocol import Engine, Publishing
from lanelock.engine.resolved import PARTS, Resolved, Upstream
from lanelock.policies import EngineError, LaneError, LanelockError, Pack, PolicyError, load_pack, pack_of
from lanelock.policies.documents import content_of, resolve
from lanelock.policies.errors import blamed, cause, referred_to_by
from lanelock.policies.notations import parse_document
from lanelock.policies.pack import PACK, engine_in
from lanelock.policies.project import FILE, START, Project, find_project, project_of
from lanelock.scoring.chained import ChainMetrics
from lanelock.scoring.scorecard import MetricSource

_ENGINES, _METRICS = "lanelock.engines", "lanelock.metrics"
_OF_COMMANDS = (
    "config",
    "seed_as",
    "output",
    "server",
    "timeout_s",
    "memory_mb",
    "output_mb",
    "env",
)  # fields of [engine]
_LARGEST = 1 << 20  # bytes of a project's file
_ENLISTED = dict[str, Project]()  # by engine, for this process
_MADE = dict[Project, Resolved]()  # an engine stays the same object, with the processes it has started
Part = TypeVar("Part")
PackFinder = Callable[[str], tuple[Pack, Resolved]]  # a name as a user gives it -> the pack, and its engine


def engine_named(name: str) -> Resolved:
    """Returns the engine of that name, joined with the engine that is its world, if it has one.

    Raises LaneError naming the installed engines, or the engines of a chain that comes back to one of them.
    """
    return _engine(name, ())


def _engine(name: str, after: tuple[str, ...]) -> Resolved:
    """Returns an engine that is the world of `after`, the nearest first."""
    if name in after:
        raise LaneError(f"the chain of worlds comes back to {name}: {' -> '.join((*reversed(after), name))}")
    if (project := project_named(name)) is not None:
        return _engine_of(project, after)
    return _installed_engine(name, after)


def _joined(engine: Resolved, upstream: object, after: tuple[str, ...]) -> Resolved:
    """Returns an engine with the engine that it names as its world, or as it is where it names none."""
    if not isinstance(upstream, Upstream):
        return engine
    with referred_to_by(f"engine {engine.name}: its world"):
        return Resolved(bind(engine.own, _engine(upstream.engine, (engine.name, *after)).own, upstream.seed))


@cache
def _installed_engine(name: str, after: tuple[str, ...]) -> Resolved:
    point, found = _load(_ENGINES, name)
    try:
        engine = Resolved(found)
    except LaneError as error:
        raise LaneError(f"{point}: {error}") from error
    if engine.name != name:
        raise LaneError(f"/engine: the entry point {name!r} gives an engine named {engine.name!r}; name both alike")
    return _joined(engine, getattr(found, "upstream", None), after)


def metrics_named(name: str) -> MetricSource:
    """Returns the metrics of the engine of that name. Raises LaneError naming what is installed, or what they lack."""
    project, engine = project_named(name), engine_named(name).own
    source: Any = _installed_metrics(name) if project is None else _metrics_of(project)
    found: MetricSource = _chained(source, engine) if isinstance(engine, Chain) else source
    return found


@cache
def _chained(source: Any, engine: Chain) -> MetricSource:
    return ChainMetrics(source, metrics_named(engine.upstream.name), engine.states[-1])


@cache
def _installed_metrics(name: str) -> MetricSource:
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
    if (project := project_here()) is not None and is_start(name_or_path, project):
        return start_of(project), engine_named(project.id)
    folder = resolve(name_or_path, "packs")
    try:
        engine = engine_named(engine_in(folder))
    except LaneError as error:
        raise PolicyError(f"{folder / PACK}: {error}") from error
    return load_pack(folder, engine.policy_schemas), engine


def engine_with(part: type[Part], name: str | None) -> Resolved:
    """Returns the engine of that name; without a name, the project's or the only installed one that has `part`.

    Raises LaneError where no engine or several engines have it.
    """
    if name is not None:
        return engine_named(name)
    if (project := project_here()) is not None and isinstance(engine_named(project.id).own, part):
        return engine_named(project.id)
    able = [engine for engine in _loaded() if isinstance(engine.own, part)]
    if len(able) == 1:
        return able[0]
    if not able:
        raise LaneError(f"no installed engine has {part.__name__} (lanelock.engine.protocol): {PARTS[part]}")
    raise LaneError(f"--engine: name one of {', '.join(engine.name for engine in able)}")


def _loaded() -> Iterator[Resolved]:
    """Yields the installed engines, except those that cannot be loaded: nobody asked for them."""
    for name in sorted(installed()):
        with suppress(LanelockError):
            yield engine_named(name)


def project_here() -> Project | None:
    """Returns the project of the current folder, read again when its file has changed; None where there is none.

    Raises PolicyError naming file and field.
    """
    file = find_project()
    if file is None:
        return None
    project = _read(file, content_of(file, _LARGEST))
    _check_free(project)
    return project


def _check_free(project: Project) -> None:
    """Raises PolicyError where a project's engine has the name of an installed one."""
    if project.id in installed():
        where = f"{project.where}: /engine/id"
        raise PolicyError(f"{where}: {project.id} is the name of an installed engine; choose another")


def project_named(name: str) -> Project | None:
    """Returns the project, enlisted or of the current folder, whose engine has that name; None for any other name."""
    if name in _ENLISTED:
        return _ENLISTED[name]
    if name in installed():
        return None  # found without reading a project, which may be unfinished
    project = project_here()
    return project if project is not None and project.id == name else None


def installed() -> frozenset[str]:
    """Returns the names of the installed engines."""
    return _installed(tuple(sys.path))


@lru_cache(maxsize=8)
def _installed(path: tuple[str, ...]) -> frozenset[str]:
    """Returns the names for a search path; looking through all installed packages takes tens of milliseconds."""
    return frozenset(point.name for point in entry_points(group=_ENGINES))


def enlist(project: Project, engine: Engine) -> None:
    """Makes the engine of a project that no file states, such as a function in memory, known in this process."""
    _check_free(project)
    _ENLISTED[project.id] = project
    _MADE[project] = _joined(Resolved(engine), _world_of(project), ())


def only_here(engine: Resolved) -> str:
    """Returns the name of an engine, or of one upstream of it, that is known in this process alone; empty if none."""
    names = (engine.name, *upstream_codes(engine))
    return next((name for name in names if name in _ENLISTED), "")


def start_of(project: Project) -> Pack:
    """Returns the pack of a project's own values. Raises PolicyError naming file and field."""
    world, above = project.engine.get("world"), dict[str, Any]()
    if world is not None:
        with referred_to_by(f"{project.where}: /engine/world/pack"):
            place = str(project.folder / world["pack"])
            above = open_pack(place if Path(place).is_dir() else world["pack"])[0].documents()
    return pack_of(START, {**above, **project.start}, engine_named(project.id).policy_schemas, project.where)


def _world_of(project: Project) -> Upstream | None:
    """Returns the engine whose run is a project's world; None if it states none."""
    world = project.engine.get("world")
    return None if world is None else Upstream(world["engine"], world.get("seed"))


def is_start(name: str, project: Project) -> bool:
    """Whether a name means the pack of a project's own values."""
    return name == START and "params" in project.document


@lru_cache(maxsize=16)
def _read(file: Path, content: bytes) -> Project:
    """Returns the project in a file, by its content: parsed once for as long as that stays the same."""
    return project_of(parse_document(content, file), file)


def _engine_of(project: Project, after: tuple[str, ...]) -> Resolved:
    if project not in _MADE:
        _MADE[project] = _joined(Resolved(_made(project)), _world_of(project), after)
    return _MADE[project]


@cache
def _metrics_of(project: Project) -> MetricSource:
    from lanelock.scoring.tables import TableMetrics  # DuckDB and SciPy, which no installed engine needs

    return TableMetrics(project.id, project.gates, project.definitions, folder=project.folder)


def _made(project: Project) -> Engine:
    """Returns the engine that a project names. Raises EngineError or LaneError where it cannot be loaded."""
    table, schema = project.engine, project.schema
    shared: dict[str, Any] = {"folder": project.folder, "code": tuple(table.get("code", ()))}
    if "function" in table:
        from lanelock.engine.function import FunctionEngine

        return FunctionEngine(project.id, table["function"], schema, **shared, parallel=table.get("parallel", False))
    from lanelock.engine.command import CommandEngine

    further = {name: table[name] for name in _OF_COMMANDS if name in table}
    return CommandEngine(project.id, table["command"], schema, **shared, **further)


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
        raise LaneError(
            f"/engine: {name!r} is not installed under {group} (found: {', '.join(sorted(points))}), "
            f"nor is it the engine of a {FILE} in the current folder or above"
        )
    where = f"entry point {name} = {points[name].value} of {group}"
    try:
        return where, points[name].load()
    except (Exception, SystemExit) as error:
        raise EngineError(where, cause(error)) from error


def _named(found: Any) -> str:
    kind = found if isinstance(found, type) else type(found)
    return f"{kind.__module__}.{kind.__qualname__}"
