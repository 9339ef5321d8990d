"""Scoring: grades a run's metrics by a set of gates. Pure, and fail-closed.

A missing number never passes: its gate fails and there is no grade. A failed veto or rail fails the run, whatever the
other gates give. Otherwise the grade is the highest band that every gate meets, together with every lower one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lanelock.engine.plain import number_of, shown
from lanelock.engine.protocol import Run
from lanelock.policies import DataError, PolicyError
from lanelock.policies.documents import shipped_schema, validate
from lanelock.policies.errors import blamed
from lanelock.scoring.feasibility import Bound, Box, Floor
from lanelock.scoring.gates import SEEDS, Gate, GateSet, Severity, Threshold, Verdict, highest, load_gates, parse_gates

MISSING = 10.0  # violation of a veto or rail without a value: ten scales past its threshold


class MetricSource(Protocol):
    """The metrics of one engine, registered under the entry-point group `lanelock.metrics`."""

    name: str

    @property
    def gates_file(self) -> str | Path | Mapping[str, Any]:
        """The engine's own gate file: a shipped name, a path, or its content."""
        ...

    def measure(self, run: Run) -> Mapping[str, float]:
        """Returns metrics by name; a metric that cannot be measured on this run is left out or NaN."""
        ...


def gates_of(source: MetricSource) -> GateSet:
    """Returns the engine's own gates. Raises PolicyError naming file, field and bound."""
    given = source.gates_file
    return parse_gates(given, f"gates of {source.name}") if isinstance(given, Mapping) else load_gates(str(given))


@runtime_checkable
class Defining(Protocol):
    """A metric source that measures what a gate file defines, instead of by code of its own."""

    def defined_by(self, gates: GateSet) -> MetricSource:
        """Returns the source that measures by the definitions of a gate file, such as a lock's."""
        ...

    def completed(self, gates: GateSet) -> GateSet:
        """Returns a lane's own gate file with this source's definitions where it declares a metric and defines none."""
        ...


@runtime_checkable
class Comparing(Protocol):
    """A metric source with metrics that compare a run with the authority's on the same seed."""

    @property
    def compares(self) -> bool:
        """Whether there is such a metric."""
        ...

    def keepsake(self, run: Run) -> Any:
        """Returns what the metrics need of the authority's run."""
        ...

    def compared(self, run: Run, keepsake: Any) -> Mapping[str, float]:
        """Returns metrics by name. `measure` gives the same, with NaN for those that compare."""
        ...


def source_for(source: MetricSource, gates: GateSet) -> MetricSource:
    """Returns the source that measures what a gate file defines.

    Raises PolicyError for a definition that the engine's own code would not read.
    """
    if isinstance(source, Defining):
        return source.defined_by(gates)
    if defined := [metric.name for metric in gates.metrics.values() if metric.definition is not None]:
        raise PolicyError(
            f"/metrics/{defined[0]}/definition: the metrics of {source.name} are measured by its own code"
        )
    return source


def keepsake_of(source: MetricSource, authority: Callable[[], Run]) -> Any:
    """Returns what the metrics need of the authority's run, which is made only then; None if they compare nothing."""
    return source.keepsake(authority()) if isinstance(source, Comparing) and source.compares else None


@runtime_checkable
class Bounding(Protocol):
    """A metric source that can prove bounds. Without it, only bounds on frozen states are known before a sweep."""

    def bounds(self, box: Box) -> Iterable[Bound]:
        """Returns bounds of a lane's trials on one seed, proved from the frozen upstream and the knob box."""
        ...


@runtime_checkable
class Flooring(Protocol):
    """A metric source that can say how much of a metric is structure, which no candidate moves."""

    def floors(self, metrics: Mapping[str, float]) -> Iterable[Floor]:
        """Returns the floors that follow from measured metrics; one that was not measured is left out."""
        ...


def floors(source: MetricSource, metrics: Mapping[str, float]) -> tuple[Floor, ...]:
    """Returns the floor analysis of a run's or a lock's metrics; nothing if the source makes none."""
    return tuple(source.floors(metrics)) if isinstance(source, Flooring) else ()


@runtime_checkable
class Directing(Protocol):
    """A metric source that knows in which direction some fields drive its gates."""

    def directions(self, box: Box) -> Mapping[str, int]:
        """Returns address -> the end (-1 least, +1 greatest) at which a movable field passes most gates."""
        ...


@runtime_checkable
class ShardMetrics(Protocol):
    """A metric source that measures a run exactly from its shards: `measure(run) == reduce([sample(run)])`."""

    def sample(self, run: Run) -> Any:
        """Returns what the metrics need from one shard; small, so that the shard's surfaces can be dropped."""
        ...

    def reduce(self, samples: Sequence[Any]) -> Mapping[str, float]:
        """Returns the run's metrics from the samples of all its shards, in order."""
        ...


