"""Segment 2B behind the engine protocol: nine states, visible as calls, each computed only if its inputs changed.

What a key is made of and what a state may read stands in `engine.steps`. Results are kept in memory by key
and, where a cache is attached, on disk: moving a knob of S4 recomputes S4 and what follows and nothing above
it, because no key above it has changed. S8 answers for files, so it is called where files are: in
`engine.store.publish`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from engine import geography, roster_import, user_tables, world, world_import, world_receipt
from engine.cache import Cache
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
    s8_bundle,
)
from engine.steps import Memory, Reads, Steps, code_of, folded
from engine.tables import table_digest
from engine.types import Run, Surface, World
from policies import Pack, PolicyError
from policies.documents import digest, shipped_schema

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
_STATES = (s0_gate, s1_site_weights, s2_alias_index, s3_day_effects, s4_group_weights, *_ROSTER, s5_routing)
_WITHIN = {"grid": "S3", "raw mix": "S4", "roster": "S5"}  # steps that are remembered by themselves -> their state
_MEMORY_BYTES = 3 << 30


class Segment2B:
    """The routing-realism layer: sites, weights, day effects, group mixes, routed arrivals."""

    name = "segment_2b"
    states = ("S0", "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8")

    def __init__(self, memory_bytes: int = _MEMORY_BYTES, disk: Cache | None = None) -> None:
        self._memory, self._memory_bytes, self.disk = Memory(memory_bytes), memory_bytes, disk

    def keeping(self, folder: Path, limit_bytes: int) -> Segment2B:
        """The same engine over a bounded cache in `folder`."""
        return Segment2B(self._memory_bytes, Cache(folder, limit_bytes))

    @cached_property
    def policy_schemas(self) -> Mapping[str, Mapping[str, Any]]:
        return {name: shipped_schema(name) for name in POLICIES}

    @cached_property
    def code_version(self) -> str:
        """Hex64 over the source of every state and of all they stand on."""
        return code_of(*_STATES, s6_edges, s7_audit, s8_bundle, roster_import, *_UPSTREAM)

    def evaluate(
        self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None, roster: Path | None = None
    ) -> Run:
        """One run. `roster` is a table of arrivals brought in from outside.

        Raises PolicyError or DataError on input that cannot be run, IntegrityError on a state that reads what
        it does not declare or S0 did not seal.
        """
        last = self.states[-1] if until is None else until
        if last not in self.states:
            raise PolicyError(f"{last!r} is not a state of {self.name}: {', '.join(self.states)}")
        step, surfaces = Steps(self._memory, pack, seed, self.disk), dict[str, Surface]()
        wanted = self.states[: self.states.index(last) + 1]

        files = {} if world is None else world_receipt.world_files(world)
        upstream = step("world", (), (WORLD,), _UPSTREAM, lambda policy: _upstream(policy[WORLD], seed, world),
                        draws=world is None, files=files)  # fmt: skip
        step.known("world", upstream.digest)
        arrivals: Any = None if roster is None else _arrivals(step, roster, upstream)
        brought = None if roster is None else table_digest(arrivals.table())
        s0 = step("S0", ("world",), POLICIES, (s0_gate,), lambda _: s0_gate.seal(upstream, pack, seed, brought),
                  draws=True, files={} if brought is None else {"arrival_roster": brought}, keep=False)  # fmt: skip
        step.seal(s0.digests())
        stamp, audit = s0.created_utc, None
        if "S1" in wanted:
            s1 = step("S1", ("world",), (LAYOUT,), (s1_site_weights,),
                      lambda policy: s1_site_weights.site_weights(upstream, policy[LAYOUT], stamp))  # fmt: skip
            surfaces[s1.name] = s1
        if "S2" in wanted and until is None:  # no metric reads the alias tables: a trial does not build them
            s2 = step("S2", ("world", "S1"), (LAYOUT,), (s2_alias_index, s1_site_weights),
                      lambda policy: s2_alias_index.alias_index(upstream, s1, policy[LAYOUT]))  # fmt: skip
            surfaces |= {surface.name: surface for surface in s2}
        if "S3" in wanted:
            rows = step("grid", ("world",), (EFFECTS,), (s3_day_effects, s1_site_weights),
                        lambda policy: s3_day_effects.grid(upstream, policy[EFFECTS]), keep=False)  # fmt: skip
            s3 = step("S3", ("world", "grid"), (EFFECTS,), (s3_day_effects, s1_site_weights),
                      lambda policy: s3_day_effects.day_effects(upstream, rows, policy[EFFECTS], seed, stamp),
                      draws=True)  # fmt: skip
            surfaces[s3.name] = s3
        if "S4" in wanted:
            raw = step("raw mix", ("world", "S1", "S3"), (), (s4_group_weights,),
                       lambda _: s4_group_weights.raw_mix(upstream, rows, s1, s3), keep=False)  # fmt: skip
            s4 = step("S4", ("raw mix",), (MIX,), (s4_group_weights,),
                      lambda policy: s4_group_weights.group_weights(rows, raw, policy[MIX], stamp))  # fmt: skip
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
                      lambda policy: s6_edges.virtual(upstream, arrivals, policy[EDGES], policy[ROUTING], seed, stamp),
                      draws=True)  # fmt: skip
            surfaces |= {surface.name: surface for surface in s6}
        if "S7" in wanted:
            evidence = s7_audit.Evidence(upstream, pack, seed, s0, surfaces)
            audit = step("S7", ("S0", "S1", "S2", "S3", "S4", "S5", "S6"), POLICIES, (s7_audit, *_STATES, s6_edges),
                         lambda _: s7_audit.audit(evidence))  # fmt: skip
        run_id = digest([self.name, pack.digest, seed, s0.digests()])[:32]
        return Run(
            run_id, self.name, seed, pack, upstream.digest, self.code_version, surfaces, folded(step.reports, _WITHIN),
            upstream, s0, audit,
        )  # fmt: skip


def _arrivals(step: Steps, file: Path, upstream: World) -> Surface:
    """A roster from outside, keyed by its content: the same arrivals in another file change nothing."""

    def read(policy: Reads) -> Surface:
        days, stamp = s3_day_effects.horizon(policy[EFFECTS]), str(policy[WORLD]["verified_utc"])
        return roster_import.open_roster(file, upstream, days, policy[ROUTING], stamp)

    modules = (roster_import, user_tables, *_ROSTER)
    files = user_tables.file_digest(file)
    found: Surface = step("roster", ("world",), (WORLD, EFFECTS, ROUTING), modules, read, files=files, keep=False)
    step.known("roster", table_digest(found.table()))
    return found


def _upstream(policy: Mapping[str, Any], seed: int, folder: Path | None) -> World:
    return world.draw_world(policy, seed) if folder is None else world_import.open_world(folder, policy)


SEGMENT_2B = Segment2B()
