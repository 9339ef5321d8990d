"""What goes wrong in a file, as data: a change is a list, such as `["set", ["trials"], "4.0"]`, that JSON can hold.

`proposed` draws the changes of an input; `changed` makes them. A change that finds no place in a file leaves it alone.
Numbers that name a byte, a line or a place are taken modulo what is there, so that a recipe outlives the file it was
found in.
"""

from __future__ import annotations

import copy
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import cache, reduce
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from mutants import near, places

Change = Sequence[Any]
HERE = "here, and nowhere else"
LONG = 300_000

# Written as they are in the place of a value: what no library would write, beside what it would.
LITERALS = (
    "null", "true", "false", "0", "-1", "1.5", "4.0", "-0.0", "1e308", "1e999", "-1e999", "NaN", "-Infinity", "1e-320",
    "9007199254740993", "18446744073709551616", "-9223372036854775809", "1e18", "01", "0x1", "1_000", "+1", ".5", "5.",
    '""', '" "', '"x"', '"\\u0000"', '"\\u202e\\u2066"', '"\\ud800"', '"\\u001b[2J\\u0007"', '"\\n"', '"a\\tb"',
    '"../../x"', '"/"', '"/etc/passwd"', '"."', '"~"', '"$(x)"', '"%s %d {0}"', '"certified"', '"NaN"', '"1"', '"true"',
    '"0000000000000000000000000000000000000000000000000000000000000000"', "'x'", "[]", "{}", "[[]]", "[null]", "[{}]",
    '{"": null}', '{"x": {"x": {}}}', "[1.0]", '["x", "x"]', "undefined", "1,2", "", "@deep", "@deeper", "@digits",
    "@text", "@wide", "@rows",
)  # fmt: skip
NAMES = ("", " ", "x", "note", "signed_by", "$schema", "__class__", "a/b", "~0", "\x00", "\u202e", "\ud800", "é", "1")
CELLS = (
    "", " ", "NaN", "nan", "inf", "-inf", "1e19", "1e400", "0x10", "007", "-1", "+1", "1.0", "1.5", "1,5", "1_000", "٣",
    "18446744073709551616", "9007199254740993", "true", "TRUE", "yes", "null", "NULL", "N/A", '"', '""', "'", "a\nb",
    "a\rb", ";", "\t", "\x00", "\u202e", "\ufeff", "é", "91", "-181", "180", "-180", "US/Eastern", "Factory",
    "localtime", "XX", "fr", "=1+1", "../../x", "@text",
)  # fmt: skip
ARROW = (
    "bool_", "int8", "uint8", "int64", "uint64", "float32", "float64", "string", "large_string", "binary", "date32",
    "timestamp[s]", "timestamp[ns]", "null", "decimal", "dictionary", "list", "struct", "half_float",
)  # fmt: skip
SPECIAL = ("folder", "fifo", "loop", "nowhere", "zero", "null", "random", "socket", "gone", "empty", "link", "huge")


@cache
def _made(name: str) -> str:
    """Returns a value that is too large to be written in a recipe."""
    return {
        "@deep": "[" * 900 + "]" * 900,
        "@deeper": "[" * 100_000,
        "@digits": "1" * 5_000,
        "@text": "x" * LONG,
        "@wide": json.dumps({f"n{number}": number for number in range(20_000)}),
        "@rows": "[" + "0," * 50_000 + "0]",
    }[name]


def _literal(text: str) -> str:
    return (f'"{_made(text)}"' if text == "@text" else _made(text)) if text.startswith("@") else text


# JSON


def _value(document: Any, at: Sequence[Any]) -> Any:
    return reduce(lambda node, name: node[name], at, document)


def _with(content: bytes, edit: Callable[[Any], str | None]) -> bytes:
    """Returns a document as edited; `edit` may return the literal that replaces the text `HERE`."""
    document = json.loads(content)
    literal = edit(document)
    text = json.dumps(document)
    return (text if literal is None else text.replace(json.dumps(HERE), literal, 1)).encode("utf-8", "surrogatepass")


def _set(content: bytes, at: list[Any], literal: str) -> bytes:
    def edit(document: Any) -> str:
        _value(document, at[:-1])[at[-1]] = HERE
        return _literal(literal)

    return _with(content, edit) if at else _literal(literal).encode()


