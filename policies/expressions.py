"""Expressions in documents: a small language of numbers, texts and comparisons, such as `floor <= cap - 0.1`.

A text is split into tokens here, so that every refusal names a column, and put into order by Python's own grammar
(`ast`, eval mode); it is never compiled and never run. Allowed are + - * /, comparisons (also chained), `and`, `or`,
`not`, `in [...]`, parentheses, min, max, abs, sum, outside(x, low, high), numbers, quoted texts, true and false.
There is no power and no other function: what is left has the same bits on every processor. `Expression.value`
computes in IEEE doubles, `Expression.exact` in fractions of the decimals as written, in which 0.1 + 0.2 is 0.3.
"""

from __future__ import annotations

import ast
import copy
import math
import operator
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from typing import Any

from lanelock.policies.errors import PolicyError

LONGEST = 2000  # characters
DEEPEST = 40  # operations within one another
ALLOWED = (
    "allowed are names, numbers, quoted texts, true, false, + - * /, == != < <= > >=, and, or, not, in [...], "
    "parentheses, min, max, abs, sum and outside"
)

_GREATEST = 1e300  # of a number in a text or a value: products of a few stay finite
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<text>'[^'\\\n]*'|\"[^\"\\\n]*\")"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![A-Za-z0-9_.'\"])"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:/[A-Za-z_][A-Za-z0-9_]*)*)(?!['\"])"
    r"|(?P<sign>\*\*|//|[=!<>]=|[-+*/()<>,\[\]=])"
)
_SLASH = "\u01c0"  # stands for the slash within a known name: a letter for the grammar, and in no text of a user
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_SIGNS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_FUNCTIONS: dict[str, Callable[[Sequence[Any]], Any]] = {
    "min": min,
    "max": max,
    "sum": sum,
    "abs": lambda numbers: abs(numbers[0]),
    "outside": lambda numbers: max(numbers[1] - numbers[0], numbers[0] - numbers[2], numbers[0] - numbers[0]),
}
_TAKES = {"abs": (1, "one number"), "outside": (3, "a number and the low and high end of a corridor")}

Affine = tuple[dict[str, Fraction], Fraction]


class UndefinedError(PolicyError):
    """Arithmetic without a result: a division by zero, or a number beyond all doubles."""


@dataclass(frozen=True, slots=True)
class Expression:
    """A parsed text. Two expressions are equal if their texts and places are."""

    text: str
    where: str  # document and field, for errors
    names: frozenset[str] = field(compare=False)
    node: ast.expr = field(compare=False, repr=False)

    def __str__(self) -> str:
        return self.text

    def value(self, values: Mapping[str, Any]) -> Any:
        """Returns the value for values by name: a float, a text, or true or false.

        Raises UndefinedError for a division by zero and a result that is not finite; PolicyError for a name without a
        value, a value that is not finite, and a text among numbers.
        """
        return _Evaluation(self, values, _double).of(self.node)

    def exact(self, values: Mapping[str, Any]) -> Any:
        """Returns the value as `value` does, with numbers as fractions of the decimals that are written."""
        return _Evaluation(self, values, exact_number).of(self.node)

    def affine(self) -> Affine | None:
        """Returns the weights by name and the constant, exactly, of an affine expression; None for any other."""
        return _affine(self, self.node)

    def linear(self) -> tuple[dict[str, float], float] | None:
        """Returns `affine` in floats."""
        if (found := self.affine()) is None:
            return None
        return {name: float(weight) for name, weight in found[0].items()}, float(found[1])

    def comparisons(self) -> tuple[tuple[Expression, str, Expression], ...]:
        """Returns left side, sign and right side of each comparison of a (chained) comparison; of others nothing."""
        if not isinstance(self.node, ast.Compare) or not all(type(sign) in _SIGNS for sign in self.node.ops):
            return ()
        sides = [self.part(side) for side in (self.node.left, *self.node.comparators)]
        signs = (_SIGNS[type(sign)] for sign in self.node.ops)
        return tuple(zip(sides, signs, sides[1:], strict=False))

    def terms(self) -> tuple[tuple[float, Expression], ...]:
        """Returns the summands, each with its sign; a sum of one is its own only term."""
        return tuple((sign, self.part(node)) for sign, node in _summands(self.node, 1.0))

    def conjuncts(self) -> tuple[Expression, ...]:
        """Returns the parts of `a and b and c`, each comparison of a chain apart; of others the expression itself."""
        if isinstance(self.node, ast.BoolOp) and isinstance(self.node.op, ast.And):
            return tuple(inner for part in self.node.values for inner in self.part(part).conjuncts())
        if len(chain := self.comparisons()) < 2:
            return (self,)
        assert isinstance(self.node, ast.Compare)
        rows = zip(chain, self.node.ops, strict=True)
        return tuple(self.part(ast.Compare(left.node, [sign], [right.node])) for (left, _, right), sign in rows)

    def given(self, values: Mapping[str, Any]) -> Expression:
        """Returns the expression with some names replaced by their values: numbers, texts, true or false."""
        if not self.names & values.keys():
            return self
        node = _Given(values).visit(copy.deepcopy(self.node))
        return Expression(self.text, self.where, frozenset(_names(node)), node)

    def numbers(self) -> tuple[float, ...]:
        """Returns the numbers that the text names."""
        constants = (node.value for node in ast.walk(self.node) if isinstance(node, ast.Constant))
        return tuple(float(value) for value in constants if isinstance(value, int | float) and value is not bool(value))

    def asked(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Yields each name that is compared with constants by == != or in, and those constants."""
        for node in ast.walk(self.node):
            if isinstance(node, ast.Compare):
                for left, (sign, right) in zip(
                    (node.left, *node.comparators), zip(node.ops, node.comparators, strict=True), strict=False
                ):
                    if isinstance(sign, ast.Eq | ast.NotEq | ast.In | ast.NotIn):
                        yield from _asked(left, right)

    def part(self, node: ast.expr) -> Expression:
        """Returns an operand of the expression as an expression of its own."""
        text = ast.unparse(node).replace(_SLASH, "/")
        return Expression(text, self.where, frozenset(_names(node)), node)

    def fault(self, node: ast.AST, what: str) -> PolicyError:
        """Returns the error for a part of the text, with its column, counted from 1."""
        raw = self.text.lstrip().encode()[: _offset(node)].decode(errors="ignore")
        return _fault(self.where, len(self.text) - len(self.text.lstrip()) + len(raw), what, self.text)


def parse(text: str, where: str, known: Container[str] | None = None) -> Expression:
    """Returns the expression of a text. `known`, where given, holds all names allowed, also such as `s4/share`.

    Raises PolicyError naming the column and what is allowed.
    """
    if not text.strip():
        raise PolicyError(f"{where}: an expression is empty; {ALLOWED}")
    if len(text) > LONGEST:
        raise PolicyError(f"{where}: an expression has {len(text)} characters; allowed are {LONGEST}")
    grammatical = "".join(_tokens(text, where, known))
    try:
        node = ast.parse(grammatical.strip(), mode="eval").body
    except SyntaxError as error:
        column = len(text) - len(text.lstrip()) + (error.offset or len(text))
        raise _fault(where, min(column, len(text)) - 1, "cannot be read from here", text) from None
    except (ValueError, RecursionError, MemoryError):
        raise PolicyError(f"{where}: an expression cannot be read; {ALLOWED}") from None
    draft = Expression(text, where, frozenset(), node)
    _check(draft, node, 0)
    names = frozenset(_names(node))
    if known is not None and (unknown := sorted(name for name in names if name not in known)):
        first = next(inner for inner in ast.walk(node) if isinstance(inner, ast.Name) and _plain(inner) == unknown[0])
        raise draft.fault(first, f"{unknown[0]!r} is not a known name")
    return Expression(text, where, names, node)


def _tokens(text: str, where: str, known: Container[str] | None) -> Iterator[str]:
    """Yields the text in pieces for Python's grammar: a known name with slashes as one name."""
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            raise _fault(where, at, f"{text[at]!r} is not allowed here", text)
        piece = token.group()
        if token.lastgroup == "sign" and piece in ("**", "//", "="):
            hint = "; two equals signs compare" if piece == "=" else ""
            raise _fault(where, at, f"{piece!r} is not allowed{hint}", text)
        if token.lastgroup == "number" and not float(piece) <= _GREATEST:
            raise _fault(where, at, f"{piece} is beyond {_GREATEST:g}", text)
        if token.lastgroup == "name" and "/" in piece and known is not None:
            piece = _joined(piece, known)
        yield "0" + piece if piece.startswith(".") else " " * len(piece) if token.lastgroup == "space" else piece
        at = token.end()


def _joined(chain: str, known: Container[str]) -> str:
    """Returns `s4/share` as one name if it is a known one; else a division."""
    parts = chain.split("/")
    for end in range(len(parts), 1, -1):
        if "/".join(parts[:end]) in known:
            return "/".join((_SLASH.join(parts[:end]), *parts[end:]))
    return chain


def _check(expression: Expression, node: ast.expr, depth: int) -> None:
    """Raises PolicyError at the first operation that is not allowed, or where the text is too deep."""
    if depth > DEEPEST:
        raise expression.fault(node, f"more than {DEEPEST} operations within one another")
    match node:
        case ast.Constant(value=bool() | int() | float() | str()) | ast.Name():
            return
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div()) | ast.BoolOp():
            pass
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() | ast.Not()):
            pass
        case ast.Compare():
            _check_comparison(expression, node)
        case ast.Call(func=ast.Name(id=name), keywords=[]) if name in _FUNCTIONS and node.args:
            if name in _TAKES and len(node.args) != _TAKES[name][0]:
                raise expression.fault(node, f"{name} takes {_TAKES[name][1]}")
        case ast.Call():
            called = ast.unparse(node.func).replace(_SLASH, "/")
            raise expression.fault(node, f"{called}(...) is not allowed")
        case ast.List():
            raise expression.fault(node, "a list stands only after `in`")
        case _:
            raise expression.fault(node, "this is not allowed")
    for inner in _operands(node):
        _check(expression, inner, depth + 1)


