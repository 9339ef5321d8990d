"""Sweeps of a function from Python: in a notebook or a script, without a file.

    swept = lanelock.sweep(
        simulate,
        params={"demand": 10, "reorder_point": {"value": 40, "low": 10, "high": 120}},
        gates={"fill": "fill_rate >= 0.95, 0.98"}, minimize="mean_stock", trials=40,
    )
    swept.best, swept.trials, swept.figures, swept.lock

The keywords are the tables of `lanelock.toml`; `@lanelock.engine(...)` keeps them beside the function instead.
"""

from __future__ import annotations

import base64
import html
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from lanelock.engine import DECLARED
from lanelock.engine.function import FunctionEngine
from lanelock.policies import LaneError
from lanelock.policies.project import FILE, SEVERITIES, Project, project_of
from lanelock.scoring.figures.drawing import Figure, png
from lanelock.sweeps.engines import enlist
from lanelock.sweeps.lanes.lane import Lane, lane_of_project
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.reports.study import closed
from lanelock.sweeps.reports.trials_table import trials_frame
from lanelock.sweeps.sweep import Closed, play
from lanelock.sweeps.workspace import Workspace, usual

_TABLES = ("params", "knobs", "derived", "metrics", "grading", *SEVERITIES)  # keywords that are tables of the file
_OF_ENGINE = ("id", "code", "parallel", "world")  # keywords that are fields of [engine]


def sweep(
    function: Callable[..., Any], *, workspace: Path | str | None = None, jobs: int | None = None,
    resume: bool = False, **given: Any,
) -> Swept:  # fmt: skip
    """Spends a lane's budget on a function `simulate(params, seed)`, and returns what came of it.

    The keywords are `params`, `metrics`, `gates`, `vetoes`, `rails`, `observe`, `knobs`, `derived` and `grading`, as in
    `lanelock.toml`; the fields of its [sweep], such as `minimize`, `seeds` and `trials`; and `id`, `code` and
    `parallel` of its [engine]. `workspace` and `jobs` are those of the command line. Raises LanelockError as commands
    do, in one line.
    """
    lane = lane_of_function(function, **given)
    place = Workspace.at(usual(workspace).root)
    return Swept(play(lane, place, jobs=jobs or os.cpu_count() or 1, resume=resume), place)


def lane_of_function(function: Callable[..., Any], **given: Any) -> Lane:
    """Returns the lane of a function; its engine is known in this process from now on."""
    project = project_of_function(function, {**getattr(function, DECLARED, {}), **given})
    made = FunctionEngine(
        project.id, function, project.schema, code=tuple(project.engine.get("code", ())),
        parallel=project.engine.get("parallel", False),
    )  # fmt: skip
    enlist(project, made)
    return lane_of_project(project)


def project_of_function(function: Callable[..., Any], given: Mapping[str, Any]) -> Project:
    """Returns the project that keywords state. Raises PolicyError naming the field."""
    if not callable(function):
        raise LaneError(f"sweep: {function!r:.60} is not a function; give simulate(params, seed)")
    name = getattr(function, "__name__", type(function).__name__)
    if "id" not in given and not name.isidentifier():
        raise LaneError(f"sweep: the function is called {name}; name the engine with id=")
    module = str(getattr(function, "__module__", "__main__"))
    head = {
        "id": name.lower(),
        "function": f"{module}:{getattr(function, '__qualname__', name).replace('<locals>.', '')}",
    }
    document = {
        "engine": {**head, **{key: given[key] for key in _OF_ENGINE if key in given}},
        **{key: given[key] for key in _TABLES if key in given},
        "sweep": {key: value for key, value in given.items() if key not in (*_TABLES, *_OF_ENGINE)},
    }
    return project_of(_plain(document), Path.cwd() / FILE)


def _plain(value: Any) -> Any:
    """Returns JSON for what Python gives: lists for tuples, numbers for those of NumPy."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(inner) for inner in value]
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value


@dataclass(frozen=True)
class Swept:
    """A finished sweep, as a notebook shows it."""

    closing: Closed = field(repr=False)
    workspace: Workspace = field(repr=False)

    @property
    def name(self) -> str:
        """The sweep's name, which every command takes."""
        return self.closing.sweep

    @property
    def outcome(self) -> str:
        """GO or NO_GO."""
        return self.closing.decision.outcome

    @property
    def reason(self) -> str:
        """Why it was decided so."""
        return self.closing.decision.reason

    @cached_property
    def best(self) -> dict[str, Any]:
        """The knobs of the candidate that the decision takes, or of the best one; empty if no trial was graded."""
        trial = self.closing.decision.best
        return {} if trial is None else dict(trial.values)

    @cached_property
    def trials(self) -> pd.DataFrame:
        """All trials, a row each: knobs, objectives, metrics, verdicts."""
        return trials_frame(self.name, self.workspace)

    @cached_property
    def lock(self) -> Lock:
        """The lock that the sweep closed with."""
        return Lock.read(self.closing.lock)

    @cached_property
    def figures(self) -> Figures:
        """The figures of the trials, by name; they display themselves."""
        return Figures({figure.id: Drawing(figure) for figure in closed(self.name, self.workspace).figures})

    def __repr__(self) -> str:
        best = ", ".join(f"{name} {value}" for name, value in self.best.items())
        return f"<{self.outcome}  {self.name}: {self.reason}{f'; best: {best}' if best else ''}>"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
                       for name, value in self.best.items())  # fmt: skip
        return (
            f"<p><b>{html.escape(self.outcome)}</b> {html.escape(self.name)}: {html.escape(self.reason)}</p>"
            f"<table>{rows}</table>"
        )


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure that a notebook displays."""

    figure: Figure

    def _repr_png_(self) -> bytes:
        return png(self.figure)

    def __repr__(self) -> str:
        return f"<{self.figure.title}: {self.figure.says}>"


class Figures(dict[str, Drawing]):
    """Figures by name."""

    def _repr_html_(self) -> str:
        images = (base64.b64encode(drawing._repr_png_()).decode() for drawing in self.values())
        return "".join(f'<img src="data:image/png;base64,{image}">' for image in images)
