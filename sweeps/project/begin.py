"""The first `lanelock.toml`: a commented file to fill in, with what the source of a function already says."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lanelock.policies import PolicyError, WorkspaceError
from lanelock.policies.documents import SCHEMAS
from lanelock.policies.files import read_bytes
from lanelock.policies.notations import read_document
from lanelock.policies.project import FILE, project_of
from lanelock.sweeps.engines import installed
from lanelock.sweeps.workspace import FOLDER, write_new, write_whole, writing

SCHEMA = "project.schema.json"
_PLACEHOLDERS = ("config", "out", "seed", "args", "params", "folder", "world")  # of a command that are no parameter
_LARGEST = 1 << 20  # bytes of a source that is looked into


@dataclass(frozen=True, slots=True)
class Source:
    """What the source of a function says of it."""

    params: dict[str, object]  # name of each parameter that it reads -> the default that it states, or 1
    metrics: tuple[str, ...]  # names of the numbers that it returns


def write_project(folder: Path, name: str, function: str | None, command: str | None) -> Path:
    """Writes `lanelock.toml`, and its schema for editors, into a folder. Returns the file.

    Raises WorkspaceError where the file exists, PolicyError for a name or a function that cannot be one.
    """
    file = folder / FILE
    if name in installed():
        raise PolicyError(f"{name}: the name of an installed engine; choose another")
    engine, source = _function(folder, function) if function is not None else _command(str(command))
    text = _text(name, engine, source)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not write_new(file, text):
            raise WorkspaceError(f"{file}: exists; change it, or remove it first")
        try:
            project_of(read_document(file), file)
        except PolicyError:
            file.unlink()
            raise
        (folder / FOLDER).mkdir(exist_ok=True)
        write_whole(folder / FOLDER / SCHEMA, (SCHEMAS / SCHEMA).read_bytes())
    return file


def _function(folder: Path, function: str) -> tuple[str, Source]:
    """Returns the lines of [engine] for a function, and what its source says."""
    module, _, name = function.partition(":")
    path = folder.joinpath(*module.split(".")).with_suffix(".py")
    return f"function = {_quoted(function)}", read_source(path, name)


def _command(command: str) -> tuple[str, Source]:
    """Returns the lines of [engine] for a command. Of its parameters a program says those that its template names."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise PolicyError(f"--command: {error}") from None
    if not words:
        raise PolicyError("--command: empty; give a program and its arguments, such as './heater {config} {out}'")
    lines = [
        f"command = {json.dumps(words, ensure_ascii=False)}",
        '# config = "json"    # what is written at {config}: json, toml or yaml; args: {args} or {NAME} in the command',
        '# output = "out/"    # what is written at {out}: a file with its suffix, or a folder of tables',
        "# timeout_s = 60     # after which a run is ended and its trial fails",
        "# memory_mb = 512",
    ]
    named = (name for word in words for name in re.findall(r"(?<!{){([A-Za-z][A-Za-z0-9_]*)}", word))
    return "\n".join(lines), Source({name: 1 for name in named if name not in _PLACEHOLDERS}, ())


def read_source(path: Path, function: str) -> Source:
    """Returns the parameters that a function reads from its first argument, and the numbers that it returns.

    A source that cannot be read says nothing, since it may be written later.
    """
    try:
        tree = ast.parse(read_bytes(path, _LARGEST))
    except (OSError, SyntaxError, ValueError):
        return Source({}, ())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    found = next((node for node in functions if node.name == function.rpartition(".")[2]), None)
    if found is None or not found.args.args:
        return Source({}, ())
    return Source(dict(_read_params(tree, found.args.args[0].arg)), tuple(dict.fromkeys(_returned(found))))


def _read_params(tree: ast.AST, argument: str) -> Iterator[tuple[str, object]]:
    """Yields `argument["name"]` and `argument.get("name", default)`, wherever the module has them."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.expr))
    for node in sorted(nodes, key=lambda node: (node.lineno, node.col_offset)):
        match node:
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str(key))) if name == argument:
                yield key, 1
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="get"), args=[ast.Constant(value=str(key)), *rest]
            ) if name == argument:
                default = rest[0].value if rest and isinstance(rest[0], ast.Constant) else 1
                yield key, default if isinstance(default, bool | int | float | str) else 1


def _returned(function: ast.FunctionDef) -> Iterator[str]:
    """Yields the keys of the dicts that a function returns, where it writes them out."""
    for node in ast.walk(function):
        match node:
            case ast.Return(value=ast.Dict(keys=keys, values=values)):
                rows = zip(keys, values, strict=True)
                names = (key.value for key, value in rows if isinstance(key, ast.Constant) and _may_be_number(value))
                yield from (name for name in names if isinstance(name, str))
            case ast.Return(value=ast.Call(func=ast.Name(id="dict"), keywords=keywords)):
                named = (row.arg for row in keywords if _may_be_number(row.value))
                yield from (name for name in named if name is not None)


def _may_be_number(value: ast.expr) -> bool:
    """Whether an expression may be a number: what is written as a list, a table or a text is none."""
    if isinstance(value, ast.Call):
        called = value.func.attr if isinstance(value.func, ast.Attribute) else getattr(value.func, "id", "")
        return called not in ("DataFrame", "table", "list", "dict", "array", "tolist", "asarray")
    return not isinstance(value, ast.List | ast.ListComp | ast.Dict | ast.DictComp | ast.Tuple | ast.JoinedStr)


def _text(name: str, engine: str, source: Source) -> str:
    """Returns the file's text: what is known, and an example of what is not."""
    params = source.params or {"speed": 1.0, "load": 10}
    first, *others = params
    metric, *further = source.metrics or ("output",)
    known = f"  # as the engine names them: {', '.join(params)}" if source.params else ""
    moving = [f"{first} = {{ value = {_toml(params[first])}, low = 0, high = 100 }}"]
    fixed = [f"{other} = {_toml(params[other])}" for other in others]
    return "\n".join([
        f"#:schema {FOLDER}/{SCHEMA}",
        "# What this file leaves out has a default: `lanelock check` shows all of them.",
        "",
        "[engine]",
        f"id = {_quoted(name)}",
        engine,
        "",
        f"[params]{known}",
        "# A value alone stays as it is. With a range (or choices = [...]) a sweep may move it.",
        "# Also: step = 5, scale = \"log\", when = \"other == 'x'\".",
        *moving,
        *fixed,
        "",
        "[metrics]",
        "# A number that the engine returns needs no line. Over a table that it returns, SQL defines one:",
        '#   wait_p90 = "quantile_cont(wait, 0.9)"',
        "",
        "[gates]  # what is good: a threshold per band, B and then B+",
        f'good = "{metric} >= 0.9, 0.95"',
        "",
        "[vetoes]  # what ends a trial",
        f'# limit = "{(further or [metric])[0]} <= 200"',
        "",
        "[sweep]",
        f"# minimize = {_quoted((further or [metric])[0])}  # or maximize; left out: the margin over the gates",
        "seeds = [1, 2, 3]  # every accepted trial is run on each",
        "trials = 40",
        "",
    ])  # fmt: skip


def _toml(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _quoted(text: str) -> str:
    """Returns a text as TOML's basic string, which is JSON's."""
    return json.dumps(text, ensure_ascii=False)