def _delete(content: bytes, at: list[Any]) -> bytes:
    return _with(content, lambda document: _value(document, at[:-1]).__delitem__(at[-1]))


def _add(content: bytes, at: list[Any], name: str, literal: str) -> bytes:
    def edit(document: Any) -> str:
        node = _value(document, at)
        node.append(HERE) if isinstance(node, list) else node.__setitem__(name, HERE)
        return _literal(literal)

    return _with(content, edit)


def _twice(content: bytes, at: list[Any], literal: str) -> bytes:
    """A field given twice, or an item."""

    def edit(document: Any) -> str | None:
        node, last = _value(document, at[:-1]), at[-1]
        if isinstance(node, list):
            return node.insert(last, copy.deepcopy(node[last]))
        first = json.dumps(node[last])
        node[last] = HERE
        return f"{first}, {json.dumps(last)}: {_literal(literal) if literal else first}"

    return _with(content, edit)


def _rename(content: bytes, at: list[Any], name: str) -> bytes:
    def edit(document: Any) -> None:
        node = _value(document, at[:-1])
        rows = [(name if key == at[-1] else key, value) for key, value in node.items()]
        node.clear()
        node.update(rows)

    return _with(content, edit)


def _swap(content: bytes, one: list[Any], other: list[Any]) -> bytes:
    def edit(document: Any) -> None:
        left, right = _value(document, one[:-1]), _value(document, other[:-1])
        left[one[-1]], right[other[-1]] = right[other[-1]], left[one[-1]]

    return _with(content, edit)


def _line(content: bytes, number: int, *change: Any) -> bytes:
    lines = content.split(b"\n")
    at = number % len(lines)
    lines[at] = changed(lines[at], [change])
    return b"\n".join(lines)


def _lines(content: bytes, what: str, one: int, other: int) -> bytes:
    """Whole lines gone, given twice or exchanged; the header of a table is one of them."""
    lines = content.splitlines(keepends=True)
    one, other = one % len(lines), other % len(lines)
    match what:
        case "delete":
            del lines[one]
        case "twice":
            lines.insert(other, lines[one])
        case "swap":
            lines[one], lines[other] = lines[other], lines[one]
        case "blank":
            lines.insert(one, b"\n")
    return b"".join(lines)


# Bytes


def _flip(content: bytes, at: int, bit: int) -> bytes:
    whole = bytearray(content)
    whole[at % len(whole)] ^= 1 << bit
    return bytes(whole)


def _cut(content: bytes, at: int) -> bytes:
    return content[: at % (len(content) + 1)]


def _insert(content: bytes, at: int, what: str) -> bytes:
    at %= len(content) + 1
    return content[:at] + bytes.fromhex(what) + content[at:]


def _encode(content: bytes, encoding: str) -> bytes:
    return content.decode("utf-8").encode(encoding, "replace")


def _ends(content: bytes, end: str) -> bytes:
    return content.replace(b"\r\n", b"\n").replace(b"\n", end.encode())


# Tables


