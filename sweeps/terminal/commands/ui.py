"""`ui`: the MLflow comparison page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.record.outbox import record_uri
from lanelock.sweeps.terminal.session import Session, common_options

if TYPE_CHECKING:
    from lanelock.sweeps.terminal.ui_server import Page


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to listen on.")
@common_options
def ui(session: Session, port: int) -> int:
    """Open the MLflow comparison UI on 127.0.0.1; Ctrl-C ends it.

    Prints the address of each lane's trials with the columns that matter; more views are under "Views" there.
    """
    from lanelock.sweeps.record.delivery import sync  # MLflow: a second that help and completion are spared
    from lanelock.sweeps.terminal.ui_server import serve

    workspace = session.workspace()

    def show(url: str, pages: Sequence[Page]) -> None:
        session.show({"url": url, "lanes": [asdict(page) for page in pages]}, _text(url, pages))

    sync(workspace, record_uri(workspace))  # so that pending uploads are shown; what cannot be delivered stays pending
    return serve(workspace, port, show)


def _text(url: str, pages: Sequence[Page]) -> str:
    if not pages:
        return f"{url}  (no lane was played here yet; Ctrl-C ends)"
    rows = [(page.lane, page.title, page.url) for page in pages]
    head = ("lane", "title", "its candidates, in the order of the decision")
    return f"{url}  (Ctrl-C ends)\n\n{columns(head, rows)}"
