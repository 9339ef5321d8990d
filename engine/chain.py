"""Chains: an engine whose world is the run of another engine, its upstream.

An engine states `upstream = Upstream("queue")` and takes that run: `evaluate(pack, seed, *, upstream)`. `bind` joins
the two into one engine:

    its pack           has the policies of both, so that whoever has the pack (a lock, say) can run both again
    its world's digest covers the upstream's run: run id, surfaces and code
    its code version   covers that of the upstream, and the upstream's seed where it is fixed
    its surfaces       are its own; a surface that has the name of one of the upstream's takes its place downstream

The upstream's runs are remembered by pack and seed, so that a world is computed once for all trials on it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from lanelock.engine.protocol import Declaring, Engine, Keeping, Run, StateReport, Worlds
from lanelock.engine.resolved import Resolved
from lanelock.engine.tables import TableRuns
from lanelock.policies import IntegrityError, LaneError, Pack
from lanelock.policies.documents import digest

_REMEMBERED = 16  # runs of an upstream
_BYTES = 1 << 30  # of all tables of the remembered runs together


@dataclass(frozen=True, slots=True)
class World:
    """A run of the upstream, and the digest (hex64) by which it is known downstream."""

    run: Run
    digest: str
    size: int  # bytes of its tables

    @classmethod
    def of(cls, run: Run) -> World:
        known = digest({"run_id": run.run_id, "code": run.code_version, "surfaces": run.digests()})
        return cls(run, known, sum(surface.table().nbytes for surface in run.surfaces.values()))


def bind(own: Engine, upstream: Engine, seed: int | None = None) -> Chain:
    """Returns an engine and its upstream as one engine; `seed`: of every run of the upstream (None: the run's own).

    Raises LaneError if the two cannot be joined.
    """
    where, above = f"engine {own.name}: its world", [engine.name for engine in _engines(upstream)]
    if own.name in above:
        raise LaneError(f"{where}: the chain comes back to it: {' <- '.join([own.name, *above])}")
    if both := sorted(set(own.policy_schemas) & set(upstream.policy_schemas)):
        raise LaneError(f"{where}: engine {upstream.name} has a policy {both[0]} as well; name the two differently")
    return Chain(own, upstream, seed)


def _engines(engine: Engine) -> Iterator[Engine]:
    """Yields an engine and those that are its world, the nearest first."""
    yield engine
    if isinstance(engine, Chain):
        yield from _engines(engine.upstream)


class Chain(TableRuns):
    """An engine and its upstream as one engine; see `bind`."""

    def __init__(self, own: Engine, upstream: Engine, seed: int | None) -> None:
        self.own, self.upstream, self.seed = own, upstream, seed
        self.name = own.name
        self.policy_schemas = {**upstream.policy_schemas, **own.policy_schemas}
        self._worlds = _Worlds()

    @cached_property
    def states(self) -> tuple[str, ...]:
        return Resolved(self.own).states

    @cached_property
    def code_version(self) -> str:
        own, upstream = Resolved(self.own).code_version, Resolved(self.upstream)
        return digest([own, upstream.name, upstream.code_version, self.seed])

    @property
    def code_files(self) -> Mapping[str, str]:
        """The files of both engines; those of the upstream begin with its name."""
        upstream = Resolved(self.upstream)
        above = {f"{upstream.name}: {name}": sha256 for name, sha256 in upstream.code_files.items()}
        return {**above, **Resolved(self.own).code_files}

    @cached_property
    def fingerprint(self) -> str:
        both = [Resolved(engine).fingerprint for engine in (self.own, self.upstream)]
        return digest(both) if any(both) else ""

    @property
    def baseline(self) -> str | None:
        return Resolved(self.own).baseline

    @property
    def draws_worlds(self) -> bool:
        """Whether another seed is another world."""
        return self.seed is None

    def world(self, pack: Pack, seed: int) -> World:
        """Returns the upstream's run for a pack and seed of the chain, computed once."""
        upstream, wanted = pack.part(self.upstream.policy_schemas), seed if self.seed is None else self.seed
        compute = Resolved(self.upstream).evaluate
        return self._worlds.get((upstream.digest, wanted), lambda: World.of(compute(upstream, wanted)))

    def evaluate(self, pack: Pack, seed: int, *, until: str | None = None) -> Run:
        """Returns one run, with the upstream's as its `upstream`."""
        world, options = self.world(pack, seed), {} if until is None else {"until": until}
        own: Any = self.own
        run: Run = own.evaluate(pack.part(own.policy_schemas), seed, upstream=world.run, **options)
        return replace(
            run,
            run_id=digest([self.name, world.digest, pack.digest, seed])[:32],
            pack=pack,
            world_digest=world.digest,
            code_version=self.code_version,
            fingerprint=self.fingerprint,
            upstream=world.run,
            states=tuple(_on(world, state) for state in run.states),
        )

    def open_run(self, folder: Path) -> Run:
        """Returns a published run, with its upstream's run computed again.

        Raises IntegrityError if files have changed, or if the upstream gives another run than it gave.
        """
        run = super().open_run(folder)
        world = self.world(run.pack, run.seed)
        if world.digest != run.world_digest:
            code = Resolved(self.upstream).code_version
            raise IntegrityError(
                f"{folder}: it stands on world {run.world_digest[:12]}; engine {self.upstream.name} (code {code[:12]}) "
                f"now gives {world.digest[:12]} for the same pack and seed"
            )
        return replace(run, upstream=world.run)

    def contract(self) -> Sequence[Mapping[str, Any]]:
        """Returns its own surfaces, as it declares them."""
        return self.own.contract() if isinstance(self.own, Declaring) else super().contract()

    def kept(self, folder: Path, limit_bytes: int) -> Chain:
        """Returns the same chain with the states of its upstream cached in `folder`, as far as the upstream can."""
        upstream: Engine = self.upstream
        if isinstance(upstream, Keeping):
            upstream = upstream.keeping(folder, limit_bytes)
        elif isinstance(upstream, Chain):
            upstream = upstream.kept(folder, limit_bytes)
        return Chain(self.own, upstream, self.seed)


def _on(world: World, state: StateReport) -> StateReport:
    """Returns a state's report with the world among its inputs."""
    address = {**state.address, "inputs": {**state.address.get("inputs", {}), "world": world.digest}}
    return replace(state, key=digest(address), address=address)


class _Worlds:
    """The newest runs of an upstream. A run that several threads ask for at once is computed by one of them."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, int], Future[World]] = OrderedDict()
        self._lock = Lock()

    def get(self, key: tuple[str, int], compute: Callable[[], World]) -> World:
        with self._lock:
            waited = self._known.pop(key, None)
            future = self._known[key] = waited or Future[World]()
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if waited is None:
            try:
                future.set_result(compute())
            except BaseException as error:
                with self._lock:
                    self._known.pop(key, None)
                future.set_exception(error)
            else:
                self._make_room(key)
        return future.result()

    def _make_room(self, newest: tuple[str, int]) -> None:
        """Forgets the oldest runs while all together are too large, but never the newest."""
        with self._lock:
            sizes = {key: world.result().size for key, world in self._known.items() if world.done()}
            for key in [key for key in sizes if key != newest]:
                if sum(sizes.values()) <= _BYTES:
                    return
                del self._known[key], sizes[key]


@dataclass(frozen=True, slots=True)
class UpstreamRun:
    """What a record states of an upstream's run."""

    engine: str
    seed: int
    pack: str  # digest
    code_version: str
    run_id: str
    surfaces: Mapping[str, str]  # name -> digest


def upstream_runs(run: Run) -> tuple[UpstreamRun, ...]:
    """Returns the runs that a run stands on, the nearest first; empty where its engine has no upstream."""
    found, above = list[UpstreamRun](), run.upstream
    while isinstance(above, Run):
        found.append(
            UpstreamRun(above.engine, above.seed, above.pack.digest, above.code_version, above.run_id, above.digests())
        )
        above = above.upstream
    return tuple(found)


def upstream_codes(engine: Resolved) -> dict[str, str]:
    """Returns the code version of each engine that is an engine's world, by name, the nearest first."""
    _, *above = _engines(engine.own)
    return {one.name: Resolved(one).code_version for one in above}


def draws_worlds(engine: Resolved, world: Path | None) -> bool:
    """Whether each seed of an engine has a world of its own; `world`: the imported one, None: drawn."""
    own = engine.own
    return world is None and (own.draws_worlds if isinstance(own, Chain) else isinstance(own, Worlds))
