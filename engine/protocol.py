"""What any engine is: the values that pass between an engine and its callers, and the protocols it may satisfy.

An `Engine` has a name, the schemas of its policies, and `evaluate`. It may add what it has; what it leaves out,
`engine.resolved` fills in or refuses in one line:

    states            names of its states in order; left out: one, named after the engine
    code_version      hex64 of what computes; left out: a digest of its source files
    baseline          the pack that a published run is set beside; left out: none
    world= until=     keywords of `evaluate`: a world brought in from outside, the last state wanted
    the protocols     Keeping, Publishing, Exporting, Declaring, Worlds, Sharding, Serving, Feeding

An engine is found by its name in each process and never pickled; a pack is. How a state computes, where a run is kept
and what makes a run good are elsewhere. `engine.testing.EngineContract` holds an engine to all that it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
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

    name: str
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
    surfaces: Mapping[str, Surface]  # callers ask one for its `rows` and its `table()`, nothing else
    states: tuple[StateReport, ...]
    upstream: Any = None  # the engine's own view of its world; its metrics may read it
    sealed: Any = None  # the engine's own receipt of what it read
    audit: Any = None  # what an engine that audits itself found, where it went so far: anything with `passed`

    def digests(self) -> dict[str, str]:
        """SHA-256 of each surface's bytes (hex64), computed when asked: trials that are not kept never pay for it."""
        found = spread(digest_of, self.surfaces.values())
        return dict(zip(self.surfaces, found, strict=True))


@dataclass(frozen=True, slots=True)
class Published:
    """A run's folder, and the reports of states that are computed only where files are."""

    folder: Path
    states: tuple[StateReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Replayed:
    """What executing a published run again gave."""

    files: int
    differences: tuple[str, ...]  # files that differ, are missing, or are new

    @property
    def identical(self) -> bool:
        return not self.differences


class Engine(Protocol):
    """What every engine is. Found under the entry-point group `lanelock.engines`."""

    name: str

    @property
    def policy_schemas(self) -> Mapping[str, Mapping[str, Any]]:
        """Policy name -> JSON Schema (`policy.schema.json` says which keys it may have); a pack has exactly these."""
        ...

    def evaluate(self, pack: Pack, seed: int) -> Run:
        """Returns one run: the same bytes for the same pack and seed (and world), whenever and wherever it is made."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """An engine that keeps its states on disk by key, so that only what changed is computed."""

    @property
    def unkept(self) -> str:
        """Why a state could not be kept in the cache; empty where all could."""
        ...

    def keeping(self, folder: Path, limit_bytes: int) -> Engine:
        """Returns the same engine over a cache of at most `limit_bytes` in `folder`."""
        ...


@runtime_checkable
class Publishing(Protocol):
    """An engine whose runs are written as files, read back as runs, verified and executed again.

    A published run is a folder `<runs>/<run_id>` with a receipt: `engine.keep.published` says which and writes one.
    """

    def publish(self, run: Run, runs: Path) -> Published:
        """Writes a run below `runs`, whole or not at all; a no-op where it is there already.

        Raises IntegrityError where other bytes were published under its id.
        """
        ...

    def open_run(self, folder: Path) -> Run:
        """Returns a published run from its files alone. Raises IntegrityError where they are not as published."""
        ...

    def faults(self, folder: Path) -> Iterable[tuple[str, str]]:
        """Yields (file, what is wrong) for every file that is not as it was published."""
        ...

    def replay(self, folder: Path, scratch: Path) -> Replayed:
        """Executes a run again from what it was published with, below `scratch`, and compares every file."""
        ...


@runtime_checkable
class Exporting(Protocol):
    """An engine that writes a run's logs in a form for other tools."""

    def export(self, run: Run, exports: Path) -> Path:
        """Writes the logs of a run as JSON Lines below `exports`; the folder."""
        ...


@runtime_checkable
class Declaring(Protocol):
    """An engine that declares its surfaces."""

    def contract(self) -> Sequence[Mapping[str, Any]]:
        """Returns per surface: surface, state, path, key (names in order), columns (each a name, type and unit)."""
        ...


@runtime_checkable
class Worlds(Protocol):
    """An engine that stands on a world, drawn from a pack and a seed or brought in from a folder.

    Its `evaluate` takes `world`, such a folder.
    """

    def open_world(self, pack: Pack, seed: int, folder: Path | None) -> Any:
        """Returns the world of a pack and seed, or the one in `folder`."""
        ...

    def describe_world(self, world: Any) -> Mapping[str, Any]:
        """Returns what the world holds, as JSON; its `digest` among it, which is `world_digest` of a run on it."""
        ...

    def keep_world(self, world: Any, folder: Path) -> None:
        """Writes a world to `folder`, whole or not at all, to be brought in again."""
        ...

    def world_of(self, run: Path) -> Path:
        """Returns where the world of a published run lies, to run another pack on it."""
        ...


@runtime_checkable
class Feeding(Protocol):
    """An engine whose runs are fed by more than their world, each data set kept as a surface of the run.

    Where its `evaluate` takes a data set's name as a keyword, a file brought in from outside stands for what it draws.
    """

    feeds: Mapping[str, str]  # name of the data set -> the surface that holds it


@runtime_checkable
class Sharding(Protocol):
    """An engine that can run in shards, parts that it computes by themselves."""

    def sharded(self, size: int | None, jobs: int) -> Engine:
        """Returns the same engine, and the same bytes, over shards of about `size` units on `jobs` threads.

        The unit is the engine's own (whatever its rows belong to); `None`: as many shards as threads.
        """
        ...

    def evaluate_shards(self, pack: Pack, seed: int) -> Iterator[Run]:
        """Returns the run in parts, in order, each with the rows of its shard. Takes `world` as `evaluate` does."""
        ...


class Service(Protocol):
    """What a consumer of a promoted candidate calls: rows in, an answer per row, in the same order."""

    def answer(self, arrivals: pa.Table) -> pa.Table:
        """Raises DataError naming the first row and field that cannot be answered."""
        ...


@runtime_checkable
class Serving(Protocol):
    """An engine whose candidates can be put to use: what a run froze, answering for single rows."""

    def serve(self, pack: Pack, seed: int) -> tuple[Run, Service]:
        """Returns a run as far as the service stands on, and the service. Takes `world` as `evaluate` does."""
        ...
