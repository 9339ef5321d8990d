"""A code lane: two versions of an engine's code on one pack, turn by turn, each run in a process of its own.

What the two gave is compared before what they took. Rails, all of which must hold:

    surfaces   every surface has the same bytes, by its digest; or, where declared, every metric the same value
    rows       every state has the same number of rows
    replay     each side gives the same bytes in every round, and replays its own published run to the same files
    audit      the engine's own audit of its run passed, on both sides

What a run does outside its states has a row as well, and counts with them: a state is not made faster by doing its work
elsewhere. What is done on loading is apart, since a process loads once for many runs; it may not get slower either.

A state whose law was changed on purpose is `allowed` to differ; what follows from it differs as well and is not
compared. The lane closes GO if the interval of what all states save excludes zero, and NO_GO otherwise; a state that
got slower by more than the limit, and whose cause nobody has explained, makes it NO_GO whatever all states save.

Everything but the rounds follows from them: `derived` gives it, and whoever proves a comparison derives it again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lanelock.engine.keep.staging import staging
from lanelock.engine.resolved import Resolved
from lanelock.policies import EngineError, IntegrityError, Pack, PolicyError
from lanelock.policies.pack import CarriedPack
from lanelock.scoring.scorecard import gates_of
from lanelock.sweeps.engines import metrics_named
from lanelock.sweeps.perf.environments import HERE, sides, this_tree
from lanelock.sweeps.perf.gains import ALL, LOADING, Gain, Limit, gains
from lanelock.sweeps.perf.machine import machine
from lanelock.sweeps.perf.measure import Request, Round, Side, one_round, write_pack
from lanelock.sweeps.provenance import user
from lanelock.sweeps.workspace import Workspace

FORMAT = "lanelock.comparison/1"
PUBLISHING = "publishing"  # in place of a state: writing the run as files
ELSEWHERE = "elsewhere"  # in place of a state: what a run does that it charges no state with
BESIDE = (PUBLISHING, ELSEWHERE, LOADING)  # measured as states are, so that nothing is hidden between them
EQUAL, METRICS = "equal", "metrics"  # what the rail of the surfaces asks
SAME, OWN = "same", "own"  # which pack the other side runs
WORLD = "world"  # stands among the surfaces: the digest of the world
Watch = Callable[[int, str], None]  # round, from 0: the one that warms up and does not count; and the side that runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """By which rules two sides are compared."""

    rounds: int = 7  # odd, so that the median is one of them
    seed: int = 42
    surfaces: str = EQUAL  # or METRICS
    packs: str = SAME  # or OWN: each side reads the pack of that name that it ships
    tolerance: float = 1e-9  # of a metric, relative to its size or to 1
    slower_share: float = 0.10
    slower_seconds: float = 0.005
    allowed: tuple[str, ...] = ()  # states whose law was changed on purpose
    explained: Mapping[str, str] = field(default_factory=dict)  # state -> why it may be slower

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Terms:
        return cls(**{**document, "allowed": tuple(document["allowed"])})

    @property
    def document(self) -> dict[str, Any]:
        return {**asdict(self), "allowed": list(self.allowed)}

    @property
    def limit(self) -> Limit:
        return Limit(self.slower_share, self.slower_seconds)


@dataclass(frozen=True, slots=True)
class Measured:
    """What one side gave and took."""

    name: str
    lanelock: str  # version
    code_version: str
    fingerprint: str
    pack: str  # digest, as that side reads it
    run_id: str
    audit: bool | None  # None: the engine has none
    replay: str | None  # "" where every file was the same, else the first that differs; None: it cannot replay
    unlike: int | None  # the first round, from 1, that gave other bytes than the one before
    digests: Mapping[str, str]  # of each surface, and of the world
    states: Mapping[str, str]  # surface -> the state that gives it
    inputs: Mapping[str, Sequence[str]]  # state -> what it reads, for engines that say so
    rows: Mapping[str, int]
    metrics: Mapping[str, float | None] | None  # None: not compared; of a metric: not a number
    published: Mapping[str, Any] | None  # files, bytes and log_bytes
    cpu_s: Mapping[str, Sequence[float]]  # by state and round
    wall_s: Mapping[str, Sequence[float]]

    @property
    def document(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Rail:
    """A rail, and its witness."""

    rail: str
    ok: bool
    witness: str


@dataclass(frozen=True, slots=True)
class Derived:
    """What follows from two measured sides, under terms."""

    rails: tuple[Rail, ...]
    changed: tuple[str, ...]  # surfaces that differ by themselves
    following: tuple[str, ...]  # surfaces that differ, and stand on one that does
    gains: tuple[Gain, ...]
    slower: tuple[str, ...]  # states beyond the limit
    holds: bool  # every rail, and no state got slower without an explained cause
    outcome: str  # "GO" or "NO_GO"
    reason: str

    @property
    def whole(self) -> Gain:
        """The gain of all states together."""
        return self.gains[-1]

    @property
    def document(self) -> dict[str, Any]:
        return {
            "rails": [asdict(rail) for rail in self.rails], "changed": [*self.changed], "following": [*self.following],
            "gains": [gain.document for gain in self.gains], "slower": [*self.slower], "holds": self.holds,
            "outcome": self.outcome, "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A code lane that was closed. Law: `Comparison.of(comparison.document) == comparison`."""

    name: str
    engine: str
    pack: CarriedPack
    at: str  # UTC, ISO 8601
    who: str
    machine: Mapping[str, Any]
    terms: Terms
    reference: Measured  # what it is compared with
    candidate: Measured
    order: tuple[str, ...]  # states in the engine's order
    metric_states: Mapping[str, str]  # metric -> state, where metrics are compared
    derived: Derived

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Comparison:
        """Returns the comparison in a document, with all that follows from its rounds derived again.

        Raises IntegrityError where it does not hold the rounds that it states.
        """
        fields = {name: document[name] for name in ("name", "engine", "at", "who", "machine", "metric_states")}
        terms, order = Terms.of(document["terms"]), tuple(document["order"])
        reference, candidate = (Measured(**document[side]) for side in ("reference", "candidate"))
        _check_whole(reference, candidate, terms, order)
        again = derived(reference, candidate, terms, order, fields["metric_states"])
        return cls(
            **fields, pack=CarriedPack.of(document["pack"]), terms=terms, reference=reference, candidate=candidate,
            order=order, derived=again,
        )  # fmt: skip

    @property
    def alone(self) -> bool:
        """Whether one tree was measured twice."""
        return self.reference.name == self.candidate.name

    @property
    def same_code(self) -> bool:
        """Whether both sides ran the same code."""
        return self.reference.code_version == self.candidate.code_version

    @property
    def document(self) -> dict[str, Any]:
        """JSON under `comparison.schema.json`."""
        fields = {name: getattr(self, name) for name in ("name", "engine", "at", "who", "machine", "metric_states")}
        return {
            "format": FORMAT, **fields, "pack": asdict(self.pack), "terms": self.terms.document,
            "order": list(self.order), "reference": self.reference.document, "candidate": self.candidate.document,
            **self.derived.document,
        }  # fmt: skip


