"""The protocols of an engine, and the values that pass between an engine and its callers.

An `Engine` has a name, the schemas of its policies, and `evaluate`. Everything else is optional; `engine.resolved`
supplies a default or refuses in one line:

    states            names of its states in order; default: a single state, named after the engine
    code_version      hex64 digest of the code that computes; default: a digest of its source files
    code_files        digests of the files that the code version covers, by name; default: those source files
    fingerprint       hex64 digest of what its arithmetic gives on this machine for fixed arguments; default: none. With
                      one, a machine that computes otherwise is named instead of giving other digests without a reason
    baseline          the pack that a published run is compared with; default: no pack
    world= until=     keywords of `evaluate`: the folder of an imported world, the last state wanted
    the protocols     Keeping, Isolating, Publishing, Exporting, Layouts, Declaring, Worlds, Sharding, Serving,
                      Feeding, PolicyForms

Each process looks an engine up by its name: engines are never pickled, packs are. How a state computes, where a run is
kept and what makes a run good are elsewhere. `engine.testing.EngineContract` tests an engine against every protocol it
has.
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
    """A report of one state of one run. It is never part of a surface, so seconds may differ between hosts."""

    name: str
    key: str  # hex64 content address: the digest of `address`
    rows: int
    seconds: float
    reused: bool
    address: Mapping[str, Any] = field(default_factory=dict)  # code version, policies, inputs, seed if it draws
    processor_s: float = 0.0  # of all threads of the process while it was computed; 0 where the engine gives none


def moved_by(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Returns the names of the parts of a state's address that differ between two runs."""
    parts = []
    for part in sorted(before.keys() | after.keys()):
        old, new = before.get(part), after.get(part)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            parts += [f"{part[:-1] if part != 'policies' else 'policy'} {name}"
                      for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]  # fmt: skip
        elif old != new:
            parts.append(part)
    return parts


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """The engine once: (world, pack, seed) -> surfaces."""

    run_id: str  # hex32, a digest of engine, world, pack and seed
    engine: str
    seed: int
    pack: Pack
    world_digest: str  # hex64
    code_version: str  # hex64
    surfaces: Mapping[str, Surface]  # callers use only a surface's `rows` and `table()`
    states: tuple[StateReport, ...]
    upstream: Any = None  # the engine's own view of its world; its metrics may read it
    sealed: Any = None  # the engine's own receipt of the files it read
    audit: Any = None  # any object with `passed`, if the engine audits itself and ran that far
    fingerprint: str = ""  # hex64, of the machine that computed it; empty if the engine gives none

    def digests(self) -> dict[str, str]:
        """Returns the SHA-256 (hex64) of each surface's bytes. Computed on demand, since most trials need none."""
        digests = spread(digest_of, self.surfaces.values())
        return dict(zip(self.surfaces, digests, strict=True))


@dataclass(frozen=True, slots=True)
class Published:
    """A published run's folder, and the reports of states that are computed only when files are written."""

    folder: Path
    states: tuple[StateReport, ...] = ()


@dataclass(frozen=True, slots=True)
class Replayed:
    """The result of executing a published run again."""

    files: int
    differences: tuple[str, ...]  # files that differ, are missing, or are new

    @property
    def identical(self) -> bool:
        return not self.differences


class Engine(Protocol):
    """A deterministic engine, registered under the entry-point group `lanelock.engines`."""

    name: str

    @property
    def policy_schemas(self) -> Mapping[str, Mapping[str, Any]]:
        """Maps each policy of a pack to its JSON Schema, which `policy.schema.json` must allow."""
        ...

    def evaluate(self, pack: Pack, seed: int) -> Run:
        """Returns one run. The same pack, seed and world give the same bytes at any time and on any host."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """An engine that caches its states on disk by key, so that only changed states are computed."""

    @property
    def unkept(self) -> str:
        """The reason why a state could not be cached; empty if all were."""
        ...

    def keeping(self, folder: Path, limit_bytes: int) -> Engine:
        """Returns the same engine with a cache of at most `limit_bytes` in `folder`."""
        ...


@dataclass(frozen=True, slots=True)
class Taken:
    """An input of a state that was run alone, and where its value came from."""

    name: str  # of the state, or of the step within one
    key: str
    source: str  # "cache", "run" or "computed"


@dataclass(frozen=True, slots=True)
class Isolated:
    """A state that was run alone."""

    run: Run  # with the surfaces of the state and of what it reads, and the report of the state
    own: tuple[str, ...]  # names of the state's surfaces
    taken: tuple[Taken, ...]


@runtime_checkable
class Isolating(Protocol):
    """An engine that can run one state alone, from inputs that are kept."""

    def evaluate_alone(self, pack: Pack, seed: int, state: str, given: Run | None) -> Isolated:
        """Runs one state alone.

        The state itself is always computed; of its inputs only what costs little. `given` is an opened run to take
        inputs from. May take `world` and the data sets of `Feeding`, as `evaluate`. Raises DataError naming the inputs
        that are kept nowhere, and an input that is another in `given`.
        """
        ...


@runtime_checkable
class Publishing(Protocol):
    """An engine whose runs are written as files, read back as runs, verified and executed again.

    A published run is a folder `<runs>/<run_id>` with a receipt; `engine.keep.published` defines and writes it.
    """

    def publish(self, run: Run, runs: Path) -> Published:
        """Writes a run below `runs`, whole or not at all; does nothing if the run is already there.

        Raises IntegrityError if other bytes were published under its id.
        """
        ...

    def open_run(self, folder: Path) -> Run:
        """Returns a published run from its files alone. Raises IntegrityError if they have changed."""
        ...

    def faults(self, folder: Path) -> Iterable[tuple[str, str]]:
        """Yields (file, fault) for every file that differs from what was published."""
        ...

    def replay(self, folder: Path, scratch: Path) -> Replayed:
        """Executes a published run again below `scratch`, from its stored inputs, and compares every file."""
        ...


@runtime_checkable
class Exporting(Protocol):
    """An engine that exports a run's logs for other tools."""

    def export(self, run: Run, exports: Path) -> Path:
        """Writes the logs of a run as JSON Lines below `exports` and returns their folder."""
        ...