@dataclass(frozen=True, slots=True)
class GateResult:
    """The result of one gate, with every number that it used."""

    id: str
    metric: str
    severity: Severity
    comparison: str
    value: float | None
    thresholds: Mapping[str, Threshold | None]  # only bands with a threshold
    margins: Mapping[str, float | None]  # in gate scales; >= 0 passes; None if unknown
    passed: Mapping[str, bool]  # every band, lowest first
    seed: int | None
    note: str = ""  # why it is unknown though its metric was measured; what its value is where that is not the metric

    @classmethod
    def read(cls, row: Mapping[str, Any], bands: Sequence[str]) -> GateResult:
        """Returns the result in a row of a scorecard's document, with its bands in order again."""
        by_band = {
            part: {band: row[part][band] for band in bands if band in row[part]}
            for part in ("thresholds", "margins", "passed")
        }
        return cls(**{**row, **by_band, "severity": Severity(row["severity"])})

    @property
    def holds(self) -> str | None:
        """The highest band that it meets with every lower one; None if it does not meet the lowest."""
        return highest(self.passed, self.passed.__getitem__)

    @property
    def level(self) -> int:
        """The number of bands it holds, counted from the lowest."""
        return [None, *self.passed].index(self.holds)

    @property
    def full(self) -> bool:
        """Whether it meets every band; a veto or rail passes only then."""
        return all(self.passed.values())

    @property
    def known(self) -> bool:
        """Whether there was a value and a threshold to compare."""
        return None not in self.margins.values()

    @property
    def worst_margin(self) -> float:
        """The least margin over the bands; -inf if unknown."""
        return _least(self.margins.values())

    def as_document(self) -> dict[str, Any]:
        """Returns plain JSON."""
        thresholds = {band: plain(threshold) for band, threshold in self.thresholds.items()}
        document = {**asdict(self), "severity": str(self.severity), "thresholds": thresholds}
        return document if self.note else {name: value for name, value in document.items() if name != "note"}


def plain(threshold: Threshold | None) -> float | list[float] | None:
    """Returns a threshold as plain JSON."""
    return list(threshold) if isinstance(threshold, Sequence) else threshold


def worst(results: Sequence[GateResult]) -> GateResult:
    """Returns the worst result of a gate over seeds: the lowest band held, then the least margin.

    The least margin alone is not enough: of two values outside a corridor's inner band, the nearer one may be outside
    the outer band and the other inside.
    """
    return min(results, key=lambda row: (row.level, row.worst_margin))


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Every gate's result on one run, or the worst over several seeds (`seed` None)."""

    verdict: Verdict
    metrics: Mapping[str, float]
    gates: tuple[GateResult, ...]
    seed: int | None
    observed: tuple[GateResult, ...] = ()  # shown, and part of no verdict, margin or violation

    @property
    def vetoed(self) -> tuple[str, ...]:
        """Ids of the vetoes and rails that failed."""
        return tuple(row.id for row in self.gates if row.severity.ends_trial and not row.full)

    def violations(self) -> dict[str, float]:
        """Returns the signed violation of each veto and rail; <= 0 is feasible, as in Optuna's constraints."""
        rows = (row for row in self.gates if row.severity.ends_trial)
        return {row.id: -row.worst_margin if row.known else MISSING for row in rows}

    def margin(self, band: str, skip: Collection[str] = ()) -> float:
        """Returns the least margin of the graded gates in a band, except those in `skip`; -inf if one is unknown."""
        graded = (row for row in self.gates if row.severity == Severity.GATE and row.id not in skip)
        return _least(row.margins[band] for row in graded if band in row.margins)

    def as_document(self) -> dict[str, Any]:
        """Returns JSON, validated under `scorecard.schema.json`."""
        document = {
            "verdict": str(self.verdict),
            "seed": self.seed,
            "metrics": dict(self.metrics),
            "gates": [row.as_document() for row in self.gates],
            "vetoed": list(self.vetoed),
            **({"observed": [row.as_document() for row in self.observed]} if self.observed else {}),
        }
        validate(document, shipped_schema("scorecard"), "scorecard")
        return document


def measured(source: MetricSource, run: Run, keepsake: Any = None) -> dict[str, float]:
    """Returns a run's metrics as floats, NaN where one cannot be measured.

    Without a `keepsake` of the authority's run, metrics that compare with it are NaN.
    Raises EngineError for what the metrics raise, DataError as `numbers`.
    """
    with blamed(f"metrics of engine {run.engine}: seed {run.seed}"):
        comparing = keepsake is not None and isinstance(source, Comparing)
        metrics = source.compared(run, keepsake) if comparing else source.measure(run)  # type: ignore[attr-defined]
    return numbers(metrics, source.name, run.seed)


def numbers(metrics: Mapping[str, Any], engine: str, seed: int) -> dict[str, float]:
    """Returns metrics as floats, whichever library their numbers are of.

    Raises DataError naming engine, metric and seed where a value is no number, such as a text or a complex number.
    """
    if not isinstance(metrics, Mapping):
        raise DataError(f"engine {engine}: its metrics on seed {seed} are {shown(metrics)}; give a mapping by name")
    return {
        _name(name, engine, seed): _number(value, f"engine {engine}: metric {name} on seed {seed}")
        for name, value in metrics.items()
    }


def _name(name: object, engine: str, seed: int) -> str:
    if not isinstance(name, str):
        raise DataError(f"engine {engine}: on seed {seed} a metric is named {shown(name)}; a name is a string")
    return name


