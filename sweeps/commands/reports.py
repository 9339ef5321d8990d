"""`report`: what a sweep's trials say about its knobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from sweeps import terminal
from sweeps.completion import SWEEP
from sweeps.session import common_options, session_of

SHOWN = 4  # knobs named a gate


@click.command()
@click.argument("sweep", shell_complete=SWEEP)
@common_options
def report(sweep: str, **options: Any) -> int:
    """What moved what in SWEEP: each knob's weight on each gate, and the curves, from its trials."""
    from sweeps.sweep import sensitivity_of

    session = session_of(options)
    document = sensitivity_of(sweep, session.workspace())
    session.show(document, _text(document))
    return 0


def _text(document: Mapping[str, Any]) -> str:
    rows = []
    for gate in document["gates"]:
        shares = gate["importance"]
        said = "did not move" if shares is None else ", ".join(f"{k} {v:.0%}" for k, v in list(shares.items())[:SHOWN])
        rows.append((gate["gate"], gate["metric"], str(gate["trials"]), said))
    head = f"{document['sweep']}: what moved what, of {document['trials']} trials"
    return f"{head}\n\n{terminal.table(('gate', 'metric', 'trials', 'share of variance by knob'), rows)}"
