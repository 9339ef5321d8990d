"""The configuration that a program reads: parameters and the seed, as JSON, TOML, YAML or arguments.

Packs of one digest give one configuration, byte for byte: a digest does not tell 3 from 3.0 or -0.0 from 0.0, so a
value is written by its type in the schema: a `number` with a point, anything whole without. Floats are written as
`repr` does, so that they read back the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

import tomli_w
import yaml

from lanelock.policies import EngineError

Form = Literal["json", "toml", "yaml", "args"]
FORMS: tuple[Form, ...] = ("json", "toml", "yaml", "args")


def exact(value: Any, schema: Mapping[str, Any]) -> Any:
    """Returns a value as its schema types it."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | float):
        if schema.get("type") == "number":
            return float(value) + 0.0  # -0.0 is 0.0
        return int(value) if value == int(value) else value
    if isinstance(value, Mapping):
        known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
        others = others if isinstance(others, Mapping) else {}
        return {name: exact(part, known.get(name, others)) for name, part in value.items()}
    items = schema.get("items", {})
    return [exact(part, items if isinstance(items, Mapping) else {}) for part in value]


def as_json(document: Any) -> str:
    """Returns the one JSON text of a document, on one line."""
    return json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def written(document: Mapping[str, Any], form: Form) -> bytes:
    """Returns the file of a configuration. Raises EngineError for a value that the form does not have."""
    if form == "yaml":
        return bytes(yaml.safe_dump(dict(document), sort_keys=True, allow_unicode=True, encoding="utf-8"))
    if form == "toml":
        try:
            return tomli_w.dumps(dict(sorted(document.items()))).encode()
        except TypeError:
            raise EngineError("configuration", "TOML has no null; give the parameter a value or use JSON") from None
    return as_json(document).encode() + b"\n"


def as_text(value: Any) -> str:
    """Returns a value as an argument: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else as_json(value)


def as_arguments(document: Mapping[str, Any]) -> list[str]:
    """Returns `--name value` for every entry, in the order of names."""
    return [word for name in sorted(document) for word in (f"--{name}", as_text(document[name]))]
