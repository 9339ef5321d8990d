"""A baseline as text, as a page and as files of the workspace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

from lanelock.policies.documents import shipped_schema, validate
from lanelock.policies.names import inside, name_from
from lanelock.scoring.figures.drawing import drawn
from lanelock.sweeps.pages.page import (
    STYLE,
    Block,
    Heading,
    Paragraph,
    Points,
    as_html,
    as_markdown,
    banner,
    table,
)
from lanelock.sweeps.pages.page import drawn as set_figures
from lanelock.sweeps.pages.text import columns, size
from lanelock.sweeps.perf.baseline import PROCESS, Baseline, Row
from lanelock.sweeps.perf.medians import Median
from lanelock.sweeps.perf.profiles import figure
from lanelock.sweeps.workspace import Workspace, write_new, write_whole, writing

_TONES = {"GREEN": "good", "AMBER": "unsure", "RED": "bad", "": "unsure"}
_FUNCTIONS = 12  # of a state on its page
_NONE = "–"


def write(made: Baseline, workspace: Workspace) -> tuple[dict[str, Any], dict[str, str | bytes]]:
    """Writes a baseline below the workspace under the next free number. Returns its document and its files by name."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    folder, stem = workspace.perf, name_from(made.name)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            document = made.as_document(f"{stem}-{number}", at)
            validate(document, shipped_schema("perf_baseline"), "baseline")
            text = f"{json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False)}\n"
            if write_new(inside(folder, f"{document['id']}.json"), text):
                break
        files = {f"{document['id']}{suffix}": content for suffix, content in _pages(made, document).items()}
        for name, content in files.items():
            write_whole(inside(folder, name), content)
    return document, {f"{document['id']}.json": text, **files}


def _pages(made: Baseline, document: dict[str, Any]) -> dict[str, str | bytes]:
    """Returns the page of a baseline in its forms, by the suffix of the file."""
    states = [(row.state, row.wall.value, row.share) for row in made.hot_spots]
    (picture,) = drawn([figure("hot_spots", states, made.profiles)])
    assert picture.drawn is not None
    blocks = [*_head(made, document), set_figures([picture]), *_body(made, document)]
    title = f"baseline {document['id']}"
    return {
        ".md": as_markdown(blocks),
        ".html": as_html(title, blocks, STYLE),
        ".png": picture.drawn.png,
    }


def text(made: Baseline, document: dict[str, Any], folder: Path) -> str:
    """Returns a baseline as the terminal shows it."""
    parts = [f"{document['id']}  {_about(made, document)}", columns(*_states(made)), _process(made)]
    if made.beside:
        parts.append(columns(*_beside(made)))
    spots = [f"{rank}  {_spot(made, row)}" for rank, row in enumerate(made.hot_spots, 1) if row.share >= 0.01]
    parts.append("\n".join(["hot spots", *spots]))
    if made.graded:
        parts.append(columns(*_graded(made)))
    parts += [f"note: {made.busy}"] if made.busy else []
    parts.append(f"begin with {made.first.state}; page {inside(folder, document['id'])}.html")
    return "\n\n".join(parts)


def _about(made: Baseline, document: dict[str, Any]) -> str:
    return (
        f"engine {document['engine']}, pack {made.name}, seed {document['seed']}, rounds {len(made.rounds)} (each in "
        f"a fresh process), {document['cores']} cores, code {document['code_version'][:12]}"
    )


def _head(made: Baseline, document: dict[str, Any]) -> Iterator[Block]:
    title = f"{made.all.wall.value:.3g} s in {len(made.states)} states; begin with {made.first.state}"
    verdict = made.colour or "NO BUDGET"
    yield banner(verdict, _TONES[made.colour], f"baseline {document['id']}", title, f"at {document['at']}")
    yield Paragraph(f"{_about(made, document)[0].upper()}{_about(made, document)[1:]}. {_process(made)}.")


