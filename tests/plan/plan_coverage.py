"""The plan's statements, the tests tied to them, and docs/plan-coverage.md made of both.

A test is tied by `@pytest.mark.plan("3.2.4")`, or by such a mark on a row of its table. Ties are read from the sources,
so that they are the same whichever tests are run.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
STATEMENTS = TESTS / "plan" / "statements.json"
PAGE = TESTS.parent / "docs" / "plan-coverage.md"
NOT_BY_DEFAULT = {"skip", "skipif", "xfail", "slow", "postgres"}
LEAVES_OUT = {"skip", "xfail", "importorskip"}
CHECKS = {"raises", "refused"}  # calls that fail where what they expect does not happen


@dataclass(frozen=True, slots=True)
class Statement:
    """A rule of the plan in our words; `open` says what is missing, else it is None."""

    number: str
    section: str
    says: str
    lines: str  # of the recorded plan
    open: str | None


@dataclass(frozen=True)
class Tied:
    """A test function that names statements."""

    path: Path
    function: ast.FunctionDef
    outer: tuple[ast.expr, ...]  # the marks of its module and its class

    @property
    def name(self) -> str:
        return f"{self.path.relative_to(TESTS).as_posix()}::{self.function.name}"

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """The statements that its marks name. Raises ValueError for a mark that is not written out."""
        return tuple(number for mark in _marks(self.function.decorator_list) for number in _literal(mark, self.name))

    @cached_property
    def fault(self) -> str | None:
        """Why it is no check that `make test` runs; None if it is one."""
        marks = {name for name in map(_mark_name, _all(*self.function.decorator_list, *self.outer)) if name}
        calls = {_called(node) for node in _all(self.function) if isinstance(node, ast.Call)}
        if left_out := sorted(marks & NOT_BY_DEFAULT | calls & LEAVES_OUT):
            return f"it is left out of the usual run: {', '.join(left_out)}"
        checks = any(isinstance(node, ast.Assert) for node in _all(self.function)) or any(
            name in CHECKS or name.startswith("assert_") for name in calls
        )
        return None if checks else "nothing in it can fail"


def statements() -> dict[str, Statement]:
    """Returns every statement by its number. Raises ValueError if a number is given twice."""
    document = json.loads(STATEMENTS.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    return {
        number: Statement(number, section, row["says"], row["lines"], row.get("open"))
        for section, held in document.items()
        for number, row in held.items()
    }


def tied() -> tuple[Tied, ...]:
    """Returns every test that names a statement, by path and place."""
    paths = sorted(path for path in TESTS.rglob("test_*.py") if "pytest.mark.plan" in path.read_text(encoding="utf-8"))
    return tuple(found for path in paths for found in _tests(path) if found.numbers)


def checked_by() -> dict[str, list[Tied]]:
    """Returns the tests of each number that some test names."""
    found: dict[str, list[Tied]] = {}
    for test in tied():
        for number in dict.fromkeys(test.numbers):
            found.setdefault(number, []).append(test)
    return found


def page() -> str:
    """Returns docs/plan-coverage.md."""
    rows, checks = statements(), checked_by()
    sections = list(dict.fromkeys(row.section for row in rows.values()))
    parts = [HEAD.format(all=len(rows), open=sum(row.open is not None for row in rows.values())), _counts(rows)]
    for section in sections:
        parts.append(f"## {section}\n\n| no. | rule | plan | checked by |\n|---|---|---|---|\n")
        parts += [_row(row, checks.get(row.number, [])) for row in rows.values() if row.section == section]
        parts.append("\n")
    return "".join(parts).rstrip("\n") + "\n"


HEAD = """# What of the plan is checked

The remediation plan that segment 2B was tuned by is a set of rules. Here they stand in our own words, {all} of them,
each with the tests that fail if it is broken. An open rule is one that no test holds yet, with what is missing: {open}.
No rule is ticked by hand: this page is made from `tests/plan/statements.json` and the marks of the tests by
`pytest tests/plan --golden`, and a test holds it to both. The column *plan* gives the lines of the recorded plan, which
is no part of this repository.

"""


def _counts(rows: dict[str, Statement]) -> str:
    lines = ["| section | rules | checked | open |", "|---|---|---|---|"]
    for section in dict.fromkeys(row.section for row in rows.values()):
        held = [row for row in rows.values() if row.section == section]
        missing = sum(row.open is not None for row in held)
        lines.append(f"| {section} | {len(held)} | {len(held) - missing} | {missing} |")
    return "\n".join(lines) + "\n\n"


def _row(row: Statement, checks: list[Tied]) -> str:
    links = [f"[{test.function.name}](../tests/{test.path.relative_to(TESTS).as_posix()})" for test in checks]
    held = "<br>".join(links) if row.open is None else f"**open**, {row.open}"
    return f"| {row.number} | {row.says} | {row.lines} | {held} |\n"


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"{STATEMENTS.name}: given twice: {sorted({k for k, _ in pairs if len(found) != len(pairs)})}")
    return found


def _tests(path: Path) -> Iterator[Tied]:
    """Yields the test functions that pytest would collect: those of the module and of its classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    of_module = tuple(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and any(getattr(name, "id", "") == "pytestmark" for name in node.targets)
    )
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield Tied(path, node, of_module)
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            outer = (*of_module, *node.decorator_list)
            for inner in node.body:
                if isinstance(inner, ast.FunctionDef) and inner.name.startswith("test_"):
                    yield Tied(path, inner, outer)


def _all(*nodes: ast.AST) -> Iterator[ast.AST]:
    for node in nodes:
        yield from ast.walk(node)


def _mark_name(node: ast.AST) -> str | None:
    """The x of `pytest.mark.x`."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute) and node.value.attr == "mark":
        return node.attr
    return None


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _marks(decorators: list[ast.expr]) -> Iterator[ast.Call]:
    for node in _all(*decorators):
        if isinstance(node, ast.Call) and _mark_name(node.func) == "plan":
            yield node


def _literal(mark: ast.Call, where: str) -> Iterator[str]:
    for argument in mark.args:
        if not isinstance(argument, ast.Constant) or not isinstance(argument.value, str):
            raise ValueError(f"{where}: a statement is named by a literal number")
        yield argument.value
