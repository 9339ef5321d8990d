"""`audit`: trials of a sweep, proposed and run again."""

from __future__ import annotations

import re
from dataclasses import asdict

import click

from lanelock.policies import PolicyError
from lanelock.sweeps.pages.text import short
from lanelock.sweeps.proof.lock import Lock
from lanelock.sweeps.proof.lock_files import find_lock
from lanelock.sweeps.terminal.completion import PROVABLE
from lanelock.sweeps.terminal.session import Session, common_options
from lanelock.sweeps.terminal.streams import say
from lanelock.sweeps.workspace import Workspace


@click.command()
@click.argument("what", metavar="SWEEP|LOCK", shell_complete=PROVABLE)
@click.option("--sample", default="5%", show_default=True, metavar="P%", help="The share of trials to run again.")
@click.option("--all", "everything", is_flag=True, help="Run every trial again.")
@common_options
def audit(session: Session, what: str, sample: str, everything: bool) -> int:
    """Check the transcript of a search, and propose and run a random share of its trials again.

    Where the sweep has closed, also that its decision took the locked trial. Exits 3 on any difference.
    """
    share = 1.0 if everything else _share(sample)
    workspace = session.as_it_stands()
    lock = _lock(what, workspace)
    from lanelock.sweeps.audit import audit as run  # Optuna costs a second, which help need not pay

    done = run(what if lock is None else lock.sweep, workspace, share, lock)
    failed = [check for check in done.findings if not check.ok]
    proved = list(done.findings.proved) if not failed else []
    document = {
        "ok": not failed, "sweep": done.sweep, "lock": None if lock is None else lock.lock_id,
        "sampled": list(done.sampled), "of": done.trials, "checked": len(done.findings),
        "failed": [asdict(check) for check in failed],
        "proved": proved, "not_proved": list(done.findings.not_proved),
    }  # fmt: skip
    numbers = ", ".join(map(str, done.sampled))
    ran = f"trials run again: {short(numbers, 200)}"
    lines = [f"{done.sweep}: {len(done.findings)} checks, {len(failed)} differ; {ran}"]
    lines += [*(f"proved: {row}" for row in proved), *(f"not proved: {row}" for row in done.findings.not_proved)]
    session.show(document, "\n".join(lines))
    for check in failed:
        say(f"{done.sweep}: {check.name}: stated {short(check.stated)}, found {short(check.found)}")
    return 3 if failed else 0


def _share(text: str) -> float:
    """Returns the share that `5%` means. Raises UsageError outside of 0 to 100 %."""
    number = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)\s*%?", text.strip())
    if number is None or not 0 < float(number[1]) <= 100:
        raise click.UsageError(f"--sample: {text!r} is not a share of the trials above 0% and at most 100%")
    return float(number[1]) / 100


def _lock(name: str, workspace: Workspace) -> Lock | None:
    """Returns the lock of that name; None where only a sweep may have it, which has not closed."""
    try:
        return Lock.read(find_lock(name, workspace))
    except PolicyError:
        return None