def _body(made: Baseline, document: dict[str, Any]) -> Iterator[Block]:
    if made.busy:
        yield Paragraph(f"{made.busy[0].upper()}{made.busy[1:]}.")
    yield Heading(2, "States")
    yield table(*_states(made))
    yield Paragraph(_explained(made.all.wall))
    if made.beside:
        yield Heading(2, "Beside")
        yield table(*_beside(made))
        yield Points(tuple(f"`{other.id}`: {other.title}" for other in made.beside))
    if made.graded:
        yield Heading(2, "Profiles of the gate file")
        yield table(*_graded(made))
    yield Heading(2, "Hot spots")
    for rank, row in enumerate(made.hot_spots, 1):
        yield Heading(3, f"{rank}. {row.state}: {100 * row.share:.0f} % {row.colour}".rstrip())
        if (profile := made.profiles.get(row.state)) is not None and profile.functions:
            rows = [
                (f"{100 * profile.share(one):.1f} %", f"{one.own_s:.4f}", f"{one.within_s:.4f}", f"{one.calls:,}",
                 one.function)
                for one in profile.functions[:_FUNCTIONS]
            ]  # fmt: skip
            yield table(("share", "own s", "with calls", "calls", "function"), rows)


def _explained(median: Median) -> str:
    return (
        f"Seconds are medians; in brackets the interval in which the true median lies with probability "
        f"{median.coverage:.3g}. Processor seconds are of all threads. The peak is of the whole process while the "
        "state was computed. GREEN is at most the target, AMBER at most the limit, RED beyond."
    )


def _states(made: Baseline) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    head = ("state", "rows", "wall s", "processor s", "share", "peak MiB", "bytes", "target", "limit", "status")
    return head, [_cells(row) for row in (*made.states, made.all)]


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.state,
        f"{row.rows:,}",
        _seconds(row.wall),
        _NONE if row.processor is None else _seconds(row.processor),
        f"{100 * row.share:.1f} %",
        _NONE if row.peak_mb is None else f"{row.peak_mb:.0f}",
        _NONE if row.bytes is None else size(row.bytes),
        _NONE if row.budget is None else f"{row.budget.target_s:g}",
        _NONE if row.budget is None else f"{row.budget.limit_s:g}",
        row.colour,
    )


def _seconds(median: Median) -> str:
    return f"{median.value:.4f} [{median.low:.4f}, {median.high:.4f}]"


def _process(made: Baseline) -> str:
    wall, processor = made.process
    published = made.published
    wrote = "" if published is None else (
        f"; published {published['files']} files, {size(published['bytes'])}, of it logs and documents "
        f"{size(published['log_bytes'])}"
    )  # fmt: skip
    return (
        f"process {wall.value:.3f} s, processor {processor.value:.3f} s, of it importing {made.importing.value:.3f} s"
        f"{wrote}"
    )


def _beside(made: Baseline) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    found = [{state: (took, ratio) for state, took, ratio in made.ratios(other)} for other in made.beside]
    names = [row.state for row in made.states if any(row.state in of for of in found)]
    rows = [(state, *(_compared(of.get(state)) for of in found)) for state in (*names, PROCESS)]
    return ("state", *(f"{other.id} ({other.kind})" for other in made.beside)), rows


def _compared(of: tuple[float, float | None] | None) -> str:
    if of is None:
        return _NONE
    return f"{of[0]:g} s" + (
        "" if of[1] is None else f" = {of[1]:,.{0 if of[1] >= 100 else 1 if of[1] >= 10 else 2}f} × ours"
    )


def _graded(made: Baseline) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    rows: list[tuple[str, ...]] = [
        (row.name, str(row.seeds), f"{row.estimated_s:.1f}", f"{row.limit_s:g}", row.colour) for row in made.graded
    ]
    return ("profile", "seeds", "estimated s", "limit s", "status"), rows


def _spot(made: Baseline, row: Row) -> str:
    profile = made.profiles.get(row.state)
    functions = "" if profile is None else f": {profile.top()}"
    return f"{row.state} {100 * row.share:.0f} %{f' {row.colour}' if row.colour else ''}{functions}"
