"""`note`: free notes, kept in order."""

from __future__ import annotations

import click

from lanelock.policies import PolicyError
from lanelock.policies.names import is_name
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.search.tally import sweeps_in
from lanelock.sweeps.terminal.completion import NOTED
from lanelock.sweeps.terminal.session import Session, common_options
from lanelock.sweeps.trail import Subject, add_note, notes
from lanelock.sweeps.workspace import Workspace


@click.command()
@click.argument("text", required=False)
@click.option("--on", "about", metavar="SWEEP|CAMPAIGN|LOCK", help="What it is about.", shell_complete=NOTED)
@click.option("--who", metavar="NAME", help="Who writes it [default: the user].")
@common_options
def note(session: Session, text: str | None, about: str | None, who: str | None) -> int:
    """Keep TEXT in the decision trail; without TEXT, print the trail.

    The reports of a sweep and of a campaign print the notes that concern them, in order.
    """
    if text is None and who is not None:
        raise click.UsageError("--who: belongs to a note; give its text")
    for option, given in (("TEXT", text), ("--who", who)):
        if given is not None and not given.strip():
            raise click.UsageError(f"{option}: may not be empty")
    workspace = session.as_it_stands() if text is None else session.workspace()
    subject = None if about is None else subject_named(about, workspace)
    if text is None:
        found = notes(workspace, lambda on: subject is None or on == subject)
        session.show({"notes": [row.document for row in found]}, "\n".join(map(str, found)) or "no notes")
        return 0
    made = add_note(workspace, text.strip(), subject, who)
    session.show(made.document, str(made))
    return 0


def subject_named(name: str, workspace: Workspace) -> Subject:
    """Returns what a user names: a campaign's run, a sweep or a lock. Raises PolicyError for anything else."""
    if is_name(name) and (workspace.campaigns / name).is_dir():
        return Subject("campaign", name)
    if name in sweeps_in(workspace):
        return Subject("sweep", name)
    try:
        return Subject("lock", Lock.read(find_lock(name, workspace)).lock_id)
    except PolicyError as error:
        raise PolicyError(f"{error}; nor is it a sweep or the run of a campaign") from None