def _check_comparison(expression: Expression, node: ast.Compare) -> None:
    for sign, side in zip(node.ops, node.comparators, strict=True):
        among = isinstance(side, ast.List) and bool(side.elts)
        if type(sign) not in _SIGNS and not (isinstance(sign, ast.In | ast.NotIn) and among):
            raise expression.fault(node, "`in` stands only before a list with members, and `is` nowhere")
        if type(sign) in _SIGNS and isinstance(side, ast.List):
            raise expression.fault(side, "a list stands only after `in`")


def _operands(node: ast.expr) -> Iterator[ast.expr]:
    """Yields the operands of an operation, the members of a list after `in` among them; never a function's name."""
    if isinstance(node, ast.Compare):
        yield node.left
        for side in node.comparators:
            yield from side.elts if isinstance(side, ast.List) else (side,)
    else:
        inner = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
        yield from (part for part in inner if isinstance(part, ast.expr))


def _names(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Name) and node.id not in ("true", "false"):
        yield _plain(node)
    for inner in _operands(node):
        yield from _names(inner)


def _summands(node: ast.expr, sign: float) -> Iterator[tuple[float, ast.expr]]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        yield from _summands(node.left, sign)
        yield from _summands(node.right, sign if isinstance(node.op, ast.Add) else -sign)
    else:
        yield sign, node


