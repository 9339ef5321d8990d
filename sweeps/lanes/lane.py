"""A lane: a bounded permission, read from a file and checked completely before anything runs.

Every knob and fixed field must exist in the authority's pack, both ends of every knob must keep the pack valid, every
graded gate must exist, and no field may be both fixed and a knob. A lane may change nothing else: `Lane.candidate` is
the only way from the authority to a trial's pack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lanelock.engine.protocol import Run
from lanelock.engine.resolved import Resolved
from lanelock.policies import IntegrityError, LaneError, Pack, PolicyError, diff
from lanelock.policies.documents import digest, resolve, shipped_schema, validate
from lanelock.policies.errors import referred_to_by
from lanelock.policies.expressions import Expression, parse
from lanelock.policies.notations import read_document
from lanelock.policies.pack import CarriedPack, Schemas
from lanelock.policies.project import FILE, Project
from lanelock.scoring.chained import Railing
from lanelock.scoring.gates import SEEDS, GateSet, load_gates, parse_gates
from lanelock.scoring.scorecard import Defining, MetricSource, gates_of, keepsake_of, measured, source_for
from lanelock.sweeps.engines import (
    PackFinder,
    engine_named,
    is_start,
    metrics_named,
    open_pack,
    project_here,
    start_of,
)  # fmt: skip
from lanelock.sweeps.lanes.candidates import read_candidates
from lanelock.sweeps.lanes.declared import Derived, bounds_of, completed, derived_of, field_of, shown, space_of
from lanelock.sweeps.lanes.knob import Knob, Value, is_number
from lanelock.sweeps.lanes.sampler_names import AUTO, known_samplers
from lanelock.sweeps.lanes.space import Space

WITNESS = "witness"  # the profile of a gate file whose limits count on a lane's witness seeds

_GREATEST = 1e300  # of a metric: sums and differences of a few stay finite, and an axis can be drawn


@dataclass(frozen=True, slots=True)
class Objective:
    """A quantity that the search improves: a band's least margin, or a mean over seeds of a metric or an expression."""

    name: str
    maximize: bool
    band: str | None
    metric: str | None
    expression: Expression | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that it is computed from; none for a margin."""
        if self.expression is not None:
            return tuple(sorted(self.expression.names))
        return () if self.metric is None else (self.metric,)

    def on(self, metrics: Mapping[str, float]) -> float:
        """Returns its value on one seed; NaN where a metric is missing or the value is undefined. Not for a margin."""
        if self.expression is None:
            return metrics.get(self.metric or "", math.nan)
        return _value(self.expression, metrics)

    def mean(self, by_seed: Sequence[Mapping[str, float]]) -> float:
        """Returns its mean over the seeds, of an expression the sum of its terms' means."""
        if self.expression is not None:
            return sum(self.terms(by_seed).values())
        values = [self.on(metrics) for metrics in by_seed]
        return sum(values) / len(values)

    def terms(self, by_seed: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Returns the mean over seeds of each term of an expression, with its sign; nothing for a plain objective."""
        if self.expression is None:
            return {}
        means = dict[str, float]()
        for sign, term in self.expression.terms():
            text = f"{'-' if sign < 0 else ''}{term.text}"
            means[text] = means.get(text, 0.0) + sign * sum(_value(term, row) for row in by_seed) / len(by_seed)
        return means


def _value(expression: Expression, metrics: Mapping[str, float]) -> float:
    try:
        value = expression.value(metrics)
    except PolicyError:
        return math.nan
    return float(value) if isinstance(value, bool | float | int) else math.nan


@dataclass(frozen=True)
class Lane:
    """From this authority, these knobs, these bounds, these vetoes, this budget."""

    document: Mapping[str, Any]
    engine: Resolved
    metrics: MetricSource
    authority: Pack
    references: Mapping[str, Pack]  # further packs that rails may compare with, by name
    gates_file: Mapping[str, Any]  # the whole gate file, as a lock carries it
    gates: GateSet  # the graded gates and the lane's rails
    space: Space
    objectives: tuple[Objective, ...]
    stage: str = ""  # the stage that it is cut down to; empty: it is the whole lane

    @property
    def id(self) -> str:
        return str(self.document["id"])

    @property
    def title(self) -> str:
        return str(self.document["title"])

    @property
    def knobs(self) -> tuple[Knob, ...]:
        return self.space.knobs

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(map(int, self.document["seeds"]))  # JSON may write 4 as 4.0

    @property
    def witness(self) -> tuple[int, ...]:
        """The seeds that the search does not see, and on which a candidate must hold before it is taken."""
        return tuple(map(int, self.document.get("witness", ())))

    def gates_on(self, seed: int) -> GateSet:
        """Returns the gates that grade a seed: on witness seeds with the limits of the profile of that name."""
        return self.gates.under(self.gates.profiles.get(WITNESS)) if seed in self.witness else self.gates

    @property
    def until(self) -> str:
        return str(self.document.get("until", self.engine.states[-1]))

    @property
    def own_gates(self) -> bool:
        """Whether it grades by a gate file of its own instead of its engine's."""
        return "file" in self.document["gates"]

    @cached_property
    def identity(self) -> str:
        """Returns a hex digest of all that determines a trial: the lane without its budget, the packs and the gates."""
        lane = {key: value for key, value in self.document.items() if key not in ("budget", "$schema")}
        references = {name: pack.digest for name, pack in self.references.items()}
        return digest({
            "lane": lane, "authority": self.authority.digest, "references": references, "gates": self.gates.document,
        })  # fmt: skip

    @cached_property
    def needed(self) -> tuple[str, ...]:
        """The metrics without which a run cannot be graded: those of its gates and of its objectives."""
        graded = (gate.metric for gate in self.gates.gates)
        return tuple(dict.fromkeys([*graded, *(name for row in self.objectives for name in row.names)]))

    @cached_property
    def start(self) -> Pack:
        return self.authority.with_knobs(self.document["fixed"])

    def candidate(self, values: Mapping[str, Value]) -> Pack:
        """Returns the pack of one trial; `values` by knob name. An inactive knob's field stays as the start has it.

        Raises PolicyError where a derived field is undefined or leaves its policy's bounds.
        """
        return self.start.with_knobs(self._placed(values))

    @cached_property
    def derived(self) -> tuple[Derived, ...]:
        return derived_of(self.document, self.space, self.start, f"lane {self.id}")

    def moved(self, values: Mapping[str, Value]) -> dict[str, tuple[Any, Any]]:
        """Returns field -> (authority's value, trial's value), where the two differ."""
        placed = {**self.document["fixed"], **self._placed(values)}
        before = {at: field_of(self.authority, at, at) for at in placed}
        changed = (at for at in placed if before[at] != placed[at])
        return dict(row for at in changed for row in shown(before[at], placed[at], at))

    def _placed(self, values: Mapping[str, Value]) -> dict[str, Any]:
        """Returns field -> the pack's content, for the active knobs and the derived fields."""
        active = self.space.active(values)
        placed = [knob.contents(values[knob.name]) for knob in self.knobs if knob.name in active]
        placed += [{row.at: row.content(values)} for row in self.derived]
        return {at: content for contents in placed for at, content in contents.items()}

    @property
    def moves(self) -> dict[str, tuple[Any, ...]]:
        """Returns field -> both ends of its range or all choices, and the start's content if a knob may be inactive.

        Where a knob moves the numbers within a field, each number is a field too.
        """
        moves = {at: ends for knob in self.knobs for at, ends in self._ends(knob).items()}
        domains = {name: self.space.domain(name) for row in self.derived for name in row.expression.names}
        return moves | {row.at: row.ends(domains, bounds_of(self.start, row.at)) for row in self.derived}

    @property
    def choices(self) -> frozenset[str]:
        """Returns the fields of `moves` that have choices instead of a range."""
        chosen = {at for knob in self.knobs if knob.choices for at in knob.fields}
        numbers = {at: all(map(is_number, ends)) for at, ends in self.moves.items()}
        return frozenset(chosen | {row.at for row in self.derived if not numbers[row.at]})

    def moved_by(self, knob: Knob) -> tuple[str, ...]:
        """Returns the fields that follow from a knob, derived ones among them."""
        derived = (row.at for row in self.derived if knob.name in row.expression.names)
        return (*self._ends(knob), *derived)

    def _ends(self, knob: Knob) -> dict[str, tuple[Any, ...]]:
        first, *_, last = map(knob.contents, knob.extent if len(knob.extent) > 1 else knob.extent * 2)
        if knob.together is None or knob.together.by == "set":
            ends: dict[str, tuple[Any, ...]] = dict.fromkeys(knob.fields, knob.ends())
        else:
            ends = {at: (first[at], last[at]) for at in knob.fields} | knob.together.ends(*knob.span)
        return ends if knob.when is None else {at: self._and_start(at, knob, row) for at, row in ends.items()}

    def _and_start(self, at: str, knob: Knob, ends: tuple[Any, ...]) -> tuple[Any, ...]:
        contents = (*ends, field_of(self.start, at, at))
        return contents if knob.choices or not all(map(is_number, contents)) else (min(contents), max(contents))

    def enqueued(self, file: Path | None = None) -> tuple[dict[str, Value], ...]:
        """Returns the candidates to try first: the lane's own, then a file's. Raises LaneError naming row and field."""
        listed = [] if file is None else read_candidates(file)
        given = (self.space.stated(row, f"{file}: row {number}") for number, row in enumerate(listed, 1))
        return (*self._own_enqueued(f"lane {self.id}"), *given)

    def _own_enqueued(self, where: str) -> tuple[dict[str, Value], ...]:
        """Returns the candidates that the lane enqueues; where the box was narrowed, each is placed in what is left."""
        rows = ({name: self._within(name, row[name]) for name in row} for row in self.document.get("enqueue", ()))
        return tuple(self.space.stated(row, f"{where}: /enqueue/{place}") for place, row in enumerate(rows))

    def _within(self, name: str, value: Value) -> Value:
        narrowed = name in self.document.get("after", {}) and is_number(value)
        return self.space.by_name[name].nearest(value) if narrowed else value

    def admit(self, pack: Pack) -> dict[str, Value]:
        """Returns the knob values that give a pack. Raises LaneError naming a field that this lane cannot have set."""
        where = f"pack {pack.name}"
        placed = {knob.name: {at: field_of(pack, at, where) for at in knob.fields} for knob in self.knobs}
        values: dict[str, Any] = {knob.name: knob.found(placed[knob.name]) for knob in self.knobs}
        active = self._active(values)
        for knob in self.knobs:
            if knob.name not in active:
                values[knob.name] = self._at_rest(knob, placed[knob.name])
            elif values[knob.name] is None:
                raise LaneError(f"lane {self.id}: {_outside(knob, placed[knob.name])}")
        if broken := self.space.broken(values):
            raise LaneError(f"lane {self.id}: pack {pack.name} breaks {broken}")
        if others := diff(self.candidate(values), pack):
            change = others[0]
            follows = {row.at: f"it follows from {row.expression}" for row in self.derived}
            raise LaneError(
                f"lane {self.id}: {change.policy}#{change.pointer} is {change.after!r}, not {change.before!r}; "
                f"{follows.get(f'{change.policy}#{change.pointer}', 'a lane may change only its knobs')}"
            )
        return values

    def _active(self, values: Mapping[str, Any]) -> frozenset[str]:
        """Returns the knobs that count; one whose content was not found is taken to be where it rests."""
        rested = {name: self.space.resting[name] if value is None else value for name, value in values.items()}
        return self.space.active(rested)

    def _at_rest(self, knob: Knob, contents: Mapping[str, Any]) -> Value:
        """Returns an inactive knob's value. Raises LaneError if the pack moves its field."""
        for at, content in contents.items():
            if content != (start := field_of(self.start, at, at)):
                raise LaneError(
                    f"lane {self.id}: {at} is {content!r}, not {start!r}; the knob {knob.name} counts only while "
                    f"{self.space.condition(knob.name)}"
                )
        return self.space.resting[knob.name]

    def with_authority(self, authority: Pack) -> Lane:
        """Returns this lane with another authority: a campaign's, instead of the pack that the lane names."""
        gates = parse_gates(self.gates_file, self.id)
        return _build(self.document, authority, self.references, f"lane {self.id}", gates)

    def narrowed(self, pack: Pack) -> Lane:
        """Returns this lane as it is played after a candidate: no knob that narrows goes past the value in that pack.

        Its document then states these values, so that a lock of it verifies alone. Raises LaneError naming knob and
        value where nothing of a knob's range is left, and where no knob narrows.
        """
        knobs = [knob for knob in self.knobs if knob.narrows is not None]
        if not knobs:
            raise LaneError(f"lane {self.id}: /knobs: none of them narrows, so it cannot be played after a candidate")
        return self.after({knob.name: self._value_in(pack, knob) for knob in knobs})

    def _value_in(self, pack: Pack, knob: Knob) -> Any:
        """Returns a knob's value in a candidate. Raises LaneError where no value gives what is there."""
        contents = {at: field_of(pack, at, f"pack {pack.name}") for at in knob.fields}
        if knob.together is None:
            return contents[knob.at]
        if (value := knob.found(contents)) is None:
            raise LaneError(f"lane {self.id}: {_outside(knob, contents)}")
        return value

    def after(self, values: Mapping[str, Any]) -> Lane:
        """Returns this lane narrowed at these values, by knob name; see `narrowed`."""
        document, where = {**self.document, "after": dict(values)}, f"lane {self.id}"
        validate(document, shipped_schema("lane"), where)
        lane = replace(self, document=document, space=space_of(document, self.authority, where))
        _check(lane, where)
        return lane

    def waived(self, who: str, why: str) -> Lane:
        """Returns this lane with a waiver: one more sweep than its attempts, or more trials than its budget."""
        if "attempts" not in self.document:
            raise LaneError(f"lane {self.id}: nothing to waive: it states no /attempts, so it may be played freely")
        document = {**self.document, "waiver": {"who": who, "why": why}}
        validate(document, shipped_schema("lane"), f"lane {self.id}")
        return replace(self, document=document)

    def yardstick(
        self, seed: int, world: Path | None, check: Callable[[Mapping[str, float]], None] = lambda metrics: None
    ) -> dict[str, float]:
        """Returns what rails compare with: the authority's metrics, and each reference's as `name:metric`.

        `check` is given all that the authority measures, NaN included.
        """

        def run(pack: Pack) -> Run:
            return self.engine.evaluate(pack, seed, world=world, until=self.until)

        authority = run(self.authority)
        keepsake = self._keepsake(seed, world, lambda: authority)
        own = measured(self.metrics, authority, keepsake)
        check(own)
        metrics = _finite(own)
        for name, pack in self.references.items():
            values = _finite(measured(self.metrics, run(pack), keepsake))
            metrics |= {f"{name}:{metric}": value for metric, value in values.items()}
        return metrics

    def measure(self, run: Run, world: Path | None = None) -> dict[str, float]:
        """Returns the run's metrics. Leaves out a value that is not finite, so that its gate cannot pass.

        `world` is the folder on which the run was made: the authority is run there where a metric compares with it.
        """

        def authority() -> Run:
            return self.engine.evaluate(self.authority, run.seed, world=world, until=self.until)

        return _finite(measured(self.metrics, run, self._keepsake(run.seed, world, authority)))

    def _keepsake(self, seed: int, world: Path | None, authority: Callable[[], Run]) -> Any:
        """Returns what the metrics need of the authority's run; on the lane's own seeds it is made once."""
        if (kept := self._keepsakes.get((seed, world))) is None:
            kept = keepsake_of(self.metrics, authority)
            if seed in self.seeds:
                self._keepsakes[seed, world] = kept
        return kept

    @cached_property
    def _keepsakes(self) -> dict[tuple[int, Path | None], Any]:
        return {}

    def declares(self, name: str) -> bool:
        """Whether its gate file, or that of its engine, declares a measured number."""
        return self.gates.declares(name) or any(gates.declares(name) for gates in self._gate_files)

    @cached_property
    def _gate_files(self) -> tuple[GateSet, ...]:
        own = parse_gates(self.gates_file, self.id)
        return (own, gates_of(self.metrics)) if self.own_gates else (own,)

    def with_search(
        self,
        *,
        sampler: str | None = None,
        trials: int | None = None,
        seconds: float | None = None,
        batch: int | None = None,
    ) -> Lane:
        """Returns this lane with another sampler, budget or batch; None keeps the lane's own.

        Raises LaneError for more trials than a lane of counted attempts allows without a waiver.
        """
        document = dict(self.document)
        own = document["budget"]["trials"]
        if trials is not None and trials > own and "attempts" in document and "waiver" not in document:
            raise LaneError(
                f"lane {self.id}: {trials} trials: it states /attempts, and an attempt has at most {own}, its /budget; "
                "a waiver allows more: sweep --waive WHO --why TEXT"
            )
        if sampler is not None:
            document["sampler"] = {"seed": 0, **document.get("sampler", {}), "name": sampler}
        if batch is not None:
            document["batch"] = batch
        budget = {"trials": trials, "seconds": seconds}
        document["budget"] = document["budget"] | {key: value for key, value in budget.items() if value is not None}
        validate(document, shipped_schema("lane"), f"lane {self.id}")
        lane = replace(self, document=document)
        _check(lane, f"lane {self.id}")
        return lane


def load_lane(name_or_path: str, find_pack: PackFinder = open_pack) -> Lane:
    """Returns the lane in a file, or a shipped lane by name. Raises PolicyError or LaneError naming file and field.

    `find_pack` finds its authority and references; the default knows shipped packs and folders.
    """
    project = project_here()
    if project is not None and name_or_path in (project.id, FILE, str(project.file)):
        return lane_of_project(project, find_pack)
    path = resolve(name_or_path, "lanes", ".json")
    if path.is_dir():
        raise LaneError(f"{path}: a lane is a file, this is a folder")
    if path.name == FILE:
        raise LaneError(f"{path}: a project's lane is played in its folder: cd {path.parent}")
    return _loaded(path, read_document(path), find_pack)


def lane_of_project(project: Project, find_pack: PackFinder = open_pack) -> Lane:
    """Returns the lane that a project stands for. Raises PolicyError or LaneError naming a field of its file."""

    def find(name: str) -> tuple[Pack, Resolved]:
        return (start_of(project), engine_named(project.id)) if is_start(name, project) else find_pack(name)

    with project.in_its_fields():
        return _loaded(project.file, project.lane, find)


def _loaded(path: Path, document: Mapping[str, Any], find_pack: PackFinder) -> Lane:
    """Returns the lane of a document that stands in a file."""
    validate(document, shipped_schema("lane"), str(path))
    if "waiver" in document:
        raise LaneError(f"{path}: /waiver: a waiver is given to one sweep, by sweep --waive WHO --why TEXT")

    def named(field: str, pack: str) -> Pack:
        with referred_to_by(f"{path}: {field}"):
            return pack_for(engine, beside(path, pack), find_pack)

    with referred_to_by(str(path)):
        engine, metrics = engine_named(document["engine"]), metrics_named(document["engine"])
    authority = named("/authority", document["authority"])
    references = {name: named(f"/references/{name}", pack) for name, pack in document.get("references", {}).items()}
    gates = document["gates"].get("file")
    with referred_to_by(f"{path}: /gates"):
        gate_file = gates_of(metrics) if gates is None else _railed(metrics, load_gates(beside(path, gates)))
        if gates is not None and isinstance(metrics, Defining):
            gate_file = metrics.completed(gate_file)
    return _build(document, authority, references, str(path), gate_file)


def _railed(metrics: MetricSource, gates: GateSet) -> GateSet:
    """Returns a lane's own gate file with the rails that every lane of its engine keeps."""
    return metrics.railed(gates) if isinstance(metrics, Railing) else gates


def lane_of(
    document: Mapping[str, Any],
    authority: CarriedPack,
    references: Mapping[str, CarriedPack],
    gate_file: Mapping[str, Any],
    where: str,
) -> Lane:
    """Returns the lane that a lock or a study carries: its document, its packs and its gate file.

    Raises IntegrityError if a pack is not the one whose digest is stated.
    """
    validate(document, shipped_schema("lane"), where)
    schemas = engine_named(document["engine"]).policy_schemas
    packs = {name: _whole(pack, schemas, f"{where}: /references/{name}") for name, pack in references.items()}
    own = _whole(authority, schemas, f"{where}: /authority")
    return _build(document, own, packs, where, parse_gates(gate_file, where))


def _whole(carried: CarriedPack, schemas: Schemas, where: str) -> Pack:
    """Returns a carried pack. Raises IntegrityError if it is not the one whose digest is stated beside it."""
    pack = carried.opened(schemas, where)
    if pack.digest != carried.digest:
        raise IntegrityError(f"{where}: states pack {carried.digest}, its policies digest to {pack.digest}")
    return pack


def _build(
    document: Mapping[str, Any], authority: Pack, references: Mapping[str, Pack], where: str, gate_file: GateSet
) -> Lane:
    engine = engine_named(document["engine"])
    try:
        metrics = source_for(metrics_named(document["engine"]), gate_file)
        always = metrics.rails if isinstance(metrics, Railing) else ()
        graded = dict.fromkeys([*document["gates"]["grade"], *always])
        gates = gate_file.select([*graded]).with_rails(document["gates"]["rails"])
    except PolicyError as error:
        raise LaneError(f"{where}: {error}") from None
    document = completed(document, authority, where)
    space = space_of(document, authority, where)
    objectives = tuple(
        Objective(
            row["name"],
            row["direction"] == "maximize",
            row.get("worst_margin"),
            row.get("metric"),
            _expression(row, gates, f"{where}: /objectives/{row['name']}"),
        )
        for row in document["objectives"]
    )
    lane = Lane(document, engine, metrics, authority, references, gate_file.grading, gates, space, objectives)
    _check(lane, where)
    _check_bounds(lane, gate_file, where)
    return lane


def _expression(row: Mapping[str, Any], gates: GateSet, where: str) -> Expression | None:
    """Returns an objective's expression, over the gate file's metrics. Raises LaneError naming the column."""
    if "expression" not in row:
        return None
    try:
        return parse(row["expression"], f"{where}/expression", gates.metrics)
    except PolicyError as error:
        raise LaneError(str(error)) from None


def _check_bounds(lane: Lane, gate_file: GateSet, where: str) -> None:
    """Raises LaneError for a rail whose bound nobody measures, and for a bound over a single seed."""
    for gate in lane.gates.gates:
        if (bound := gate.confidence) is None:
            continue
        if bound.resampled and not gate_file.declares(bound.key(gate.metric, gate.comparison)):
            raise LaneError(
                f"{where}: /gates/{gate.id}/confidence: no gate of the file measures this bound; add it there"
            )
        if bound.method == SEEDS and len(lane.seeds) < 2:
            raise LaneError(f"{where}: /gates/{gate.id}/confidence: a bound over seeds, and the lane has a single seed")


def _check(lane: Lane, where: str) -> None:
    if lane.until not in lane.engine.states:
        raise LaneError(
            f"{where}: /until: {lane.until!r} is not a state of {lane.engine.name}: {', '.join(lane.engine.states)}"
        )
    bands = set(lane.gates.bands)
    for objective in lane.objectives:
        if objective.band is not None and objective.band not in bands:
            raise LaneError(
                f"{where}: /objectives/{objective.name}: band {objective.band!r} is not one of {sorted(bands)}"
            )
        field = f"{where}: /objectives/{objective.name}"
        if objective.band is not None and not objective.maximize:
            raise LaneError(f"{field}: a margin is to be maximized; name a metric to minimize it")
        if objective.metric is not None and objective.metric not in lane.gates.metrics:
            raise LaneError(f"{field}: {objective.metric!r} is not one of the gate file's metrics")
    names = [objective.name for objective in lane.objectives]
    if twice := [name for name in names if names.count(name) > 1]:
        raise LaneError(f"{where}: /objectives: two of them are named {twice[0]}")
    if lane.document["decision"]["accept_band"] not in bands:
        raise LaneError(f"{where}: /decision/accept_band: not one of {sorted(bands)}")
    name = lane.document.get("sampler", {}).get("name", AUTO)
    if name not in known_samplers():
        raise LaneError(f"{where}: /sampler/name: {name!r} is not one of {', '.join(known_samplers())}")
    if name == "cmaes" and lane.document.get("aim") == "front" and len(lane.objectives) > 1:
        raise LaneError(f"{where}: /sampler/name: cmaes improves one objective, and /aim is front")
    if both := sorted({*lane.seeds} & {*lane.witness}):
        raise LaneError(f"{where}: /witness: {both[0]} is one of /seeds, so that the search would see it")
    _check_reserve(lane, f"{where}: /decision")
    if set(lane.references) != set(lane.document.get("references", {})):
        raise LaneError(f"{where}: /references: the packs given are {sorted(lane.references)}")
    for gate in lane.gates.gates:
        if gate.relative is not None and gate.relative.of is not None and gate.relative.of not in lane.references:
            raise LaneError(f"{where}: /gates/{gate.id}: {gate.relative.of!r} is not one of the lane's references")
    for knob in lane.knobs:
        _check_ends(lane, knob, f"{where}: /knobs/{knob.name}")
    derived_of(lane.document, lane.space, lane.start, where)
    try:
        _ = lane.space.start
    except LaneError as error:
        raise LaneError(f"{where}: {error}") from None
    for row in lane.derived:
        _check_derived(lane, row, f"{where}: /derived/{row.at}")
    lane._own_enqueued(where)


def _check_ends(lane: Lane, knob: Knob, field: str) -> None:
    """Raises LaneError unless the pack is valid at each choice, or at both ends, of a knob that counts."""
    above = lane.space.activating(knob) or {}
    parents = [lane.space.by_name[name].contents(value) for name, value in above.items()]
    for value in knob.extent:
        contents = knob.contents(value)
        try:
            lane.start.with_knobs({at: content for row in (*parents, contents) for at, content in row.items()})
        except PolicyError as error:
            stated = knob.placed(value) if knob.together is None else value
            raise LaneError(f"{field}: {stated!r} is outside the policy's bounds: {error}") from None


def _check_derived(lane: Lane, row: Derived, field: str) -> None:
    """Raises LaneError where a derived field leaves its policy's bounds at a corner of the knobs it follows from."""
    names = sorted(row.expression.names)
    for values in lane.space.extremes(names):
        try:
            lane.candidate(values)
        except PolicyError as error:
            stated = ", ".join(f"{name} {values[name]}" for name in names)
            raise LaneError(f"{field}: {row.expression} at {stated}: {error}") from None
    if not all(map(math.isfinite, filter(is_number, lane.moves[row.at]))):
        raise LaneError(f"{field}: {row.expression} has no bounds: it divides by what may be 0")


def _outside(knob: Knob, contents: Mapping[str, Any]) -> str:
    """Returns in words that a pack holds what a knob cannot give."""
    if knob.together is None:
        return f"{knob.at} is {contents[knob.at]!r}, outside the knob {knob.name}: {knob.range_text()}"
    return f"{knob.fields_text} holds what no value of the knob {knob.name} gives: {knob.range_text()}"


def _check_reserve(lane: Lane, where: str) -> None:
    if "reserve" not in lane.document["decision"]:
        return
    if lane.objectives[0].band is None:
        raise LaneError(f"{where}/reserve: coverage needs a first objective with worst_margin; declare margin_reserve")
    if len(lane.seeds) < 2:
        raise LaneError(f"{where}/reserve: coverage follows from the spread over seeds, and the lane has a single seed")


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if abs(value) < _GREATEST}


def pack_for(engine: Resolved, name: str, find_pack: PackFinder) -> Pack:
    """Returns the pack of that name. Raises PolicyError where it is another engine's."""
    pack, owner = find_pack(name)
    if owner.name != engine.name:
        raise PolicyError(f"{name}: /engine: a pack of engine {owner.name}, not of {engine.name}")
    return pack


def beside(lane: Path, name: str) -> str:
    """Returns a path that a file gives: beside that file where it starts with a dot and exists there, else as given."""
    path = lane.parent / name
    return str(path) if name.startswith(".") and path.exists() else name