def _number(value: Any, where: str) -> float:
    number = number_of(value)
    if number is None:
        raise DataError(f"{where}: {shown(value)} is not a number; give a float, or NaN where it cannot be measured")
    return number


def score(
    measures: Mapping[str, float], gates: GateSet, *, seed: int | None, authority: Mapping[str, float] | None
) -> Scorecard:
    """Grades a run's metrics. Rails need the `authority`'s metrics on the same seed, else they are unknown."""
    finite = {name: float(value) for name, value in measures.items() if math.isfinite(value)}
    rows, shown = (
        tuple(_judge(gate, gates.bands, finite, authority, seed) for gate in kind)
        for kind in (gates.gates, gates.observed)
    )
    return Scorecard(_verdict(rows, gates), finite, rows, seed, shown)


def combine(cards: Sequence[Scorecard], gates: GateSet) -> Scorecard:
    """Returns the worst over seeds: of each gate the worst result, of each metric the worst value.

    A gate that asks for a bound over the seeds must also pass with that bound, where there are several.
    """
    rows, shown = (
        tuple(
            worst([*of_gate, *_over_seeds(gate, of_gate)])
            for gate, of_gate in zip(kind, zip(*of_cards, strict=True), strict=True)
        )
        for kind, of_cards in (
            (gates.gates, [card.gates for card in cards]), (gates.observed, [card.observed for card in cards]),
        )
    )  # fmt: skip
    metrics = {}
    for name in sorted({name for card in cards for name in card.metrics}):
        values = [card.metrics[name] for card in cards if name in card.metrics]
        known = gates.metrics.get(name)
        metrics[name] = min(values) if known is not None and known.worst_is_lowest else max(values)
    seed = cards[0].seed if len(cards) == 1 else None
    return Scorecard(_verdict(rows, gates), metrics, rows, seed, shown)


def _over_seeds(gate: Gate, rows: Sequence[GateResult]) -> Iterator[GateResult]:
    """Yields the result of the bound over several seeds, where a gate asks for one.

    Thresholds that follow the authority are the hardest of the seeds'.
    """
    if gate.confidence is None or gate.confidence.method != SEEDS or len(rows) < 2:
        return
    values = [row.value for row in rows if row.value is not None]
    end = mean_bound(values, gate.confidence.level, gate.comparison) if len(values) == len(rows) else None
    hardest = max if gate.comparison == ">=" else min
    asked = {band: [row.thresholds[band] for row in rows] for band in rows[0].thresholds}
    thresholds = {band: None if None in row else hardest(row) for band, row in asked.items()}  # type: ignore[type-var]
    yield _result(gate, tuple(rows[0].passed), thresholds, end, None, f"bound of the mean over {len(rows)} seeds")


def mean_bound(values: Sequence[float], level: float, comparison: str) -> float:
    """Returns the pessimistic end of Student's one-sided interval of the mean of two values or more."""
    from scipy.special import stdtrit  # takes a tenth of a second

    t = round(float(stdtrit(len(values) - 1, level)), 12)
    mean = math.fsum(values) / len(values)
    deviations = math.fsum((value - mean) ** 2 for value in values)
    half = t * math.sqrt(deviations / (len(values) - 1) / len(values))
    return mean - half if comparison == ">=" else mean + half


def _least(margins: Iterable[float | None]) -> float:
    return min((-math.inf if margin is None else margin for margin in margins), default=math.inf)


def _judge(
    gate: Gate, bands: tuple[str, ...], measures: Mapping[str, float], authority: Mapping[str, float] | None,
    seed: int | None,
) -> GateResult:  # fmt: skip
    value, note = gate.compared(measures)
    thresholds: dict[str, Threshold | None] = dict(gate.thresholds)
    if gate.relative is not None:
        base = None if authority is None else authority.get(gate.relative.followed(gate.metric))
        thresholds = dict.fromkeys(bands, None if base is None else gate.relative.threshold(base))
    return _result(gate, bands, thresholds, value, seed, note)


def _result(
    gate: Gate, bands: Sequence[str], thresholds: Mapping[str, Threshold | None], value: float | None,
    seed: int | None, note: str,
) -> GateResult:  # fmt: skip
    margins = {
        band: None if value is None or threshold is None else gate.margin(value, threshold)
        for band, threshold in thresholds.items()
    }
    open_margin = None if value is None else math.inf  # of a band without a threshold
    passed = {band: (margin := margins.get(band, open_margin)) is not None and margin >= 0.0 for band in bands}
    row = gate.id, gate.metric, gate.severity, gate.comparison
    return GateResult(*row, value, thresholds, margins, passed, seed, note)


def _verdict(rows: Sequence[GateResult], gates: GateSet) -> Verdict:
    unmet = (row for row in rows if row.severity is Severity.PRECONDITION and row.holds is None)
    if any(not row.known for row in rows) or any(unmet):
        return gates.invalid
    if any(row.severity.ends_trial and not row.full for row in rows):
        return gates.of_band(None)
    return gates.of_band(highest(gates.bands, lambda band: all(row.passed[band] for row in rows)))
