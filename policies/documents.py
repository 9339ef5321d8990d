"""Strict reading, schema validation and digests of JSON documents.

Strict means: no duplicate key, no NaN or Infinity, no unknown field. A digest is the SHA-256 of the canonical JSON
(RFC 8785), so white space and key order never change it.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import rfc8785
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

from lanelock.policies.errors import PolicyError
from lanelock.policies.names import path_named

ROOT = Path(__file__).parent
SCHEMAS = ROOT / "schemas"


def digest(document: Any) -> str:
    """Returns the SHA-256 (hex64) of the document's canonical JSON. Raises PolicyError if it has none."""
    try:
        return hashlib.sha256(rfc8785.dumps(document)).hexdigest()
    except ValueError as error:  # half a surrogate pair, or a whole number beyond 2**53
        raise PolicyError(f"it has no canonical JSON: {error}") from None


def read_json(path: Path) -> Any:
    """Returns the document in `path`. Raises PolicyError naming the file and the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise PolicyError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"{path}: cannot be read: {error}") from None
    return parse_json(text, str(path))


def parse_json(text: str, where: str) -> Any:
    """Returns the document in a text. Raises PolicyError naming the line, after `where`."""
    try:
        return json.loads(text, object_pairs_hook=_unique_keys)
    except json.JSONDecodeError as error:
        raise PolicyError(f"{where}: line {error.lineno} column {error.colno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{where}: {error}") from None


def validate(document: Any, schema: Mapping[str, Any], where: str) -> None:
    """Validates `document` under `schema`. Raises PolicyError: `where: /field: observed, bound`."""
    try:
        for pointer, number in _not_finite(document, ""):
            raise PolicyError(f"{where}: {pointer or '/'}: {number} is not a JSON number")
        error = best_match(_validator(_Frozen(schema)).iter_errors(document))
    except RecursionError:
        raise PolicyError(f"{where}: nested too deeply") from None
    if error is not None:
        raise PolicyError(f"{where}: {_describe(error)}")


@cache
def read_schema(path: Path) -> Mapping[str, Any]:
    """Returns the JSON Schema in `path`. A test checks each shipped schema, so that no start has to."""
    schema: Mapping[str, Any] = read_json(path)
    return schema


def shipped_schema(name: str) -> Mapping[str, Any]:
    """Returns the schema of one of Lanelock's own documents, `policies/schemas/<name>.schema.json`."""
    return read_schema(SCHEMAS / f"{name}.schema.json")


def shipped(kind: str, suffix: str = "") -> dict[str, Path]:
    """Returns the shipped files or folders of one kind ("packs", "lanes", "campaigns", "locks", "gates"), by name.

    They are found at `policies/<engine>/<kind>/<name>`; a gate file is `policies/<engine>/gates.json` and has the
    engine's name.
    """
    if kind == "gates":
        return {path.parent.name: path for path in sorted(ROOT.glob("*/gates.json"))}
    return {path.name.removesuffix(suffix): path for path in sorted(ROOT.glob(f"*/{kind}/*{suffix}"))}


def resolve(name: str, kind: str, suffix: str = "") -> Path:
    """Returns the path of `name`: a shipped name, `<engine>/<shipped name>`, or a path that exists.

    Raises PolicyError listing the shipped names.
    """
    known = shipped(kind, suffix)
    folder, _, last = name.rpartition("/")
    if last in known and folder in ("", known[last].parent.parent.name):
        return known[last]
    path = path_named(name)
    if path is not None and path.exists():
        return path
    raise PolicyError(f"{name}: neither a path nor one of the shipped {kind}: {', '.join(known)}")


class _Frozen(dict[str, Any]):
    """A schema that can be hashed, so that its validator is built once."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(self.get("$id") or json.dumps(self, sort_keys=True))


def _pattern(validator: Any, pattern: str, text: Any, schema: Any) -> Iterator[ValidationError]:
    """Yields an error where a text does not match. Python's `$` would also accept a line feed after the end."""
    if isinstance(text, str) and not re.search(re.sub(r"(?<!\\)\$$", r"\\Z", pattern), text):
        yield ValidationError(f"{text!r} does not match {pattern!r}")


_Validator = extend(Draft202012Validator, {"pattern": _pattern})


@cache
def _validator(schema: _Frozen) -> Any:
    return _Validator(schema)


def _unique_keys(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for key, value in pairs:
        if key in document:
            raise ValueError(f"/{key}: the field is given twice")
        document[key] = value
    return document


def _not_finite(node: Any, pointer: str) -> Iterator[tuple[str, float]]:
    """Yields pointer and value of each NaN and Infinity (also written `1e999`): JSON has neither."""
    if isinstance(node, float) and not math.isfinite(node):
        yield pointer, node
    elif isinstance(node, dict):
        for key, inner in node.items():
            yield from _not_finite(inner, f"{pointer}/{key}")
    elif isinstance(node, list):
        for index, inner in enumerate(node):
            yield from _not_finite(inner, f"{pointer}/{index}")


_BOUNDS = {  # keyword of JSON Schema -> what is wrong, before its value
    "minimum": "is below the minimum",
    "maximum": "is above the maximum",
    "exclusiveMinimum": "must be above",
    "exclusiveMaximum": "must be below",
    "type": "is not of type",
    "minItems": "has fewer items than",
}


def _describe(error: ValidationError) -> str:
    field = error.json_path.replace("$", "", 1).replace(".", "/").replace("[", "/").replace("]", "") or "/"
    seen = json.dumps(error.instance)
    seen = seen if len(seen) <= 60 else f"{seen[:57]}..."
    if error.validator in _BOUNDS:
        return f"{field}: {seen} {_BOUNDS[error.validator]} {error.validator_value}"
    match error.validator:
        case "enum":
            return f"{field}: {seen} is not one of {json.dumps(error.validator_value)}"
        case "additionalProperties":
            known = set(error.schema.get("properties", ()))
            unknown = sorted(set(error.instance) - known)
            return f"{field}: unknown field {', '.join(unknown)} (known: {', '.join(sorted(known))})"
        case "not" if error.validator_value == {}:
            return f"{field}: does not belong here beside the other fields"
        case "oneOf" if options := [row["required"] for row in error.validator_value if set(row) == {"required"}]:
            return f"{field}: give exactly one of: {', or '.join(' and '.join(names) for names in options)}"
        case "uniqueItems":
            return f"{field}: {seen} has an item twice"
        case "required":
            missing = sorted(set(error.validator_value) - set(error.instance))
            return f"{field}: missing field {', '.join(missing)}"
        case _:
            return f"{field}: {error.message.splitlines()[0][:200]}"
