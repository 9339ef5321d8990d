"""`reopen`: the approval to go on with an engine that was frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lanelock.sweeps.proof.envelopes import SigningKey
from lanelock.sweeps.proof.freezes import Reopen
from lanelock.sweeps.proof.freezes import reopen as reopen_engine
from lanelock.sweeps.terminal.completion import FROZEN
from lanelock.sweeps.terminal.session import KEY, Session, common_options


@click.command()
@click.argument("engine", shell_complete=FROZEN)
@click.option("--why", required=True, metavar="TEXT", help="The reason, which is recorded.")
@click.option("--who", metavar="NAME", help="Who approves it [default: the user].")
@KEY
@common_options
def reopen(session: Session, engine: str, why: str, who: str | None, key: Path | None) -> int:
    """Record the approval to go on with a frozen ENGINE.

    Sweeps, campaigns, locks by hand, promotions and other gates are allowed again. The freeze stays and can be proved.
    Where trust.json asks for it, the reopen must be signed.
    """
    for option, text in (("--why", why), ("--who", who)):
        if text is not None and not text.strip():
            raise click.UsageError(f"{option}: it is recorded, and may not be empty")
    signing = None if key is None else SigningKey.read(key)
    made, refused = reopen_engine(engine, session.workspace(), why.strip(), who=who, key=signing)
    document = {"engine": engine, "reopened": [_document(row) for row in made], "refused": refused}
    lines = [f"REFUSED  {engine} is not reopened", f"  {refused}"] if refused else [*map(_line, made)]
    session.show(document, "\n".join(lines))
    return 1 if refused else 0


def _document(row: Reopen) -> dict[str, Any]:
    return row.as_document(None) | {"signed_by": None if row.signed_by is None else row.signed_by.as_document()}


def _line(row: Reopen) -> str:
    signed = "unsigned" if row.signed_by is None else f"signed by {row.signed_by}"
    return f"{row.engine} is open again: {row.run} was reopened by {row.who} ({signed}): {row.why}"
