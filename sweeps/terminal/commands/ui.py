"""`ui`: the live page, which leads to MLflow's comparison page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.terminal.session import Session, common_options

if TYPE_CHECKING:
    from lanelock.sweeps.live.server import Page


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to listen on.")
@click.option("--read-only", is_flag=True, help="Show everything, and offer nothing that writes.")
@common_options
def ui(session: Session, port: int, read_only: bool) -> int:
    """Open the live page on 127.0.0.1; Ctrl-C ends it.

    It shows sweeps while they run, candidates as the decision ranks them, campaigns, locks and their proof. MLflow's
    comparison page is one link away; its server starts when the link is first followed.
    """
    from lanelock.sweeps.live.server import serve  # MLflow and Optuna: seconds that help and completion are spared

    workspace = session.workspace()

    def show(url: str, mlflow: str, pages: Sequence[Page]) -> None:
        document = {"url": url, "mlflow": mlflow, "lanes": [asdict(page) for page in pages]}
        session.show(document, _text(url, mlflow, pages))

    return serve(workspace, port, show, read_only=read_only)


def _text(url: str, mlflow: str, pages: Sequence[Page]) -> str:
    if not pages:
        return f"{url}  (no lane was played here yet; Ctrl-C ends)"
    rows = [(page.lane, page.title, page.url) for page in pages]
    head = ("lane", "title", "its candidates in MLflow, in the order of the decision")
    return f"{url}  (Ctrl-C ends)\n\n{columns(head, rows)}\n\nMLflow: {mlflow}"
