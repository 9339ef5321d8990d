"""`gate`: what a change to a repository touches, and whether it still holds."""

from __future__ import annotations

from pathlib import Path

import click

from lanelock.sweeps.repository.gate import gate as gated_change
from lanelock.sweeps.repository.impact import Impact
from lanelock.sweeps.repository.report import markdown
from lanelock.sweeps.terminal.session import Session, common_options, writable
from lanelock.sweeps.terminal.streams import say


@click.command()
@click.option(
    "--base", metavar="REF", help="Branch, tag or commit to compare with [default: origin's main branch, else main]."
)
@click.option(
    "--summary", type=click.Path(path_type=Path), metavar="FILE", envvar="GITHUB_STEP_SUMMARY", callback=writable,
    help="Also append the answer to this file, as Markdown [default: what GITHUB_STEP_SUMMARY names].",
)  # fmt: skip
@common_options
def gate(session: Session, base: str | None, summary: Path | None) -> int:
    """Prove what a change to this repository impacts: locks, evidence, packs, gates and lanes.

    The change is everything between where --base and HEAD parted and the working tree. Exit 1 if a rule refuses it, 3
    if something in it states what it does not prove.
    """
    gated = gated_change(Path.cwd(), base, _say if session.live else lambda impact: None)
    text = markdown(gated)
    if summary is not None:
        with summary.open("a", encoding="utf-8") as file:
            file.write(text)
    session.show(gated.as_document(), text.rstrip())
    return gated.exit_code


def _say(impact: Impact) -> None:
    say(f"proving {impact.path}: {', '.join(impact.why)}")
