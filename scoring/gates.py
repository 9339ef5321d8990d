"""Gates as data: a metric, a comparison, a threshold per band, a severity, a reason; and the names of the verdicts.

Bands are nested: a file in which a higher band asks less than a lower band is refused. `scoring.scorecard` grades
values by gates; an engine's metric source computes the values.

A profile says on which seeds, with which laws and how completely a candidate is run before a grade may carry the
profile's name. Profiles are nested too. A file without profiles asks for none.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise, takewhile
from statistics import NormalDist
from typing import Any

from lanelock.policies import Pack, PolicyError
from lanelock.policies.documents import digest, resolve, shipped_schema, validate
from lanelock.policies.notations import read_document
from lanelock.policies.pack import Schemas, check_values, split_address, value_at

PROMOTION = "promotion"  # the field of a gate file that grades nothing
WITHIN = "within"  # the comparison that takes a corridor
Threshold = float | Sequence[float]  # in the metric's unit; WITHIN: a corridor's low and high
SEEDS = "seeds"  # the method of a bound over seeds
RESAMPLES = 999  # of a bootstrap, where none are stated


class Severity(StrEnum):
    """The consequence of failing a gate."""

    GATE = "gate"  # a lower band
    VETO = "veto"  # the end of a trial
    RAIL = "rail"  # the end of a trial: something won before was lost
    OBSERVE = "observe"  # nothing: it is shown
    PRECONDITION = "precondition"  # no grade at all

    @property
    def ends_trial(self) -> bool:
        return self in (Severity.VETO, Severity.RAIL)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of grading a candidate, named as in the gate file."""

    name: str
    rank: int  # 0: cannot be graded; 1: the lowest band is not met; then one per band, lowest first
    band: str | None  # the highest band met; None if it is not a pass

    @property
    def passed(self) -> bool:
        return self.band is not None

    @property
    def invalid(self) -> bool:
        """Whether there is no grade."""
        return self.rank == 0

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Metric:
    """The meaning of a named number."""

    name: str
    unit: str
    state: str
    worst_is_lowest: bool
    what: str
    definition: Mapping[str, Any] | None = None  # how it is computed from a run's tables; None: the engine's own number


@dataclass(frozen=True, slots=True)
class Relative:
    """A threshold that follows the value of the authority or of a reference, clamped to [at_least, at_most]."""

    plus: float = 0.0
    times: float = 1.0
    within: float | None = None  # half the width of a corridor around the followed value; None: no corridor
    of: str | None = None  # name of the reference to follow; None: the authority
    at_least: float | None = None
    at_most: float | None = None

    def followed(self, metric: str) -> str:
        """Returns the key of the followed value among the metrics of authority and references."""
        return metric if self.of is None else f"{self.of}:{metric}"

    def threshold(self, authority: float) -> Threshold:
        if self.within is not None:
            return (authority - self.within, authority + self.within)
        least = -math.inf if self.at_least is None else self.at_least
        most = math.inf if self.at_most is None else self.at_most
        return min(max(self.times * authority + self.plus, least), most)


@dataclass(frozen=True, slots=True)
class Support:
    """The least that must lie behind a gate's number; with less, the gate is unknown."""

    metric: str
    at_least: float

    def lacking(self, measures: Mapping[str, float]) -> str:
        """Returns why there is too little behind a number; empty where there is enough."""
        count = measures.get(self.metric)
        if count is None or math.isnan(count):
            return f"its support {self.metric} is not measured"
        return "" if count >= self.at_least else f"{self.metric} is {count:.6g}, {self.at_least:.6g} are needed"


