"""A refusal on record: a lane that was not played stands in its experiment beside the sweeps that were.

Nothing is delivered here, since MLflow's import alone takes as long as the refusal: the two letters wait in the outbox
until the next sweep, `proofmark sync` or `proofmark ui` delivers them. The same lane refused again for the same
reason is the same run.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path

from policies.documents import digest
from scoring.feasibility import GateReach
from sweeps import comparison, notes
from sweeps.decision import Decision
from sweeps.entry import Entry, Heading, Letter, as_text
from sweeps.ground import Ground
from sweeps.lane import Lane
from sweeps.outbox import Outbox, meant_for, record_uri
from sweeps.workspace import Workspace


def record_refusal(
    lane: Lane, workspace: Workspace, refused: Decision, found: tuple[GateReach, ...], world: Path | None
) -> None:
    """Puts a refusal's run into the outbox: the verdict, the bounds and the reason. Raises WorkspaceError."""
    at_ms = int(time.time() * 1000)
    bounds = [asdict(row) for row in found]
    heading = Heading(
        meant_for(workspace, record_uri(workspace)),
        lane.id,
        {
            "proofmark.title": lane.title,
            "mlflow.experimentKind": "custom_model_development",
            notes.NOTE: notes.of_lane(lane),
            **comparison.views(Ground(lane, world, {}, found), (), at_ms),
        },
        f"{lane.id}-refused",
        digest({"lane": lane.identity, "bounds": bounds}),
    )
    box = Outbox(workspace).box(heading)
    if box.waits():  # the same already does
        return
    tags = {
        "proofmark.lane": lane.id,
        "proofmark.authority": lane.authority.digest,
        "proofmark.code": lane.engine.code_version,
        "proofmark.decision": refused.outcome,
        "proofmark.verdict": refused.verdict,
        "proofmark.reason": refused.reason[:5000],
        "mlflow.source.name": f"proofmark sweep {lane.id}",
        "mlflow.source.type": "LOCAL",
    }
    metrics = {f"bound/{row.metric}": row.bound for row in found if row.bound is not None}
    files = {"lane.json": as_text(lane.document), "feasibility.json": as_text(bounds)}
    tags[notes.NOTE] = notes.of_refusal(refused, found) + notes.files(files)
    entry = Entry(heading.sweep, metrics, {}, tags, files, at_ms)
    bare = Entry(heading.sweep, {}, {}, {}, {}, at_ms)
    box.put([Letter("sweep", bare, heading=heading), Letter("close", entry, heading=heading)])
