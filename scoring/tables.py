"""Metrics as data: keys, SQL expressions, distances and functions over the tables of a run.

A metric is defined in the gate file (`/metrics/NAME/definition`), which lanes and locks carry: a lock is measured by
its own definitions, whatever today's file says. Files that a definition reads, a reference or a function's module, are
named with their digest, and another content is refused.
"""

from __future__ import annotations

import hashlib
import io
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from lanelock.engine.protocol import Run
from lanelock.engine.tables import METRICS, is_metrics
from lanelock.policies import DataError, IntegrityError, PolicyError
from lanelock.policies.documents import read_json, resolve
from lanelock.policies.files import read_bytes
from lanelock.scoring.distances import BINS, Sample, distance, sample_of
from lanelock.scoring.gates import Gate, GateSet, parse_gates, strata_key
from lanelock.scoring.queries import Sql, number, one_number, quoted, read, run
from lanelock.scoring.resampling import bound_of

AUTHORITY = "authority"
_MOST_STRATA = 100
_BESIDE = {  # the fields that stand beside a definition's kind
    "key": set[str](),
    "sql": {"table", "where", "by"},
    "function": {"sha256"},
    "distance": {"column", "table", "weight", "reference", "reference_column", "bins", "sha256"},
}
_IMPORTING = threading.Lock()


class TableMetrics:
    """The metrics of an engine whose runs are plain tables: a `MetricSource` without code."""

    def __init__(
        self,
        name: str,
        gates: Mapping[str, Any] | str | Path,
        definitions: Mapping[str, Mapping[str, Any] | str] | None = None,
        *,
        folder: str | Path = ".",
    ) -> None:
        """`definitions` by metric are added to those of the gate file; a text is an SQL expression.

        `folder` holds reference files and functions' modules.
        """
        given = gates if isinstance(gates, Mapping) else read_json(resolve(str(gates), "gates", ".json"))
        where = f"metrics of {name}"
        self.name, self._root = name, Path(folder).absolute()
        self.gates_file: Mapping[str, Any] = _filled(given, definitions or {}, self._root, where)
        self._plan = _planned(parse_gates(self.gates_file, where), self._root, where)

    def defined_by(self, gates: GateSet) -> TableMetrics:
        """Returns the source that measures by the definitions of a gate file, such as a lock's."""
        other = object.__new__(TableMetrics)
        other.name, other._root, other.gates_file = self.name, self._root, gates.document
        other._plan = _planned(gates, self._root, f"metrics of {self.name}")
        return other

    def completed(self, gates: GateSet) -> GateSet:
        """Returns a lane's own gate file with the engine's definitions where it declares a metric and defines none."""
        own = {
            name: row["definition"]
            for name, row in self.gates_file["metrics"].items()
            if "definition" in row and name in gates.metrics and gates.metrics[name].definition is None
        }
        where = f"gates {gates.document['id']}"
        return parse_gates(_filled(gates.document, own, self._root, where), where)

    def measure(self, run: Run) -> Mapping[str, float]:
        """Returns metrics by name; one that needs the authority is NaN."""
        return self._measured(run, {})

    @property
    def compares(self) -> bool:
        """Whether a metric is a distance from the authority's run."""
        return any(row.reference is None for row in self._plan.distances)

    def keepsake(self, run: Run) -> Mapping[str, Sample]:
        """Returns what the metrics need of the authority's run: the columns that are compared."""
        view = _View(run)
        return {row.name: row.theirs(view) for row in self._plan.distances if row.reference is None}

    def compared(self, run: Run, keepsake: Mapping[str, Sample]) -> Mapping[str, float]:
        """Returns metrics by name, those that compare with the authority too."""
        return self._measured(run, keepsake)

    def _measured(self, run: Run, keepsake: Mapping[str, Sample]) -> dict[str, float]:
        view, plan = _View(run), self._plan
        metrics = {name: view.numbers[key] for name, key in plan.keys.items() if key in view.numbers}
        for query in plan.queries:
            metrics |= query.measured(view)
        for row in plan.distances:
            metrics[row.name] = row.measured(view, keepsake.get(row.name))
        for call in plan.calls:
            metrics[call.name] = call.measured(view)
        for bound in plan.bounds:
            metrics |= bound.measured(view)
        return metrics


