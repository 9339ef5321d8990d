"""How often a lane may be played from one authority: its attempts, counted over the sweeps of a workspace.

Every sweep that was begun is an attempt; `--resume` continues it. Outside campaigns all sweeps of the lane count, those
that campaigns played too. Within a campaign's run only the sweeps of that run do, since each run plays the whole order
anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.search.study import Studies


def spent(lane: Lane, studies: Studies, name: str | None = None) -> str | None:
    """Returns in one line why another sweep of a lane is refused; None where it is allowed.

    `name` is that of a campaign's sweep, `<run>.<phase>`; such a sweep that exists already is continued.
    """
    allowed = lane.document.get("attempts")
    if allowed is None or "waiver" in lane.document or (name is not None and name in studies.names()):
        return None
    earlier = list(_attempts(lane, studies, "" if name is None else name.rpartition(".")[0]))
    if len(earlier) < allowed:
        return None
    number = "one attempt" if allowed == 1 else f"{allowed} attempts"
    ways = "--resume goes on with an unfinished one, --waive WHO --why TEXT records why one more is allowed"
    return (
        f"lane {lane.id}: /attempts: {number} from {lane.authority.name} ({lane.authority.digest[:12]}…), and "
        f"{', '.join(earlier)} stands; {ways if name is None else 'one more needs a waiver'}"
    )


def _attempts(lane: Lane, studies: Studies, run: str) -> Iterator[str]:
    """Yields the sweeps of a lane from its authority, oldest first; of a campaign's run, where one is named."""
    for name, _, begun in studies.summaries():
        inside = not run or name.rpartition(".")[0] == run
        if inside and begun["lane"]["id"] == lane.id and begun["authority"]["digest"] == lane.authority.digest:
            yield name