def _check_whole(reference: Measured, candidate: Measured, terms: Terms, order: Sequence[str]) -> None:
    """Raises IntegrityError where a side lacks rounds of a state, or the order lacks a state."""
    for side in (reference, candidate):
        rounds = {len(values) for clock in (side.cpu_s, side.wall_s) for values in clock.values()}
        if rounds != {terms.rounds} or side.cpu_s.keys() != side.wall_s.keys():
            raise IntegrityError(f"{side.name}: not {terms.rounds} rounds of every state, on both clocks")
    named = {*candidate.rows, *candidate.cpu_s, *terms.allowed, *terms.explained} - {ALL}
    if unknown := sorted(named - {*order}):
        raise IntegrityError(f"/order: {unknown[0]} is missing")
    if len({*order}) < len(order) or not {*order} & {*reference.cpu_s} - {LOADING}:
        raise IntegrityError("/order: not the states of both sides, each once")


def compared(
    pack: Pack, engine: Resolved, reference: Measured, workspace: Workspace, name: str, terms: Terms
) -> Comparison:
    """Compares this tree with what was measured before, in as many rounds, which are then not turn by turn."""
    with staging(workspace.scratch, "pack") as folder:
        write_pack(pack, engine.name, folder)
        here = this_tree()
        rounds = [
            one_round(here, Request(str(folder), terms.seed, replay=turn == 0), below=folder)
            for turn in range(terms.rounds + 1)
        ]
    candidate = measured_of(HERE, rounds[0], rounds[1:])
    return _closed(pack, engine, reference, candidate, name, terms)


