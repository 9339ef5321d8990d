"""Segment 2B as an engine: nine states, each one call, computed only if its inputs changed.

`engine.steps` defines a state's key and what it may read. Results are kept in memory by key and, with a cache, on
disk: moving a knob of S4 recomputes S4 and later states, because no earlier key changes. S8 digests files, so it is
called in `engine.segment_2b.store`. The optional parts of the protocol are one call each to the module that does it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from lanelock.engine import arithmetic, columns, compiled, protocol, steps, surface, workers
from lanelock.engine.alone import Plan
from lanelock.engine.keep import frozen, receipts
from lanelock.engine.keep.cache import Cache
from lanelock.engine.keep.frozen import Kinds
from lanelock.engine.keep.published import receipt_in
from lanelock.engine.protocol import Isolated, Published, Replayed, Run, Taken
from lanelock.engine.segment_2b import (
    cells,
    draw_world,
    geography,
    mass,
    plausibility,
    rebalance,
    roster_import,
    streams,
    tables,
    user_tables,
    world,
    world_import,
    world_receipt,
    zones,
)
from lanelock.engine.segment_2b.record import bundle, given, places
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
from lanelock.engine.steps import Memory, Reads, Stands, Steps, code_of, files_of, folded, named
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
_GIVEN = (given, bundle, places)
_UPSTREAM = (draw_world, rebalance, world_import, world_receipt, *_GIVEN, user_tables, cells, geography, zones)
_ROSTER = (rng_log, s5_roster)
_AUDIT = (s7_audit, s7_evidence, s7_weights, s7_arrivals)
_STATES = (s0_gate, s1_site_weights, s2_alias_index, s3_day_effects, s4_group_weights, *_ROSTER, s5_routing)
_WITHIN = {
    "ranking": "S1",
    "grid": "S3",
    "raw mix": "S4",
    "roster": "S5",
}  # steps with a key of their own -> their state
_BASE = Stands(
    (protocol, surface, columns, world, frozen, tables, arithmetic, mass, streams),
    ("numpy", "numba", "pyarrow", "tzfpy"),
    arithmetic.VERSION,
)
_CODE = (*_STATES, s6_edges, *_AUDIT, receipts, roster_import, *_UPSTREAM, *_BASE.modules)
KINDS: Kinds = {  # the types that the cache may hold: those that states return
    kind.__name__: kind
    for kind in (
        surface.Surface,
        surface.Categories,
        World,
        rebalance.Rebalance,
        s0_gate.Asset,
        s0_gate.SealedInputs,
        s7_audit.Check,
        s7_audit.Audit,
    )
}
_SURFACES = {  # step -> the surfaces that are its value
    "roster": ("s5_arrival_roster",),
    **{
        state: tuple(
            name for name, spec in tables.TABLES.items() if spec.state == state and not name.endswith("roster")
        )
        for state in ("S1", "S2", "S3", "S4", "S5", "S6")
    },
}
_SOURCE = {True: "cache", False: "computed"}  # by whether a state was reused
_SCHEMAS = ROOT / "segment_2b" / "schemas"
_MEMORY_BYTES = 3 << 30


class Segment2B:
    """The routing-realism layer: sites, weights, day effects, group mixes, routed arrivals."""

    name = s0_gate.ENGINE
    baseline = "baseline"
    states = ("S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8")
    by_merchant = states[:5]  # the states that can be computed shard by shard
    feeds: ClassVar = {"roster": "s5_arrival_roster"}
    layouts: ClassVar = {"record": "the tables, logs and documents that the recorded system's own readers open"}
    policy_forms: ClassVar = {"record": "the policies that the recorded system reads"}

    def __init__(self, memory_bytes: int = _MEMORY_BYTES, disk: Cache | None = None) -> None:
        self._memory, self._disk, self._cuts = Memory(memory_bytes), disk, Cuts()

    def keeping(self, folder: Path, limit_bytes: int) -> Segment2B:
        """Returns this engine, sharing its memory, with a bounded cache in `folder`."""
        other = copy(self)
        other._disk = Cache(folder, limit_bytes, KINDS)
        return other

    @property
    def unkept(self) -> str:
        """Returns why a state could not be cached; empty if all could."""
        return "" if self._disk is None else self._disk.trouble

    def sharded(self, size: int | None, jobs: int) -> Segment2B:
        """Returns this engine, sharing its memory, over shards of about `size` merchants on `jobs` threads."""
        other = copy(self)
        other._cuts = Cuts(size, jobs)
        return other

    @cached_property
    def policy_schemas(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: read_schema(_SCHEMAS / f"{name}.schema.json") for name in POLICIES}

    @cached_property
    def code_version(self) -> str:
        """Returns hex64 over the sources of every state and of the modules they use."""
        return code_of(*_CODE)

    @property
    def code_files(self) -> Mapping[str, str]:
        """Returns the files that decide what a run and its publishing give and take."""
        from lanelock.engine.segment_2b import layout, store  # import Parquet, which only files need

        return files_of(*_CODE, sys.modules[__name__], compiled, steps, workers, layout, store)

    @property
    def fingerprint(self) -> str:
        return streams.fingerprint()

    def evaluate(
        self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None, roster: Path | None = None
    ) -> Run:
        """Returns one run. `roster` is a file of arrivals to import.

        Raises PolicyError or DataError on input that cannot be run, IntegrityError if a state reads a policy that it
        does not declare or S0 did not seal.
        """
        wanted = self._wanted(self.states, until)
        step = Steps(_BASE, self._memory, pack, seed, self._disk)
        with at_most(self._cuts.jobs):
            upstream, s0, arrivals = self._begun(step, pack, seed, world, roster)
            return self._run(step, upstream, s0, self._cuts, pack, seed, wanted, arrivals)

    def evaluate_alone(
        self, pack: Pack, seed: int, state: str, given: Run | None, *, world: Path | None = None,
        roster: Path | None = None,
    ) -> Isolated:  # fmt: skip
        """Runs one state alone; see `Isolating`.

        The world, S0 and the grid cost little beside a state, so they are computed where they are not kept.
        """
        if state not in (able := self.states[1:-1]):
            raise PolicyError(f"{state!r} is not a state of {self.name} that can be run alone: {', '.join(able)}")
        step = Steps(_BASE, self._memory, pack, seed, self._disk)
        with at_most(self._cuts.jobs):
            upstream, s0, arrivals = self._begun(step, pack, seed, world, roster)
            plan = Plan(step, _WITHIN)
            self._run(plan, upstream, s0, self._cuts, pack, seed, self.states, arrivals)
            alone = plan.alone(state, ("grid",), given, _SURFACES)
            run = self._run(alone, upstream, s0, self._cuts, pack, seed, self.states, arrivals)
        before = (Taken(row.name, row.key, _SOURCE[row.reused]) for row in step.reports)
        return Isolated(run, tuple(alone.surfaces), (*before, *alone.taken))

    def _begun(
        self, step: Steps, pack: Pack, seed: int, folder: Path | None, roster: Path | None
    ) -> tuple[World, s0_gate.SealedInputs, Any]:
        """Returns a run's world, what S0 sealed, and the imported arrivals, if any."""
        upstream = self._upstream(step, seed, folder)
        arrivals, sha256 = (None, None) if roster is None else _arrivals(step, roster, upstream)
        return upstream, _gate(step, upstream, pack, seed, sha256), arrivals

    def evaluate_shards(
        self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None
    ) -> Iterator[Run]:
        """Yields one run per shard, in order, as far as the states that are computed by merchant.

        Only the world is held whole, and nothing of a shard is kept. The first run reports the world and S0.
        """
        wanted = self._wanted(self.by_merchant, until)
        step = Steps(_BASE, self._memory, pack, seed)
        upstream = self._upstream(step, seed, world)
        s0 = _gate(step, upstream, pack, seed, None)

        def run(span: Span) -> Run:
            shard = upstream.shard(*span)
            return self._run(step.apart(first=span[0] == 0), shard, s0, Cuts(jobs=1), pack, seed, wanted, None)

        return mapped(run, self._cuts.spans(upstream), self._cuts.threads)

    def serve(self, pack: Pack, seed: int, *, world: Path | None = None) -> tuple[Run, RoutingService]:
        """Returns the run up to S4, and the service that routes by its tables."""
        run = self.evaluate(pack, seed, world=world, until="S4")
        s1, s4 = run.surfaces["s1_site_weights"], run.surfaces["s4_group_weights"]
        router = s5_routing.router(run.upstream, s3_day_effects.horizon(pack[EFFECTS]), s1, s4, pack[ROUTING], seed)
        return run, RoutingService(router, run.upstream.is_virtual)

    def publish(self, run: Run, runs: Path) -> Published:
        """Writes a run below `runs`; returns its folder and S8's report, which times the writing."""
        from lanelock.engine.segment_2b import store  # imported here and below: only reading and writing need Parquet

        began, used = time.perf_counter(), time.process_time()
        folder = store.publish(run, runs)
        seconds, processor_s = time.perf_counter() - began, time.process_time() - used
        return Published(folder, (store.bundled(run, folder, seconds, processor_s),))

    def open_run(self, folder: Path) -> Run:
        from lanelock.engine.segment_2b import store

        return store.open_run(folder, self.policy_schemas)

    def faults(self, folder: Path) -> list[tuple[str, str]]:
        """Returns the files that changed since publication; if none did, those that do not follow from their inputs."""
        from lanelock.engine.segment_2b import store

        receipt = receipt_in(folder)
        return [*store.faults(folder, receipt)] or [*store.seals(folder, receipt, self.policy_schemas)]

    def replay(self, folder: Path, scratch: Path) -> Replayed:
        from lanelock.engine.segment_2b import store

        return store.replay(folder, scratch, self.policy_schemas, type(self)().evaluate)

    def export(self, run: Run, exports: Path) -> Path:
        from lanelock.engine.segment_2b.export import write_json_lines

        return write_json_lines(run, exports)

    def lay_out(self, run: Run, layout: str, folder: Path) -> Path:
        from lanelock.engine.segment_2b.record.form import write_record

        write_record(run, folder)
        return folder

    def import_policies(
        self, documents: Mapping[str, Any], form: str, base: Pack
    ) -> tuple[dict[str, Any], dict[str, list[str]]]:
        from lanelock.engine.segment_2b.record import policies

        return policies.read_policies(documents, base)

    def export_policies(self, pack: Pack, form: str) -> dict[str, Any]:
        from lanelock.engine.segment_2b.record import policies

        return policies.write_policies(pack)

    def contract(self) -> Sequence[Mapping[str, Any]]:
        return tables.contract()

    def open_world(self, pack: Pack, seed: int, folder: Path | None) -> World:
        if folder is None:
            return draw_world.draw_world(pack[WORLD], seed)
        return world_import.open_world(folder, pack[WORLD])

    def describe_world(self, world: World, pack: Pack) -> Mapping[str, Any]:
        found = plausibility.plausibility(world, pack[EFFECTS]["horizon"])
        moves = {} if world.rebalance is None else world.rebalance.described()
        renamed = {"renamed_sites": world.renamed_sites}
        return {**draw_world.describe(world), **renamed, **moves, "plausibility": found.counts()}

    def keep_world(self, world: World, folder: Path) -> None:
        from lanelock.engine.segment_2b import store

        store.keep_world(world, folder)

    def world_of(self, run: Path) -> Path:
        return run / UPSTREAM

    def _wanted(self, states: tuple[str, ...], until: str | None) -> Collection[str]:
        """Returns the states to compute. S2 is left out of a run that ends early: only S7 and files use its tables."""
        if until is None:
            return states
        if until not in states:
            raise PolicyError(f"{until!r} is not a state of {self.name} that can end this: {', '.join(states)}")
        wanted = states[: states.index(until) + 1]
        return [state for state in wanted if state != "S2" or until == "S2" or "S7" in wanted]  # S7 reads all

    def _upstream(self, step: Steps, seed: int, folder: Path | None) -> World:
        """Returns the world. Later keys use its content, so the same sites from another source recompute nothing."""

        def read(policy: Reads) -> World:
            if folder is None:
                return draw_world.draw_world(policy[WORLD], seed)
            imported = world_import.open_world(folder, policy[WORLD])
            if world_receipt.world_files(folder) != files:  # else the key would name other tables
                raise DataError(f"{folder}: the tables changed while they were being read; run again")
            return imported

        files = {} if folder is None else world_receipt.world_files(folder)
        upstream: World = step("world", (), (WORLD,), _UPSTREAM, read, draws=folder is None, files=files)
        step.known("world", upstream.digest)
        return upstream

    def _run(
        self, step: Steps, upstream: World, s0: s0_gate.SealedInputs, cuts: Cuts, pack: Pack, seed: int,
        wanted: Collection[str], arrivals: Any,
    ) -> Run:  # fmt: skip
        stamp, surfaces, audit = s0.created_utc, dict[str, Surface](), None
        across = Across(cuts, upstream, int(pack[EFFECTS]["horizon"]["days"]))
        if "S1" in wanted:
            ranks = None if pack[LAYOUT]["law"] == "uniform" else step(
                "ranking", ("world",), (), (s1_site_weights,), lambda _: s1_site_weights.ranking(upstream),
                keep=False)  # fmt: skip
            s1 = step("S1", ("world",), (LAYOUT,), (s1_site_weights,), lambda policy: across(
                s1_site_weights.site_weights, upstream, policy[LAYOUT], stamp, ranks))  # fmt: skip
            surfaces |= named(s1)
        if "S2" in wanted:
            s2 = step("S2", ("world", "S1"), (LAYOUT,), (s2_alias_index, s1_site_weights),
                      lambda policy: s2_alias_index.alias_index(upstream, s1, policy[LAYOUT]))  # fmt: skip
            surfaces |= named(s2)
        if "S3" in wanted:
            rows = step("grid", ("world",), (EFFECTS,), (s3_day_effects,),
                        lambda policy: s3_day_effects.grid(upstream, policy[EFFECTS]), keep=False)  # fmt: skip
            s3 = step("S3", ("world", "grid"), (EFFECTS,), (s3_day_effects,),
                      lambda policy: across(s3_day_effects.day_effects, upstream, rows, policy[EFFECTS], seed, stamp),
                      draws=True)  # fmt: skip
            surfaces |= named(s3)
        if "S4" in wanted:
            raw = step("raw mix", ("world", "S1", "S3"), (), (s4_group_weights,),
                       lambda _: across(s4_group_weights.raw_mix, upstream, rows, s1, s3), keep=False)  # fmt: skip
            s4 = step("S4", ("raw mix",), (MIX,), (s4_group_weights,),
                      lambda policy: across(s4_group_weights.group_weights, rows, raw, policy[MIX], stamp))  # fmt: skip
            surfaces |= named(s4)
        if "S5" in wanted:
            if arrivals is None:
                arrivals = step("roster", ("world",), (EFFECTS, ROUTING), _ROSTER, lambda policy: s5_roster.roster(
                    upstream, rows.days, policy[ROUTING], seed, stamp), draws=True)  # fmt: skip
            s5 = step("S5", ("world", "roster", "S1", "S4"), (ROUTING,), (*_ROSTER, s5_routing),
                      lambda policy: s5_routing.routed(
                          upstream, rows.days, s1, s4, arrivals, policy[ROUTING], seed, stamp), draws=True)  # fmt: skip
            surfaces |= named(arrivals, s5)
        if "S6" in wanted:
            s6 = step("S6", ("world", "roster"), (ROUTING, EDGES), (*_ROSTER, s5_routing, s6_edges),
                      lambda policy: s6_edges.logged(
                          s6_edges.edges(upstream, arrivals, policy[EDGES], policy[ROUTING], seed, stamp),
                          policy[ROUTING], stamp), draws=True)  # fmt: skip
            surfaces |= named(s6)
        if "S7" in wanted:
            evidence = s7_evidence.Evidence(upstream, pack, seed, s0, surfaces)
            audit = step("S7", ("S0", "S1", "S2", "S3", "S4", "S5", "S6"), POLICIES, (*_AUDIT, *_STATES, s6_edges),
                         lambda _: s7_audit.audit(evidence)) or None  # fmt: skip
        return Run(
            s0_gate.run_id_of(pack, seed, s0), self.name, seed, pack, upstream.digest, self.code_version, surfaces,
            folded(step.reports, _WITHIN), upstream, s0, audit, self.fingerprint,
        )  # fmt: skip