@dataclass(frozen=True, slots=True)
class Confidence:
    """A bound with this confidence, whose pessimistic end a gate compares instead of the bare number."""

    level: float  # one-sided
    method: str  # of rows: "bootstrap", "bca", or "wilson" for a share; of the lane's seeds: "seeds"
    of: str | None = None  # wilson: the metric that counts the rows of the share
    resamples: int = RESAMPLES

    def __str__(self) -> str:
        return f"{self.method} bound at {100 * self.level:g} %"

    @property
    def resampled(self) -> bool:
        """Whether the metric source has to measure it: it takes a run's rows."""
        return self.method in ("bootstrap", "bca")

    def key(self, metric: str, comparison: str) -> str:
        """Returns the name under which a metric source gives the pessimistic end of a resampled bound."""
        of = "" if self.resamples == RESAMPLES else f"_of_{self.resamples}"
        percent = f"{round(100 * self.level, 10):g}".replace(".", "_")
        return f"{metric}/{self.method}{of}_{percent}_{'low' if comparison == '>=' else 'high'}"


@dataclass(frozen=True, slots=True)
class Strata:
    """How many strata of a metric must hold: a number, or a share of those that there are."""

    at_least: int | None
    share: float = 1.0

    def needed(self, count: int) -> int:
        return self.at_least if self.at_least is not None else math.ceil(round(self.share * count, 9))

    def deciding(self, metric: str, comparison: str, measures: Mapping[str, float]) -> tuple[float | None, str]:
        """Returns the value of the stratum that decides, the worst of the best that are needed, and what it is.

        None, and why, where too few strata have a value.
        """
        counted = measures.get(strata_key(metric))
        if counted is None or not counted >= 1:
            return None, "it has no strata"
        inside = strata_key(metric, "")
        values = sorted(
            ((value, name) for name, value in measures.items() if name.startswith(inside) and not math.isnan(value)),
            reverse=comparison == ">=",
        )
        if (needed := self.needed(int(counted))) > len(values):
            return None, f"{needed} strata must hold, and {len(values)} of {int(counted)} have a value"
        value, name = values[needed - 1]
        return value, f"stratum {name.removeprefix(inside)}: {needed} of {int(counted)} must hold"


def strata_key(metric: str, stratum: str | None = None) -> str:
    """Returns the name of a stratum's value among a run's metrics; without a stratum, of how many there are."""
    return f"{metric}/strata" if stratum is None else f"{metric}/strata/{stratum}"


@dataclass(frozen=True, slots=True)
class Gate:
    """One row of a gate file."""

    id: str
    metric: str
    severity: Severity
    comparison: str  # ">=", "<=", "==" or WITHIN
    thresholds: Mapping[str, Threshold]  # by band, lowest first; empty where relative
    relative: Relative | None
    tolerance: float  # in the metric's unit
    scale: float  # in the metric's unit; margins are divided by it
    why: str
    support: Support | None = None
    confidence: Confidence | None = None
    strata: Strata | None = None

    @property
    def plain(self) -> bool:
        """Whether it compares its metric's bare number, whatever lies behind it."""
        return self.support is None and self.confidence is None and self.strata is None

    def compared(self, measures: Mapping[str, float]) -> tuple[float | None, str]:
        """Returns the number that it compares on a run, and what it is, or why there is none.

        The text is empty where the number is its metric's own, present or missing. With strata the number is that of
        the stratum that decides, with confidence the pessimistic end of the bound.
        """
        if self.support is not None and (lacking := self.support.lacking(measures)):
            return None, lacking
        if self.strata is not None:
            return self.strata.deciding(self.metric, self.comparison, measures)
        value = measures.get(self.metric)
        if self.confidence is None or self.confidence.method == SEEDS or value is None:
            return value, ""
        if self.confidence.resampled:
            end = measures.get(key := self.confidence.key(self.metric, self.comparison))
            lacking = f"{key} is not measured"
        else:
            end, lacking = share_bound(
                value, measures.get(str(self.confidence.of)), self.confidence.level, self.comparison
            )
        return end, lacking if end is None else f"{self.confidence} of {value:.6g}"

    def margin(self, value: float, threshold: Threshold) -> float:
        """Returns the signed distance to the nearer end of the passing values, over the scale; >= 0 passes."""
        low, high = span(self.comparison, threshold)
        return (min(value - low, high - value) + self.tolerance) / self.scale