def _plain(node: ast.Name) -> str:
    return node.id.replace(_SLASH, "/")


class _Given(ast.NodeTransformer):
    """Replaces names by constants."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if (name := _plain(node)) not in self._values:
            return node
        return ast.copy_location(ast.Constant(self._values[name]), node)


def _asked(left: ast.expr, right: ast.expr) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yields the name and the constants of one comparison, whichever stands first."""
    members = right.elts if isinstance(right, ast.List) else [right]
    for name, others in ((left, members), *((member, [left]) for member in members)):
        if isinstance(name, ast.Name) and all(isinstance(other, ast.Constant) for other in others):
            yield _plain(name), tuple(other.value for other in others if isinstance(other, ast.Constant))


@dataclass(frozen=True, slots=True)
class _Evaluation:
    """One reading of an expression: the values by name, and what a number is."""

    expression: Expression
    values: Mapping[str, Any]
    number: Callable[[Any], Any]

    def of(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value=constant):
                return constant if isinstance(constant, bool | str) else self.number(constant)
            case ast.Name():
                return self.named(node)
            case ast.UnaryOp(op=ast.Not()):
                return not self.truth(node.operand)
            case ast.UnaryOp():
                operand = self.numeric(node.operand)
                return -operand if isinstance(node.op, ast.USub) else operand
            case ast.BinOp():
                return self.arithmetic(node)
            case ast.BoolOp(op=ast.And()):
                return all(self.truth(part) for part in node.values)
            case ast.BoolOp():
                return any(self.truth(part) for part in node.values)
            case ast.Call(func=ast.Name(id=name)):
                return self.finite(node, _FUNCTIONS[name]([self.numeric(part) for part in node.args]))
            case ast.Compare():
                return self.comparison(node)
        raise self.expression.fault(node, "this is not allowed")

    def named(self, node: ast.Name) -> Any:
        if node.id in ("true", "false"):
            return node.id == "true"
        if (name := _plain(node)) not in self.values:
            raise self.expression.fault(node, f"{name!r} has no value")
        value = self.values[name]
        if isinstance(value, bool | str):
            return value
        try:
            return self.number(value)
        except (TypeError, ValueError, OverflowError):
            raise self.expression.fault(node, f"{name!r} is {value!r}, not a finite number") from None

    def arithmetic(self, node: ast.BinOp) -> Any:
        left, right = self.numeric(node.left), self.numeric(node.right)
        if isinstance(node.op, ast.Div) and right == 0:
            raise UndefinedError(str(self.expression.fault(node.right, "division by zero")))
        return self.finite(node, _ARITHMETIC[type(node.op)](left, right))

    def comparison(self, node: ast.Compare) -> bool:
        left = node.left
        for sign, right in zip(node.ops, node.comparators, strict=True):
            if not self.compared(left, sign, right):
                return False
            left = right
        return True

    def compared(self, left: ast.expr, sign: ast.cmpop, right: ast.expr) -> bool:
        if isinstance(right, ast.List):
            among = any(_same(self.of(left), self.of(member)) for member in right.elts)
            return among == isinstance(sign, ast.In)
        if isinstance(sign, ast.Eq | ast.NotEq):
            return _same(self.of(left), self.of(right)) == isinstance(sign, ast.Eq)
        return _ORDER[type(sign)](self.numeric(left), self.numeric(right))

    def numeric(self, node: ast.expr) -> Any:
        value = self.of(node)
        if isinstance(value, bool | str):
            raise self.expression.fault(node, f"{value!r} is not a number")
        return value

    def truth(self, node: ast.expr) -> bool:
        value = self.of(node)
        if not isinstance(value, bool):
            raise self.expression.fault(node, f"{value!s} is neither true nor false")
        return value

    def finite(self, node: ast.expr, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise UndefinedError(str(self.expression.fault(node, "the result is not finite")))
        return value


def _same(left: Any, right: Any) -> bool:
    """Returns whether two values are equal; values of different kinds are not, true and 1 among them."""
    kinds = ((bool, str)[isinstance(side, str)] if isinstance(side, bool | str) else float for side in (left, right))
    return len(set(kinds)) == 1 and bool(left == right)


def _double(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


@lru_cache(maxsize=4096)
def exact_number(value: float | int | Fraction) -> Fraction:
    """Returns the decimal that a number is written as: 1/10 for 0.1. Raises ValueError if it is not finite."""
    return Fraction(value) if isinstance(value, int | Fraction) else Fraction(repr(_double(value)))


def _affine(expression: Expression, node: ast.expr) -> Affine | None:
    match node:
        case ast.Name(id=name) if name not in ("true", "false"):
            return {_plain(node): Fraction(1)}, Fraction(0)
        case ast.UnaryOp(op=ast.UAdd() | ast.USub()):
            inner = _affine(expression, node.operand)
            return inner and _scaled(inner, Fraction(-1 if isinstance(node.op, ast.USub) else 1))
        case ast.BinOp(op=ast.Add() | ast.Sub()):
            left, right = _affine(expression, node.left), _affine(expression, node.right)
            sign = Fraction(1 if isinstance(node.op, ast.Add) else -1)
            return left and right and _added(left, _scaled(right, sign))
        case ast.BinOp(op=ast.Mult() | ast.Div()):
            return _product(_affine(expression, node.left), _affine(expression, node.right), node.op)
        case ast.Call(func=ast.Name(id="sum")):
            terms = [_affine(expression, part) for part in node.args]
            total: Affine | None = ({}, Fraction(0))
            for term in terms:
                total = total and term and _added(total, term)
            return total
    return _constant(expression, node)


def _constant(expression: Expression, node: ast.expr) -> Affine | None:
    """Returns an operation without names as its value; None where that is no number."""
    if next(_names(node), None) is not None:
        return None
    try:
        value = expression.part(node).exact({})
    except PolicyError:
        return None
    return None if isinstance(value, bool | str) else ({}, value)


def _product(left: Affine | None, right: Affine | None, sign: ast.operator) -> Affine | None:
    if left is None or right is None:
        return None
    if isinstance(sign, ast.Div):
        return None if right[0] or right[1] == 0 else _scaled(left, 1 / right[1])
    if left[0] and right[0]:
        return None
    return _scaled(left, right[1]) if not right[0] else _scaled(right, left[1])


def _scaled(affine: Affine, factor: Fraction) -> Affine:
    return {name: weight * factor for name, weight in affine[0].items()}, affine[1] * factor


def _added(left: Affine, right: Affine) -> Affine:
    weights = dict(left[0])
    for name, weight in right[0].items():
        weights[name] = weights.get(name, Fraction(0)) + weight
    return weights, left[1] + right[1]


def _offset(node: ast.AST) -> int:
    return int(getattr(node, "col_offset", 0))


def _fault(where: str, column: int, what: str, text: str) -> PolicyError:
    return PolicyError(f"{where}: {text!r}, column {column + 1}: {what}; {ALLOWED}")
