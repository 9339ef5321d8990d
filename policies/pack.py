"""Packs: named, complete sets of policies. Loading, digests, knobs and readable differences.

On disk a pack is a folder with `pack.json`, which names its engine, and exactly one `<policy>.json` per policy that
the engine declares. In memory it is frozen and always valid: every way to build one validates it under the engine's
schemas.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lanelock.policies.documents import digest, read_json, resolve, shipped_schema, validate
from lanelock.policies.errors import PolicyError, referred_to_by
from lanelock.policies.names import name_from
from lanelock.policies.notations import SUFFIXES, read_document

Schemas = Mapping[str, Mapping[str, Any]]
PACK = "pack.json"


@dataclass(frozen=True, slots=True)
class Policy:
    """One JSON document that governs one state of the engine."""

    name: str
    document: Mapping[str, Any]
    digest: str  # hex64


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field that differs between two packs, and the first state that reads it."""

    policy: str
    pointer: str
    before: Any
    after: Any
    state: str


@dataclass(frozen=True, slots=True)
class Pack:
    """Policies by name, complete and valid. `digest` covers the policies, not the name."""

    name: str
    policies: Mapping[str, Policy]
    digest: str
    schemas: Schemas = field(repr=False, compare=False)

    def __getitem__(self, policy: str) -> Mapping[str, Any]:
        return self.policies[policy].document

    def documents(self) -> dict[str, Any]:
        """Returns the policies as plain JSON, by name, as `pack_of` takes them."""
        return {name: copy.deepcopy(dict(policy.document)) for name, policy in self.policies.items()}

    def files(self, engine: str) -> dict[str, Any]:
        """Returns the documents of the folder that this pack of an engine is, by the name of their file."""
        return {PACK: {"engine": engine}, **{f"{name}.json": policy for name, policy in self.documents().items()}}

    def carried(self) -> CarriedPack:
        """Returns the pack as locks, studies and campaigns store it."""
        return CarriedPack(self.name, self.digest, self.documents())

    def part(self, schemas: Schemas) -> Pack:
        """Returns the policies that have one of these schemas, as a pack of their own."""
        policies = {name: self.policies[name] for name in schemas}
        return Pack(self.name, policies, _pack_digest(policies), schemas)

    def with_knobs(self, moves: Mapping[str, Any]) -> Pack:
        """Returns this pack with fields replaced; keys are `policy#/pointer`. Raises PolicyError past a bound."""
        changed: dict[str, dict[str, Any]] = {}
        for address, value in moves.items():
            policy, pointer = split_address(address)
            if policy not in self.policies:
                raise PolicyError(f"{address}: pack {self.name} has no policy {policy}")
            if policy not in changed:
                changed[policy] = copy.deepcopy(dict(self[policy]))
            _replace(changed[policy], pointer, value, f"{self.name}: {address}")
        policies = {
            **self.policies,
            **{name: _policy(name, document, self.schemas, self.name) for name, document in changed.items()},
        }
        return Pack(self.name, policies, _pack_digest(policies), self.schemas)