class _View:
    """The tables of a run, each made once."""

    def __init__(self, run: Run) -> None:
        self.seed, self._surfaces, self._tables = run.seed, run.surfaces, dict[str, pa.Table]()
        self.numbers = self._numbers()

    def _numbers(self) -> dict[str, float]:
        if METRICS not in self._surfaces or not is_metrics(table := self.table(METRICS)):
            return {}
        values = (math.nan if value is None else value for value in table["value"].to_pylist())
        return dict(zip(table["name"].to_pylist(), values, strict=True))

    @property
    def names(self) -> list[str]:
        """Names of the tables."""
        return [name for name in self._surfaces if name != METRICS or not self.numbers]

    def table(self, name: str | None, where: str = "") -> pa.Table:
        """Returns a table, without a name the only one. Raises DataError naming those that there are."""
        if name is None:
            if len(self.names) != 1:
                raise DataError(f"{where}: name its table: {', '.join(self.names) or 'the run has none'}")
            name = self.names[0]
        if name not in self._surfaces:
            known = ", ".join(self.names) or "none"
            raise DataError(f"{where}: {name!r} is not one of the run's tables: {known}")
        if name not in self._tables:
            self._tables[name] = self._surfaces[name].table()
        return self._tables[name]

    def named(self, names: Iterable[str], where: str) -> dict[str, pa.Table]:
        """Returns the tables that a query names, which SQL compares without case."""
        return {name: self.table(self._exact(name, where), where) for name in sorted(names)}

    def _exact(self, name: str, where: str) -> str:
        alike = [other for other in self._surfaces if other.casefold() == name.casefold()]
        if len(alike) > 1:
            raise DataError(f"{where}: tables {alike[0]!r} and {alike[1]!r} are one name in SQL; rename one")
        return alike[0] if alike else name

    def all(self) -> dict[str, pa.Table]:
        return {name: self.table(name) for name in self._surfaces}


@dataclass(frozen=True, slots=True)
class _Query:
    """Expressions over the same rows of one table, or one whole select."""

    expressions: Mapping[str, Sql]  # by metric
    table: str | None = None
    where: Sql | None = None
    by: Sql | None = None

    def measured(self, view: _View) -> dict[str, float]:
        """Returns the metrics; raises DataError naming the one that DuckDB cannot give."""
        try:
            return self._together(view)
        except DataError:
            if len(self.expressions) == 1:
                raise
        alone = (replace(self, expressions={name: sql}) for name, sql in self.expressions.items())
        return {name: value for query in alone for name, value in query._together(view).items()}

    def _together(self, view: _View) -> dict[str, float]:
        where = f"metric {', '.join(self.expressions)}"
        (first, *_) = self.expressions.values()
        if first.whole:
            rows = run(first.text, view.named(first.tables, where), where)
            return {name: one_number(rows, where) for name in self.expressions}
        tables, source = self._tables(view, where)
        columns = ", ".join(f"({sql.text})" for sql in self.expressions.values())
        rows = run(f"SELECT {columns} FROM {source}", tables, where)
        if len(rows) != 1:
            raise DataError(f"{where}: gives {len(rows)} rows, not one number; aggregate them, as in avg(…)")
        values = dict(zip(self.expressions, rows[0], strict=True))
        metrics = {name: number(value, f"metric {name}") for name, value in values.items()}
        return metrics if self.by is None else metrics | self._strata(columns, source, tables, where)

    def _strata(self, columns: str, source: str, tables: Mapping[str, pa.Table], where: str) -> dict[str, float]:
        """Returns each metric in each stratum, and how many there are."""
        assert self.by is not None
        text = f"SELECT CAST(({self.by.text}) AS VARCHAR), {columns} FROM {source} GROUP BY 1 ORDER BY 1"
        rows = run(text, tables, where)
        names = [_stratum(row[0]) for row in rows]
        if len(names) > _MOST_STRATA:
            raise DataError(f"{where}: by gives {len(names)} strata, {_MOST_STRATA} are allowed")
        if twice := [name for name in names if names.count(name) > 1]:
            raise DataError(f"{where}: by gives two strata that would be named {twice[0]}")
        metrics = {strata_key(name): float(len(rows)) for name in self.expressions}
        for stratum, row in zip(names, rows, strict=True):
            for name, value in zip(self.expressions, row[1:], strict=True):
                metrics[strata_key(name, stratum)] = number(value, f"metric {name} in stratum {stratum}")
        return metrics

    def _tables(self, view: _View, where: str) -> tuple[dict[str, pa.Table], str]:
        """Returns the tables, and what stands after FROM."""
        main = self.table or (view.names[0] if len(view.names) == 1 else None)
        others = {name for sql in (*self.expressions.values(), self.where, self.by) if sql for name in sql.tables}
        tables = {**view.named(others, where), str(main): view.table(main, where)}
        condition = "" if self.where is None else f" WHERE ({self.where.text})"
        return tables, f"{quoted(str(main))}{condition}"

    def rows(self, view: _View, where: str) -> pa.Table:
        """Returns the rows that it reads."""
        tables, source = self._tables(view, where)
        if self.where is None:
            return view.table(self.table, where)
        (main,) = (name for name in tables if source.startswith(quoted(name)))
        place = "lanelock row"
        marked = tables[main].append_column(place, pa.array(np.arange(len(tables[main]))))
        kept = run(f"SELECT {quoted(place)} FROM {source} ORDER BY 1", {**tables, main: marked}, where)
        return tables[main].take(pa.array([at for (at,) in kept], pa.int64()))


