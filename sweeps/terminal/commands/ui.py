"""`ui`: the MLflow comparison page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lanelock.sweeps.pages.text import columns
from lanelock.sweeps.record.outbox import record_uri
from lanelock.sweeps.terminal.session import common_options, session_of

if TYPE_CHECKING:
    from lanelock.sweeps.terminal.ui_server import Page


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Where it listens.")
@common_options
def ui(port: int, **options: Any) -> int:
    """Open the MLflow comparison UI on 127.0.0.1; Ctrl-C ends it.

    Prints the address of each lane's trials with the columns that matter; more views are under "Views" there.
    """
    from lanelock.sweeps.record.delivery import sync  # MLflow, a second that help and completion spare
    from lanelock.sweeps.terminal.ui_server import serve

    session = session_of(options)
    workspace = session.workspace()

    def say(url: str, pages: Sequence[Page]) -> None:
        session.show({"url": url, "lanes": [asdict(page) for page in pages]}, _text(url, pages))

    sync(workspace, record_uri(workspace))  # what waits is shown as well; what cannot be delivered goes on waiting
    return serve(workspace, port, say)


def _text(url: str, pages: Sequence[Page]) -> str:
    if not pages:
        return f"{url}  (no lane was played here yet; Ctrl-C ends)"
    rows = [(page.lane, page.title, page.url) for page in pages]
    head = ("lane", "what it is for", "its candidates, as it is decided")
    return f"{url}  (Ctrl-C ends)\n\n{columns(head, rows)}"
