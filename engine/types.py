"""The nouns that pass between the engine's states, and the protocol behind which any engine stands.

Everything here is frozen, and every array inside is read-only once built: a state receives values and
returns values. How a state computes, where a run is kept and what makes a run good are elsewhere
(`engine.states`, `engine.store`, `scoring`).

Array shapes use these letters: m merchants, n sites, g groups (distinct zones of one merchant, summed
over merchants), d days, r rows of S3 and S4 (r = d * g).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from policies import Pack


@dataclass(frozen=True, slots=True, eq=False)
class Categories:
    """A column of repeated strings: `values[codes[i]]` is row i's value."""

    codes: NDArray[np.integer[Any]]  # [rows] index into values
    values: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice) -> Categories:
        """A view of these rows, under the same values."""
        return Categories(self.codes[rows], self.values)


Column = NDArray[Any] | Categories


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class World:
    """The frozen upstream of one seed: merchants, their sites, each site's zone.

    Merchants ascend by id; sites ascend by (merchant_id, legal_country_iso, site_order); groups
    ascend by (merchant_id, zone name). `zones` and `countries` are sorted, so code order is name order.
    """

    digest: str  # hex64, the manifest fingerprint: SHA-256 over the canonical bytes of all below
    source: str  # "drawn" or "imported"
    merchant_id: NDArray[np.uint64]  # [m] ascending, unique
    is_virtual: NDArray[np.bool_]  # [m]
    site_offsets: NDArray[np.int64]  # [m+1] merchant i owns sites site_offsets[i]:site_offsets[i+1]
    country: Categories  # [n] ISO-3166 alpha-2
    site_order: NDArray[np.int32]  # [n] from 1 within (merchant, country)
    lat_deg: NDArray[np.float64]  # [n] -90 … 90
    lon_deg: NDArray[np.float64]  # [n] -180 … 180
    zone: Categories  # [n] IANA tzid
    zone_source: Categories  # [n] "polygon", "override" or "nudge"
    group_offsets: NDArray[np.int64]  # [m+1] merchant i owns groups group_offsets[i]:group_offsets[i+1]
    group_zone: NDArray[np.int32]  # [g] code into zone.values
    site_group: NDArray[np.int64]  # [n] index into the groups
    merchants_before: int = 0  # of the whole world, where this is a shard of it

    @property
    def zones(self) -> tuple[str, ...]:
        return self.zone.values

    def shard(self, first: int, last: int) -> World:
        """A view of merchants [first, last), offsets and groups counted from its own first.

        The digest stays the whole world's: it addresses the random streams, so a shard's rows are the whole's rows.
        """
        if not 0 <= first < last <= len(self.merchant_id):
            raise ValueError(f"no merchants [{first}, {last}) in a world of {len(self.merchant_id)}")
        site, group = self.site_offsets[first : last + 1], self.group_offsets[first : last + 1]
        sites, groups = slice(site[0], site[-1]), slice(group[0], group[-1])
        return replace(
            self,
            merchant_id=self.merchant_id[first:last],
            is_virtual=self.is_virtual[first:last],
            site_offsets=site - site[0],
            country=self.country[sites],
            site_order=self.site_order[sites],
            lat_deg=self.lat_deg[sites],
            lon_deg=self.lon_deg[sites],
            zone=self.zone[sites],
            zone_source=self.zone_source[sites],
            group_offsets=group - group[0],
            group_zone=self.group_zone[groups],
            site_group=self.site_group[sites] - group[0],
            merchants_before=self.merchants_before + first,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """The rows of S3 and S4: (merchant, day, group), groups fastest. Made once a world and horizon.

    Row of (merchant i, day d, its k-th group) = days * group_offsets[i] + d * groups(i) + k.
    """

    days: tuple[str, ...]  # ISO dates, ascending
    merchant_id: NDArray[np.uint64]  # [r]
    day: Categories  # [r]
    zone: Categories  # [r]
    group: NDArray[np.int64]  # [r] index into the world's groups
    rank: NDArray[np.int32]  # [r] k: the group's rank within its merchant
    starts: NDArray[np.int64]  # [m*d + 1] first row of each merchant-day, and the number of rows

    def shard(self, first: int, last: int) -> Grid:
        """A view of the rows of merchants [first, last), rows and groups counted from its own first."""
        days = len(self.days)
        starts = self.starts[first * days : last * days + 1]
        rows = slice(starts[0], starts[-1])
        return Grid(
            self.days,
            self.merchant_id[rows],
            self.day[rows],
            self.zone[rows],
            self.group[rows] - self.group[starts[0]],
            self.rank[rows],
            starts - starts[0],
        )


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Surface:
    """One published table, held as columns; `table()` is its Arrow form under the declared schema."""

    name: str
    schema: pa.Schema
    columns: Mapping[str, Column]

    def __getitem__(self, column: str) -> Column:
        return self.columns[column]

    @property
    def rows(self) -> int:
        return len(next(iter(self.columns.values())))

    def part(self, rows: slice) -> Surface:
        """A view of these rows."""
        return Surface(self.name, self.schema, {name: column[rows] for name, column in self.columns.items()})

    def table(self) -> pa.Table:
        """The Arrow table: declared columns, types and order, nothing else."""
        arrays = []
        for column, kind in zip(map(self.columns.__getitem__, self.schema.names), self.schema.types, strict=True):
            if isinstance(column, Categories):
                values = pa.array(column.values, pa.string())
                codes = pa.array(np.asarray(column.codes, dtype=np.int32))
                arrays.append(pa.DictionaryArray.from_arrays(codes, values).cast(kind))
            else:
                arrays.append(pa.array(column, kind))
        return pa.Table.from_arrays(arrays, schema=self.schema)


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
        """SHA-256 of each surface's bytes (hex64), computed now: trials that are not kept never pay for it."""
        from engine.tables import table_digest
        from engine.workers import spread

        found = spread(lambda surface: table_digest(surface.table()), self.surfaces.values())
        return dict(zip(self.surfaces, found, strict=True))


class Engine(Protocol):
    """What `sweeps` knows of an engine, and all of it. Found under the entry-point group `proofmark.engines`."""

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
