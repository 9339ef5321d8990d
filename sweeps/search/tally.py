"""The number of trials of each sweep, kept in a file beside the study, so that `status` need not open the study.

A sweep writes its tally when it begins, after each batch, and when it ends; the study stays the source of truth. Where
a tally may be wrong (its sweep was killed) or is missing (an older version wrote none), the study is counted instead,
which takes a second, and the next sweep corrects the tallies.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lanelock.policies import IntegrityError, PolicyError, WorkspaceError
from lanelock.policies.documents import read_json
from lanelock.policies.names import inside, is_name
from lanelock.sweeps.workspace import Workspace, write_whole, writing

if TYPE_CHECKING:
    from lanelock.sweeps.lanes.lane import Lane
    from lanelock.sweeps.search.study import Studies, Study


@dataclass(frozen=True, slots=True)
class Sweep:
    """One row of a list of sweeps."""

    name: str
    trials: int
    lane: str = ""
    budget: int | None = None  # trials
    at_ms: int = 0  # when it began
    left: bool = True  # False: its process is still running, or was killed
    head: str = ""  # of its transcript after these trials; empty: not known

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Sweep:
        """Returns the sweep of a tally. Raises TypeError for what is none."""
        sweep = cls(**document)
        budget = 0 if sweep.budget is None else sweep.budget
        texts, counts = (sweep.name, sweep.lane, sweep.head), (sweep.trials, budget, sweep.at_ms)
        right = all(isinstance(text, str) for text in texts) and all(type(count) is int for count in counts)
        if not right or not isinstance(sweep.left, bool) or sweep.trials < 0:
            raise TypeError("not a tally")
        return sweep


def sweeps_in(workspace: Workspace, studies: Callable[[], Studies] | None = None) -> Mapping[str, Sweep]:
    """Returns a workspace's sweeps by name, oldest first. Writes nothing.

    `studies` gives the workspace's studies where they must be counted: a reader that asks again and again keeps them.
    """
    studies = studies or partial(_opened, workspace.study_storage)
    if isinstance(workspace.study_storage, str):
        return _counted(studies())
    sweeps = _tallies(workspace)
    if workspace.journal.is_file() and (not sweeps or any(_killed(sweep, workspace) for sweep in sweeps.values())):
        with suppress(WorkspaceError):  # the tallies still serve where the journal cannot be read
            return _counted(studies())
    return sweeps


@contextmanager
def tallied(workspace: Workspace, studies: Studies, study: Study, lane: Lane) -> Iterator[Callable[[], None]]:
    """Keeps the tally of a running sweep: yields a function that rewrites it. The caller must hold the lane's lock.

    Raises IntegrityError where the study lacks trials that the tally counted.
    """
    if isinstance(workspace.study_storage, str):
        yield lambda: None
        return
    _hold(study, _tallies(workspace).get(study.name))
    _mend(workspace, studies, lane.id, study.name)
    budget, at_ms = int(lane.document["budget"]["trials"]), int(study.attributes["at_ms"])

    def write(left: bool = False) -> None:
        trials = study.trials
        head = trials[-1].record.chain if trials else ""
        _write(workspace, Sweep(study.name, len(trials), lane.id, budget, at_ms, left, head))

    write()
    try:
        yield write
    finally:
        write(left=True)


def _hold(study: Study, tally: Sweep | None) -> None:
    """Raises IntegrityError where a study's trials are not, so far, those that were tallied."""
    if tally is None or not tally.trials or not tally.head:
        return
    trials = study.trials
    if tally.trials > len(trials):
        raise IntegrityError(
            f"study {study.name}: it holds {len(trials)} trials, {tally.trials} had finished; the study was cut"
        )
    if (found := trials[tally.trials - 1].record.chain) != tally.head:
        raise IntegrityError(
            f"study {study.name}: its transcript after {tally.trials} trials is {found[:12]}, it was "
            f"{tally.head[:12]}; the study was changed"
        )


def _mend(workspace: Workspace, studies: Studies, lane: str, playing: str) -> None:
    """Writes missing tallies, corrects those of this lane's killed sweeps, and deletes those of deleted studies."""
    tallies = _tallies(workspace)  # before the studies' names: a study is created before its tally
    names = {*studies.names()}
    stale = {name for name in names if name not in tallies or not (tallies[name].left or tallies[name].lane != lane)}
    if stale - {playing}:
        for sweep in _counted(_opened(workspace.journal)).values():
            if sweep.name in stale:
                _write(workspace, sweep)
    for name in tallies.keys() - names:
        _file(workspace, name).unlink(missing_ok=True)


def _opened(place: Path | str) -> Studies:
    from lanelock.sweeps.search.study import Studies  # a second of imports, which complete tallies save

    return Studies(place, reading=True)


def _counted(studies: Studies) -> dict[str, Sweep]:
    """Returns the sweeps of a study storage, counted by Optuna."""
    sweeps = {}
    for name, trials, attributes in studies.summaries():
        lane = attributes.get("lane", {})
        try:
            row = {"lane": lane.get("id", ""), "budget": lane.get("budget", {}).get("trials")}
            sweeps[name] = Sweep.of({"name": name, "trials": trials, **row, "at_ms": attributes.get("at_ms", 0)})
        except (TypeError, AttributeError):  # another program's; whoever opens it says what is wrong with it
            sweeps[name] = Sweep(name, trials)
    return sweeps


def _killed(sweep: Sweep, workspace: Workspace) -> bool:
    return not sweep.left and workspace.holder(f"sweep-{sweep.lane}") is None


def _tallies(workspace: Workspace) -> dict[str, Sweep]:
    """Returns the tallied sweeps by name, oldest first. Ignores a file that a crash left incomplete."""
    sweeps = []
    for path in workspace.tallies.glob("[!.]*.json"):
        with suppress(PolicyError, TypeError):
            sweep = Sweep.of(read_json(path))
            if sweep.name == path.stem and is_name(f"sweep-{sweep.lane}"):  # else its names might lead elsewhere
                sweeps.append(sweep)
    return {sweep.name: sweep for sweep in sorted(sweeps, key=lambda sweep: (sweep.at_ms, sweep.name))}


def _write(workspace: Workspace, sweep: Sweep) -> None:
    path = _file(workspace, sweep.name)
    with suppress(WorkspaceError), writing(path.parent):  # a sweep does not fail because its tally cannot be written
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asdict(sweep), sort_keys=True), synced=False)


def _file(workspace: Workspace, sweep: str) -> Path:
    return inside(workspace.tallies, f"{sweep}.json")
