"""The limits of one run of a trial: a candidate on one seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.trial import Trial

_UNIT = {"seconds": "s", "memory_mb": "MiB"}  # by field of /limits
_WORDS = {"seconds": "time of a run, limit", "memory_mb": "memory of a run, limit"}
_MOST = {"seconds": "seconds", "memory_mb": "peak_mb"}  # -> what a trial's record says that it used of it


def limits_of(lane: Lane) -> Mapping[str, float]:
    """Returns a lane's limits on one run; nothing if it states none."""
    limits: Mapping[str, float] = lane.document.get("limits", {})
    return limits


def limits_used(lane: Lane, trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    """Returns limit -> "limit", "most" (the most that a run used of it) and "ended" (trials that it ended)."""
    ended = Counter(trial.record.ended_by for trial in trials)
    return {
        name: {
            "limit": limit,
            "most": max((trial.record.used.get(_MOST[name], 0.0) for trial in trials if trial.paid), default=0.0),
            "ended": ended[name],
        }
        for name, limit in limits_of(lane).items()
    }


def limits_lines(lane: Lane, trials: Sequence[Trial]) -> Iterator[str]:
    """Yields a line per limit of a lane, and one on the trials whose process died, if there are any."""
    for name, row in limits_used(lane, trials).items():
        most = f"{row['most']:.2f}" if name == "seconds" else f"{row['most']:.0f}"
        yield f"{_WORDS[name]} {row['limit']:g} {_UNIT[name]}: at most {most} used; trials ended: {row['ended']}"
    if died := sum(trial.record.ended_by == "worker" for trial in trials):
        yield f"trials whose process died: {died}"