@runtime_checkable
class Layouts(Protocol):
    """An engine that also writes its runs in other forms than its own, for other tools to open."""

    layouts: Mapping[str, str]  # name -> what it is

    def lay_out(self, run: Run, layout: str, folder: Path) -> Path:
        """Writes a run in one of its layouts as `folder`, whole or not at all, and returns the folder.

        Does nothing if the same bytes are there. Raises IntegrityError if other bytes are.
        """
        ...


@runtime_checkable
class Declaring(Protocol):
    """An engine that declares its surfaces."""

    def contract(self) -> Sequence[Mapping[str, Any]]:
        """Returns per surface: surface, state, path, key (column names), columns (name, type and unit of each)."""
        ...


@runtime_checkable
class Worlds(Protocol):
    """An engine that uses a world, either drawn from a pack and a seed or imported from a folder.

    Its `evaluate` takes that folder as `world`.
    """

    def open_world(self, pack: Pack, seed: int, folder: Path | None) -> Any:
        """Returns the world of a pack and seed, or the one in `folder`."""
        ...

    def describe_world(self, world: Any, pack: Pack) -> Mapping[str, Any]:
        """Returns a summary of the world as JSON, under `pack`. Its `digest` equals `world_digest` of a run on it."""
        ...

    def keep_world(self, world: Any, folder: Path) -> None:
        """Writes a world to `folder`, whole or not at all, so that it can be imported."""
        ...

    def world_of(self, run: Path) -> Path:
        """Returns the folder of a published run's world, to run another pack on it."""
        ...


@runtime_checkable
class Feeding(Protocol):
    """An engine whose runs have further data sets as input, each kept as a surface of the run.

    If its `evaluate` takes a data set's name as a keyword, an imported file replaces the data that it draws.
    """

    feeds: Mapping[str, str]  # name of the data set -> the surface that holds it


@runtime_checkable
class Sharding(Protocol):
    """An engine that can run in shards: parts that it computes independently."""

    def sharded(self, size: int | None, jobs: int) -> Engine:
        """Returns an engine that gives the same bytes, in shards of about `size` units on `jobs` threads.

        The unit is the engine's own (whatever its rows belong to); `None`: as many shards as threads.
        """
        ...

    def evaluate_shards(self, pack: Pack, seed: int) -> Iterator[Run]:
        """Returns the run in parts, in order, each with the rows of its shard. May take `world`."""
        ...


@runtime_checkable
class PolicyForms(Protocol):
    """An engine whose policies have other forms beside its own, for other tools."""

    policy_forms: Mapping[str, str]  # name -> what it is

    def import_policies(
        self, documents: Mapping[str, Any], form: str, base: Pack
    ) -> tuple[Mapping[str, Any], Mapping[str, Sequence[str]]]:
        """Returns a pack's documents, and by file the fields (JSON pointers) that have no meaning here.

        `documents`: policies in that form by the name of their file. What they do not state is that of `base`. Raises
        PolicyError naming file, field and bound.
        """
        ...

    def export_policies(self, pack: Pack, form: str) -> Mapping[str, Any]:
        """Returns the pack's policies in that form by name. Importing them gives the pack's own documents again."""
        ...


class Service(Protocol):
    """The interface to a promoted candidate: takes rows, returns one answer per row in the same order."""

    def answer(self, arrivals: pa.Table) -> pa.Table:
        """Answers each row. Raises DataError naming the first row and field that cannot be answered."""
        ...


@runtime_checkable
class Serving(Protocol):
    """An engine whose candidates can be served: the result of a run answers single rows."""

    def serve(self, pack: Pack, seed: int) -> tuple[Run, Service]:
        """Returns a run up to the last state that the service uses, and the service. May take `world`."""
        ...
