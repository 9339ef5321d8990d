"""Segment 2B behind the engine protocol: nine states, visible as calls, each computed only if its inputs changed.

What a key is made of and what a state may read stands in `engine.steps`. Results are kept in memory by key
and, where a cache is attached, on disk: moving a knob of S4 recomputes S4 and what follows and nothing above
it, because no key above it has changed. S8 answers for files, so it is called where files are: in
`engine.segment_2b.store`. What the engine adds to the protocol beside its states are one call each to its modules.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from lanelock.engine import protocol, surface
from lanelock.engine.keep import columns, frozen, receipts
from lanelock.engine.keep.cache import Cache
from lanelock.engine.keep.frozen import Kinds
from lanelock.engine.keep.published import RECEIPT
from lanelock.engine.protocol import Published, Replayed, Run
from lanelock.engine.segment_2b import draw_world as world
from lanelock.engine.segment_2b import (
    geography,
    mass,
    roster_import,
    streams,
    tables,
    user_tables,
    world_import,
    world_receipt,
)
from lanelock.engine.segment_2b import world as world_types
from lanelock.engine.segment_2b.draw_world import describe
from lanelock.engine.segment_2b.service import RoutingService
from lanelock.engine.segment_2b.shards import Across, Cuts, Span
from lanelock.engine.segment_2b.states import (
    rng_log,
    s0_gate,
    s1_site_weights,
    s2_alias_index,
    s3_day_effects,
    s4_group_weights,
    s5_roster,
    s5_routing,
    s6_edges,
    s7_arrivals,
    s7_audit,
    s7_evidence,
    s7_weights,
)
from lanelock.engine.segment_2b.world import World
from lanelock.engine.segment_2b.world_receipt import UPSTREAM
from lanelock.engine.steps import Memory, Reads, Stands, Steps, code_of, folded
from lanelock.engine.surface import Surface, table_digest
from lanelock.engine.workers import at_most, mapped
from lanelock.policies import DataError, Pack, PolicyError
from lanelock.policies.documents import ROOT, read_schema

WORLD, LAYOUT, EFFECTS, MIX, ROUTING, EDGES = POLICIES = (
    "world_v1",
    "alias_layout_policy_v1",
    "day_effect_policy_v1",
    "group_mix_regularizer_v1",
    "route_rng_policy_v1",
    "virtual_edge_policy_v1",
)
_UPSTREAM = (world, world_import, world_receipt, user_tables, geography)
_ROSTER = (rng_log, s5_roster)
_AUDIT = (s7_audit, s7_evidence, s7_weights, s7_arrivals)
_STATES = (s0_gate, s1_site_weights, s2_alias_index, s3_day_effects, s4_group_weights, *_ROSTER, s5_routing)
_WITHIN = {"grid": "S3", "raw mix": "S4", "roster": "S5"}  # steps that are remembered by themselves -> their state
_BASE = Stands(
    (protocol, surface, columns, world_types, frozen, tables, mass, streams),
    ("numpy", "scipy", "numba", "pyarrow", "tzfpy", "tzdata"),
)
KINDS: Kinds = {  # what its states return, as the cache may hold it
    kind.__name__: kind
    for kind in (
        surface.Surface,
        surface.Categories,
        World,
        s0_gate.Asset,
        s0_gate.SealedInputs,
        s7_audit.Check,
        s7_audit.Audit,
    )
}
_SCHEMAS = ROOT / "segment_2b" / "schemas"
_MEMORY_BYTES = 3 << 30


class Segment2B:
    """The routing-realism layer: sites, weights, day effects, group mixes, routed arrivals."""

    name = s0_gate.ENGINE
    baseline = "baseline"
    states = ("S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8")
    by_merchant = states[:5]  # those that a shard can compute by itself
    feeds: ClassVar = {"roster": "s5_arrival_roster"}

    def __init__(self, memory_bytes: int = _MEMORY_BYTES, disk: Cache | None = None) -> None:
        self._memory, self._disk, self._cuts = Memory(memory_bytes), disk, Cuts()

    def keeping(self, folder: Path, limit_bytes: int) -> Segment2B:
        """The same engine, memory and all, over a bounded cache in `folder`."""
        other = copy(self)
        other._disk = Cache(folder, limit_bytes, KINDS)
        return other

    @property
    def unkept(self) -> str:
        """Why a state could not be kept in the cache; empty where all could."""
        return "" if self._disk is None else self._disk.trouble

    def sharded(self, size: int | None, jobs: int) -> Segment2B:
        """The same engine, memory and all, over shards of about `size` merchants on `jobs` threads."""
        other = copy(self)
        other._cuts = Cuts(size, jobs)
        return other

    @cached_property
    def policy_schemas(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: read_schema(_SCHEMAS / f"{name}.schema.json") for name in POLICIES}

    @cached_property
    def code_version(self) -> str:
        """Hex64 over the source of every state and of all they stand on."""
        return code_of(*_STATES, s6_edges, *_AUDIT, receipts, roster_import, *_UPSTREAM, *_BASE.modules)

    def evaluate(
        self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None, roster: Path | None = None
    ) -> Run:
        """One run. `roster` is a table of arrivals brought in from outside.

        Raises PolicyError or DataError on input that cannot be run, IntegrityError on a state that reads what
        it does not declare or S0 did not seal.
        """
        wanted = self._wanted(self.states, until)
        step = Steps(_BASE, self._memory, pack, seed, self._disk)
        with at_most(self._cuts.jobs):
            upstream = self._upstream(step, seed, world)
            arrivals, sha256 = (None, None) if roster is None else _arrivals(step, roster, upstream)
            s0 = _gate(step, upstream, pack, seed, sha256)
            return self._run(step, upstream, s0, self._cuts, pack, seed, wanted, arrivals)

    def evaluate_shards(
        self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None
    ) -> Iterator[Run]:
        """The states that are computed by merchant, one run a shard, in order: measure it, append it, let it go.

        Only the world is held whole, and nothing of a shard is remembered. World and S0 are reported by the first.
        """
        wanted = self._wanted(self.by_merchant, until)
        step = Steps(_BASE, self._memory, pack, seed)
        upstream = self._upstream(step, seed, world)
        s0 = _gate(step, upstream, pack, seed, None)

        def one(span: Span) -> Run:
            shard = upstream.shard(*span)
            return self._run(step.apart(first=span[0] == 0), shard, s0, Cuts(jobs=1), pack, seed, wanted, None)

        return mapped(one, self._cuts.spans(upstream), self._cuts.threads)

    def serve(self, pack: Pack, seed: int, *, world: Path | None = None) -> tuple[Run, RoutingService]:
        """The run as far as its mixes, and the service that routes by them."""
        run = self.evaluate(pack, seed, world=world, until="S4")
        upstream, days = run.upstream, s3_day_effects.horizon(pack[EFFECTS])
        tables = s5_routing.router(
            upstream, run.surfaces["s1_site_weights"], run.surfaces["s4_group_weights"], pack[ROUTING], seed,
            s5_roster.first_day(days), len(days),
        )  # fmt: skip
        return run, RoutingService(tables, upstream.is_virtual)

    def publish(self, run: Run, runs: Path) -> Published:
        """The run's folder, and S8's report; its seconds are those of writing."""
        from lanelock.engine.segment_2b import store  # here and below: only who reads or writes files needs Parquet

        began = time.perf_counter()
        folder = store.publish(run, runs)
        return Published(folder, (store.bundled(run, folder, time.perf_counter() - began),))

    def open_run(self, folder: Path) -> Run:
        from lanelock.engine.segment_2b import store

        return store.open_run(folder, self.policy_schemas)

    def faults(self, folder: Path) -> list[tuple[str, str]]:
        """Files that are not as published; where all are, what does not follow from the inputs beside it."""
        from lanelock.engine.segment_2b import store

        receipt = receipts.read_receipt(folder / RECEIPT)
        return [*store.faults(folder, receipt)] or [*store.seals(folder, receipt, self.policy_schemas)]

    def replay(self, folder: Path, scratch: Path) -> Replayed:
        from lanelock.engine.segment_2b import store

        return store.replay(folder, scratch, self.policy_schemas, type(self)().evaluate)

    def export(self, run: Run, exports: Path) -> Path:
        from lanelock.engine.segment_2b.export import write_json_lines

        return write_json_lines(run, exports)

    def contract(self) -> Sequence[Mapping[str, Any]]:
        return tables.contract()

    def open_world(self, pack: Pack, seed: int, folder: Path | None) -> World:
        if folder is None:
            return world.draw_world(pack[WORLD], seed)
        return world_import.open_world(folder, pack[WORLD])

    def describe_world(self, world: World) -> Mapping[str, Any]:
        return describe(world)

    def keep_world(self, world: World, folder: Path) -> None:
        from lanelock.engine.segment_2b import store

        store.keep_world(world, folder)

    def world_of(self, run: Path) -> Path:
        return run / UPSTREAM

    def _wanted(self, states: tuple[str, ...], until: str | None) -> Collection[str]:
        """The states to compute. No metric reads the alias tables: a trial, which has a last state, builds none."""
        if until is None:
            return states
        if until not in states:
            raise PolicyError(f"{until!r} is not a state of {self.name} that can end this: {', '.join(states)}")
        wanted = states[: states.index(until) + 1]
        return [state for state in wanted if state != "S2" or until == "S2" or "S7" in wanted]  # S7 reads all

    def _upstream(self, step: Steps, seed: int, folder: Path | None) -> World:
        """The world, keyed by its content from here on: another way to the same sites moves no state."""

        def read(policy: Reads) -> World:
            if folder is None:
                return world.draw_world(policy[WORLD], seed)
            found = world_import.open_world(folder, policy[WORLD])
            if world_receipt.world_files(folder) != files:  # else the key would stand for other tables
                raise DataError(f"{folder}: the tables changed while they were being read; run again")
            return found

        files = {} if folder is None else world_receipt.world_files(folder)
        found: World = step("world", (), (WORLD,), _UPSTREAM, read, draws=folder is None, files=files)
        step.known("world", found.digest)
        return found

    def _run(
        self, step: Steps, upstream: World, s0: s0_gate.SealedInputs, cuts: Cuts, pack: Pack, seed: int,
        wanted: Collection[str], arrivals: Any,
    ) -> Run:  # fmt: skip
        stamp, surfaces, audit = s0.created_utc, dict[str, Surface](), None
        across = Across(cuts, upstream, int(pack[EFFECTS]["horizon"]["days"]))
        if "S1" in wanted:
            s1 = step("S1", ("world",), (LAYOUT,), (s1_site_weights,),
                      lambda policy: across(s1_site_weights.site_weights, upstream, policy[LAYOUT], stamp))  # fmt: skip
            surfaces[s1.name] = s1
        if "S2" in wanted:
            s2 = step("S2", ("world", "S1"), (LAYOUT,), (s2_alias_index, s1_site_weights),
                      lambda policy: s2_alias_index.alias_index(upstream, s1, policy[LAYOUT]))  # fmt: skip
            surfaces |= {surface.name: surface for surface in s2}
        if "S3" in wanted:
            rows = step("grid", ("world",), (EFFECTS,), (s3_day_effects, s1_site_weights),
                        lambda policy: s3_day_effects.grid(upstream, policy[EFFECTS]), keep=False)  # fmt: skip
            s3 = step("S3", ("world", "grid"), (EFFECTS,), (s3_day_effects, s1_site_weights),
                      lambda policy: across(s3_day_effects.day_effects, upstream, rows, policy[EFFECTS], seed, stamp),
                      draws=True)  # fmt: skip
            surfaces[s3.name] = s3
        if "S4" in wanted:
            raw = step("raw mix", ("world", "S1", "S3"), (), (s4_group_weights,),
                       lambda _: across(s4_group_weights.raw_mix, upstream, rows, s1, s3), keep=False)  # fmt: skip
            s4 = step("S4", ("raw mix",), (MIX,), (s4_group_weights,),
                      lambda policy: across(s4_group_weights.group_weights, rows, raw, policy[MIX], stamp))  # fmt: skip
            surfaces[s4.name] = s4
        if "S5" in wanted:
            if arrivals is None:
                arrivals = step("roster", ("world",), (EFFECTS, ROUTING), _ROSTER, lambda policy: s5_roster.roster(
                    upstream, rows.days, policy[ROUTING], seed, stamp), draws=True)  # fmt: skip
            s5 = step("S5", ("world", "roster", "S1", "S4"), (ROUTING,), (*_ROSTER, s5_routing),
                      lambda policy: s5_routing.routed(
                          upstream, rows.days, s1, s4, arrivals, policy[ROUTING], seed, stamp), draws=True)  # fmt: skip
            surfaces |= {surface.name: surface for surface in (arrivals, *s5)}
        if "S6" in wanted:
            s6 = step("S6", ("world", "roster"), (ROUTING, EDGES), (*_ROSTER, s5_routing, s6_edges),
                      lambda policy: s6_edges.logged(
                          s6_edges.edges(upstream, arrivals, policy[EDGES], policy[ROUTING], seed, stamp),
                          policy[ROUTING], stamp), draws=True)  # fmt: skip
            surfaces |= {surface.name: surface for surface in s6}
        if "S7" in wanted:
            evidence = s7_evidence.Evidence(upstream, pack, seed, s0, surfaces)
            audit = step("S7", ("S0", "S1", "S2", "S3", "S4", "S5", "S6"), POLICIES, (*_AUDIT, *_STATES, s6_edges),
                         lambda _: s7_audit.audit(evidence))  # fmt: skip
        return Run(
            s0_gate.run_id_of(pack, seed, s0), self.name, seed, pack, upstream.digest, self.code_version, surfaces,
            folded(step.reports, _WITHIN), upstream, s0, audit,
        )  # fmt: skip


def _gate(step: Steps, upstream: World, pack: Pack, seed: int, roster: str | None) -> s0_gate.SealedInputs:
    """S0: from here on no state reads a policy that was not sealed. `roster`: digest of one brought in."""
    brought = {} if roster is None else {"arrival_roster": roster}
    step.known("world source", upstream.source)  # it is sealed with the world, and a replay goes by it
    s0: s0_gate.SealedInputs = step(
        "S0", ("world", "world source"), POLICIES, (s0_gate,),
        lambda _: s0_gate.seal(upstream, pack, seed, roster),
        draws=True, files=brought,
    )  # fmt: skip
    step.seal(s0.digests())
    return s0


def _arrivals(step: Steps, file: Path, upstream: World) -> tuple[Surface, str]:
    """A roster from outside and its digest, its key: the same arrivals in another file change nothing."""

    def read(policy: Reads) -> Surface:
        days, stamp = s3_day_effects.horizon(policy[EFFECTS]), str(policy[WORLD]["verified_utc"])
        opened = roster_import.open_roster(file, upstream, days, policy[ROUTING], stamp)
        if user_tables.file_digest(file) != files:  # else the key would stand for other arrivals
            raise DataError(f"{file}: the roster changed while it was being read; run again")
        return opened

    modules = (roster_import, user_tables, *_ROSTER)
    files = user_tables.file_digest(file)
    found: Surface = step("roster", ("world",), (WORLD, EFFECTS, ROUTING), modules, read, files=files, keep=False)
    sha256 = table_digest(found.table())
    step.known("roster", sha256)
    return found, sha256


SEGMENT_2B = Segment2B()
