"""Strict reading, schema validation and digests of JSON documents.

Every JSON that a user or a workspace gives is read here. Strict means: a regular file of bounded size, UTF-8 with or
without a byte-order mark, nesting of bounded depth, no duplicate key, no NaN or Infinity, no whole number that has no
canonical JSON, no half of a surrogate pair; and under a schema no unknown field, and an integer is written without a
point. A digest is the SHA-256 of the canonical JSON (RFC 8785), so white space and key order never change it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

import rfc8785
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.validators import extend

from lanelock.policies.errors import PolicyError
from lanelock.policies.files import read_bytes
from lanelock.policies.names import path_named

ROOT = Path(__file__).parent
SCHEMAS = ROOT / "schemas"
LARGEST = 128 << 20  # bytes of a document; of those we write, a certification on 4,096 seeds takes 50 MiB
DEEPEST = 100  # levels of nesting
WHOLE = 2**53  # whole numbers are below it: beyond, other readers would read another number
MARK = "\ufeff"  # a byte-order mark
_DEEP = f"nested deeper than {DEEPEST} levels"


def digest(document: Any) -> str:
    """Returns the SHA-256 (hex64) of the document's canonical JSON. Raises PolicyError if it has none."""
    try:
        return hashlib.sha256(rfc8785.dumps(document)).hexdigest()
    except ValueError as error:  # half a surrogate pair, or a whole number beyond 2**53
        raise PolicyError(f"it has no canonical JSON: {error}") from None


def read_json(path: Path, *, largest: int = LARGEST, ids: bool = False) -> Any:
    """Returns the document in `path`. Raises PolicyError naming the file, and the line or the field.

    `ids`: whole numbers may be of any size, as the ids of a table are.
    """
    return parse_json(content_of(path, largest), str(path), ids=ids)


def content_of(path: Path, largest: int = LARGEST) -> bytes:
    """Returns the bytes of a document's file. Raises PolicyError naming the file and why it cannot be read."""
    try:
        return read_bytes(path, largest)
    except FileNotFoundError:
        raise PolicyError(f"{path}: no such file") from None
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:  # a name with a null character
        raise PolicyError(f"{path}: not a name that a file can have") from None


def parse_json(text: str | bytes, where: str, *, ids: bool = False) -> Any:
    """Returns the document in a text. Raises PolicyError naming the line or the field, after `where`."""
    try:
        decoded = (text if isinstance(text, str) else text.decode("utf-8")).removeprefix(MARK)
        document = json.loads(decoded, object_pairs_hook=unique_keys)
    except UnicodeDecodeError as error:
        raise PolicyError(f"{where}: not UTF-8: {error.reason} at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise PolicyError(f"{where}: line {error.lineno} column {error.colno}: not JSON: {error.msg}") from None
    except RecursionError:
        raise PolicyError(f"{where}: {_DEEP}") from None
    except ValueError as error:  # a field twice, or a number of thousands of digits
        raise PolicyError(f"{where}: {str(error).partition(';')[0]}") from None
    return strict(document, where, ids=ids)


def strict(document: Any, where: str, *, ids: bool = False) -> Any:
    """Returns a document as it is. Raises PolicyError naming its first value that strict JSON does not have."""
    _hold(document, where, ids)
    return document


def validate(document: Any, schema: Mapping[str, Any], where: str) -> None:
    """Validates `document` under `schema`. Raises PolicyError: `where: /field: observed, bound`."""
    _hold(document, where)
    error = best_match(_validator(_Frozen(schema)).iter_errors(document))
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

    They are found at `policies/<engine>/<kind>/<name>`; "gates" and "budgets" are one file each,
    `policies/<engine>/gates.json`, and have the engine's name.
    """
    if kind in ("gates", "budgets"):
        return {path.parent.name: path for path in sorted(ROOT.glob(f"*/{kind}.json"))}
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


def _is_integer(checker: Any, value: Any) -> bool:
    """Returns whether a value is an integer as code takes it: to JSON Schema, 4.0 would be one as well."""
    return isinstance(value, int) and not isinstance(value, bool)


_Validator = extend(
    Draft202012Validator,
    {"pattern": _pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)


@cache
def _validator(schema: _Frozen) -> Any:
    return _Validator(schema)


def unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Returns an object from its fields. Raises ValueError naming the first that is given twice."""
    document = dict(pairs)
    if len(document) < len(pairs):
        seen = set[str]()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"/{name}: the field is given twice")
            seen.add(name)
    return document


def _hold(document: Any, where: str, ids: bool = False) -> None:
    """Raises PolicyError naming the first value that strict JSON does not have."""
    if not _is_plain(document, ids):
        for pointer, fault in _faults(document, "", ids):
            raise PolicyError(f"{where}: {pointer or '/'}: {fault}")


def _is_plain(document: Any, ids: bool) -> bool:
    """Returns whether a document is strict JSON. Where it is not, `_faults` says why, several times slower."""
    level = [document]
    for _ in range(DEEPEST + 1):
        below: list[Any] = []
        for node in level:
            kind = type(node)
            if kind is str:
                plain = node.isascii() or not _is_broken(node)
            elif kind is float:
                plain = isfinite(node)
            elif kind is int:
                plain = ids or -WHOLE < node < WHOLE
            elif kind is dict:
                below += node
                below += node.values()
                continue
            elif kind is list:
                below += node
                continue
            else:
                plain = node is None or kind is bool
            if not plain:
                return False
        if not below:
            return True
        level = below
    return False


def _faults(node: Any, pointer: str, ids: bool = False, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yields pointer and fault of each value that strict JSON does not have."""
    if isinstance(node, dict | list) and depth == DEEPEST:
        yield pointer, _DEEP
    elif isinstance(node, dict):
        for key, inner in node.items():
            yield from _faults(key, pointer)
            yield from _faults(inner, f"{pointer}/{key}", ids, depth + 1)
    elif isinstance(node, list):
        for index, inner in enumerate(node):
            yield from _faults(inner, f"{pointer}/{index}", ids, depth + 1)
    elif isinstance(node, float) and not isfinite(node):
        yield pointer, f"{node} is not a JSON number"
    elif isinstance(node, int) and not ids and not -WHOLE < node < WHOLE:
        yield pointer, f"a whole number may be at most {WHOLE - 1} in size"
    elif isinstance(node, str) and _is_broken(node):
        yield pointer, "a text holds half a surrogate pair (such as \\ud800), which is no character"


def _is_broken(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


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