def _gate(step: Steps, upstream: World, pack: Pack, seed: int, roster: str | None) -> s0_gate.SealedInputs:
    """Runs S0: later states read only sealed policies. `roster` is the digest of an imported roster."""
    files = {} if roster is None else {"arrival_roster": roster}
    step.known("world source", upstream.source)  # sealed with the world; a replay needs it
    s0: s0_gate.SealedInputs = step("S0", ("world", "world source"), POLICIES, (s0_gate,),
                                    lambda _: s0_gate.seal(upstream, pack, seed, roster),
                                    draws=True, files=files)  # fmt: skip
    step.seal(s0.digests())
    return s0


def _arrivals(step: Steps, file: Path, upstream: World) -> tuple[Surface, str]:
    """Returns an imported roster and its digest, the key: the same arrivals in another file recompute nothing."""

    def read(policy: Reads) -> Surface:
        days, stamp = s3_day_effects.horizon(policy[EFFECTS]), s0_gate.verified_utc(policy[WORLD])
        opened = roster_import.open_roster(file, upstream, days, policy[ROUTING], stamp)
        if user_tables.file_digest(file) != files:  # else the key would name other arrivals
            raise DataError(f"{file}: the roster changed while it was being read; run again")
        return opened

    modules = (roster_import, user_tables, cells, *_ROSTER)
    files = user_tables.file_digest(file)
    roster: Surface = step("roster", ("world",), (WORLD, EFFECTS, ROUTING), modules, read, files=files, keep=False)
    sha256 = table_digest(roster.table())
    step.known("roster", sha256)
    return roster, sha256


SEGMENT_2B = Segment2B()
