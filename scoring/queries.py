"""SQL over a run's tables, by DuckDB in this process: one thread, no files, no clock, no chance.

A query is read before it runs: it is one SELECT (or an expression of one), it calls nothing whose answer depends on the
moment, the machine or a random number, and it names the tables that it reads. What runs is DuckDB's own text of what
was read, so nothing that an expression says reaches beyond its parentheses.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from lanelock.policies import DataError, PolicyError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

LIMIT_S = 60.0  # that one query may take
_MEMORY = "2GB"
_SETTINGS: Mapping[str, Any] = {
    "threads": 1,  # sums are taken in the order of rows, on any machine
    "memory_limit": _MEMORY,
    "enable_external_access": False,
    "autoload_known_extensions": False,
    "autoinstall_known_extensions": False,
    "python_enable_replacements": False,  # a table's name never finds a variable of ours
}
_CLOCK = {
    "age", "current_connection_id", "current_database", "current_date", "current_localtime", "current_localtimestamp",
    "current_query", "current_query_id", "current_role", "current_schema", "current_schemas", "current_setting",
    "current_time", "current_timestamp", "current_transaction_id", "current_user", "get_current_time",
    "get_current_timestamp", "getvariable", "in_search_path", "localtime", "localtimestamp", "now", "pg_typeof",
    "session_user", "today", "transaction_timestamp", "txid_current", "version",
}  # fmt: skip
_ESTIMATES = ("approx_", "reservoir_")  # what they give depends on how rows are cut
_TABLE_FUNCTIONS = {"range", "generate_series", "unnest"}
_WHOLE = re.compile(r"\s*(select|with|from)\b", re.IGNORECASE)
_FALLBACK = {  # names without parentheses that call a function
    "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "current_role",
    "current_user", "current_schema", "session_user",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sql:
    """A query or an expression that was read: what DuckDB takes it for, and the tables it names."""

    text: str  # DuckDB's own text
    whole: bool  # a SELECT; else an expression of one
    tables: frozenset[str]


@lru_cache(maxsize=512)
def read(text: str, where: str) -> Sql:
    """Returns a SELECT, or an expression over a table. Raises PolicyError naming what it may not say."""
    whole = _WHOLE.match(text) is not None
    written = text if whole else f"SELECT {text}"
    parsed = json.loads(_plain("SELECT json_serialize_sql(?)", (written,))[0][0])
    if parsed["error"]:
        raise PolicyError(
            f"{where}: {text!r:.200} is no SQL expression and no SELECT: {_line(parsed['error_message'])}"
        )
    if len(parsed["statements"]) != 1:
        raise PolicyError(f"{where}: {text!r:.200}: only one statement is allowed")
    node = parsed["statements"][0]["node"]
    if not whole and not _is_expression(node):
        raise PolicyError(f"{where}: {text!r:.200} is no single expression; write a whole query as select …")
    for refused in _refused(node, whole):
        raise PolicyError(f"{where}: {text!r:.200}: {refused}")
    names = {str(inner["table_name"]) for inner in _nodes(node) if inner.get("type") == "BASE_TABLE"}
    own = {entry["key"].casefold() for inner in _nodes(node) for entry in inner.get("cte_map", {}).get("map", ())}
    again = str(_plain("SELECT json_deserialize_sql(?::JSON)", (json.dumps(parsed),))[0][0])
    tables = frozenset(name for name in names if name.casefold() not in own)
    return Sql(again if whole else again.removeprefix("SELECT "), whole, tables)


def _is_expression(node: Mapping[str, Any]) -> bool:
    """Whether a SELECT is nothing but the one expression that it was made of."""
    absent = ("where_clause", "having", "qualify", "sample", "group_expressions", "group_sets", "modifiers")
    return (
        node["type"] == "SELECT_NODE"
        and len(node["select_list"]) == 1
        and not node["select_list"][0].get("alias")
        and node["from_table"]["type"] == "EMPTY"
        and not any(node.get(part) for part in absent)
        and not node["cte_map"]["map"]
    )


def _refused(node: Mapping[str, Any], whole: bool) -> Iterator[str]:
    """Yields what makes a query depend on more than its tables."""
    for inner in _nodes(node):
        name = str(inner.get("function_name") or "").casefold()
        if inner.get("type") == "TABLE_FUNCTION" and (name := _called(inner)) not in _TABLE_FUNCTIONS:
            yield f"{name}() is not allowed, only the run's tables and {', '.join(sorted(_TABLE_FUNCTIONS))}"
        elif name in _unsteady() or name.startswith(_ESTIMATES):
            yield f"{name}() is not allowed: it does not give the same on every run of the same tables"
        elif inner.get("class") == "COLUMN_REF" and inner["column_names"][-1].casefold() in _FALLBACK:
            yield f"{inner['column_names'][-1]} is not allowed: it may be a clock; name the column otherwise"
        elif inner.get("type") == "BASE_TABLE" and (inner.get("schema_name") or inner.get("catalog_name")):
            yield f"{inner['table_name']} is not allowed: a table of the run has a plain name"
        elif inner.get("sample"):
            yield "a sample is not allowed: it takes rows by chance"
        elif inner.get("class") == "PARAMETER":
            yield "a parameter is not allowed: nothing would fill it"
        elif inner.get("type") == "SHOW_REF":
            yield "describe, show and summarize are not allowed"
        elif inner.get("class") == "STAR" and not whole:
            yield "* is not allowed in an expression; it gives one number"


def _called(node: Mapping[str, Any]) -> str:
    return str(node["function"].get("function_name", "")).casefold()


def _nodes(node: Any) -> Iterator[Mapping[str, Any]]:
    """Yields every node of a parsed query, the outer ones first."""
    waiting = [node]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, Mapping):
            yield inner
            waiting += inner.values()
        elif isinstance(inner, list):
            waiting += inner


@cache
def _unsteady() -> frozenset[str]:
    """Returns the functions, and macros, whose answer depends on the moment, the session or chance."""
    rows = _plain("SELECT function_name, stability, macro_definition FROM duckdb_functions()")
    names = _CLOCK | {name for name, stability, _ in rows if stability == "VOLATILE"}
    macros = [(name, set(re.findall(r"\w+", text))) for name, _, text in rows if text is not None]
    return frozenset(names | {name for name, words in macros if words & names})


def one_number(rows: Sequence[Sequence[Any]], where: str) -> float:
    """Returns the number of a result of one row and one column; NaN for NULL and for no row."""
    if len(rows) > 1:
        raise DataError(f"{where}: gives several rows, not one number; aggregate them, as in avg(…)")
    if rows and len(rows[0]) != 1:
        raise DataError(f"{where}: gives {len(rows[0])} columns, not one number")
    return number(rows[0][0], where) if rows else float("nan")


def number(value: Any, where: str) -> float:
    """Returns a number of a result, NaN for NULL; a truth value is 1 or 0. Raises DataError for anything else."""
    if value is None:
        return float("nan")
    if isinstance(value, bool | int | float | Decimal):
        try:
            return float(value)
        except OverflowError:
            return float("inf")
    raise DataError(f"{where}: gives {type(value).__name__} {value!r:.40}, not a number; cast it, as in x::double")


def run(text: str, tables: Mapping[str, pa.Table], where: str) -> list[tuple[Any, ...]]:
    """Returns the rows of a query that was read, over tables by name.

    Raises DataError for names that differ in case alone, and for what DuckDB cannot do, in time and memory too.
    """
    connection = _session().connection
    _check_names(tables, where)
    try:
        for name, table in tables.items():
            connection.register(name, table.combine_chunks())
        with _limited(connection):
            return connection.execute(text).fetchall()
    except _errors() as error:
        late = type(error).__name__ == "InterruptException"
        why = f"took longer than {LIMIT_S:g} s and was ended" if late else _line(str(error))
        raise DataError(f"{where}: {why}") from None
    finally:
        for name in tables:
            connection.unregister(name)


def _check_names(tables: Mapping[str, pa.Table], where: str) -> None:
    """Raises DataError where two tables, or two columns of one, have the same name but for its case."""
    for names, kind in ((list(tables), "tables"), *((t.column_names, f"columns of {n}") for n, t in tables.items())):
        folded = dict[str, str]()
        for name in names:
            if (other := folded.setdefault(name.casefold(), name)) is not name:
                raise DataError(f"{where}: {kind} {other!r} and {name!r} are one name in SQL; rename one")


def quoted(name: str) -> str:
    """Returns a name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def _line(message: str) -> str:
    """Returns the first line of an error, without its kind, with what DuckDB takes the name for."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    return " ".join(lines[:2] if len(lines) > 1 and lines[1].startswith(("Did", "Candidate")) else lines[:1])[:300]


def _errors() -> type[BaseException]:
    import duckdb

    error: type[BaseException] = duckdb.Error
    return error


def _plain(text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    return _session().connection.execute(text, list(values)).fetchall()


@dataclass(frozen=True, slots=True)
class _Session:
    """A connection of one thread: opening one takes ten milliseconds."""

    connection: duckdb.DuckDBPyConnection
    process: int


_SESSIONS = threading.local()
_DEADLINES = dict[Any, float]()  # connection -> the moment at which its query is interrupted


def _session() -> _Session:
    """Returns the thread's session; a forked process never goes on with its parent's."""
    session: _Session | None = getattr(_SESSIONS, "session", None)
    if session is None or session.process != os.getpid():
        session = _SESSIONS.session = _opened()
    return session


def _opened() -> _Session:
    import duckdb  # takes a tenth of a second

    connection = duckdb.connect(":memory:", config=dict(_SETTINGS))
    connection.execute("SET TimeZone = 'UTC'").fetchall()
    connection.execute("SET lock_configuration = true").fetchall()
    return _Session(connection, os.getpid())


@contextmanager
def _limited(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Interrupts a query that takes longer than `LIMIT_S`. A watching thread costs less than a timer per query."""
    _watch(os.getpid())
    _DEADLINES[connection] = time.monotonic() + LIMIT_S
    try:
        yield
    finally:
        _DEADLINES.pop(connection, None)


@cache
def _watch(process: int) -> None:
    """Starts the thread that interrupts, once in a process."""
    _DEADLINES.clear()  # a forked process has its parent's
    threading.Thread(target=_interrupt, name="sql-limit", daemon=True).start()


def _interrupt() -> None:
    while True:
        time.sleep(0.25)
        now = time.monotonic()
        for connection, deadline in list(_DEADLINES.items()):
            if now > deadline:
                connection.interrupt()