def _stratum(value: str | None) -> str:
    """Returns a stratum's name as a part of a metric's."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in value or "")
    return plain[:60] or ("null" if value is None else "_")


@dataclass(frozen=True, slots=True)
class _Bound:
    """The end of a bound that a gate compares, over the rows of its metric's table."""

    key: str
    gate: Gate
    query: _Query  # of this metric alone

    def measured(self, view: _View) -> dict[str, float]:
        where = f"metric {self.key}"
        (expression,) = self.query.expressions.values()
        assert self.gate.confidence is not None
        rows = self.query.rows(view, where)
        return {self.key: bound_of(expression, rows, self.gate.confidence, self.gate.comparison, view.seed, where)}


@dataclass(frozen=True, slots=True)
class _Reference:
    """A file whose column is compared with."""

    path: Path
    sha256: str

    def table(self) -> pa.Table:
        """Returns its table. Raises IntegrityError if it is another file than the definition states."""
        return _reference(self.path, self.sha256)


@lru_cache(maxsize=16)
def _reference(path: Path, sha256: str) -> pa.Table:
    content = _content(path, f"reference {path}")
    _same(content, sha256, f"reference {path}")
    try:
        if path.suffix.lower() == ".csv":
            from pyarrow import csv

            return csv.read_csv(io.BytesIO(content))
        from pyarrow import parquet

        return parquet.read_table(io.BytesIO(content))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        first = (str(error).splitlines() or ["empty"])[0]
        raise DataError(f"reference {path}: neither Parquet nor CSV that can be read: {first:.200}") from None


@dataclass(frozen=True, slots=True)
class _Distance:
    """The distance of a column from a reference file's, or from the authority's on the same seed."""

    name: str
    kind: str
    column: str
    table: str | None
    weight: str | None
    reference: _Reference | None  # None: the authority
    reference_column: str
    bins: int

    def measured(self, view: _View, authority: Sample | None) -> float:
        where = f"metric {self.name}"
        reference = authority if self.reference is None else self._stated(where)
        ours = sample_of(view.table(self.table, where), self.column, self.weight, where)
        return math.nan if reference is None else distance(self.kind, ours, reference, where, self.bins)

    def theirs(self, view: _View) -> Sample:
        """Returns the authority's sample."""
        where = f"metric {self.name}: the authority"
        return sample_of(view.table(self.table, where), self.reference_column, self.weight, where)

    def _stated(self, where: str) -> Sample:
        assert self.reference is not None
        where = f"{where}: reference {self.reference.path}"
        return sample_of(self.reference.table(), self.reference_column, self.weight, where)


