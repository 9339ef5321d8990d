"""Segment 2B behind the engine protocol: nine states, visible as calls, each computed only if its inputs changed.

A state's key is the SHA-256 over its code, the digests of the policies it reads, the keys of the states it
reads and, where it draws, the seed. Results are kept in memory by key, least recently used out first:
moving a knob of S4 recomputes S4 and nothing above it, because no key above it has changed.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from engine import geography, mass, streams, tables, world, world_import
from engine.shards import Across, Cuts, Span
from engine.states import (
    rng_log,
    s0_gate,
    s1_site_weights,
    s2_alias_index,
    s3_day_effects,
    s4_group_weights,
    s5_roster,
    s5_routing,
    s6_edges,
    s7_audit,
)
from engine.types import Categories, Run, StateReport, Surface, World
from engine.workers import at_most, mapped
from policies import Pack, PolicyError
from policies.documents import digest, shipped_schema

POLICIES = (
    "world_v1",
    "alias_layout_policy_v1",
    "day_effect_policy_v1",
    "group_mix_regularizer_v1",
    "route_rng_policy_v1",
    "virtual_edge_policy_v1",
)
_SHARED = (tables, mass, streams)  # what every state stands on
_WORLD = (world, world_import, geography)
_ROUTING = (rng_log, s5_roster, s5_routing)
_STATES = (s0_gate, s1_site_weights, s2_alias_index, s3_day_effects, s4_group_weights, *_ROUTING, s6_edges, s7_audit)
_WITHIN = ("grid", "raw mix", "roster")  # steps of a state that are remembered by themselves and reported with no one
_MEMORY_BYTES = 3 << 30


class Segment2B:
    """The routing-realism layer: sites, weights, day effects, group mixes."""

    name = "segment_2b"
    states = ("S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7")
    by_merchant = states[:5]  # those that a shard can compute by itself

    def __init__(self, memory_bytes: int = _MEMORY_BYTES) -> None:
        self._memory, self._cuts = _Memory(memory_bytes), Cuts()

    def sharded(self, merchants: int | None, jobs: int) -> Segment2B:
        """The same engine, memory and all, over shards of about `merchants` merchants on `jobs` threads."""
        other = copy(self)
        other._cuts = Cuts(merchants, jobs)
        return other

    @cached_property
    def policy_schemas(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: shipped_schema(name) for name in POLICIES}

    @cached_property
    def code_version(self) -> str:
        """Hex64 over the source of every state and of all they stand on."""
        return _code(*_STATES, *_WORLD)

    def evaluate(self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None) -> Run:
        """One run. Raises PolicyError or DataError on input that cannot be run."""
        wanted = self._wanted(self.states, until)
        step = _Steps(self._memory, pack, seed)
        with at_most(self._cuts.jobs):
            upstream, s0 = self._gate(step, pack, seed, world)
            return self._run(step, upstream, s0, self._cuts, pack, seed, wanted)

    def evaluate_shards(
        self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None
    ) -> Iterator[Run]:
        """The states that are computed by merchant, one run a shard, in order: measure it, append it, let it go.

        Only the world is held whole, and nothing of a shard is remembered. World and S0 are reported by the first.
        """
        wanted = self._wanted(self.by_merchant, until)
        step = _Steps(self._memory, pack, seed)
        upstream, s0 = self._gate(step, pack, seed, world)

        def one(span: Span) -> Run:
            shard = upstream.shard(*span)
            return self._run(step.apart(first=span[0] == 0), shard, s0, Cuts(jobs=1), pack, seed, wanted)

        return mapped(one, self._cuts.spans(upstream), self._cuts.threads)

    def _wanted(self, states: tuple[str, ...], until: str | None) -> Collection[str]:
        """The states to compute. No metric reads the alias tables: a trial, which has a last state, builds none."""
        if until is None:
            return states
        if until not in states:
            raise PolicyError(f"{until!r} is not a state of {self.name} that can end this: {', '.join(states)}")
        return [state for state in states[: states.index(until) + 1] if state != "S2"]

    def _gate(self, step: _Steps, pack: Pack, seed: int, world: Path | None) -> tuple[World, s0_gate.SealedInputs]:
        upstream = step("world", (), ("world_v1",), _WORLD, lambda: _upstream(pack, seed, world), folder=world)
        s0 = step("S0", ("world",), tuple(pack.policies), (s0_gate,), lambda: s0_gate.seal(upstream, pack, seed))
        return upstream, s0

    def _run(
        self, step: _Steps, upstream: World, s0: s0_gate.SealedInputs, cuts: Cuts, pack: Pack, seed: int,
        wanted: Collection[str],
    ) -> Run:  # fmt: skip
        stamp, surfaces = s0.created_utc, dict[str, Surface]()
        layout, effects, mix = (pack[name] for name in POLICIES[1:4])
        across = Across(cuts, upstream, int(effects["horizon"]["days"]))
        if "S1" in wanted:
            s1 = step("S1", ("world",), POLICIES[1:2], (s1_site_weights,),
                      lambda: across(s1_site_weights.site_weights, upstream, layout, stamp))  # fmt: skip
            surfaces[s1.name] = s1
        if "S2" in wanted:
            s2 = step("S2", ("S1",), POLICIES[1:2], (s2_alias_index, s1_site_weights),
                      lambda: s2_alias_index.alias_index(upstream, s1, layout))  # fmt: skip
            surfaces |= {surface.name: surface for surface in s2}
        if "S3" in wanted:
            rows = step("grid", ("world",), POLICIES[2:3], (s3_day_effects, s1_site_weights),
                        lambda: s3_day_effects.grid(upstream, effects))  # fmt: skip
            s3 = step("S3", ("grid",), POLICIES[2:3], (s3_day_effects, s1_site_weights),
                      lambda: across(s3_day_effects.day_effects, upstream, rows, effects, seed, stamp),
                      draws=True)  # fmt: skip
            surfaces[s3.name] = s3
        if "S4" in wanted:
            raw = step("raw mix", ("S1", "S3"), (), (s4_group_weights,),
                       lambda: across(s4_group_weights.raw_mix, upstream, rows, s1, s3))  # fmt: skip
            s4 = step("S4", ("raw mix",), POLICIES[3:4], (s4_group_weights,),
                      lambda: across(s4_group_weights.group_weights, rows, raw, mix, stamp))  # fmt: skip
            surfaces[s4.name] = s4
        routing, offers = pack[POLICIES[4]], pack[POLICIES[5]]
        if "S5" in wanted:
            days = rows.days
            roster = step("roster", ("world",), POLICIES[2:3] + POLICIES[4:5], _ROUTING,
                          lambda: s5_roster.roster(upstream, days, routing, seed, stamp), draws=True)  # fmt: skip
            s5 = step("S5", ("roster", "S1", "S4"), POLICIES[4:5], _ROUTING,
                      lambda: s5_routing.routed(upstream, days, s1, s4, roster, routing, seed, stamp),
                      draws=True)  # fmt: skip
            surfaces |= {surface.name: surface for surface in (roster, *s5)}
        if "S6" in wanted:
            s6 = step("S6", ("roster",), POLICIES[4:6], (s6_edges, *_ROUTING),
                      lambda: s6_edges.virtual(upstream, roster, offers, routing, seed, stamp), draws=True)  # fmt: skip
            surfaces |= {surface.name: surface for surface in s6}
        report = None
        if "S7" in wanted:
            evidence = s7_audit.Evidence(upstream, pack, seed, s0, surfaces)
            report = step("S7", ("S0", "S1", "S2", "S3", "S4", "S5", "S6"), (), (s7_audit,),
                          lambda: s7_audit.audit(evidence))  # fmt: skip
        reports = tuple(report for report in step.reports if report.name not in _WITHIN)
        run_id = digest([self.name, upstream.digest, pack.digest, seed])[:32]
        return Run(
            run_id, self.name, seed, pack, upstream.digest, self.code_version, surfaces, reports, upstream, report
        )


class _Steps:
    """Runs states by key, and reports what it did."""

    def __init__(self, memory: _Memory, pack: Pack, seed: int) -> None:
        self._memory, self._pack, self._seed = memory, pack, seed
        self._keys: dict[str, str] = {}
        self.reports: list[StateReport] = []

    def apart(self, *, first: bool) -> _Steps:
        """The steps that follow, for one shard: under the same keys, remembered nowhere. The first reports what was."""
        other = _Steps(_Memory(0), self._pack, self._seed)
        other._keys, other.reports = dict(self._keys), list(self.reports) if first else []
        return other

    def __call__(
        self, name: str, inputs: tuple[str, ...], policies: tuple[str, ...], modules: tuple[Any, ...],
        compute: Callable[[], Any], *, draws: bool = False, folder: Path | None = None,
    ) -> Any:  # fmt: skip
        address = {
            "state": name,
            "code": _code(*modules),
            "policies": [self._pack.policies[policy].digest for policy in policies],
            "inputs": [self._keys[which] for which in inputs],
            "seed": self._seed if draws or (name == "world" and folder is None) else None,
            "folder": None if folder is None else _folder_digest(folder),
        }
        key = self._keys[name] = digest(address)
        began = time.perf_counter()
        value, reused = self._memory.get(key, compute)
        self.reports.append(StateReport(name, key, _rows(value), time.perf_counter() - began, reused))
        return value


class _Memory:
    """State results by key, bounded in bytes. Safe under threads; two may compute the same key once each."""

    def __init__(self, limit: int) -> None:
        self._limit, self._held = limit, OrderedDict[str, tuple[Any, int]]()
        self._bytes, self._lock = 0, threading.Lock()

    def get(self, key: str, compute: Callable[[], Any]) -> tuple[Any, bool]:
        """(value, whether it was there)."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key][0], True
        value = compute()
        size = _size(value)
        with self._lock:
            if key not in self._held:
                self._held[key] = value, size
                self._bytes += size
            while self._bytes > self._limit and len(self._held) > 1:
                self._bytes -= self._held.popitem(last=False)[1][1]
        return value, False


def _upstream(pack: Pack, seed: int, folder: Path | None) -> Any:
    policy = pack["world_v1"]
    return world.draw_world(policy, seed) if folder is None else world_import.open_world(folder, policy)


def _rows(value: Any) -> int:
    if isinstance(value, tuple):
        return int(value[0].rows)
    if isinstance(value, Surface):
        return value.rows
    return len(getattr(value, "assets", getattr(value, "lat_deg", ())))


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


def _code(*modules: Any) -> str:
    """Hex64 over the sources of these modules and of what every state stands on."""
    sink = hashlib.sha256()
    for path in sorted({str(module.__file__) for module in (*modules, *_SHARED)}, key=lambda path: Path(path).name):
        sink.update(_source(path))
    return sink.hexdigest()


_SOURCES: dict[str, bytes] = {}


def _source(path: str) -> bytes:
    """A source file's digest, read once a process: what runs is what was imported."""
    if path not in _SOURCES:
        _SOURCES[path] = hashlib.sha256(Path(path).read_bytes()).digest()
    return _SOURCES[path]


def _folder_digest(folder: Path) -> str:
    """Hex64 over the files of a world brought in from outside."""
    return digest({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.*"))})


SEGMENT_2B = Segment2B()
