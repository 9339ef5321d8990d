"""Supplies the defaults of what an engine leaves out, and refuses in one line what it does not have."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from lanelock.engine.protocol import (
    Declaring,
    Engine,
    Exporting,
    Feeding,
    Isolated,
    Isolating,
    Keeping,
    Layouts,
    PolicyForms,
    Publishing,
    Run,
    Service,
    Serving,
    Sharding,
    StateReport,
    Worlds,
)
from lanelock.engine.sources import source_digest, sources_of
from lanelock.engine.surface import Surface
from lanelock.policies import EngineError, LaneError, Pack, PolicyError
from lanelock.policies.documents import digest
from lanelock.policies.errors import blamed

Part = TypeVar("Part")

NO_WORLD = digest("no world")  # the world digest of an engine without a world
PARTS: Mapping[type, str] = {  # optional protocol -> the consequence of lacking it
    Keeping: "its states are not cached on disk",
    Isolating: "none of its states can be run alone",
    Publishing: "its runs cannot be written as files",
    Exporting: "its runs cannot be exported",
    Layouts: "its runs are published in one form",
    Declaring: "it declares no surfaces",
    Worlds: "it uses no world",
    Feeding: "it has no input data sets",
    Sharding: "it does not run in shards",
    PolicyForms: "its policies have no form but their own",
    Serving: "no model is registered for its aliases",
}


@dataclass(frozen=True, slots=True)
class Upstream:
    """The world that an engine names in its attribute `upstream`: the run of another engine (`engine.chain`)."""

    engine: str  # by its name
    seed: int | None = None  # None: the run's own


class Resolved:
    """An engine with its defaults, as commands, lanes and proofs use it. `own` is the engine as written."""

    def __init__(self, own: Engine) -> None:
        kind = own if isinstance(own, type) else type(own)
        where = f"{kind.__module__}.{kind.__qualname__}"
        with blamed(where):
            if why := _no_engine(own):
                raise LaneError(f"{where} is no engine: {why} (lanelock.engine.protocol)")
            self.own, self.name = own, own.name

    @property
    def policy_schemas(self) -> Mapping[str, Mapping[str, Any]]:
        return self.own.policy_schemas

    @cached_property
    def states(self) -> tuple[str, ...]:
        """Names of the states in order; an engine that names no state has one, with the engine's name."""
        return tuple(getattr(self.own, "states", ())) or (self.name,)

    @cached_property
    def code_version(self) -> str:
        """Hex64 digest of the code that computes: stated by the engine, or else of its source files."""
        with blamed(f"engine {self.name}: code_version"):
            stated = getattr(self.own, "code_version", None)
            return str(stated) if stated is not None else source_digest(sys.modules[type(self.own).__module__])

    @property
    def code_files(self) -> Mapping[str, str]:
        """Digests (hex64) of the files that `code_version` covers, by name: stated by the engine, or its sources."""
        with blamed(f"engine {self.name}: code_files"):
            stated = getattr(self.own, "code_files", None)
            return sources_of(sys.modules[type(self.own).__module__]) if stated is None else dict(stated)

    @cached_property
    def fingerprint(self) -> str:
        """Digest of the functions that the engine computes with, on fixed arguments; empty where it gives none."""
        return str(getattr(self.own, "fingerprint", ""))

    @property
    def baseline(self) -> str | None:
        """The pack that a published run is compared with: a shipped name or a path."""
        return getattr(self.own, "baseline", None)

    def part(self, protocol: type[Part], option: str = "") -> Part:
        """Returns the engine as a `protocol`. Raises LaneError, naming the `option` that needs it, if it is not."""
        if not isinstance(self.own, protocol):
            lacks = f"engine {self.name} lacks {protocol.__name__} (lanelock.engine.protocol): {PARTS[protocol]}"
            raise LaneError(f"{option}: {lacks}" if option else lacks)
        return self.own

    def with_layout(self, layout: str) -> Layouts:
        """Returns the engine as one that has this layout. Raises PolicyError naming the layouts that it has."""
        able = self.part(Layouts, "--layout")
        if layout not in able.layouts:
            known = "; ".join(f"{name}: {what}" for name, what in able.layouts.items())
            raise PolicyError(f"--layout: {layout!r} is not a layout of engine {self.name} ({known})")
        return able

    def evaluate(
        self, pack: Pack, seed: int, *, world: Path | None = None, until: str | None = None,
        feeds: Mapping[str, Path] = MappingProxyType({}),
    ) -> Run:  # fmt: skip
        """Returns one run up to state `until` (None: the last). Raises LaneError on a keyword the engine lacks.

        `feeds`: imported files, by the name of their data set.
        """
        if until is not None and until not in self.states:
            raise PolicyError(f"{until!r} is not a state of {self.name}: {', '.join(self.states)}")
        last = None if until == self.states[-1] else until
        run: Run = self._call(self.own.evaluate, pack, seed, {"world": world, "until": last, **feeds})
        if not isinstance(run, Run):
            raise EngineError(self._at(pack, seed), f"the engine returned {type(run).__name__} instead of a run")
        return run

    def evaluate_alone(
        self, pack: Pack, seed: int, state: str, given: Run | None = None, *, world: Path | None = None,
        feeds: Mapping[str, Path] = MappingProxyType({}),
    ) -> Isolated:  # fmt: skip
        """Runs one state alone, on inputs that are taken from where they are kept."""
        call: Callable[..., Isolated] = self.part(Isolating, "--only").evaluate_alone
        isolated: Isolated = self._call(call, pack, seed, {"world": world, **feeds}, state, given)
        return isolated

    def evaluate_shards(self, pack: Pack, seed: int, *, world: Path | None = None) -> Iterator[Run]:
        """Yields the run in parts, in order."""
        parts: Iterator[Run] = self._call(self.part(Sharding).evaluate_shards, pack, seed, {"world": world})
        with blamed(self._at(pack, seed)):
            yield from parts

    def serve(self, pack: Pack, seed: int, *, world: Path | None = None) -> tuple[Run, Service]:
        """Returns a run, up to the last state that the service uses, and the service."""
        served: tuple[Run, Service] = self._call(self.part(Serving).serve, pack, seed, {"world": world})
        return served

    def _call(self, call: Callable[..., Any], pack: Pack, seed: int, options: Mapping[str, Any], *further: Any) -> Any:
        """Calls the engine with the options that are not None, so that it need not take the others."""
        given = {name: value for name, value in options.items() if value is not None}
        known = inspect.signature(call).parameters
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values()):
            for name in given.keys() - known.keys():
                why = f": {PARTS[Worlds]}" if name == "world" else ""
                raise LaneError(f"engine {self.name}: {call.__name__}() takes no {name}{why}")
        with blamed(self._at(pack, seed)):
            return call(pack, seed, *further, **given)

    def _at(self, pack: Pack, seed: int) -> str:
        """Returns where an engine raised, as its error says it."""
        return f"engine {self.name}: pack {pack.name}, seed {seed}"


