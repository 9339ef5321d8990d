"""Writes documents that a user goes on with: what a project stands for, and shipped packs, lanes and gate files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomli_w
import yaml

from lanelock.policies import PolicyError, WorkspaceError
from lanelock.policies.documents import SCHEMAS, resolve
from lanelock.policies.notations import SUFFIXES, read_document
from lanelock.policies.pack import PACK
from lanelock.policies.project import FILE, PARAMS, START, Project
from lanelock.sweeps.workspace import cause

_FILES = ("lanes", "campaigns", "gates")  # kinds of shipped documents that are a file; a pack is a folder
_REFERENCES = ("$schema", "authority", "pack", "lane", "file")  # fields that may hold a path seen from their file


def eject(project: Project, folder: Path) -> list[Path]:
    """Writes the schema, the pack, the gate file and the lane of a project, and a `lanelock.toml` that names them.

    Returns the files. Raises WorkspaceError where one exists: nothing is then written.
    """
    code = os.path.relpath(project.folder, folder.resolve())
    engine = {**project.engine, "id": project.id, "folder": code, "schema": "schema.json"}
    lane = {**project.lane, "authority": f"./{START}"}
    documents = {
        "schema.json": project.schema,
        f"{START}/{PACK}": {"engine": project.id},
        f"{START}/{PARAMS}.json": project.start[PARAMS],
        "gates.json": _with_schema(project.gates, "gates"),
        "lane.json": _with_schema(lane, "lane"),
    }
    texts = {name: _text(document) for name, document in documents.items()}
    head = "# The engine alone; the documents beside this file say the rest: lanelock sweep lane.json\n"
    texts[FILE] = head + tomli_w.dumps({"engine": engine, "grading": {"file": "gates.json"}})
    return _written(folder, texts)


def copy(name: str, target: Path, project: Project | None) -> list[Path]:
    """Copies the pack, lane, campaign or gate file of that name, to go on with it. Returns the files.

    Where a pack and a lane have the same name, a target with a suffix means the lane. A path that a lane or campaign
    gives is rewritten, so that it leads to the same place.
    """
    if project is not None and name in (START, project.id):
        return _own(project, name, target)
    source = _found(name, to_file=target.suffix != "")
    if source.is_dir():
        texts = {path.name: path.read_text() for path in sorted(source.iterdir()) if path.suffix in SUFFIXES}
        return _written(target, texts)
    file = target / source.name if target.is_dir() else target
    document = _moved(read_document(source), source.parent, file.parent)
    if file.suffix not in _WRITERS:
        raise PolicyError(f"{file}: name a file with one of the suffixes {', '.join(_WRITERS)}")
    return _written(file.parent, {file.name: _WRITERS[file.suffix](document)})


def write_documents(documents: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes JSON documents by the name of their file into a folder. Returns the files.

    Raises WorkspaceError where one exists: nothing is then written.
    """
    return _written(folder, {name: _text(document) for name, document in documents.items()})


def _own(project: Project, name: str, target: Path) -> list[Path]:
    """Copies a project's own pack or lane."""
    if name == START:
        documents: Mapping[str, Any] = {PACK: {"engine": project.id}, f"{PARAMS}.json": project.start[PARAMS]}
        return _written(target, {file: _text(document) for file, document in documents.items()})
    file = target / "lane.json" if target.is_dir() else target
    return _written(file.parent, {file.name: _WRITERS.get(file.suffix, _text)(dict(project.lane))})


def _found(name: str, to_file: bool) -> Path:
    """Returns the shipped file or folder of that name, or the path. Raises PolicyError listing the shipped names."""
    refusals = []
    for kind in (*_FILES, "packs") if to_file else ("packs", *_FILES):
        try:
            return resolve(name, kind, "" if kind == "packs" else ".json")
        except PolicyError as error:
            refusals.append(str(error).partition(": ")[2])
    raise PolicyError(f"{name}: {'; '.join(refusals)}")


def _moved(node: Any, source: Path, target: Path) -> Any:
    """Returns a document with the relative paths that its file gives, as they are seen from another folder."""
    if isinstance(node, list):
        return [_moved(inner, source, target) for inner in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _path(value, source, target)
        if key in _REFERENCES and isinstance(value, str)
        else _moved(value, source, target)
        for key, value in node.items()
    }


def _path(value: str, source: Path, target: Path) -> str:
    place = source / value
    if not value.startswith(".") or not place.exists():
        return value
    moved = os.path.relpath(place.resolve(), target.resolve())
    return moved if moved.startswith(".") else f"./{moved}"


def _with_schema(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {"$schema": (SCHEMAS / f"{name}.schema.json").as_uri(), **document}


def _text(document: Any) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _yaml(document: Any) -> str:
    text: str = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)
    return text


_WRITERS: Mapping[str, Callable[[Any], str]] = {".json": _text, ".toml": tomli_w.dumps, ".yaml": _yaml, ".yml": _yaml}


def _written(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Writes files into a folder, all or none. Raises WorkspaceError naming one that exists."""
    files = {folder / name: text for name, text in texts.items()}
    if there := next((path for path in files if os.path.lexists(path)), None):
        raise WorkspaceError(f"{there}: exists; name another place, or remove it first")
    made = list[Path]()
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            made.append(path)
            path.write_text(text)
    except OSError as error:
        for path in made:
            path.unlink(missing_ok=True)
        raise WorkspaceError(f"{folder}: {cause(error)}; name another place") from None
    return made
