"""`ui`: the MLflow comparison page."""

from __future__ import annotations

from typing import Any

import click

from sweeps.session import common_options, session_of


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=5000, show_default=True)
@common_options
def ui(port: int, **options: Any) -> int:
    """Open the MLflow comparison UI on 127.0.0.1."""
    from sweeps.tracking import serve

    session = session_of(options)
    return serve(session.workspace(), port)