@dataclass(frozen=True, slots=True)
class CarriedPack:
    """A whole pack inside another document, with its stated digest; not yet validated under an engine's schemas."""

    name: str
    digest: str
    policies: Mapping[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> CarriedPack:
        """Returns the pack in a document, which may have further fields. `asdict` writes it back."""
        return cls(document["name"], document["digest"], document["policies"])

    def opened(self, schemas: Schemas, where: str) -> Pack:
        """Returns the validated pack. Raises PolicyError if it is not valid under the engine's schemas."""
        return pack_of(self.name, self.policies, schemas, where)


def load_pack(name_or_path: str | Path, schemas: Schemas, engine: str | None = None) -> Pack:
    """Returns the pack in a folder or the shipped pack of that name, which must be for `engine` if given.

    Raises PolicyError naming file, field and bound.
    """
    folder = resolve(str(name_or_path), "packs")
    named = engine_in(folder)
    if engine is not None and named != engine:
        raise PolicyError(f"{folder / PACK}: /engine: a pack of engine {named}, not of {engine}")
    return pack_of(name_from(folder.resolve().name), policies_in(folder, schemas), schemas, where=str(folder))


def engine_in(folder: Path) -> str:
    """Returns the name of the engine that the pack in `folder` is for."""
    if not folder.is_dir():
        raise PolicyError(f"{folder}: a pack is a folder with {PACK} and one JSON file per policy")
    if not os.path.lexists(folder / PACK):
        raise PolicyError(f'{folder / PACK}: missing; add it, with the engine the pack is for: {{"engine": "NAME"}}')
    document = read_json(folder / PACK)
    validate(document, shipped_schema("pack"), str(folder / PACK))
    return str(document["engine"])


def policies_in(folder: Path, schemas: Schemas) -> dict[str, Any]:
    """Returns the policies in `folder`, which must have exactly the names in `schemas`.

    Where its pack.json names the pack of an upstream, policies that are not in the folder are read from there.
    """
    documents = _own_policies(folder, schemas)
    missing = {name: schema for name, schema in schemas.items() if name not in documents}
    if missing and documents and (upstream := _upstream_of(folder)) is not None:
        with referred_to_by(f"{folder / PACK}: /upstream"):
            documents |= policies_in(upstream, missing)
    elif missing:
        raise PolicyError(f"{folder}/{next(iter(missing))}.json: the policy is missing from the pack")
    return {name: documents[name] for name in schemas}


def _upstream_of(folder: Path) -> Path | None:
    """Returns the folder of the pack from which a pack has its upstream's policies; None if it states none."""
    if not os.path.lexists(folder / PACK) or "upstream" not in (document := read_json(folder / PACK)):
        return None
    validate(document, shipped_schema("pack"), str(folder / PACK))
    name = document["upstream"]
    with referred_to_by(f"{folder / PACK}: /upstream"):
        found = resolve(str(folder / name) if name.startswith(".") else name, "packs")
    if not found.is_dir() or found.resolve() == folder.resolve():
        raise PolicyError(f"{folder / PACK}: /upstream: {name}: not the folder of another pack")
    return found


def _own_policies(folder: Path, schemas: Schemas) -> dict[str, Any]:
    files = dict[str, Path]()
    for path in sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path.name != PACK):
        if path.stem not in schemas:
            if path.suffix != SUFFIXES[0]:  # a project's own TOML or YAML, whose name is no policy's
                continue
            raise PolicyError(f"{path}: not a policy of this engine ({', '.join(schemas)})")
        if path.stem in files:
            raise PolicyError(f"{path}: {files[path.stem].name} beside it is the same policy; keep one of them")
        files[path.stem] = path
    documents = {name: read_document(path) for name, path in files.items()}
    for name, document in documents.items():
        validate(document, schemas[name], str(files[name]))
    return documents


def pack_of(name: str, documents: Mapping[str, Any], schemas: Schemas, where: str | None = None) -> Pack:
    """Returns a validated pack from plain documents."""
    where = where or name
    if set(documents) != set(schemas):
        odd = sorted(set(documents) ^ set(schemas))
        raise PolicyError(f"{where}: a pack has exactly the policies {', '.join(schemas)}; differs in {', '.join(odd)}")
    policies = {policy: _policy(policy, document, schemas, where) for policy, document in documents.items()}
    return Pack(name, policies, _pack_digest(policies), schemas)


def _policy(name: str, document: Mapping[str, Any], schemas: Schemas, where: str) -> Policy:
    validate(document, schemas[name], f"{where}/{name}.json")
    return Policy(name, document, digest(document))


def diff(before: Pack, after: Pack) -> list[FieldChange]:
    """Returns each field that differs, policy by policy, with the first state that reads it."""
    return [
        FieldChange(name, pointer or "/", old, new, first_state(schema, pointer))
        for name, schema in before.schemas.items()
        for pointer, old, new in changes(before[name], after[name], "")
    ]


def first_state(schema: Mapping[str, Any], pointer: str) -> str:
    """Returns the `x-first-state` of the innermost schema node above `pointer` that has that key."""
    node: Mapping[str, Any] = schema
    state = str(schema.get("x-first-state", "?"))
    for part in pointer.split("/")[1:]:
        inner = node.get("properties", {}).get(part, node.get("additionalProperties"))
        inner = node.get("items", inner) if inner is None else inner
        if not isinstance(inner, Mapping):
            break
        node = inner
        state = str(node.get("x-first-state", state))
    return state


def is_integer(schema: Mapping[str, Any], pointer: str) -> bool:
    """Returns whether a policy's schema says that the field at `pointer` is an integer."""
    return _says_integer(schema, schema, _parts(pointer)) is True


def _says_integer(root: Mapping[str, Any], node: Any, parts: list[str]) -> bool | None:
    """Returns what a schema node says of the field `parts` below it; None if it says nothing of its type."""
    if not isinstance(node, Mapping):
        return None
    said = [_says_integer(root, inner, parts) for inner in (_referred(root, node), *node.get("allOf", ()))]
    for word in ("anyOf", "oneOf"):
        branches = {_says_integer(root, inner, parts) for inner in node.get(word, ())} - {None}
        said.append(all(branches) if branches else None)
    if parts:
        said.append(_says_integer(root, _inner(node, parts[0]), parts[1:]))
    elif types := {node["type"]} if isinstance(node.get("type"), str) else set(node.get("type", ())):
        said.append("integer" in types and "number" not in types)
    return any(said) if set(said) - {None} else None


