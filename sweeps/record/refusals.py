"""The tracking of a refusal: a run for a lane that was not played, in its experiment beside its sweeps.

Nothing is delivered here, since importing MLflow takes as long as the refusal itself: the two letters wait in the
outbox until the next sweep, `lanelock sync` or `lanelock ui` delivers them. The same lane refused again for the same
reason is the same run.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from lanelock.policies.documents import digest
from lanelock.scoring.feasibility import GateReach
from lanelock.sweeps.decision.decision import Decision
from lanelock.sweeps.lanes.lane import Lane
from lanelock.sweeps.lanes.survey import Ground
from lanelock.sweeps.record import notes
from lanelock.sweeps.record.letters import Entry, Heading, Letter, as_text
from lanelock.sweeps.record.outbox import Outbox, meant_for, record_uri
from lanelock.sweeps.workspace import Workspace


def record_refusal(
    lane: Lane, workspace: Workspace, refused: Decision, reach: tuple[GateReach, ...], world: Path | None
) -> None:
    """Puts a refusal's run into the outbox: verdict, bounds, reason. Raises WorkspaceError if the disk refuses."""
    at_ms = int(time.time() * 1000)
    bounds = [asdict(row) for row in reach]
    heading = Heading(
        meant_for(workspace, record_uri(workspace)),
        lane.id,
        notes.experiment_tags(Ground(lane, world, {}, reach), (), at_ms),
        f"{lane.id}-refused",
        digest({"lane": lane.identity, "bounds": bounds}),
    )
    box = Outbox(workspace).box(heading)
    if box.waits():  # the same refusal waits already
        return
    tags = {
        "lanelock.lane": lane.id,
        "lanelock.authority": lane.authority.digest,
        "lanelock.code": lane.engine.code_version,
        **notes.decision_tags(refused.outcome, refused.verdict, refused.reason),
        **notes.source_tags(lane),
    }
    metrics = {f"bound/{row.metric}": row.bound for row in reach if row.bound is not None}
    files = {"lane.json": as_text(lane.document), "feasibility.json": as_text(bounds)}
    tags[notes.NOTE] = notes.of_refusal(refused, reach) + notes.files(files)
    entry = Entry(heading.sweep, metrics, {}, tags, files, at_ms)
    bare = Entry(heading.sweep, {}, {}, {}, {}, at_ms)
    box.put([Letter("sweep", bare, heading=heading), Letter("close", entry, heading=heading)], synced=True)
