"""Expressions: what Python computes of the same text, exact in decimals on request, and one clear line for the rest."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.policies import PolicyError
from lanelock.policies.expressions import DEEPEST, parse

NAMES = ("a", "b", "cap", "in_stock")
NUMBERS = st.one_of(st.integers(0, 999).map(str), st.sampled_from(["0.1", "2.5", "1e-3", ".5", "3."]))
VALUES = st.fixed_dictionaries({
    name: st.integers(-20, 20) | st.sampled_from([0.1, 0.25, -1.5, 1e-9]) for name in NAMES
})  # fmt: skip


def _composed(inner):
    pair = st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(" ".join)
    calls = st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda row: f"{row[0]}({row[1]}, {row[2]})")
    return st.one_of(pair.map("({})".format), pair, calls, inner.map("abs({})".format), inner.map("-{}".format))


ARITHMETIC = st.recursive(NUMBERS | st.sampled_from(NAMES), _composed, max_leaves=12)
COMPARED = st.tuples(ARITHMETIC, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), ARITHMETIC).map(" ".join)
LOGIC = st.recursive(
    COMPARED,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(" ".join), inner.map("not ({})".format)
    ),
    max_leaves=4,
)


def _python(text, values):
    """Returns what Python computes in doubles, or the exception that it raises."""
    doubles = {name: float(value) for name, value in values.items()}
    try:
        return eval(text, {"__builtins__": {}, "min": min, "max": max, "abs": abs}, doubles)
    except ZeroDivisionError as error:
        return error


@given(ARITHMETIC | LOGIC, VALUES)
def test_a_value_is_what_python_computes_bit_for_bit(text, values):
    expected = _python(text, values)
    if isinstance(expected, Exception):
        with pytest.raises(PolicyError, match="division by zero"):
            parse(text, "f").value(values)
    else:
        value = parse(text, "f").value(values)
        assert value == expected and math.copysign(1, value) == math.copysign(1, expected)


@given(ARITHMETIC, VALUES)
def test_an_affine_expression_is_its_weights_and_constant(text, values):
    expression = parse(text, "f")
    affine = expression.affine()
    if affine is None:
        return
    weights, constant = affine
    assert set(weights) == expression.names
    exact = sum((weight * Fraction(str(values[name])) for name, weight in weights.items()), constant)
    assert expression.exact(values) == exact


@given(ARITHMETIC)
def test_a_sum_of_weighted_names_is_affine(text):
    assert parse(f"2 * a - (b + 1) / 4 + 0 * ({'cap'})", "f").affine() == (
        {"a": 2, "b": Fraction(-1, 4), "cap": 0}, Fraction(-1, 4),
    )  # fmt: skip
    if not parse(text, "f").names:
        constant = parse(text, "f").affine()
        assert constant is None or constant[1] == parse(text, "f").exact({})


@given(st.text(max_size=60) | st.text("ab1.+-*/()<>=!,[]'\" \t\n", max_size=40))
def test_any_text_is_read_or_refused_in_one_line(text):
    try:
        expression = parse(text, "f: /x")
    except PolicyError as error:
        assert str(error).startswith("f: /x: ") and "\n" not in str(error)
        return
    try:
        expression.value(dict.fromkeys(expression.names, 1.5))
        expression.affine()
    except PolicyError as error:
        assert "column" in str(error)


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("a ** 2", 3, "'**' is not allowed"),
        ("a = 2", 3, "two equals signs"),
        ("a // 2", 3, "'//'"),
        ("f(a)", 1, "f(...) is not allowed"),
        ("1 + open('x')", 5, "open(...) is not allowed"),
        ("a.b", 2, "'.'"),
        ("(lambda: a)", 8, "':'"),
        ("é + 1", 1, "'é'"),
        ("'é' == a + [1]", 12, "list"),
        ("1 +", 3, "cannot be read"),
        ("a if b else c", 1, "this is not allowed"),
        ("a in b", 1, "list"),
        ("a in []", 1, "members"),
        ("abs(a, b)", 1, "one number"),
        ("min()", 1, "min(...)"),
        ("f'{a}'", 1, "'f'"),
        ("1or a", 1, "'1'"),
        ("1e999 < a", 1, "beyond"),
        ("a == '\\n'", 6, "not allowed"),
        ("-" * (DEEPEST + 2) + "a", DEEPEST + 2, "within one another"),
    ],
)
def test_a_refusal_names_the_column_and_what_is_allowed(text, column, what):
    with pytest.raises(PolicyError) as error:
        parse(text, "lane.json: /constraints/0")
    assert f"column {column}: " in str(error.value) and what in str(error.value)
    assert str(error.value).startswith("lane.json: /constraints/0: ") and "allowed are names" in str(error.value)


@pytest.mark.parametrize(
    ("text", "values", "what"),
    [
        ("a + b", {"a": 1}, "column 5: 'b' has no value"),
        ("1 / (a - a)", {"a": 1}, "column 6: division by zero"),
        ("a + 1", {"a": math.nan}, "not a finite number"),
        ("a + 1", {"a": 10**400}, "not a finite number"),
        ("a + 1", {"a": [1]}, "not a finite number"),
        ("a + 1", {"a": "x"}, "'x' is not a number"),
        ("a and true", {"a": 1}, "neither true nor false"),
        ("a < 'x'", {"a": 1}, "'x' is not a number"),
        ("a * a", {"a": 1e200}, "not finite"),
    ],
)
def test_an_undefined_value_is_an_error(text, values, what):
    with pytest.raises(PolicyError) as error:
        parse(text, "f").value(values)
    assert what in str(error.value)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("law == 'smooth' or knee <= 0.5", {"law": "sharp", "knee": 0.5}, True),
        ("law in ['smooth', \"sharp\"]", {"law": "sharp"}, True),
        ("n not in [1, 2.5]", {"n": 2.5}, False),
        ("flag", {"flag": True}, True),
        ("flag == true", {"flag": True}, True),
        ("flag == 1", {"flag": True}, False),
        ("1 < n <= 3", {"n": 3}, True),
        ("n == '3'", {"n": 3}, False),
        ("n == 0 or 1 / n > 2", {"n": 0}, True),
        ("sum(n, 2, 3)", {"n": 1}, 6.0),
    ],
)
def test_texts_and_truth(text, values, expected):
    assert parse(text, "f").value(values) == expected


def test_exact_is_decimal():
    values = {"a": 0.1, "b": 0.2}
    assert not parse("a + b == 0.3", "f").value(values) and parse("a + b == 0.3", "f").exact(values)


def test_names_with_a_slash_are_names_where_they_are_known():
    known = {"s4/share", "s4/share/top", "n"}
    expression = parse("2 * s4/share/n - s4/share/top < 0.5", "f", known)
    assert expression.names == {"s4/share", "s4/share/top", "n"}
    assert expression.value({"s4/share": 3, "n": 2, "s4/share/top": 2.9}) is True
    with pytest.raises(PolicyError, match=r"column 5: 'other' is not a known name"):
        parse("n < other", "f", known)
    assert parse("s4/share", "f").names == {"s4", "share"}


def test_a_comparison_gives_its_sides():
    rows = parse("0.1 <= a + b < 2 * cap", "f").comparisons()
    assert [(str(left), sign, str(right)) for left, sign, right in rows] == [
        ("0.1", "<=", "a + b"),
        ("a + b", "<", "2 * cap"),
    ]
    assert parse("a or b", "f").comparisons() == ()
