"""What any engine is: the values that pass between an engine and its callers, and the protocols it may satisfy.

How a state computes, where a run is kept and what makes a run good are elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa

from lanelock.engine.surface import Surface, digest_of
from lanelock.engine.workers import spread
from lanelock.policies import Pack


@dataclass(frozen=True, slots=True)
class StateReport:
    """What one state did in one run: never part of a surface, so seconds may differ between hosts."""

    name: str  # "S3"
    key: str  # hex64 content address: code version, policy digest, input keys, seed where it draws
    rows: int
    seconds: float
    reused: bool
    address: Mapping[str, Any] = field(default_factory=dict)  # what the key is the digest of, input by input


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """The engine once: (world, pack, seed) -> surfaces."""

    run_id: str  # hex32, a digest of engine, world, pack and seed
    engine: str
    seed: int
    pack: Pack
    world_digest: str  # hex64
    code_version: str  # hex64
    surfaces: Mapping[str, Surface]
    states: tuple[StateReport, ...]
    upstream: Any = None  # the engine's own view of its upstream (segment 2B: World); metrics may read it
    sealed: Any = None  # the engine's own receipt of what it read (segment 2B: SealedInputs)
    audit: Any = None  # what the engine found when it audited itself, where it went so far (segment 2B: Audit)

    def digests(self) -> dict[str, str]:
        """SHA-256 of each surface's bytes (hex64), computed when asked: trials that are not kept never pay for it."""
        found = spread(digest_of, self.surfaces.values())
        return dict(zip(self.surfaces, found, strict=True))


class Engine(Protocol):
    """What `sweeps` knows of an engine, and all of it. Found under the entry-point group `lanelock.engines`."""

    name: str
    code_version: str
    policy_schemas: Mapping[str, Mapping[str, Any]]  # policy name -> JSON Schema; a pack has exactly these
    states: Sequence[str]  # in order

    def evaluate(self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None) -> Run:
        """One run. `world` is a folder brought in from outside; `until` names the last state wanted."""
        ...


@runtime_checkable
class Publishing(Protocol):
    """An engine whose runs can be kept: its states by key on disk, its runs published, opened and executed again."""

    @property
    def unkept(self) -> str:
        """Why a state could not be kept in the cache; empty where all could."""
        ...

    def keeping(self, folder: Path, limit_bytes: int) -> Publishing:
        """The same engine over a bounded cache of states in `folder`."""
        ...

    def evaluate(
        self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None, roster: Path | None = None
    ) -> Run: ...


@runtime_checkable
class Feeding(Protocol):
    """An engine whose runs are fed by more than their world, drawn or brought in, and kept as a surface of the run."""

    feeds: Mapping[str, str]  # name of the data set -> the surface that holds it


@runtime_checkable
class Sharding(Protocol):
    """An engine that can cut its upstream into shards, each of which it runs by itself."""

    name: str

    def sharded(self, merchants: int | None, jobs: int) -> Sharding:
        """The same engine, and the same bytes, over shards of about `merchants` merchants on `jobs` threads."""
        ...

    def evaluate_shards(
        self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None
    ) -> Iterator[Run]:
        """The run in parts, in order: each holds the rows of its shard, and its shard as upstream."""
        ...

    def evaluate(self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None) -> Run:
        """As every engine's."""
        ...


class Service(Protocol):
    """What a consumer of a promoted candidate calls: rows in, an answer a row, in the same order."""

    def answer(self, arrivals: pa.Table) -> pa.Table:
        """Raises DataError naming the first row and field that cannot be answered."""
        ...


@runtime_checkable
class Serving(Protocol):
    """An engine whose candidates can be put to use: what a run froze, answering for single rows."""

    def serve(self, pack: Pack, seed: int, *, world: Path | None = None) -> tuple[Run, Service]:
        """A run as far as the service stands on, and the service."""
        ...