def check_values(schema: Mapping[str, Any], pointer: str, values: Iterable[Any], where: str) -> None:
    """Raises PolicyError, after `where`, if a policy's schema has no field at `pointer` or does not allow a value."""
    nodes = nodes_at(schema, pointer)
    if not nodes:
        raise PolicyError(f"{where}: the policy's schema has no field {pointer}")
    for value in values:
        errors = list(filter(None, (_error(value, node, where) for node in nodes)))
        if len(errors) == len(nodes):
            raise PolicyError(errors[0])


def nodes_at(schema: Mapping[str, Any], pointer: str) -> list[Mapping[str, Any]]:
    """Returns the nodes of a policy's schema that describe the field at `pointer`; several where it has branches."""
    return list(_nodes(schema, schema, _parts(pointer)))


def _nodes(root: Mapping[str, Any], node: Any, parts: list[str]) -> Iterator[Mapping[str, Any]]:
    """Yields the nodes of a schema that describe the field `parts` below a node."""
    if not isinstance(node, Mapping):
        return
    several = (inner for word in ("allOf", "anyOf", "oneOf") for inner in node.get(word, ()))
    for inner in (_referred(root, node), *several):
        yield from _nodes(root, inner, parts)
    if parts:
        yield from _nodes(root, _inner(node, parts[0]), parts[1:])
    elif "$ref" not in node:
        yield node


def _error(value: Any, node: Mapping[str, Any], where: str) -> str:
    """Returns why a schema node does not allow a value; empty if it does."""
    try:
        validate(value, node, where)
    except PolicyError as error:
        return str(error)
    return ""


def _referred(root: Mapping[str, Any], node: Mapping[str, Any]) -> Any:
    """Returns the node of the same schema that a `$ref` names, or None."""
    reference = str(node.get("$ref", ""))
    return value_at(root, reference[1:], reference) if reference.startswith("#/") else None


def _inner(node: Mapping[str, Any], part: str) -> Any:
    """Returns the schema of a property or item of what a node describes, or None."""
    items = node.get("prefixItems", ())
    if part.isdigit():
        return items[int(part)] if int(part) < len(items) else node.get("items", _property(node, part))
    return _property(node, part)


def _property(node: Mapping[str, Any], part: str) -> Any:
    patterns = (inner for pattern, inner in node.get("patternProperties", {}).items() if re.search(pattern, part))
    return node.get("properties", {}).get(part, next(patterns, node.get("additionalProperties")))


def states_in(schema: Any) -> Iterator[str]:
    """Yields every `x-first-state` of a schema."""
    inner = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list | tuple) else ()
    if isinstance(schema, Mapping) and "x-first-state" in schema:
        yield str(schema["x-first-state"])
    for node in inner:
        yield from states_in(node)


def split_address(address: str) -> tuple[str, str]:
    """Returns policy and pointer of an address `policy#/pointer`."""
    policy, mark, pointer = address.partition("#")
    if not mark or not pointer.startswith("/"):
        raise PolicyError(f"{address}: a knob is addressed as policy#/field or policy#/field/inner")
    return policy, pointer


def value_at(document: Any, pointer: str, where: str) -> Any:
    """Returns the value at a JSON pointer (RFC 6901)."""
    node = document
    for part in _parts(pointer):
        try:
            node = node[int(part)] if isinstance(node, list) else node[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise PolicyError(f"{where}: no field {pointer}") from None
    return node


def _replace(document: Any, pointer: str, value: Any, where: str) -> None:
    value_at(document, pointer, where)  # a knob moves an existing field, it never adds one
    parent, _, last = pointer.rpartition("/")
    node = value_at(document, parent, where)
    node[int(last) if isinstance(node, list) else _parts(f"/{last}")[0]] = value


def _parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def changes(old: Any, new: Any, pointer: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yields pointer, old and new value of each field that differs between two documents."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):  # stored documents have sorted keys, and a difference shall not tell
            yield from changes(old.get(key), new.get(key), f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif old != new or type(old) is not type(new):
        yield pointer, old, new


def _pack_digest(policies: Mapping[str, Policy]) -> str:
    return digest({name: policy.document for name, policy in policies.items()})
