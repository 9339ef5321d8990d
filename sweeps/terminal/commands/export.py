"""`export`: all trials of a sweep as one table."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import click

from lanelock.sweeps.terminal.completion import SWEEP
from lanelock.sweeps.terminal.session import Session, common_options, writable
from lanelock.sweeps.workspace import write_whole

FILE: dict[str, Any] = {"type": click.Path(path_type=Path), "metavar": "FILE", "callback": writable}


@click.command()
@click.argument("sweep", metavar="SWEEP", shell_complete=SWEEP)
@click.option("--csv", **FILE, help="Write them as CSV.")
@click.option("--parquet", **FILE, help="Write them as Parquet, with the type of every column.")
@common_options
def export(session: Session, sweep: str, csv: Path | None, parquet: Path | None) -> int:
    """All trials of SWEEP, running or closed, as one table: verdict, knobs, objectives, metrics by seed, vetoes.

    A file that is there is replaced, whole. In Python: lanelock.trials_frame(SWEEP).
    """
    if csv is None and parquet is None:
        raise click.UsageError("name the table's file with --csv FILE or --parquet FILE")
    from lanelock.sweeps.reports.trials_table import trials_frame

    frame = trials_frame(sweep, session.as_it_stands())
    if csv is not None:
        write_whole(csv, frame.to_csv(index=False, lineterminator="\n"))
    if parquet is not None:
        buffer = BytesIO()
        frame.to_parquet(buffer, index=False)
        write_whole(parquet, buffer.getvalue())
    files = [str(file) for file in (csv, parquet) if file is not None]
    document = {"sweep": sweep, "trials": len(frame), "columns": list(frame.columns), "files": files}
    session.show(document, f"{sweep}: {len(frame)} trials, {len(frame.columns)} columns: {', '.join(files)}")
    return 0
