"""States run by content address: what a key is made of, what a state may read, where results are remembered.

A state's key is the SHA-256 of its address: its code, the digests of the policies it reads, the keys of the
states it reads, the files it reads, the libraries under it and, where it draws, the seed. A state gets its
policies by name through a view that knows both what the state declares (else its key would not cover what
it read) and what the run's first state sealed.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lanelock.engine.keep.cache import Cache
from lanelock.engine.protocol import StateReport
from lanelock.engine.surface import Categories, Surface
from lanelock.engine.workers import spread
from lanelock.policies import IntegrityError, Pack
from lanelock.policies.documents import digest


@dataclass(frozen=True, slots=True)
class Stands:
    """What every state of an engine stands on, and so part of every key."""

    modules: tuple[ModuleType, ...]
    libraries: tuple[str, ...]  # names of distributions


class Steps:
    """Runs the states of one run by key, and reports what it did."""

    def __init__(self, base: Stands, memory: Memory, pack: Pack, seed: int, disk: Cache | None = None) -> None:
        self._base, self._memory, self._disk, self._pack, self._seed = base, memory, disk, pack, seed
        self._keys: dict[str, str] = {}
        self._sealed: Mapping[str, str] | None = None
        self.reports: list[StateReport] = []

    def apart(self, *, first: bool) -> Steps:
        """The steps that follow, for one shard: under the same keys, remembered nowhere. The first reports what was."""
        other = Steps(self._base, Memory(0), self._pack, self._seed)
        other._keys, other._sealed, other.reports = dict(self._keys), self._sealed, list(self.reports) if first else []
        return other

    def known(self, name: str, content: str) -> None:
        """From here on states that read `name` are keyed by its content, however it came to be."""
        self._keys[name] = content

    def seal(self, assets: Mapping[str, str]) -> None:
        """From here on no state reads a policy that is not among these: asset id -> sha256."""
        self._sealed = assets

    def __call__(
        self, name: str, inputs: tuple[str, ...], policies: tuple[str, ...], modules: tuple[ModuleType, ...],
        compute: Callable[[Reads], Any], *, draws: bool = False, files: Mapping[str, str] | None = None,
        keep: bool = True,
    ) -> Any:  # fmt: skip
        """The value of a state, from memory, from disk (`keep`), or computed. `files`: name -> sha256."""
        address: dict[str, Any] = {
            "state": name,
            "code": code_of(*modules, *self._base.modules),
            "libraries": _versions(self._base.libraries),
            "policies": {policy: self._pack.policies[policy].digest for policy in policies},
            "inputs": {which: self._keys[which] for which in inputs},
            "files": dict(files or {}),
            "seed": self._seed if draws else None,
        }
        key = self._keys[name] = digest(address)
        reads, disk = Reads(name, self._pack, policies, self._sealed), self._disk if keep else None
        began = time.perf_counter()
        value, reused = self._memory.get(key, lambda: _from_disk(disk, key), lambda: compute(reads))
        seconds = time.perf_counter() - began
        if disk is not None and not reused:
            spread(Surface.digest, _surfaces(value))  # kept beside the columns, so that no later run digests them
            disk.put(key, value)
        self.reports.append(StateReport(name, key, _rows(value), seconds, reused, address))
        return value


class Reads(Mapping[str, Mapping[str, Any]]):
    """The policies one state may read: those it declares and the run sealed. Raises IntegrityError on any other."""

    def __init__(self, state: str, pack: Pack, declared: tuple[str, ...], sealed: Mapping[str, str] | None) -> None:
        self._state, self._pack, self._declared, self._sealed = state, pack, declared, sealed

    def __getitem__(self, policy: str) -> Mapping[str, Any]:
        if policy not in self._declared:
            raise IntegrityError(
                f"{self._state}: reads {policy}, which it does not declare and its key would not cover"
            )
        held = self._pack.policies[policy]
        if self._sealed is not None and self._sealed.get(policy) != held.digest:
            sealed = self._sealed.get(policy, "nothing")
            raise IntegrityError(f"{self._state}: reads {policy} {held.digest}, the run sealed {sealed}")
        return held.document

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)


class Memory:
    """State results by key, bounded in bytes. Safe under threads; two may compute the same key once each."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, OrderedDict[str, tuple[Any, int]]()
        self._bytes, self._lock = 0, threading.Lock()

    def get(self, key: str, find: Callable[[], Any | None], compute: Callable[[], Any]) -> tuple[Any, bool]:
        """(value, whether it was there or was found elsewhere)."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key][0], True
        found = find()
        value = compute() if found is None else found
        size = _size(value)
        with self._lock:
            if key not in self._held:
                self._held[key] = value, size
                self._bytes += size
            while self._bytes > self._limit and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1][1]
        return value, found is not None


def folded(reports: Iterable[StateReport], within: Mapping[str, str]) -> tuple[StateReport, ...]:
    """The reports of states alone: a step within a state (step -> state) adds its seconds and what it reads to it."""
    held: dict[str, StateReport] = {}
    for report in reports:
        state = within.get(report.name, report.name)
        if state in held:
            inner = held[state]
            address = dict(report.address)
            for part in ("policies", "inputs"):
                address[part] = {**inner.address[part], **report.address[part]}
            address["inputs"] = {name: key for name, key in address["inputs"].items() if within.get(name) != state}
            address["code"] = [inner.address["code"], report.address["code"]]
            report = replace(report, seconds=inner.seconds + report.seconds, address=address)
        held[state] = replace(report, name=state)
    return tuple(held.values())


def code_of(*modules: ModuleType) -> str:
    """Returns a hex64 digest over the sources of these modules."""
    sink = hashlib.sha256()
    for path in sorted({str(module.__file__) for module in modules}, key=lambda path: Path(path).name):
        sink.update(_source(path))
    return sink.hexdigest()


@cache
def _source(path: str) -> bytes:
    """A source file's digest, read once a process: what runs is what was imported."""
    return hashlib.sha256(Path(path).read_bytes()).digest()


@cache
def _versions(libraries: tuple[str, ...]) -> str:
    """Hex64 over the versions of the libraries that compute: what they gave before may not be what they give now."""
    return digest({name: version(name) for name in libraries})


def _from_disk(disk: Cache | None, key: str) -> Any | None:
    return None if disk is None else disk.get(key)


def _rows(value: Any) -> int:
    """The rows of a state's value, or of the first of several; 0 where the value counts none."""
    return int(getattr(value[0] if isinstance(value, tuple) else value, "rows", 0))


def _surfaces(value: Any) -> list[Surface]:
    """The surfaces that a state's value is, where it is any."""
    return [part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, Surface)]


def _size(value: Any) -> int:
    """Bytes of the arrays a value holds; those it shares with others are counted again, on the safe side."""
    if isinstance(value, Surface):
        return sum(_size(column) for column in value.columns.values())
    if isinstance(value, Categories):
        return int(value.codes.nbytes)
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, tuple):
        return sum(_size(part) for part in value)
    names = getattr(type(value), "__slots__", ())
    return sum(_size(getattr(value, name)) for name in names if name != "__weakref__")
