"""Reads documents in TOML or YAML as the JSON that they stand for. JSON stays canonical: digests are of the content.

TOML's dates and YAML's anchors, tags and several documents have no JSON and are refused. Of YAML only the core schema
of version 1.2 counts, so that `no` is a text and `1e-3` a number.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import yaml

from lanelock.policies.documents import MARK, content_of, parse_json, strict, unique_keys
from lanelock.policies.errors import PolicyError

SUFFIXES = (".json", ".toml", ".yaml", ".yml")  # the canonical one first


def read_document(path: Path) -> Any:
    """Returns the content of a JSON, TOML or YAML file, by its suffix. Raises PolicyError naming file and field."""
    return parse_document(content_of(path), path)


def parse_document(content: bytes, path: Path) -> Any:
    """Returns what the content of a file means, by the file's suffix. Raises PolicyError naming file and field."""
    parse = _PARSERS.get(path.suffix)
    if parse is None:
        return parse_json(content, str(path))
    try:
        document = parse(content.decode("utf-8").removeprefix(MARK))
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise PolicyError(f"{path}: {_reason(error)}") from None
    except RecursionError:
        raise PolicyError(f"{path}: nested too deeply") from None
    return strict(document, str(path))


def _toml(text: str) -> Any:
    document = tomllib.loads(text)
    if (field := _date(document, "")) is not None:
        raise ValueError(f"{field}: a date has no JSON: write it as a text, in quotes")
    return document


def _date(node: Any, pointer: str) -> str | None:
    """Returns the pointer to the first date or time in a document; None if there is none."""
    if isinstance(node, datetime.date | datetime.time):
        return pointer
    rows = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return next((found for key, inner in rows if (found := _date(inner, f"{pointer}/{key}")) is not None), None)


class _CoreLoader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """Reads YAML 1.2's core schema, without anchors, tags and keys given twice."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: anchors and aliases are not allowed")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: tags are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        rows = [(self.construct_object(key, deep=True), self.construct_object(value, deep=True))
                for key, value in node.value]  # fmt: skip
        if odd := [key for key, _ in rows if not isinstance(key, str)]:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: the key {odd[0]!r} is not a text: put it in quotes")
        return unique_keys(rows)


def _core(tag: str, pattern: str) -> None:
    _CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), None)


_core("bool", "true|True|TRUE|false|False|FALSE")
_core("null", "null|Null|NULL|~|")
_core("int", r"[-+]?[0-9]+")
_core("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
# PyYAML reads a leading zero as octal; the core schema reads decimal digits.
_CoreLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))
_CoreLoader.add_constructor(
    "tag:yaml.org,2002:float",
    lambda loader, node: float(re.sub(r"\.(inf|nan)", r"\1", loader.construct_scalar(node).lower())),
)
_CoreLoader.add_constructor("tag:yaml.org,2002:map", lambda loader, node: loader.construct_mapping(node))


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=_CoreLoader)  # a subclass of SafeLoader


_PARSERS: Mapping[str, Callable[[str], Any]] = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml}


def _reason(error: Exception) -> str:
    """Returns in one line why a text is not TOML or YAML."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1} column {mark.column + 1}: not YAML: {error.problem}"
    if isinstance(error, tomllib.TOMLDecodeError):
        return f"not TOML: {error}"
    return str(error).partition("\n")[0]