def compare(
    pack: Pack, engine: Resolved, against: str, workspace: Workspace, name: str, terms: Terms,
    watch: Watch = lambda turn, side: None, keep: Callable[[Comparison], Comparison] = lambda made: made,
) -> Comparison:  # fmt: skip
    """Compares this tree with the side that `against` names. The first round warms up and does not count.

    `keep` stores the comparison and returns it as it is kept: before what is laid out is removed, during which the
    process may be ended. Raises EngineError where a side cannot run the pack, PolicyError for a state that the engine
    does not have.
    """
    with sides(against, workspace) as (here, other), staging(workspace.scratch, "pack") as folder:
        write_pack(pack, engine.name, folder)
        packs = {here.name: str(folder), other.name: pack.name if terms.packs == OWN else str(folder)}
        first = dict[str, Round]()
        for side in (other, here):
            first[side.name] = _turn(side, 0, packs, folder, terms, watch)
        _check_first(pack, engine, first, terms)
        rounds = _rounds((here, other), packs, folder, terms, watch)
        candidate, reference = (measured_of(side.name, first[side.name], rounds[side.name]) for side in (here, other))
        return keep(_closed(pack, engine, reference, candidate, name, terms))


def _check_first(pack: Pack, engine: Resolved, first: Mapping[str, Round], terms: Terms) -> None:
    """Raises an error for what the first round shows already, before hours are spent on all others."""
    check_states(terms, _order([state.state for state in first[HERE].states], engine))
    for name, row in first.items():
        if row.answer["pack"] != pack.digest and (name == HERE or terms.packs == SAME):
            raise EngineError(f"{name}: pack {pack.name}", f"it reads another pack, {row.answer['pack'][:12]}")


def _closed(
    pack: Pack, engine: Resolved, reference: Measured, candidate: Measured, name: str, terms: Terms
) -> Comparison:
    """Returns the comparison of two measured sides."""
    order = _order(candidate.rows, engine)
    check_states(terms, order)
    metric_states = _metric_states(engine) if terms.surfaces == METRICS else {}
    found = derived(reference, candidate, terms, order, metric_states)
    return Comparison(
        name=name, engine=engine.name, pack=pack.carried(), at=datetime.now(UTC).isoformat(timespec="seconds"),
        who=user(), machine=machine(), terms=terms, reference=reference, candidate=candidate, order=order,
        metric_states=metric_states, derived=found,
    )  # fmt: skip


def _order(states: Iterable[str], engine: Resolved) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*states, *engine.states, *BESIDE]))


def _rounds(
    sides: tuple[Side, Side], packs: Mapping[str, str], folder: Path, terms: Terms, watch: Watch
) -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {side.name: [] for side in sides}
    for turn in range(1, terms.rounds + 1):
        for side in sides if turn % 2 else reversed(sides):
            found[side.name].append(_turn(side, turn, packs, folder, terms, watch))
    return found


def _turn(side: Side, turn: int, packs: Mapping[str, str], folder: Path, terms: Terms, watch: Watch) -> Round:
    watch(turn, side.name)
    asked = Request(packs[side.name], terms.seed, replay=turn == 0, metrics=terms.surfaces == METRICS)
    return one_round(side, asked, below=folder)


def measured_of(name: str, first: Round, counted: Sequence[Round]) -> Measured:
    """Returns what the rounds of one side gave. The first one, which may have replayed, does not count."""
    answer, gave = first.answer, [_given(row) for row in (first, *counted)]
    unlike = next((turn for turn, given in enumerate(gave) if given != gave[0]), None)
    published, replay = answer["published"], answer["replay"]
    costs = [_costs(row) for row in counted]
    return Measured(
        name, answer["lanelock"], answer["code_version"], answer["fingerprint"], answer["pack"], answer["run_id"],
        answer["audit"], None if replay is None else "" if replay["identical"] else replay["differences"][0], unlike,
        gave[0], answer["surfaces"], answer["inputs"], {state.state: state.rows for state in first.states},
        answer["metrics"] and {name: _finite(value) for name, value in answer["metrics"].items()},
        published and {name: published[name] for name in ("files", "bytes", "log_bytes")},
        {state: [cost[state][0] for cost in costs] for state in costs[0]},
        {state: [cost[state][1] for cost in costs] for state in costs[0]},
    )  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _given(row: Round) -> dict[str, str]:
    return {**row.digests, WORLD: row.answer["world_digest"]}