@dataclass(frozen=True, slots=True)
class _Call:
    """A Python function of the run's tables."""

    name: str
    function: str  # module:name
    sha256: str
    root: Path

    def measured(self, view: _View) -> float:
        found = _function(self.function, self.sha256, self.root)(view.all())
        where = f"metric {self.name}: {self.function}"
        try:
            return math.nan if found is None else float(found)
        except (TypeError, ValueError):
            raise DataError(f"{where}: gives {type(found).__name__} {found!r:.60}, not a number") from None


@lru_cache(maxsize=64)
def _function(spec: str, sha256: str, root: Path) -> Callable[[Mapping[str, pa.Table]], Any]:
    """Returns a function. Raises IntegrityError if its module is another than the definition states."""
    module, _, attribute = spec.partition(":")
    path = _source(module, root)
    content = _content(path, f"function {spec}")
    _same(content, sha256, f"function {spec}: {path}")
    found: Any = _executed(f"{module} {sha256[:12]}", path, content, root)
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise PolicyError(f"function {spec}: {path} has no {attribute}")
        found = getattr(found, part)
    if not callable(found):
        raise PolicyError(f"function {spec}: {attribute} is {type(found).__name__}, not a function")
    called: Callable[[Mapping[str, pa.Table]], Any] = found
    return called


def _executed(name: str, path: Path, content: bytes, root: Path) -> ModuleType:
    """Returns a module made of exactly these bytes, whatever module of its name was imported before."""
    module = sys.modules[name] = ModuleType(name)
    module.__file__ = str(path)
    with _importable(root):
        exec(compile(content, str(path), "exec"), module.__dict__)
    return module


@contextmanager
def _importable(root: Path) -> Iterator[None]:
    """Puts the project's folder where modules are looked for."""
    with _IMPORTING:
        here = str(root)
        added = here not in sys.path
        if added:
            sys.path.insert(0, here)
        try:
            yield
        finally:
            if added:
                sys.path.remove(here)


def _source(module: str, root: Path) -> Path:
    """Returns the file of a module: in the project's folder, else an installed one. Raises PolicyError without one."""
    inside = root.joinpath(*module.split("."))
    for path in (inside.with_suffix(".py"), inside / "__init__.py"):
        if path.is_file():
            return path
    try:
        found = find_spec(module)
    except (ImportError, ValueError, AttributeError):
        found = None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise PolicyError(f"function: module {module!r} is not a Python file, in {root} or installed")
    return Path(found.origin)


def _content(path: Path, where: str) -> bytes:
    try:
        return read_bytes(path)
    except OSError as error:
        raise PolicyError(f"{where}: cannot be read: {error.strerror or error}") from None


def _same(content: bytes, sha256: str, where: str) -> None:
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise IntegrityError(f"{where}: the definition states {sha256[:12]}, the file is {found[:12]}; it was changed")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is measured on every run."""

    keys: Mapping[str, str]  # metric -> the engine's number
    queries: Sequence[_Query]
    distances: Sequence[_Distance]
    calls: Sequence[_Call]
    bounds: Sequence[_Bound] = field(default=())


def _planned(gates: GateSet, root: Path, where: str) -> _Plan:
    """Returns the plan of a gate file's definitions. Raises PolicyError naming the metric."""
    rows = {name: metric.definition or {"key": name} for name, metric in gates.metrics.items()}
    for name, row in rows.items():
        _check(row, f"{where}: /metrics/{name}/definition")
    queries = {name: _query(name, row, f"{where}: metric {name}") for name, row in rows.items() if "sql" in row}
    return _Plan(
        {name: str(row["key"]) for name, row in rows.items() if "key" in row},
        _merged(queries.values()),
        [_distance(name, row, root) for name, row in rows.items() if "distance" in row],
        [_Call(name, row["function"], row["sha256"], root) for name, row in rows.items() if "function" in row],
        [*_bounds(gates, queries, where)],
    )