@dataclass(frozen=True, slots=True)
class Profile:
    """What is required of a grade that carries its name."""

    name: str
    seeds: tuple[int, ...]
    minutes: float  # that running its seeds may take
    what: str
    bundled: bool  # every required seed is run to the last state, published in a scratch folder and checked
    spec: Mapping[str, tuple[Any, ...]]  # address of a policy's field -> the values allowed there

    def missing(self, seeds: Iterable[int]) -> tuple[int, ...]:
        """Returns the required seeds that are not among these."""
        given = {*seeds}
        return tuple(seed for seed in self.seeds if seed not in given)

    def otherwise(self, pack: Pack) -> Iterator[str]:
        """Yields each field of a pack that is not what the spec allows, with its value and the allowed ones."""
        for address, allowed in self.spec.items():
            policy, pointer = split_address(address)
            wanted = " or ".join(map(json.dumps, allowed))
            try:
                value = value_at(pack[policy], pointer, address)
            except PolicyError:
                yield f"{address} is missing, not {wanted}"
                continue
            if not any(same_value(value, row) for row in allowed):
                yield f"{address} is {json.dumps(value)}, not {wanted}"


@dataclass(frozen=True, slots=True)
class GateSet:
    """The gates of a file, or a lane's selection of them."""

    document: Mapping[str, Any]  # in the file's shape, as a lock carries it
    bands: tuple[str, ...]  # lowest to highest
    metrics: Mapping[str, Metric]
    gates: tuple[Gate, ...]
    verdicts: tuple[Verdict, ...]  # worst to best, by rank
    profiles: Mapping[str, Profile]  # weakest first; empty where nothing but the gates is asked
    observed: tuple[Gate, ...] = ()  # rows that are shown and judge nothing

    def declares(self, name: str) -> bool:
        """Whether a measured number is a metric of the file, or lies behind one: a stratum, a bound."""
        base, _, rest = name.rpartition("/strata")
        if name in self.metrics or (base in self.metrics and (not rest or rest.startswith("/"))):
            return True
        asked = (gate for gate in (*self.gates, *self.observed) if gate.confidence is not None)
        return any(gate.confidence and gate.confidence.key(gate.metric, gate.comparison) == name for gate in asked)

    @property
    def invalid(self) -> Verdict:
        """The verdict if there is no grade."""
        return self.verdicts[0]

    def of_band(self, band: str | None) -> Verdict:
        """Returns the verdict of a candidate whose highest band is `band`; None: it does not meet the lowest."""
        return next(verdict for verdict in self.verdicts[1:] if verdict.band == band)

    def verdict(self, name: str) -> Verdict:
        """Returns the verdict of that name. Raises PolicyError if the file does not name it."""
        by_name = {verdict.name: verdict for verdict in self.verdicts}
        if name not in by_name:
            known = ", ".join(by_name)
            raise PolicyError(f"gates {self.document['id']}: {name!r} is not one of their verdicts: {known}")
        return by_name[name]

    @property
    def grading(self) -> dict[str, Any]:
        """The file without what it asks of promotions, in its shape: what lanes, locks and certifications carry."""
        return _grading(self.document)

    def grades_as(self, document: Mapping[str, Any]) -> bool:
        """Whether a gate file, as a lock or an evidence pack carries it, is this one, for all that grades."""
        return digest(_grading(document)) == digest(self.grading)

    def holdout_seeds(self, alias: str, usual: int) -> int:
        """Returns the least number of held-out seeds that an alias asks of a certification; `usual` if not stated."""
        return int(self.document.get(PROMOTION, {}).get(alias, {}).get("holdout_seeds", usual))

    def asked_profile(self, alias: str) -> Profile | None:
        """Returns the profile that an alias asks of a certification: the strongest if the file does not say which."""
        name = self.document.get(PROMOTION, {}).get(alias, {}).get("profile")
        return self.strongest if name is None else self.profiles[name]

    @property
    def strongest(self) -> Profile | None:
        """The profile that asks most; None in a file without profiles."""
        return next(reversed(list(self.profiles.values())), None)

    def profile(self, name: str) -> Profile:
        """Returns the profile of that name. Raises PolicyError if the file has no such profile."""
        if name not in self.profiles:
            known = ", ".join(self.profiles) or "none"
            raise PolicyError(f"gates {self.document['id']}: /profiles: {name!r} is not one of them: {known}")
        return self.profiles[name]

    def profile_of(self, seeds: Iterable[int]) -> Profile | None:
        """Returns the strongest profile whose required seeds are all among these; None if none is met."""
        met = [profile for profile in self.profiles.values() if not profile.missing(seeds)]
        return met[-1] if met else None

    def profile_text(self, seeds: Iterable[int]) -> str:
        """Returns which profile seeds meet, in words; empty in a file without profiles."""
        met = self.profile_of(seeds)
        return "" if not self.profiles else "no profile" if met is None else f"profile {met.name}"

    def check_spec(self, schemas: Schemas, where: str) -> None:
        """Raises PolicyError for a field or a value of a spec that the policies of an engine do not have."""
        for profile in self.profiles.values():
            for address, allowed in profile.spec.items():
                policy, pointer = split_address(address)
                field = f"{where}: /profiles/{profile.name}/spec/{address}"
                if policy not in schemas:
                    raise PolicyError(f"{field}: {policy!r} is not a policy of the engine: {', '.join(schemas)}")
                check_values(schemas[policy], pointer, allowed, field)

    @property
    def cross_seed_limits(self) -> Mapping[str, Mapping[str, float]]:
        """The greatest coefficient of variation over seeds, by metric and band."""
        cross = self.document.get("cross_seed", {})
        shared = dict.fromkeys(cross.get("metrics", ()), cross.get("cv_at_most", {}))
        return {metric: _in_order(row, self.bands) for metric, row in (shared | cross.get("limits", {})).items()}

    @property
    def cross_seed_ratio(self) -> float | None:
        """Least allowed ratio of a seed's value to the median over seeds; the greatest is its inverse."""
        ratio: float | None = self.document.get("cross_seed", {}).get("of_median_at_least")
        return ratio

    @property
    def least_seeds(self) -> int:
        """The number of seeds that a grade needs: a single seed shows no variation to limit or to bound."""
        return 2 if any(self.cross_seed_limits.values()) or self.over_seeds else 1

    @property
    def over_seeds(self) -> bool:
        """Whether a gate asks for a bound over seeds, which no scorecard of a single seed shows."""
        return any(gate.confidence is not None and gate.confidence.method == SEEDS for gate in self.gates)

    def select(self, ids: Sequence[str]) -> GateSet:
        """Returns only these gates, in this order. Raises PolicyError naming the first that is not in the file."""
        rows = {row["id"]: row for row in self.document["gates"]}
        if unknown := [name for name in ids if name not in rows]:
            raise PolicyError(f"/gates/grade: {unknown[0]!r} is not a gate of {self.document['id']}: {', '.join(rows)}")
        chosen = {**self.grading, "gates": [rows[name] for name in ids]}
        if "profiles" in chosen:
            chosen["profiles"] = {name: _limiting(row, ids) for name, row in chosen["profiles"].items()}
        return parse_gates(chosen, str(self.document["id"]))

    def under(self, profile: Profile | None) -> GateSet:
        """Returns these gates with the limits that a profile states for its seeds; as they are where it states none."""
        row = {} if profile is None else self.document["profiles"][profile.name]
        if profile is None or not {*_LIMITS} & {*row}:
            return self
        where = f"gates {self.document['id']}: /profiles/{profile.name}"
        return parse_gates(_limited(self.document, row, where), where)

    def with_rails(self, rows: Sequence[Mapping[str, Any]]) -> GateSet:
        """Returns these gates and further rows of the same shape."""
        return parse_gates({**self.document, "gates": [*self.document["gates"], *rows]}, "/gates/rails")