def _costs(row: Round) -> dict[str, tuple[float, float]]:
    """Returns processor and wall seconds of each state, and of what is done beside them.

    Writing the files has its own states as parts.
    """
    published = row.answer["published"]
    within = () if published is None else published["states"]
    costs = {
        state.state: (state.wall_s if state.cpu_s is None else state.cpu_s, state.wall_s)
        for state in row.states
        if state.state not in within
    }
    if published is not None:
        costs[PUBLISHING] = _clocks(published)
    loading, work = (_clocks(row.answer[name]) for name in ("import", "work"))
    charged = (sum(clock) for clock in zip(*costs.values(), strict=True))
    used, passed = (max(0.0, whole - seconds) for whole, seconds in zip(work, charged, strict=True))
    return {ELSEWHERE: (used, passed), LOADING: loading, **costs}


def _clocks(cost: Mapping[str, float]) -> tuple[float, float]:
    return cost["cpu_s"], cost["wall_s"]


def _metric_states(engine: Resolved) -> dict[str, str]:
    return {name: metric.state for name, metric in gates_of(metrics_named(engine.name)).metrics.items()}


def check_states(terms: Terms, order: Sequence[str]) -> None:
    """Raises PolicyError for a state that terms name and there is not."""
    for option, names in (("--allow", terms.allowed), ("--explain", terms.explained)):
        if unknown := [name for name in names if name not in (*order, ALL)]:
            raise PolicyError(f"{option}: {unknown[0]!r} is not a state: {', '.join(order)}")


# --- what follows -----------------------------------------------------------------------------------------


def derived(
    reference: Measured, candidate: Measured, terms: Terms, order: Sequence[str], metric_states: Mapping[str, str]
) -> Derived:
    """Returns all that follows from what two sides gave and took."""
    states = _states_of(reference, candidate, order)
    differing = _differing(reference, candidate, states, order)
    apart = {states[name] for name in differing}
    changed = tuple(name for name in differing if not apart & _above(states[name], candidate, order))
    following = tuple(name for name in differing if name not in changed)
    left_out = {state for state in order if {state, *_above(state, candidate, order)} & {*terms.allowed}}
    compared = [name for name in differing if states[name] not in left_out]
    rails = (
        _values(reference, candidate, terms, metric_states, left_out) if terms.surfaces == METRICS
        else _surfaces(compared, changed, len(reference.digests) - 1, terms.allowed),
        _rows(reference, candidate, order, left_out), _replay(reference, candidate), _audit(reference, candidate),
    )  # fmt: skip
    rows = gains(order, (reference.cpu_s, candidate.cpu_s), (reference.wall_s, candidate.wall_s), terms.limit)
    slower = tuple(row.state for row in rows if row.slower)
    unexplained = [row for row in rows if row.slower and row.state not in terms.explained]
    if len(unexplained) > 1 or terms.explained:
        unexplained = [row for row in unexplained if row.state != ALL]  # its states say why
    holds = all(rail.ok for rail in rails) and not unexplained
    outcome, reason = _decided(rails, rows, unexplained, terms, alone=reference.name == candidate.name)
    return Derived(rails, changed, following, rows, slower, holds, outcome, reason)


def _decided(
    rails: Sequence[Rail], rows: Sequence[Gain], unexplained: Sequence[Gain], terms: Terms, alone: bool
) -> tuple[str, str]:
    """Returns the outcome and its reason. `alone`: one tree, measured twice; a difference is then the machine's."""
    if broken := next((rail for rail in rails if not rail.ok), None):
        return "NO_GO", f"{broken.rail}: {broken.witness}"
    if unexplained:
        worst = max(unexplained, key=lambda row: (row.state != LOADING, row.weight))
        return "NO_GO", (
            f"{worst.state} takes {worst.worst.value:.2f} times what it took, at least {worst.worst.low:.2f}, and "
            f"{1 + terms.slower_share:g} are allowed without an explained cause"
        )
    if alone:
        return "NO_GO", "no gain: this tree was measured twice, and lost nothing"
    whole = rows[-1]
    saved = f"{whole.saved.value:.3f} s of {whole.before.value:.3f} s ({whole.saved.low:.3f} to {whole.saved.high:.3f})"
    if not whole.faster:
        zero = ", an interval that holds zero" if whole.saved.high >= 0 else ""
        return "NO_GO", f"no gain: all states together save {saved}{zero}"
    return "GO", f"all states together save {saved}"


