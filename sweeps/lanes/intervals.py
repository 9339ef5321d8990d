"""What an expression can give while its names stay in their domains: sound bounds, found without trying values.

A domain is the least and the greatest number, or the set of possible values. Numbers are rounded outward after every
operation, so that no value is ever left out; a name that occurs twice is taken to vary twice.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from itertools import product
from typing import Any

from lanelock.policies.expressions import Expression

Span = tuple[float, float]
Domain = Span | frozenset[Any]

ANYTHING: Span = (-math.inf, math.inf)
_EITHER = frozenset({True, False})


def outcomes(expression: Expression, domains: Mapping[str, Domain]) -> Domain:
    """Returns the span of a number, or the set of the values that a text or a truth can have."""
    return _of(expression.node, {name.replace("/", "\u01c0"): domain for name, domain in domains.items()})


def never(expression: Expression, domains: Mapping[str, Domain]) -> bool:
    """Returns whether a condition is surely false, or without a value, wherever its names are in their domains."""
    found = outcomes(expression, domains)
    return isinstance(found, frozenset) and True not in found


def _of(node: ast.expr, domains: Mapping[str, Domain]) -> Domain:
    match node:
        case ast.Constant(value=bool() | str()):
            return frozenset({node.value})
        case ast.Constant(value=int() | float() as number):
            return _outward(float(number), float(number))
        case ast.Name(id="true" | "false"):
            return frozenset({node.id == "true"})
        case ast.Name():
            domain = domains.get(node.id, ANYTHING)
            return domain if isinstance(domain, frozenset) else _outward(*domain)
        case ast.UnaryOp(op=ast.Not()):
            return frozenset(not truth for truth in _truths(_of(node.operand, domains)))
        case ast.UnaryOp():
            low, high = _span(_of(node.operand, domains))
            return (-high, -low) if isinstance(node.op, ast.USub) else (low, high)
        case ast.BinOp():
            return _arithmetic(node, domains)
        case ast.BoolOp():
            return _joined(node, domains)
        case ast.Call(func=ast.Name(id=name)):
            return _called(name, [_span(_of(part, domains)) for part in node.args])
        case ast.Compare():
            return _compared(node, domains)
    return ANYTHING


def _arithmetic(node: ast.BinOp, domains: Mapping[str, Domain]) -> Span:
    left, right = _span(_of(node.left, domains)), _span(_of(node.right, domains))
    match node.op:
        case ast.Add():
            return _outward(left[0] + right[0], left[1] + right[1])
        case ast.Sub():
            return _outward(left[0] - right[1], left[1] - right[0])
        case ast.Div():
            if right[0] <= 0 <= right[1]:
                return ANYTHING
            right = _outward(1 / right[1], 1 / right[0])
    return _outward(*_ends([a * b if a and b else 0.0 for a, b in product(left, right)]))


def _called(name: str, spans: list[Span]) -> Span:
    if name == "sum":
        return _outward(math.fsum(low for low, _ in spans), math.fsum(high for _, high in spans))
    if name == "abs":
        low, high = spans[0]
        return (low, high) if low >= 0 else (-high, -low) if high <= 0 else (0.0, max(-low, high))
    least = min if name == "min" else max
    return least(low for low, _ in spans), least(high for _, high in spans)


def _joined(node: ast.BoolOp, domains: Mapping[str, Domain]) -> frozenset[Any]:
    truths = [_truths(_of(part, domains)) for part in node.values]
    ends = all if isinstance(node.op, ast.And) else any
    return frozenset(ends(combined) for combined in product(*truths)) if len(truths) <= 8 else _EITHER


def _compared(node: ast.Compare, domains: Mapping[str, Domain]) -> frozenset[Any]:
    if len(node.ops) > 1 or isinstance(node.comparators[0], ast.List):
        return _among(node, domains)
    left, right = _of(node.left, domains), _of(node.comparators[0], domains)
    if isinstance(node.ops[0], ast.Eq | ast.NotEq):
        equal = _equal(left, right)
        return equal if isinstance(node.ops[0], ast.Eq) else frozenset(not truth for truth in equal)
    (low, high), (least, most) = _span(left), _span(right)
    if isinstance(node.ops[0], ast.Gt | ast.GtE):
        (low, high), (least, most) = (least, most), (low, high)
    strict = isinstance(node.ops[0], ast.Lt | ast.Gt)
    surely = high < least if strict else high <= least
    surely_not = low >= most if strict else low > most
    return frozenset({True}) if surely else frozenset({False}) if surely_not else _EITHER


def _among(node: ast.Compare, domains: Mapping[str, Domain]) -> frozenset[Any]:
    if len(node.ops) > 1:
        return _EITHER
    assert isinstance(node.comparators[0], ast.List)
    left = _of(node.left, domains)
    found = [_equal(left, _of(member, domains)) for member in node.comparators[0].elts]
    if all(row == {False} for row in found):
        among: frozenset[Any] = frozenset({False})
    else:
        among = frozenset({True}) if {True} in found else _EITHER
    return among if isinstance(node.ops[0], ast.In) else frozenset(not truth for truth in among)


def _equal(left: Domain, right: Domain) -> frozenset[Any]:
    if ANYTHING in (left, right):  # of no known kind
        return _EITHER
    if isinstance(left, frozenset) and isinstance(right, frozenset):
        pairs = {_kind(a) == _kind(b) and a == b for a, b in product(left, right)}
        return frozenset(pairs)
    if isinstance(left, frozenset) or isinstance(right, frozenset):
        values = left if isinstance(left, frozenset) else right
        span = right if isinstance(left, frozenset) else left
        assert isinstance(values, frozenset) and not isinstance(span, frozenset)
        numbers = [value for value in values if _kind(value) is float]
        return _EITHER if any(span[0] <= number <= span[1] for number in numbers) else frozenset({False})
    return frozenset({False}) if left[1] < right[0] or right[1] < left[0] else _EITHER


def _kind(value: Any) -> type:
    return type(value) if isinstance(value, bool | str) else float


def _truths(domain: Domain) -> frozenset[Any]:
    return domain if isinstance(domain, frozenset) and domain <= _EITHER else _EITHER


def _span(domain: Domain) -> Span:
    """Returns the span of numbers; of a set, that of its numbers."""
    if not isinstance(domain, frozenset):
        return domain
    numbers = [float(value) for value in domain if _kind(value) is float]
    return _ends(numbers) if numbers and len(numbers) == len(domain) else ANYTHING


def _ends(numbers: list[float]) -> Span:
    return min(numbers), max(numbers)


def _outward(low: float, high: float) -> Span:
    if math.isnan(low) or math.isnan(high):
        return ANYTHING
    return math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