_LIMITS = ("limits", "cross_seed")  # the fields of a profile that limit otherwise than the file
_OF_GATES = ("threshold", "thresholds", "corridor", "corridors")  # the fields of a gate that limits take the place of


def _limiting(profile: Mapping[str, Any], ids: Sequence[str]) -> dict[str, Any]:
    """Returns a profile's document with the limits of these gates alone."""
    limits = {gate: row for gate, row in profile.get("limits", {}).items() if gate in ids}
    rest = {name: value for name, value in profile.items() if name != "limits"}
    return rest | ({"limits": limits} if limits else {})


def _limited(document: Mapping[str, Any], profile: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns a gate file, without profiles, in which the limits of a profile stand instead of its own."""
    limits, variation = profile.get("limits", {}), profile.get("cross_seed", {})
    by_id = {row["id"]: row for row in document["gates"]}
    for gate in limits:
        if gate not in by_id or not {*_OF_GATES} & {*by_id[gate]}:
            why = (
                "is not a gate of the file" if gate not in by_id else "follows the authority, which no profile changes"
            )
            raise PolicyError(f"{where}/limits/{gate}: {gate!r} {why}")
    rows = [_limited_row(row, limits[row["id"]]) if row["id"] in limits else row for row in document["gates"]]
    plain = {name: value for name, value in document.items() if name not in ("profiles", PROMOTION)}
    if variation:
        own = document.get("cross_seed", {"metrics": [*variation], "cv_at_most": next(iter(variation.values()))})
        plain["cross_seed"] = {**own, "limits": {**own.get("limits", {}), **variation}}
    return {**plain, "gates": rows}


def _limited_row(row: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    rest = {name: value for name, value in row.items() if name not in _OF_GATES}
    return {**rest, "corridors" if row["comparison"] == WITHIN else "thresholds": dict(limits)}


def _check_limits(gates: GateSet, where: str) -> None:
    """Raises PolicyError where the limits of a profile cannot be, or a stronger profile asks less than a weaker one."""
    rows = gates.document.get("profiles", {})
    if not any({*_LIMITS} & {*row} for row in rows.values()):
        return
    whole = [
        (profile.name, parse_gates(_limited(gates.document, rows[profile.name], at), at))
        for profile in gates.profiles.values()
        for at in [f"{where}: /profiles/{profile.name}"]
    ]
    for (weak, weaker), (strong, stronger) in pairwise(whole):
        if looser := next(_looser(weaker, stronger), None):
            raise PolicyError(f"{where}: /profiles/{strong}/{looser}: asks less than {weak}, the weaker profile")


def _looser(weaker: GateSet, stronger: GateSet) -> Iterator[str]:
    """Yields the limits in which a stronger profile asks less."""
    for one, other in zip(weaker.gates, stronger.gates, strict=True):
        for band, wide in one.thresholds.items():
            low, high = span(one.comparison, wide)
            least, most = (
                span(one.comparison, other.thresholds[band]) if band in other.thresholds else (-math.inf, math.inf)
            )
            if least < low or most > high:
                yield f"limits/{one.id}/{band}"
    for metric, row in weaker.cross_seed_limits.items():
        given = stronger.cross_seed_limits.get(metric, {})
        yield from (f"cross_seed/{metric}/{band}" for band, most in row.items() if given.get(band, math.inf) > most)


def _grading(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != PROMOTION}


def highest(bands: Iterable[str], met: Callable[[str], bool]) -> str | None:
    """Returns the highest band that is met together with every lower one; None if the lowest is not met."""
    in_a_row = list(takewhile(met, bands))
    return in_a_row[-1] if in_a_row else None


def spelled(band: str) -> str:
    """Returns a band in the spelling of names: BPLUS for B+."""
    return band.replace("+", "PLUS")


def ends(threshold: Threshold) -> tuple[float, ...]:
    """Returns a threshold as a tuple: one value, or a corridor's low and high."""
    return tuple(threshold) if isinstance(threshold, Sequence) else (threshold,)


def span(comparison: str, threshold: Threshold) -> tuple[float, float]:
    """Returns the least and the greatest value that passes; infinite on an open side."""
    low, high = ends(threshold)[0], ends(threshold)[-1]
    return (-math.inf if comparison == "<=" else low), (math.inf if comparison == ">=" else high)


def threshold_text(threshold: Threshold | None, missing: str = "unknown") -> str:
    """Returns the text of a threshold; `missing` if it is None."""
    return missing if threshold is None else " … ".join(f"{end:.6g}" for end in ends(threshold))


def load_gates(name_or_path: str) -> GateSet:
    """Returns the gates of a shipped name or a path. Raises PolicyError naming file, field and bound."""
    path = resolve(name_or_path, "gates", ".json")
    return parse_gates(read_document(path), str(path))


def parse_gates(document: Mapping[str, Any], where: str) -> GateSet:
    """Returns the gates of a document, validated. Raises PolicyError naming field and bound, after `where`."""
    validate(document, shipped_schema("gates"), where)
    bands = tuple(document["bands"])
    metrics = {
        name: Metric(name, row["unit"], row["state"], row["worst"] == "lowest", row["what"], _definition(row))
        for name, row in document["metrics"].items()
    }
    _check_cross_seed(document.get("cross_seed", {"metrics": (), "cv_at_most": {}}), bands, metrics, where)
    gates = tuple(_gate(row, bands, metrics, f"{where}: /gates/{row['id']}") for row in document["gates"])
    if twice := [gate_id for gate_id, count in Counter(gate.id for gate in gates).items() if count > 1]:
        raise PolicyError(f"{where}: /gates/{twice[0]}: the id is given twice")
    profiles = _profiles(document.get("profiles", {}), where)
    for alias, asked in document.get(PROMOTION, {}).items():
        if (name := asked.get("profile")) is not None and name not in profiles:
            known = ", ".join(profiles) or "none"
            raise PolicyError(f"{where}: /promotion/{alias}/profile: {name!r} is not a profile of the file: {known}")
    observed = tuple(gate for gate in gates if gate.severity is Severity.OBSERVE)
    judging = tuple(gate for gate in gates if gate.severity is not Severity.OBSERVE)
    verdicts = _verdicts(document.get("verdicts", {}), bands, where)
    gate_set = GateSet(document, bands, metrics, judging, verdicts, profiles, observed)
    _check_limits(gate_set, where)
    return gate_set


def _definition(row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    definition = row.get("definition")
    return {"sql": definition} if isinstance(definition, str) else definition


def _profiles(rows: Mapping[str, Any], where: str) -> dict[str, Profile]:
    """Returns the profiles, weakest first. Stored documents have sorted keys, so the number of seeds gives the order.

    Raises PolicyError where a stronger one asks less than a weaker one.
    """
    profiles = [
        Profile(
            name, tuple(map(int, row["seeds"])), row["minutes"], row["what"], row.get("bundled", False),
            {address: tuple(allowed) for address, allowed in row.get("spec", {}).items()},
        )
        for name, row in rows.items()
    ]  # fmt: skip
    profiles.sort(key=lambda profile: len(profile.seeds))
    for weaker, stronger in pairwise(profiles):
        if asks_less := next(_asks_less(weaker, stronger), None):
            raise PolicyError(
                f"{where}: /profiles/{stronger.name}/{asks_less}, which {weaker.name} asks: a profile asks for more "
                "seeds than the weaker one, and for all else that the weaker one asks"
            )
    return {profile.name: profile for profile in profiles}


def _asks_less(weaker: Profile, stronger: Profile) -> Iterator[str]:
    """Yields the fields in which a stronger profile asks less, or not for more seeds."""
    if missing := weaker.missing(stronger.seeds):
        yield f"seeds: leaves out {missing[0]}"
    elif len(stronger.seeds) == len(weaker.seeds):
        yield "seeds: has the same seeds"
    if weaker.bundled and not stronger.bundled:
        yield "bundled: is not true"
    for address, allowed in weaker.spec.items():
        given = stronger.spec.get(address)
        if given is None or not all(any(same_value(one, other) for other in allowed) for one in given):
            yield f"spec/{address}: allows other values"


def same_value(one: Any, other: Any) -> bool:
    """Whether two plain values are the same JSON: true and 1, which are equal in Python, are not."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _verdicts(names: Mapping[str, Any], bands: tuple[str, ...], where: str) -> tuple[Verdict, ...]:
    """Returns the verdicts, worst first, with the names in the file or the default names."""
    passes = names.get("pass", {})
    _check_bands(passes, bands, f"{where}: /verdicts/pass")
    verdicts = (
        Verdict(names.get("invalid", "INVALID"), 0, None),
        Verdict(names.get("fail", "FAIL"), 1, None),
        *(Verdict(passes.get(band, f"PASS_{spelled(band)}"), rank, band) for rank, band in enumerate(bands, start=2)),
    )
    for number, verdict in enumerate(verdicts):
        if verdict.name in {other.name for other in verdicts[:number]}:
            raise PolicyError(f"{where}: /verdicts: {verdict.name} would name two verdicts")
    return verdicts


def _check_cross_seed(
    cross: Mapping[str, Any], bands: tuple[str, ...], metrics: Mapping[str, Metric], where: str
) -> None:
    own = cross.get("limits", {})
    limits = {"cv_at_most": cross["cv_at_most"], **{f"limits/{metric}": row for metric, row in own.items()}}
    named = {band for row in limits.values() for band in row}
    if unknown := sorted({*cross["metrics"], *own} - set(metrics)) + sorted(named - set(bands)):
        raise PolicyError(f"{where}: /cross_seed: {unknown[0]!r} is neither a metric nor a band of the file")
    for field, row in limits.items():
        _check_nested("<=", _in_order(row, bands), f"{where}: /cross_seed/{field}")


def _gate(row: Mapping[str, Any], bands: tuple[str, ...], metrics: Mapping[str, Metric], where: str) -> Gate:
    if row["metric"] not in metrics:
        raise PolicyError(f"{where}: {row['metric']!r} is not one of the file's metrics")
    thresholds = _thresholds(row, bands, where)
    _check_nested(row["comparison"], thresholds, where)
    relative = Relative(**row["relative_to_authority"]) if "relative_to_authority" in row else None
    severity, tolerance = Severity(row["severity"]), row.get("tolerance", 0.0)
    asked = tuple(thresholds.values())
    if relative is not None and relative.within is not None:
        asked = (relative.threshold(0.0),)
    _check_relative(row, relative, where)
    gate = Gate(
        row["id"], row["metric"], severity, row["comparison"], thresholds, relative, tolerance,
        row.get("scale", _unit(row["comparison"], asked)), row["why"],
        Support(**row["support"]) if "support" in row else None,
        Confidence(**row["confidence"]) if "confidence" in row else None,
        _strata(row["strata"]) if "strata" in row else None,
    )  # fmt: skip
    _check_behind(gate, metrics, where)
    return gate


def _strata(asked: Mapping[str, Any] | str) -> Strata:
    return Strata(None) if isinstance(asked, str) else Strata(asked.get("at_least"), asked.get("share", 1.0))


def _check_relative(row: Mapping[str, Any], relative: Relative | None, where: str) -> None:
    """Raises PolicyError for a corridor around the authority without its width, and for one that is moved."""
    if relative is None:
        return
    if (row["comparison"] == WITHIN) != (relative.within is not None):
        raise PolicyError(
            f"{where}/relative_to_authority: comparison 'within' and the field within, half the corridor's width, ask "
            "for each other"
        )
    if relative.within is not None and {"plus", "times", "at_least", "at_most"} & {*row["relative_to_authority"]}:
        raise PolicyError(f"{where}/relative_to_authority: within stands alone: the corridor lies around the value")


def _check_behind(gate: Gate, metrics: Mapping[str, Metric], where: str) -> None:
    """Raises PolicyError where what shall lie behind a gate's number does not fit the gate or the file."""
    bound = gate.confidence
    for field, name in (("support", gate.support and gate.support.metric), ("confidence/of", bound and bound.of)):
        if name is not None and name not in metrics:
            raise PolicyError(f"{where}/{field}: {name!r} is not one of the file's metrics")
    if bound is not None and (bound.method == "wilson") != (bound.of is not None):
        raise PolicyError(f"{where}/confidence/of: the metric that counts the rows of a share; wilson alone has it")
    if bound is not None and gate.strata is not None:
        raise PolicyError(f"{where}: strata and confidence are not asked together")
    if (bound or gate.strata) and gate.comparison not in (">=", "<="):
        field = "strata" if bound is None else "confidence"
        raise PolicyError(f"{where}/{field}: takes >= or <=; ask for a corridor by two gates")


def _unit(comparison: str, thresholds: Sequence[Threshold]) -> float:
    """Returns the unit of a gate's margin, in the metric's unit: the gap between its two highest bands.

    Where they ask the same, it is the size of what they ask: the threshold, or the width of the corridor.
    """
    asked = [ends(threshold) for threshold in thresholds] or [(0.0,)]
    gap = max(abs(one - other) for one, other in zip(asked[-1], asked[-2], strict=True)) if len(asked) > 1 else 0.0
    size = asked[0][-1] - asked[0][0] if comparison == WITHIN else abs(asked[0][0])
    return gap or size or 1.0


def share_bound(share: float, count: float | None, level: float, comparison: str) -> tuple[float | None, str]:
    """Returns the pessimistic end of Wilson's one-sided interval of a share of `count` rows, or None and why."""
    if count is None or not count > 0 or not 0.0 <= share <= 1.0:
        return None, f"no share of some rows: {share:.6g} of {'nothing' if count is None else f'{count:.6g}'}"
    z = round(NormalDist().inv_cdf(level), 12)  # the last bits of a logarithm differ by C library
    middle, half = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + z * z / (4 * count**2))
    end = (middle - half if comparison == ">=" else middle + half) / (1 + z * z / count)
    return min(max(end, 0.0), 1.0), ""


_ONE, _PER_BAND, _CORRIDORS = ("threshold", "corridor"), ("thresholds", "corridors"), ("corridor", "corridors")


def _thresholds(row: Mapping[str, Any], bands: tuple[str, ...], where: str) -> dict[str, Threshold]:
    """Returns a gate's thresholds by band, lowest first; empty if it follows the authority."""
    given = next(name for name in (*_ONE, *_PER_BAND, "relative_to_authority") if name in row)
    if given == "relative_to_authority":
        return {}
    if (row["comparison"] == WITHIN) != (given in _CORRIDORS):
        needed = " or ".join(_CORRIDORS if row["comparison"] == WITHIN else ("threshold", "thresholds"))
        raise PolicyError(f"{where}/{given}: comparison {row['comparison']!r} takes {needed} instead")
    by_band = dict.fromkeys(bands, row[given]) if given in _ONE else row[given]
    _check_bands(by_band, bands, where)
    if given in _CORRIDORS:
        for band, (low, high) in by_band.items():
            if low > high:
                raise PolicyError(f"{where}/{given}: band {band}: low {low:g} is above high {high:g}")
        by_band = {band: tuple(corridor) for band, corridor in by_band.items()}
    return _in_order(by_band, bands)


def _check_bands(names: Iterable[str], bands: tuple[str, ...], where: str) -> None:
    if unknown := sorted(set(names) - set(bands)):
        raise PolicyError(f"{where}: band {unknown[0]!r} is not one of {', '.join(bands)}")


def _in_order(by_band: Mapping[str, Any], bands: tuple[str, ...]) -> dict[str, Any]:
    """Returns the same mapping, lowest band first, since stored documents have sorted keys."""
    return {band: by_band[band] for band in bands if band in by_band}


def _check_nested(comparison: str, thresholds: Mapping[str, Threshold], where: str) -> None:
    """Raises PolicyError if a value can pass a higher band and fail a lower one."""
    for (lower, wide), (higher, narrow) in pairwise(thresholds.items()):
        (low, high), (least, most) = span(comparison, wide), span(comparison, narrow)
        if least < low or most > high:
            raise PolicyError(
                f"{where}: band {higher} asks {comparison} {threshold_text(narrow)}, which passes where {lower} fails "
                f"({comparison} {threshold_text(wide)}): a higher band must ask at least as much as a lower one"
            )