def _table(
    content: bytes, edit: Callable[[list[list[str]]], None], separator: str = ",", quoted: bool = False
) -> bytes:
    rows = list(csv.reader(io.StringIO(content.decode(), newline="")))
    edit(rows)
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter=separator, lineterminator="\n", quoting=quoting).writerows(rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _cell(content: bytes, row: int, column: int, cell: str) -> bytes:
    def edit(rows: list[list[str]]) -> None:
        line = rows[row % len(rows)]
        line[column % len(line)] = _made(cell) if cell.startswith("@") else cell

    return _table(content, edit)


def _ragged(content: bytes, row: int, column: int, more: bool) -> bytes:
    def edit(rows: list[list[str]]) -> None:
        line = rows[row % len(rows)]
        line.insert(column % len(line), "x") if more else line.__delitem__(column % len(line))

    return _table(content, edit)


def _column(content: bytes, what: str, one: int, other: int) -> bytes:
    def edit(rows: list[list[str]]) -> None:
        width = len(rows[0])
        for row in rows:
            if what == "twice":
                row.append(row[one % width])
            elif what == "delete":
                del row[one % width]
            elif what == "swap":
                row[one % width], row[other % width] = row[other % width], row[one % width]
        if what == "case":
            rows[0][one % width] = rows[0][one % width].swapcase()

    return _table(content, edit)


def _separated(content: bytes, separator: str, quoted: bool) -> bytes:
    return _table(content, lambda rows: None, separator, quoted)


# Arrow tables


def _arrow(content: bytes, edit: Callable[[pa.Table], pa.Table]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(edit(pq.read_table(pa.BufferReader(content))), sink)
    return bytes(sink.getvalue().to_pybytes())


def _retyped(content: bytes, column: int, kind: str) -> bytes:
    def edit(table: pa.Table) -> pa.Table:
        at = column % table.num_columns
        values = table.column(at).combine_chunks()
        return table.set_column(at, table.column_names[at], _as(values, kind))

    return _arrow(content, edit)


def _as(values: Any, kind: str) -> Any:
    match kind:
        case "dictionary":
            return values.dictionary_encode()
        case "list":
            return pa.array([[value] for value in values.to_pylist()])
        case "struct":
            return pa.array([{"x": value} for value in values.to_pylist()])
        case "null":
            return pa.nulls(len(values))
        case "decimal":
            return values.cast(pa.decimal128(38, 2))
        case "half_float":
            return values.cast(pa.float32()).cast(pa.float16())
        case "date32":
            return pa.array([0] * len(values), pa.int32()).cast(pa.date32())
        case "timestamp[s]" | "timestamp[ns]":
            return pa.array([0] * len(values), pa.int64()).cast(pa.timestamp(kind[10:-1]))
    return values.cast(getattr(pa, kind)(), safe=False)


def _item(content: bytes, column: int, row: int, value: Any) -> bytes:
    """One value of a column, in whatever type holds it beside the others; None is a null."""

    def edit(table: pa.Table) -> pa.Table:
        at = column % table.num_columns
        values = table.column(at).to_pylist()
        values[row % len(values)] = float(value) if value in ("NaN", "inf", "-0.0", "1e19") else value
        try:
            array = pa.array(values, table.column(at).type)
        except (pa.ArrowException, TypeError, OverflowError):
            array = pa.array(values)
        return table.set_column(at, table.column_names[at], array)

    return _arrow(content, edit)


def _shaped(content: bytes, what: str, column: int) -> bytes:
    def edit(table: pa.Table) -> pa.Table:
        at = column % table.num_columns
        name = table.column_names[at]
        match what:
            case "twice":
                return table.append_column(name, table.column(at))
            case "delete":
                return table.remove_column(at)
            case "rename":
                return table.rename_columns([f"{one}\u202e" if one == name else one for one in table.column_names])
            case "none":
                return table.slice(0, 0)
            case "doubled":
                return pa.concat_tables([table, table])
            case "reversed":
                return table.take(list(range(table.num_rows))[::-1])
        return table

    return _arrow(content, edit)


# What a change raises for a file that is not, or not any more, as it was when the change was drawn.
_NO_PLACE = (
    ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError, csv.Error,
    pa.ArrowException,
)  # fmt: skip
MAKE: dict[str, Callable[..., bytes]] = {
    "set": _set, "delete": _delete, "add": _add, "twice": _twice, "rename": _rename, "swap": _swap, "line": _line,
    "lines": _lines, "flip": _flip, "cut": _cut, "insert": _insert, "encode": _encode, "ends": _ends, "cell": _cell,
    "ragged": _ragged, "column": _column, "separated": _separated, "retyped": _retyped, "item": _item,
    "shaped": _shaped,
    "all": lambda content, what: what.encode(),
}  # fmt: skip


def changed(content: bytes, changes: Sequence[Change]) -> bytes:
    """Returns the bytes of a file after changes; one that makes it another kind of file is not of these."""
    for name, *arguments in changes:
        with suppress(*_NO_PLACE):
            content = MAKE[name](content, *arguments)
    return content


# Drawing


def proposed(chance: Any, content: bytes, form: str) -> list[Change]:
    """Returns the changes of one input, drawn for a file of a form: "json", "lines", "csv", "parquet" or "bytes"."""
    if chance.random() < 0.06:
        return [["become", chance.choice(SPECIAL)]]
    count = chance.choice((1, 1, 1, 1, 2, 3))
    return [*_drawn(chance, content, form, count)]


def _drawn(chance: Any, content: bytes, form: str, count: int) -> Iterator[Change]:
    for _ in range(count):
        if form == "bytes" or chance.random() < 0.15:
            yield _of_bytes(chance)
        elif form == "json":
            yield _of_json(chance, content)
        elif form == "lines":
            lines = content.split(b"\n")
            at = chance.randrange(len(lines))
            if chance.random() < 0.2:
                yield ["lines", chance.choice(("delete", "twice", "swap", "blank")), at, chance.randrange(len(lines))]
            else:
                yield ["line", at, *(_of_json(chance, lines[at]) if chance.random() < 0.85 else _of_bytes(chance))]
        elif form == "csv":
            yield _of_csv(chance)
        else:
            yield _of_parquet(chance)


def _of_bytes(chance: Any) -> Change:
    at = chance.randrange(1 << 20)
    return chance.choice((
        ["flip", at, chance.randrange(8)], ["flip", at, chance.randrange(8)], ["cut", at],
        ["insert", at, chance.choice(("00", "ff", "0a", "0d", "22", "7b", "e280ae", "1b5b324a", "efbbbf", "c3"))],
        ["insert", 0, chance.choice(("efbbbf", "fffe", "00", "20", "1f8b"))], ["insert", -1, "00"],
        ["encode", chance.choice(("utf-16", "utf-16-le", "utf-32", "latin-1", "utf-7", "cp037", "utf-8-sig"))],
        ["ends", chance.choice(("\r\n", "\r", "\n\n", "\u2028"))],
        ["all", chance.choice(("", " ", "\n", "null", "[]", "{}", '""', "0", "x", "\x00", "PAR1", "\ufeff"))],
    ))  # fmt: skip


def _of_json(chance: Any, content: bytes) -> Change:
    try:
        document = json.loads(content)
    except ValueError:
        return _of_bytes(chance)
    every = [list(place) for place in places(document)]
    at = chance.choice(every)
    if not at or chance.random() < 0.05:
        return ["set", [], chance.choice(LITERALS)]
    above = _value(document, at[:-1])
    how = chance.random()
    if how < 0.4:
        return ["set", at, chance.choice(LITERALS)]
    if how < 0.62:
        return ["set", at, json.dumps(near(_value(document, at), chance))]
    if how < 0.72:
        return ["delete", at]
    if how < 0.8:
        return ["twice", at, chance.choice(("", chance.choice(LITERALS)))]
    if how < 0.88:
        return ["add", at[:-1], chance.choice(NAMES), chance.choice(LITERALS)]
    if how < 0.94 and isinstance(above, dict):
        return ["rename", at, chance.choice((*NAMES, at[-1].swapcase(), f"{at[-1]} ", f"{at[-1]}s"))]
    return ["swap", at, chance.choice([place for place in every if place])]


def _of_csv(chance: Any) -> Change:
    one, other = chance.randrange(10_000), chance.randrange(10_000)
    return chance.choice((
        ["cell", one, other, chance.choice(CELLS)], ["cell", one, other, chance.choice(CELLS)],
        ["cell", one, other, chance.choice(CELLS)], ["cell", 0, other, chance.choice(CELLS)],
        ["ragged", one, other, chance.random() < 0.5],
        ["column", chance.choice(("twice", "delete", "swap", "case")), one, other],
        ["separated", chance.choice((";", "\t", "|", ":", " ", ",")), chance.random() < 0.3],
        ["lines", chance.choice(("delete", "twice", "swap", "blank")), one, other], ["lines", "delete", 0, 0],
    ))  # fmt: skip


def _of_parquet(chance: Any) -> Change:
    one, other = chance.randrange(100), chance.randrange(10_000)
    value = chance.choice(
        (None, None, "NaN", "inf", "-0.0", "1e19", 0, -1, 2**53 + 1, 2**63, "", "x", "\u202e", True, 1.5)
    )
    return chance.choice((
        ["retyped", one, chance.choice(ARROW)], ["retyped", one, chance.choice(ARROW)], ["item", one, other, value],
        ["item", one, other, value],
        ["shaped", chance.choice(("twice", "delete", "rename", "none", "doubled", "reversed")), one],
    ))  # fmt: skip