def _states_of(reference: Measured, candidate: Measured, order: Sequence[str]) -> dict[str, str]:
    """Returns the state of every surface; the last one's where an engine does not say."""
    last = next((state for state in reversed(order) if state not in BESIDE), order[-1])
    said = {**reference.states, **candidate.states, WORLD: WORLD if WORLD in order else order[0]}
    said = {name: state for name, state in said.items() if state in order}
    return {name: said.get(name, last) for name in {**reference.digests, **candidate.digests}}


def _differing(reference: Measured, candidate: Measured, states: Mapping[str, str], order: Sequence[str]) -> list[str]:
    names = sorted({*candidate.digests, *reference.digests}, key=lambda name: (order.index(states[name]), name))
    return [name for name in names if reference.digests.get(name) != candidate.digests.get(name)]


def _above(state: str, side: Measured, order: Sequence[str]) -> set[str]:
    """Returns the states that a state stands on: those it reads, and theirs; all before it where that is not known."""
    at = [name for name in order if name in side.rows]
    before = at[: at.index(state)] if state in at else [name for name in at if name != state]
    inputs = side.inputs.get(state)
    if inputs is None or any(name not in before for name in inputs):
        return set(before)
    return {above for name in inputs for above in (name, *_above(name, side, order))}


def _surfaces(differing: Sequence[str], changed: Sequence[str], count: int, allowed: Sequence[str]) -> Rail:
    if not differing:
        but = f", but for what follows from {', '.join(allowed)}" if allowed else ""
        return Rail("surfaces", True, f"the digests of {count} surfaces are equal{but}")
    first = [name for name in differing if name in changed] or [*differing]
    after = [name for name in differing if name not in first]
    more = f"; following from that: {', '.join(after)}" if after else ""
    return Rail("surfaces", False, f"{', '.join(first)} differ{'s' * (len(first) == 1)}{more}")


def _values(
    reference: Measured, candidate: Measured, terms: Terms, states: Mapping[str, str], left_out: set[str]
) -> Rail:
    """Returns whether every metric has the same value, within the tolerance."""
    before, after = reference.metrics or {}, candidate.metrics or {}
    names = [name for name in sorted({*after, *before}) if states.get(name) not in left_out]
    unlike = [
        name for name in names
        if (name in before) is not (name in after) or not _near(before[name], after[name], terms.tolerance)
    ]  # fmt: skip
    if unlike:
        name = unlike[0]
        return Rail("metrics", False, f"{name}: {after.get(name)}, was {before.get(name)} ({len(unlike)} differ)")
    return Rail("metrics", bool(names), f"{len(names)} metrics are equal within {terms.tolerance:g}")


def _near(one: float | None, other: float | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= tolerance * max(1.0, abs(one), abs(other))


def _rows(reference: Measured, candidate: Measured, order: Sequence[str], left_out: set[str]) -> Rail:
    known = {*candidate.rows, *reference.rows}
    names = [name for name in dict.fromkeys([*order, *sorted(known)]) if name in known and name not in left_out]
    unlike = [name for name in names if reference.rows.get(name) != candidate.rows.get(name)]
    if unlike:
        name = unlike[0]
        return Rail("rows", False, f"{name}: {candidate.rows.get(name)}, were {reference.rows.get(name)}")
    return Rail("rows", True, f"{sum(candidate.rows.values()):,} rows of {len(names)} states")


def _replay(*both: Measured) -> Rail:
    for side in both:
        if side.unlike is not None:
            return Rail("replay", False, f"{side.name}: round {side.unlike} gave other bytes than the first")
        if side.replay:
            return Rail("replay", False, f"{side.name}: its published run replays otherwise: {side.replay}")
    files = [f"{side.published['files']} files" for side in both if side.published and side.replay is not None]
    return Rail(
        "replay", True, f"every round gave the same bytes{f', and so did replays: {files[0]}' if files else ''}"
    )


def _audit(*both: Measured) -> Rail:
    failed = [side.name for side in both if side.audit is False]
    said = "passed on both sides" if any(side.audit for side in both) else "the engine has none"
    return Rail("audit", not failed, f"{failed[0]}: failed" if failed else said)
