"""An objective's expression over predicted metrics, in whole arrays: `Expression.value` takes single numbers."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.policies import PolicyError
from lanelock.policies.expressions import Expression

Array = NDArray[np.float64]

_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
}
_FUNCTIONS: Mapping[str, Callable[[Sequence[Any]], Any]] = {
    "min": lambda parts: reduce(np.minimum, parts),
    "max": lambda parts: reduce(np.maximum, parts),
    "sum": lambda parts: reduce(np.add, parts),
    "abs": lambda parts: np.abs(parts[0]),
    "outside": lambda parts: np.maximum(np.maximum(parts[1] - parts[0], parts[0] - parts[2]), 0.0),
}


def over_arrays(expression: Expression, values: Mapping[str, Array]) -> Array:
    """Returns the expression for arrays of one shape by name; not finite where it is undefined."""
    with np.errstate(all="ignore"):
        found = _arrays(expression.node, expression, values)
    return np.broadcast_to(np.asarray(found, float), next(iter(values.values())).shape) if values else np.asarray(found)


def _arrays(node: ast.expr, expression: Expression, values: Mapping[str, Array]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as constant) if not isinstance(constant, bool):
            return float(constant)
        case ast.Name() if (name := expression.part(node).text) in values:
            return values[name]
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            inner = _arrays(node.operand, expression, values)
            return -inner if isinstance(node.op, ast.USub) else inner
        case ast.BinOp():
            sides = (_arrays(side, expression, values) for side in (node.left, node.right))
            return _ARITHMETIC[type(node.op)](*sides)
        case ast.Call(func=ast.Name(id=called)):
            return _FUNCTIONS[called]([_arrays(part, expression, values) for part in node.args])
    return _one_by_one(expression.part(node), values)


def _one_by_one(part: Expression, values: Mapping[str, Array]) -> Array:
    """Returns an operation without a law for arrays, such as a comparison, for one number after the other."""
    names = list(values)

    def one(*numbers: float) -> float:
        try:
            return float(part.value(dict(zip(names, map(float, numbers), strict=True))))
        except PolicyError:
            return math.nan

    return np.asarray(np.vectorize(one, otypes=[float])(*values.values()))