def _no_engine(own: Any) -> str:
    """Returns why an object is no engine; empty if it may be one."""
    for part in ("name", "policy_schemas", "evaluate"):
        if not hasattr(own, part):
            return f"it has no {part}"
    if isinstance(own, type):
        return "it is a class; the entry point must name an instance"
    if not isinstance(own.name, str):
        return f"its name is {own.name!r} instead of a text"
    schemas, states = own.policy_schemas, getattr(own, "states", ())
    if not isinstance(schemas, Mapping) or not all(isinstance(schema, Mapping) for schema in schemas.values()):
        return f"its policy_schemas is {_kind(schemas)} instead of a mapping of policies to schemas"
    if isinstance(states, str) or not all(isinstance(state, str) for state in states):
        return f"its states is {_kind(states)} instead of a sequence of names"
    try:
        chained = {"upstream": None} if isinstance(getattr(own, "upstream", None), Upstream) else {}
        inspect.signature(own.evaluate).bind(None, 0, **chained)
    except (TypeError, ValueError) as error:
        return f"its evaluate does not take (pack, seed{', upstream=' if chained else ''}): {error}"
    return ""


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:100]


def run_of(
    engine: Engine,
    pack: Pack,
    seed: int,
    surfaces: Mapping[str, Surface],
    seconds: float = 0.0,
    processor_s: float = 0.0,
) -> Run:
    """Returns the run of an engine with one state and no world, with its id, key and digests."""
    own = Resolved(engine)
    policies = {name: policy.digest for name, policy in pack.policies.items()}
    address = {"state": own.states[0], "code": own.code_version, "policies": policies, "inputs": {}, "seed": seed}
    rows = sum(surface.rows for surface in surfaces.values())
    report = StateReport(own.states[0], digest(address), rows, seconds, False, address, processor_s)
    run_id = digest([own.name, NO_WORLD, pack.digest, seed])[:32]
    return Run(
        run_id, own.name, seed, pack, NO_WORLD, own.code_version, surfaces, (report,),
        fingerprint=own.fingerprint,
    )  # fmt: skip
