"""Runs states by content address: the parts of a key, the policies a state may read, the memory of results.

A state's key is the SHA-256 of its address: its code, the digests of the policies it reads, the keys of the states it
reads, the files it reads, the versions of the libraries it uses, the arithmetic it computes with and, if it draws
random numbers, the seed. A state reads policies through a view that allows only those it declares (the key covers no
others) and those that the run's first state sealed.
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
    """The code and libraries that every state of an engine uses, and so part of every key."""

    modules: tuple[ModuleType, ...]
    libraries: tuple[str, ...]  # names of distributions
    arithmetic: str = ""  # the law by which elementary functions are computed


class Steps:
    """Runs the states of one run by key, and reports on each."""

    def __init__(self, base: Stands, memory: Memory, pack: Pack, seed: int, disk: Cache | None = None) -> None:
        self._base, self._memory, self._disk, self._pack, self._seed = base, memory, disk, pack, seed
        self._keys: dict[str, str] = {}
        self._sealed: Mapping[str, str] | None = None
        self.reports: list[StateReport] = []

    def apart(self, *, first: bool) -> Steps:
        """Returns the steps of one shard, with the same keys and no memory. The `first` takes over the reports."""
        other = Steps(self._base, Memory(0), self._pack, self._seed)
        other._keys, other._sealed, other.reports = dict(self._keys), self._sealed, list(self.reports) if first else []
        return other

    def known(self, name: str, content: str) -> None:
        """Sets the key of an input that no step computes, by the digest of its content."""
        self._keys[name] = content

    def seal(self, assets: Mapping[str, str]) -> None:
        """Forbids the states that follow to read any policy but these: asset id -> sha256."""
        self._sealed = assets

    def __call__(
        self, name: str, inputs: tuple[str, ...], policies: tuple[str, ...], modules: tuple[ModuleType, ...],
        compute: Callable[[Reads], Any], *, draws: bool = False, files: Mapping[str, str] | None = None,
        keep: bool = True,
    ) -> Any:  # fmt: skip
        """Returns the value of a state from memory, from disk (`keep`) or computed. `files`: name -> sha256."""
        address = self._addressed(name, inputs, policies, modules, draws, files)
        key = self._keys[name]
        reads, disk = Reads(name, self._pack, policies, self._sealed), self._disk if keep else None
        began, used = time.perf_counter(), time.process_time()
        value, reused = self._memory.get(key, lambda: disk and disk.get(key), lambda: compute(reads))
        seconds, processor_s = time.perf_counter() - began, time.process_time() - used
        if disk is not None and not reused:
            self._kept(key, value, disk)
        self.reports.append(StateReport(name, key, _rows(value), seconds, reused, address, processor_s))
        return value

    def _addressed(
        self, name: str, inputs: tuple[str, ...], policies: tuple[str, ...], modules: tuple[ModuleType, ...],
        draws: bool, files: Mapping[str, str] | None,
    ) -> dict[str, Any]:  # fmt: skip
        """Returns a step's address, and sets its key."""
        address: dict[str, Any] = {
            "state": name,
            "code": code_of(*modules, *self._base.modules),
            "libraries": _versions(self._base.libraries),
            "arithmetic": self._base.arithmetic,
            "policies": {policy: self._pack.policies[policy].digest for policy in policies},
            "inputs": {which: self._keys[which] for which in inputs},
            "files": dict(files or {}),
            "seed": self._seed if draws else None,
        }
        self._keys[name] = digest(address)
        return address

    def _kept(self, key: str, value: Any, disk: Cache) -> None:
        spread(Surface.digest, surfaces_of(value))  # kept beside the columns, so that no later run digests them
        disk.put(key, value)


class Reads(Mapping[str, Mapping[str, Any]]):
    """The policies that a state declares and the run sealed. Raises IntegrityError on reading any other."""

    def __init__(self, state: str, pack: Pack, declared: tuple[str, ...], sealed: Mapping[str, str] | None) -> None:
        self._state, self._pack, self._declared, self._sealed = state, pack, declared, sealed

    def __getitem__(self, policy: str) -> Mapping[str, Any]:
        if policy not in self._declared:
            raise IntegrityError(
                f"{self._state}: reads {policy}, which it does not declare and its key would not cover"
            )
        digest = self._pack.policies[policy].digest
        if self._sealed is not None and self._sealed.get(policy) != digest:
            sealed = self._sealed.get(policy, "nothing")
            raise IntegrityError(f"{self._state}: reads {policy} {digest}, the run sealed {sealed}")
        return self._pack[policy]

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)


