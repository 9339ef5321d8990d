"""The tracking of a measurement: a run in the experiment `<engine>-performance`.

Nothing is delivered here: the letters wait in the outbox until the next sweep, `lanelock sync` or `lanelock ui`
delivers them, as those of a refusal do.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from lanelock.policies.documents import digest
from lanelock.sweeps.provenance import here
from lanelock.sweeps.record.letters import MEASURED, Entry, Heading, Letter
from lanelock.sweeps.record.notes import NOTE, files
from lanelock.sweeps.record.outbox import Outbox, meant_for, record_uri
from lanelock.sweeps.workspace import Workspace


def record_measurement(
    workspace: Workspace, engine: str, name: str, note: str, metrics: Mapping[str, float], tags: Mapping[str, str],
    artifacts: Mapping[str, str | bytes],
) -> None:  # fmt: skip
    """Puts the run of a measurement into the outbox. Raises WorkspaceError if the disk refuses."""
    at_ms, made = int(time.time() * 1000), here()
    title = f"Performance of {engine}"
    shown = {"lanelock.title": title, "mlflow.experimentKind": "custom_model_development", NOTE: title}
    study = digest({"engine": engine, "name": name, "at_ms": at_ms})
    heading = Heading(meant_for(workspace, record_uri(workspace)), f"{engine}{MEASURED}", shown, name, study)
    commit = {} if made.git is None else {"mlflow.source.git.commit": made.git}
    common = {"mlflow.source.name": "lanelock perf", "mlflow.source.type": "LOCAL", "mlflow.user": made.user, **commit}
    described = {**common, "lanelock.version": made.lanelock, **tags, NOTE: note + files(artifacts)}
    entry = Entry(name, dict(metrics), {}, described, dict(artifacts), at_ms)
    bare = Entry(name, {}, {}, {}, {}, at_ms)
    Outbox(workspace).box(heading).put(
        [Letter("sweep", bare, heading=heading), Letter("close", entry, heading=heading)], synced=True
    )
