"""The limits of one run of a trial: a candidate on one seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.trial import Trial

LIMITS = {"seconds": "s", "memory_mb": "MiB"}  # field of /limits -> its unit
_MOST = {"seconds": "seconds", "memory_mb": "peak_mb"}  # -> what a trial's record says that it used of it


def limits_of(lane: Lane) -> Mapping[str, float]:
    """Returns a lane's limits on one run; nothing if it states none."""
    limits: Mapping[str, float] = lane.document.get("limits", {})
    return limits


def limits_lines(lane: Lane, trials: Sequence[Trial]) -> Iterator[str]:
    """Yields a line per limit: the limit, the most that a run used of it, and how many trials it ended."""
    ended = Counter(trial.record.ended_by for trial in trials)
    for name, limit in limits_of(lane).items():
        most = max((trial.record.used.get(_MOST[name], 0.0) for trial in trials if trial.paid), default=0.0)
        shown = f"{most:.2f}" if name == "seconds" else f"{most:.0f}"
        yield f"{name} of a run: at most {limit:g} {LIMITS[name]}; the most was {shown}; trials ended: {ended[name]}"
    if ended["worker"]:
        yield f"trials whose process died: {ended['worker']}"
