"""Comparisons of code in a workspace: written whole with their pages, found by name, read back only if they follow."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

from lanelock.policies import IntegrityError, PolicyError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.policies.errors import referred_to_by
from lanelock.policies.files import read_bytes
from lanelock.policies.names import inside, is_name, name_from, path_named
from lanelock.sweeps.pages.page import as_html, as_markdown
from lanelock.sweeps.perf.code_lane import FORMAT, Comparison
from lanelock.sweeps.perf.comparison_page import comparison_page
from lanelock.sweeps.proof.checks import same, whole
from lanelock.sweeps.record.letters import as_text
from lanelock.sweeps.workspace import Workspace, write_document, write_new, write_whole, writing


def unused_name(pack: str, workspace: Workspace) -> str:
    """Returns the name of the next comparison of a pack: `p1-compare-1` and so on; one is locked under its name."""
    stem, places = f"{name_from(pack)[:150]}-compare", (workspace.perf, workspace.runtime_locks)
    names = (f"{stem}-{number}" for number in count(1))
    return next(name for name in names if not any(inside(place, f"{name}.json").exists() for place in places))


def store(comparison: Comparison, workspace: Workspace) -> Path:
    """Writes a comparison with its pages, in place of one of its name, and returns its path."""
    path = _checked(comparison, workspace)
    write_document(path, comparison.document)
    _write_pages(comparison, path)
    return path


def store_next(comparison: Comparison, workspace: Workspace) -> Comparison:
    """Writes a comparison with its pages, and returns it: under the next name where another one took its own."""
    path = _checked(comparison, workspace)
    with writing(workspace.root):
        workspace.perf.mkdir(parents=True, exist_ok=True)
        if not write_new(path, as_text(comparison.document)):
            name = unused_name(comparison.pack.name, workspace)
            return store_next(replace(comparison, name=name), workspace)
    _write_pages(comparison, path)
    return comparison


def _checked(comparison: Comparison, workspace: Workspace) -> Path:
    """Returns where a comparison is written, which is valid under its schema."""
    path = inside(workspace.perf, f"{comparison.name}.json")
    validate(comparison.document, shipped_schema("comparison"), str(path))
    return path


def _write_pages(comparison: Comparison, path: Path) -> None:
    blocks = tuple(comparison_page(comparison))
    with writing(path.parent):
        write_whole(path.with_suffix(".md"), as_markdown(blocks), synced=False)
        write_whole(path.with_suffix(".html"), as_html(comparison.name, blocks), synced=False)


def find_comparison(name: str, workspace: Workspace) -> Path:
    """Returns the file of a comparison: a path, or its name in the workspace. Raises PolicyError listing the known."""
    path = path_named(name)
    if path is not None and path.is_file():
        return path
    known = sorted(file.stem for file in workspace.perf.glob("[!.]*.json") if FORMAT.encode() in read_bytes(file))
    if not is_name(name) or name not in known:
        raise PolicyError(f"{name}: no comparison of code in {workspace.perf} (known: {', '.join(known) or 'none'})")
    return inside(workspace.perf, f"{name}.json")


def read(path: Path) -> Comparison:
    """Returns the comparison in a file. Raises IntegrityError if what it states does not follow from its rounds."""
    document = whole(path, "comparison", "comparison")
    if document["name"] != path.stem:
        raise IntegrityError(f"{path}: /name: states {document['name']}, not the name of its file")
    with referred_to_by(str(path)):
        comparison = Comparison.of(document)
    for name, value in comparison.document.items():
        if not same(name, document[name], value).ok:
            raise IntegrityError(f"{path}: /{name}: does not follow from the rounds that it states; it was changed")
    return comparison
