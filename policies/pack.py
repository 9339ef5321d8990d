"""A pack: a named, complete set of policies. Loading, digests, moved knobs and readable differences.

On disk a pack is a folder with `pack.json`, which names the engine it is for, and exactly one `<policy>.json` per
policy that engine declares. In memory it is frozen, and it is valid by construction: every way to make one checks it
against the engine's schemas.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lanelock.policies.documents import digest, read_json, resolve, shipped_schema, validate
from lanelock.policies.errors import PolicyError

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
        """The policies as plain JSON, by name: what `pack_of` reads back."""
        return {name: copy.deepcopy(dict(policy.document)) for name, policy in self.policies.items()}

    def carried(self) -> CarriedPack:
        """Returns the pack as a lock, a study or a campaign carries it."""
        return CarriedPack(self.name, self.digest, self.documents())

    def with_knobs(self, moves: Mapping[str, Any]) -> Pack:
        """This pack with fields replaced. Keys are `policy#/pointer`; raises PolicyError past a bound."""
        documents = {name: policy.document for name, policy in self.policies.items()}
        touched = set()
        for address, value in moves.items():
            policy, pointer = split_address(address)
            if policy not in documents:
                raise PolicyError(f"{address}: pack {self.name} has no policy {policy}")
            if policy not in touched:
                documents[policy] = copy.deepcopy(dict(documents[policy]))
                touched.add(policy)
            _replace(documents[policy], pointer, value, f"{self.name}: {address}")
        policies = dict(self.policies)
        for name in touched:
            validate(documents[name], self.schemas[name], f"{self.name}/{name}.json")
            policies[name] = Policy(name, documents[name], digest(documents[name]))
        return Pack(self.name, policies, _pack_digest(policies), self.schemas)


@dataclass(frozen=True, slots=True)
class CarriedPack:
    """A pack as another document carries it: whole, with the digest it states, not yet held to an engine's schemas."""

    name: str
    digest: str
    policies: Mapping[str, Any]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> CarriedPack:
        """Returns the pack in a document that may say more of it. `asdict` writes it again."""
        return cls(document["name"], document["digest"], document["policies"])

    def opened(self, schemas: Schemas, where: str) -> Pack:
        """Returns the pack. Raises PolicyError where it is not valid under an engine's schemas."""
        return pack_of(self.name, self.policies, schemas, where)


def load_pack(name_or_path: str | Path, schemas: Schemas, engine: str | None = None) -> Pack:
    """Returns the pack in a folder, or a shipped one by name; `engine`: the one that it must be for.

    Raises PolicyError naming file, field and bound.
    """
    folder = resolve(str(name_or_path), "packs")
    named = engine_in(folder)
    if engine is not None and named != engine:
        raise PolicyError(f"{folder / PACK}: /engine: a pack of engine {named}, not of {engine}")
    return pack_of(folder.resolve().name, policies_in(folder, schemas), schemas, where=str(folder))


def engine_in(folder: Path) -> str:
    """Returns the name of the engine that the pack in `folder` is for."""
    if not folder.is_dir():
        raise PolicyError(f"{folder}: a pack is a folder with {PACK} and one JSON file per policy")
    if not (folder / PACK).is_file():
        raise PolicyError(f'{folder / PACK}: missing; add it, with the engine the pack is for: {{"engine": "NAME"}}')
    document = read_json(folder / PACK)
    validate(document, shipped_schema("pack"), str(folder / PACK))
    return str(document["engine"])


def policies_in(folder: Path, schemas: Schemas) -> dict[str, Any]:
    """Returns the policies of `schemas` that lie in `folder`: exactly these, beside `pack.json`."""
    files = {path.stem: path for path in sorted(folder.glob("*.json")) if path.name != PACK}
    if unknown := sorted(set(files) - set(schemas)):
        raise PolicyError(f"{folder}/{unknown[0]}.json: not a policy of this engine ({', '.join(schemas)})")
    if missing := [name for name in schemas if name not in files]:
        raise PolicyError(f"{folder}/{missing[0]}.json: the policy is missing from the pack")
    return {name: read_json(files[name]) for name in schemas}


def pack_of(name: str, documents: Mapping[str, Any], schemas: Schemas, where: str | None = None) -> Pack:
    """A pack from plain documents, checked whole."""
    where = where or name
    if set(documents) != set(schemas):
        odd = sorted(set(documents) ^ set(schemas))
        raise PolicyError(f"{where}: a pack has exactly the policies {', '.join(schemas)}; differs in {', '.join(odd)}")
    policies = {}
    for policy, document in documents.items():
        validate(document, schemas[policy], f"{where}/{policy}.json")
        policies[policy] = Policy(policy, document, digest(document))
    return Pack(name, policies, _pack_digest(policies), schemas)


def diff(before: Pack, after: Pack) -> list[FieldChange]:
    """Each field that differs, policy by policy, with the first state it touches."""
    changes = []
    for name, schema in before.schemas.items():
        old, new = before[name], after[name]
        for pointer, was, becomes in _changes(old, new, ""):
            changes.append(FieldChange(name, pointer or "/", was, becomes, first_state(schema, pointer)))
    return changes


def first_state(schema: Mapping[str, Any], pointer: str) -> str:
    """The `x-first-state` of the innermost schema node above `pointer` that has one."""
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


def states_in(schema: Any) -> Iterator[str]:
    """Every `x-first-state` of a schema."""
    inner = schema.values() if isinstance(schema, Mapping) else schema if isinstance(schema, list | tuple) else ()
    if isinstance(schema, Mapping) and "x-first-state" in schema:
        yield str(schema["x-first-state"])
    for node in inner:
        yield from states_in(node)


def split_address(address: str) -> tuple[str, str]:
    """`policy#/pointer` in its two parts."""
    policy, mark, pointer = address.partition("#")
    if not mark or not pointer.startswith("/"):
        raise PolicyError(f"{address}: a knob is addressed as policy#/field or policy#/field/inner")
    return policy, pointer


def value_at(document: Any, pointer: str, where: str) -> Any:
    """The value under a JSON pointer (RFC 6901)."""
    node = document
    for part in _parts(pointer):
        try:
            node = node[int(part)] if isinstance(node, list) else node[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise PolicyError(f"{where}: no field {pointer}") from None
    return node


def _replace(document: Any, pointer: str, value: Any, where: str) -> None:
    *parents, last = _parts(pointer)
    value_at(document, pointer, where)  # a knob moves a field that exists, it never adds one
    node = document
    for part in parents:
        node = node[int(part)] if isinstance(node, list) else node[part]
    if isinstance(node, list):
        node[int(last)] = value
    else:
        node[last] = value


def _parts(pointer: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _changes(old: Any, new: Any, pointer: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _changes(old.get(key), new.get(key), f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}")
    elif old != new or type(old) is not type(new):
        yield pointer, old, new


def _pack_digest(policies: Mapping[str, Policy]) -> str:
    return digest({name: policy.document for name, policy in policies.items()})
