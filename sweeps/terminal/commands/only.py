"""`run --only STATE`: one state alone, and where each of its inputs was taken from."""

from __future__ import annotations

import math
from dataclasses import asdict

from lanelock.engine.keep.published import run_folder
from lanelock.engine.protocol import Isolated, Run
from lanelock.engine.surface import digest_of
from lanelock.policies import DataError
from lanelock.scoring.scorecard import Scorecard, gates_of, measured, score
from lanelock.sweeps.engines import metrics_named, publisher_of
from lanelock.sweeps.pages.gates import gate_table
from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.proof.whole import audit_of
from lanelock.sweeps.terminal.commands.shards import run_document
from lanelock.sweeps.terminal.commands.state_rows import state_documents, state_table
from lanelock.sweeps.terminal.session import Session
from lanelock.sweeps.workspace import Workspace

_PARTS = ("gate", "kind", "value", "", "bands", "margins", "holds")


def opened(name: str, workspace: Workspace) -> Run:
    """Returns a published run to take inputs from, its files verified. Raises IntegrityError where one was changed."""
    folder = run_folder(name, workspace.runs)
    return publisher_of(folder).open_run(folder)


def show_alone(session: Session, state: str, alone: Isolated, scored: bool) -> int:
    """Shows a state that was run alone. Returns the exit code: 1 where it is an audit that fails."""
    made = alone.run
    digests = {name: digest_of(made.surfaces[name]) for name in alone.own}
    document = run_document(made) | {
        "only": state,
        "digests": digests,
        "states": state_documents(made.states, made.engine),
        "inputs": [asdict(row) for row in alone.taken],
        "audit": audit_of(made),
    }
    rows = [(row.name, row.source, row.key[:16]) for row in alone.taken]
    head = f"{state} alone, of run {made.run_id}  pack {made.pack.name}  seed {made.seed}"
    parts = [f"{head}  world {made.world_digest[:16]}", state_table(made.states, made.engine)]
    parts.append(columns(("input", "taken from", "key"), rows))
    parts += ["\n".join(f"{sha256}  {name}" for name, sha256 in digests.items())] if digests else []
    parts += [] if document["audit"] is None else [f"audit {'passed' if document['audit'] else 'failed'}"]
    if scored:
        card = _card(made)
        document |= {key: card.as_document()[key] for key in ("metrics", "gates")}
        parts.append(columns(*gate_table((card.gates,), _PARTS, failed_first=True)))
        parts.append("no verdict: only gates on the surfaces that are here are read")
    session.show(document, "\n\n".join(parts))
    return 1 if document["audit"] is False else 0


def _card(made: Run) -> Scorecard:
    """Returns the results of the gates on metrics that the surfaces of a state and of its inputs give."""
    source = metrics_named(made.engine)
    metrics = {name: value for name, value in measured(source, made).items() if math.isfinite(value)}
    gates = gates_of(source)
    here = [gate.id for gate in gates.gates if gate.metric in metrics]
    if not here:
        raise DataError(f"--score: no gate of engine {made.engine} is on a metric of the surfaces that are here")
    return score(metrics, gates.select(here), seed=made.seed, authority=None)
