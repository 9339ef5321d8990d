"""How many trials each sweep has, kept beside the study, so that asking how things stand opens no study.

A sweep writes its tally when it begins, after each batch, and when it leaves. The study stays the truth. Where a tally
may be wrong, since its sweep was killed, or is missing, since an older Lanelock kept none, the study is counted
instead, which takes a second; the next sweep mends the tallies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lanelock.policies import WorkspaceError
from lanelock.sweeps.workspace import Workspace, write_whole, writing

if TYPE_CHECKING:
    from lanelock.sweeps.lanes.lane import Lane
    from lanelock.sweeps.lanes.study import Studies, Study


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep as far as a list of sweeps says it."""

    name: str
    trials: int
    lane: str = ""
    budget: int | None = None  # trials
    at_ms: int = 0  # when it began
    left: bool = True  # False: its process is playing it, or was killed


def sweeps_in(workspace: Workspace) -> Mapping[str, Sweep]:
    """Returns a workspace's sweeps by name, oldest first. Nothing is written."""
    if isinstance(workspace.study_storage, str):
        return _counted(workspace.study_storage)
    sweeps = _tallies(workspace)
    if workspace.journal.is_file() and (not sweeps or any(_killed(sweep, workspace) for sweep in sweeps.values())):
        with suppress(WorkspaceError):  # of a journal that cannot be read, what was tallied is still known
            return _counted(workspace.journal)
    return sweeps


@contextmanager
def tallied(workspace: Workspace, studies: Studies, study: Study, lane: Lane) -> Iterator[Callable[[], None]]:
    """Keeps the tally of a sweep that is played: yields what writes it anew. The caller is alone in the lane."""
    if isinstance(workspace.study_storage, str):
        yield lambda: None
        return
    _mend(workspace, studies, lane.id, study.name)
    budget, at_ms = int(lane.document["budget"]["trials"]), int(study.attributes["at_ms"])

    def write(left: bool = False) -> None:
        _write(workspace, Sweep(study.name, len(study.trials), lane.id, budget, at_ms, left))

    write()
    try:
        yield write
    finally:
        write(left=True)


def _mend(workspace: Workspace, studies: Studies, lane: str, playing: str) -> None:
    """Writes the tallies that are missing and those of this lane's sweeps that were killed, and drops what has gone."""
    tallies = _tallies(workspace)  # first: a study is there before its tally
    names = {*studies.names()}
    stale = {name for name in names if name not in tallies or not (tallies[name].left or tallies[name].lane != lane)}
    if stale - {playing}:
        for sweep in _counted(workspace.journal).values():
            if sweep.name in stale:
                _write(workspace, sweep)
    for name in tallies.keys() - names:
        _file(workspace, name).unlink(missing_ok=True)


def _counted(place: Path | str) -> dict[str, Sweep]:
    """The sweeps of a study storage, counted by Optuna."""
    from lanelock.sweeps.lanes.study import Studies  # a second of imports that a whole tally saves

    sweeps = {}
    for name, trials, attributes in Studies(place, reading=True).summaries():
        lane, at_ms = attributes.get("lane", {}), int(attributes.get("at_ms", 0))
        sweeps[name] = Sweep(name, trials, lane.get("id", ""), lane.get("budget", {}).get("trials"), at_ms)
    return sweeps


def _killed(sweep: Sweep, workspace: Workspace) -> bool:
    return not sweep.left and workspace.holder(f"sweep-{sweep.lane}") is None


def _tallies(workspace: Workspace) -> dict[str, Sweep]:
    """By name, oldest first. A file that a machine going down left in part is none."""
    sweeps = []
    for path in _file(workspace, "").parent.glob("[!.]*.json"):
        with suppress(OSError, ValueError, TypeError):
            sweeps.append(Sweep(**json.loads(path.read_text(encoding="utf-8"))))
    return {sweep.name: sweep for sweep in sorted(sweeps, key=lambda sweep: (sweep.at_ms, sweep.name))}


def _write(workspace: Workspace, sweep: Sweep) -> None:
    path = _file(workspace, sweep.name)
    with suppress(WorkspaceError), writing(path.parent):  # no sweep ends for the want of its tally
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(sweep), sort_keys=True), synced=False)


def _file(workspace: Workspace, sweep: str) -> Path:
    return workspace.tallies / f"{sweep}.json"