_most: int | None = None  # bytes that every memory of this process may have; None: as many as it was given


def remember_at_most(limit: int) -> None:
    """Limits every memory of this process, for a process whose own memory is limited."""
    global _most
    _most = limit


class Memory:
    """State results by key, bounded in bytes. Thread-safe, but two threads may each compute the same key."""

    def __init__(self, limit: int) -> None:
        self._limit, self._values = limit, OrderedDict[str, tuple[Any, int]]()
        self._bytes, self._lock = 0, threading.Lock()

    def get(self, key: str, find: Callable[[], Any | None], compute: Callable[[], Any]) -> tuple[Any, bool]:
        """Returns the value, and whether it was reused: from memory, or by `find`."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key][0], True
        stored = find()
        value = compute() if stored is None else stored
        size = _size(value)
        limit = self._limit if _most is None else min(self._limit, _most)
        with self._lock:
            if key not in self._values:
                self._values[key] = value, size
                self._bytes += size
            while self._bytes > limit and len(self._values) > 1:
                self._bytes -= self._values.popitem(last=False)[1][1]
        return value, stored is not None

    def held(self, key: str) -> Any | None:
        """Returns the value of `key` if it is in memory."""
        with self._lock:
            return self._values[key][0] if key in self._values else None


def named(*values: Any) -> dict[str, Surface]:
    """Returns the surfaces that the values of states are, by name."""
    return {surface.name: surface for value in values for surface in surfaces_of(value)}


def folded(reports: Iterable[StateReport], within: Mapping[str, str]) -> tuple[StateReport, ...]:
    """Returns one report per state: a step `within` a state (step -> state) adds its seconds and inputs to it."""
    by_state: dict[str, StateReport] = {}
    for report in reports:
        state = within.get(report.name, report.name)
        if state in by_state:
            inner = by_state[state]
            address = dict(report.address)
            for part in ("policies", "inputs"):
                address[part] = {**inner.address[part], **report.address[part]}
            address["inputs"] = {name: key for name, key in address["inputs"].items() if within.get(name) != state}
            address["code"] = [inner.address["code"], report.address["code"]]
            report = replace(
                report,
                seconds=inner.seconds + report.seconds,
                processor_s=inner.processor_s + report.processor_s,
                address=address,
            )
        by_state[state] = replace(report, name=state)
    return tuple(by_state.values())


def code_of(*modules: ModuleType) -> str:
    """Returns a hex64 digest over the sources of these modules."""
    sink = hashlib.sha256()
    for path in sorted({str(module.__file__) for module in modules}, key=lambda path: Path(path).name):
        sink.update(_source(path))
    return sink.hexdigest()


def files_of(*modules: ModuleType) -> dict[str, str]:
    """Returns the digest (hex64) of each file that `code_of` covers, by the name of its module."""
    return {module.__name__: _source(str(module.__file__)).hex() for module in modules}


@cache
def _source(path: str) -> bytes:
    """Returns a source file's digest, read once per process: imported code does not change when its file does."""
    return hashlib.sha256(Path(path).read_bytes()).digest()


@cache
def _versions(libraries: tuple[str, ...]) -> str:
    """Returns a hex64 digest of the libraries' versions, since another version may give other results."""
    return digest({name: version(name) for name in libraries})


def _rows(value: Any) -> int:
    """Returns the rows of a state's value, or of the first of a tuple; 0 if it has no `rows`."""
    return int(getattr(value[0] if isinstance(value, tuple) else value, "rows", 0))


def surfaces_of(value: Any) -> list[Surface]:
    """Returns the surfaces that a state's value is, where it is any."""
    return [part for part in (value if isinstance(value, tuple) else (value,)) if isinstance(part, Surface)]


def _size(value: Any) -> int:
    """Returns the bytes of the arrays in a value. Shared arrays are counted each time, to stay on the safe side."""
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
