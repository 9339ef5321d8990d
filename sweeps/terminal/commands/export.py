"""`export`: all trials of a sweep as one table; a published run in another layout of its engine."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import click

from lanelock.engine.keep.published import engine_of, run_folder
from lanelock.engine.protocol import Publishing
from lanelock.sweeps.engines import engine_named
from lanelock.sweeps.terminal.completion import SWEEP_OR_RUN
from lanelock.sweeps.terminal.session import Session, common_options, writable
from lanelock.sweeps.workspace import write_whole, writing

FILE: dict[str, Any] = {"type": click.Path(path_type=Path), "metavar": "FILE", "callback": writable}


@click.command()
@click.argument("name", metavar="SWEEP|RUN", shell_complete=SWEEP_OR_RUN)
@click.option("--csv", **FILE, help="Write them as CSV.")
@click.option("--parquet", **FILE, help="Write them as Parquet, with the type of every column.")
@click.option("--layout", metavar="NAME", help="Write a published run in this layout of its engine, below exports/.")
@common_options
def export(session: Session, name: str, csv: Path | None, parquet: Path | None, layout: str | None) -> int:
    """All trials of SWEEP, running or closed, as one table: verdict, knobs, objectives, metrics by seed, vetoes.

    A file that is there is replaced, whole. In Python: lanelock.trials_frame(SWEEP).

    With --layout: the published run RUN in the form of other tools, written whole or not at all.
    """
    if layout is not None and (csv or parquet):
        raise click.UsageError("--layout writes a run; --csv and --parquet write the trials of a sweep")
    if layout is not None:
        return _lay_out(session, name, layout)
    if csv is None and parquet is None:
        raise click.UsageError("name the table's file with --csv FILE or --parquet FILE, or a run's --layout NAME")
    return _trials(session, name, csv, parquet)


def _lay_out(session: Session, name: str, layout: str) -> int:
    workspace = session.workspace()
    folder = run_folder(name, workspace.runs)
    engine = engine_named(engine_of(folder))
    able = engine.with_layout(layout)
    run = engine.part(Publishing).open_run(folder)
    with writing(workspace.root):
        written = able.lay_out(run, layout, workspace.laid_out(run.run_id, layout))
    session.show({"run_id": run.run_id, "layout": layout, "laid_out": str(written)}, f"layout {layout} in {written}")
    return 0


def _trials(session: Session, sweep: str, csv: Path | None, parquet: Path | None) -> int:
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