def _check(row: Mapping[str, Any], where: str) -> None:
    kind = next(kind for kind in _BESIDE if kind in row)
    if other := sorted({*row} - {kind} - _BESIDE[kind]):
        allowed = ", ".join(sorted(_BESIDE[kind])) or "nothing"
        raise PolicyError(f"{where}/{other[0]}: beside {kind} stands {allowed}")
    if lacking := [name for name in ("column", "reference") if kind == "distance" and name not in row]:
        raise PolicyError(f"{where}: a distance needs {lacking[0]}")
    file = kind == "function" or (kind == "distance" and row["reference"] != AUTHORITY)
    if file != ("sha256" in row):
        raise PolicyError(f"{where}/sha256: {'is missing' if file else 'no file is read'}")


def _query(name: str, row: Mapping[str, Any], where: str) -> _Query:
    sql, condition, by = (
        read(row[part], f"{where}: {part}") if part in row else None for part in ("sql", "where", "by")
    )
    assert sql is not None
    for part, other in (("where", condition), ("by", by)):
        if other is not None and other.whole:
            raise PolicyError(f"{where}: {part}: takes an expression, not a whole select")
    if sql.whole and len(row) > 1:
        raise PolicyError(
            f"{where}: a whole select names its tables and rows itself; leave out {min({*row} - {'sql'})}"
        )
    return _Query({name: sql}, row.get("table"), condition, by)


def _merged(queries: Iterable[_Query]) -> list[_Query]:
    """Returns the queries with those over the same rows as one."""
    alike = dict[Any, dict[str, Sql]]()
    for query in queries:
        ((name, sql),) = query.expressions.items()
        alike.setdefault(name if sql.whole else (query.table, query.where, query.by), {})[name] = sql
    return [
        _Query(row, *key) if isinstance(key, tuple) else _Query(row) for key, row in alike.items()
    ]  # fmt: skip


def _distance(name: str, row: Mapping[str, Any], root: Path) -> _Distance:
    stated = None if row["reference"] == AUTHORITY else _Reference(root / row["reference"], row["sha256"])
    column = row["column"]
    return _Distance(
        name, row["distance"], column, row.get("table"), row.get("weight"), stated,
        row.get("reference_column", column), row.get("bins", BINS),
    )  # fmt: skip


def _bounds(gates: GateSet, queries: Mapping[str, _Query], where: str) -> Iterator[_Bound]:
    """Yields the bounds that gates ask for, each once."""
    done = set[str]()
    for gate in (*gates.gates, *gates.observed):
        if gate.confidence is None or not gate.confidence.resampled:
            continue
        query = queries.get(gate.metric)
        if query is None or next(iter(query.expressions.values())).whole:
            raise PolicyError(
                f"{where}: /gates/{gate.id}/confidence: draws rows, so {gate.metric} is an SQL expression"
            )
        if (key := gate.confidence.key(gate.metric, gate.comparison)) not in done:
            done.add(key)
            yield _Bound(key, gate, replace(query, by=None))


def _filled(
    gates: Mapping[str, Any], definitions: Mapping[str, Mapping[str, Any] | str], root: Path, where: str
) -> dict[str, Any]:
    """Returns a gate file with these definitions, and the digest of each file that they read.

    Raises PolicyError naming a metric that the file does not declare, and a file that is not there.
    """
    rows = dict(gates["metrics"])
    if unknown := sorted(definitions.keys() - rows.keys()):
        raise PolicyError(f"{where}: {unknown[0]!r} is not one of the gate file's metrics: {', '.join(rows)[:200]}")
    given = {name: row["definition"] for name, row in rows.items() if "definition" in row}
    for name, definition in {**given, **definitions}.items():
        if definition:
            rows[name] = {**rows[name], "definition": _stated(definition, root, f"{where}: metric {name}")}
    return {**gates, "metrics": rows}


def _stated(definition: Mapping[str, Any] | str, root: Path, where: str) -> dict[str, Any]:
    """Returns a definition with the digest of the file that it reads; a text is an SQL expression."""
    row = {"sql": definition} if isinstance(definition, str) else dict(definition)
    if "sha256" in row or not ({"function", "distance"} & row.keys()) or row.get("reference") == AUTHORITY:
        return row
    if "function" in row:
        path = _source(str(row["function"]).partition(":")[0], root)
    elif "reference" in row:
        path = root / str(row["reference"])
    else:
        return row
    return {**row, "sha256": hashlib.sha256(_content(path, f"{where}: {path}")).hexdigest()}
