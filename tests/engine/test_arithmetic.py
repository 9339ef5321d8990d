"""Our elementary functions against their series in decimals, at their edges, and against their golden bits."""

import ast
import math
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pytest
from conftest import ROOT, child_environment
from hypothesis import given
from hypothesis import strategies as st
from oracle import reals

from lanelock.engine import arithmetic

GOLDEN = ROOT / "tests" / "golden" / "arithmetic.txt"
RANDOM = np.random.default_rng(2026)
NEAR_ONE = 1.0 + RANDOM.normal(size=300) * np.exp2(-RANDOM.integers(2, 40, 300))
TINY = np.exp2(-RANDOM.uniform(1022, 1073, 100))  # below the normal range
QUARTERS = np.rint(RANDOM.uniform(-6e5, 6e5, 300)) * np.pi / 2  # where a sine or a cosine nearly vanishes
ANGLES = [RANDOM.uniform(-13, 13, 1000), RANDOM.uniform(-(2**20), 2**20, 500), QUARTERS, RANDOM.normal(size=99) / 1e6]
SINES = [RANDOM.uniform(-1, 1, 1000), 1 - np.exp2(-RANDOM.uniform(1, 53, 300)), np.exp2(-RANDOM.uniform(1, 99, 200))]
CASES = {
    "exp": [RANDOM.uniform(-745, 709.7, 1500), RANDOM.uniform(-1, 1, 500), RANDOM.uniform(709, 709.78, 50)],
    "log": [np.exp2(RANDOM.uniform(-1022, 1024, 1500)), RANDOM.uniform(0.5, 2, 1000), NEAR_ONE, TINY],
    "sin": ANGLES,
    "cos": ANGLES,
    "arcsin": SINES,
}
BASES = np.concatenate([np.exp2(RANDOM.uniform(-30, 30, 1000)), RANDOM.uniform(0.5, 2, 1000), NEAR_ONE, TINY])
EXPONENTS = np.where(
    RANDOM.random(len(BASES)) < 0.5, RANDOM.uniform(-12, 12, len(BASES)), RANDOM.normal(size=len(BASES))
)
INF, NAN = math.inf, math.nan


def ulps(found, exact):
    """Returns the distance of a double from a decimal, in units of the last place of the double nearest to it."""
    if math.isinf(float(exact)) or math.isinf(found):
        return 0.0 if found == float(exact) else INF
    return abs(Decimal(found) - exact) / Decimal(math.ulp(float(exact)))


@pytest.mark.parametrize(("name", "bound"), [("exp", 0.56), ("log", 0.52), ("sin", 0.8), ("cos", 0.8), ("arcsin", 0.9)])
def test_results_are_within_an_ulp_of_the_true_value(name, bound):
    ours, exact = getattr(arithmetic, name), getattr(reals, name)
    for x in np.concatenate(CASES[name]).tolist():
        true = exact(x)
        limit = bound if abs(true) >= Decimal(2) ** -1022 else 1  # below the normal range results are rounded twice
        assert ulps(ours(x), true) < limit, f"{name}({x!r})"


def test_powers_are_within_little_more_than_half_an_ulp():
    for x, y in zip(BASES.tolist(), EXPONENTS.tolist(), strict=True):
        exact = reals.power(x, y)
        assert ulps(arithmetic.power(x, y), exact) < (0.52 if exact >= Decimal(2) ** -1022 else 1), (x, y)


def test_normal_quantiles_are_within_four_ulps():
    """The published approximation states 1e-16 of the value, before rounding."""
    for u in np.concatenate([RANDOM.random(120), 1 - np.exp2(-RANDOM.uniform(2, 50, 60)), [0.5, 0.075, 0.925, 1e-13]]):
        exact = reals.normal(float(u))
        assert ulps(arithmetic.normal(float(u)), exact) < 4 or abs(exact) < 1e-30, u


@given(st.integers(0, 40), st.integers(0, 12))
def test_powers_that_are_doubles_are_exact(exponent, base):
    if base**exponent < 2**53:
        assert arithmetic.power(float(base), float(exponent)) == base**exponent
    assert arithmetic.power(2.0, -float(exponent)) == math.ldexp(1.0, -exponent)


@pytest.mark.parametrize(
    ("name", "arguments", "value"),
    [
        ("exp", (0.0,), 1.0), ("exp", (-0.0,), 1.0), ("exp", (INF,), INF), ("exp", (-INF,), 0.0), ("exp", (NAN,), NAN),
        ("exp", (709.782712893384,), 1.7976931348622732e308), ("exp", (709.7827128933841,), INF),
        ("exp", (1e300,), INF), ("exp", (-745.1332191019411,), 5e-324), ("exp", (-745.2,), 0.0),
        ("log", (1.0,), 0.0), ("log", (0.0,), -INF), ("log", (-0.0,), -INF), ("log", (-1.0,), NAN),
        ("log", (INF,), INF), ("log", (NAN,), NAN), ("log", (5e-324,), -744.4400719213812),
        ("power", (0.0, 2.5), 0.0), ("power", (0.0, -2.5), INF), ("power", (0.0, 0.0), 1.0), ("power", (INF, 2.0), INF),
        ("power", (INF, -2.0), 0.0), ("power", (1.0, NAN), 1.0), ("power", (NAN, 0.0), 1.0), ("power", (2.0, NAN), NAN),
        ("power", (NAN, 1.0), NAN), ("power", (-8.0, 3.0), NAN), ("power", (2.0, INF), INF),
        ("power", (2.0, -INF), 0.0), ("power", (0.5, INF), 0.0),
        ("power", (1.0000000000000002, 1e300), INF), ("power", (10.0, 308.3), INF),
        ("power", (5e-324, 1.0), 5e-324), ("power", (5e-324, -1.0), INF), ("power", (2.0, -1074.0), 5e-324),
        ("sin", (0.0,), 0.0), ("sin", (INF,), NAN), ("sin", (NAN,), NAN), ("sin", (2.0**20 + 1,), NAN),
        ("cos", (0.0,), 1.0), ("cos", (-INF,), NAN), ("cos", (NAN,), NAN), ("sin", (5e-324,), 5e-324),
        ("arcsin", (1.0,), math.pi / 2), ("arcsin", (-1.0,), -math.pi / 2), ("arcsin", (0.0,), 0.0),
        ("arcsin", (1.0000000000000002,), NAN), ("arcsin", (NAN,), NAN), ("normal", (0.5,), 0.0),
    ],
)  # fmt: skip
def test_edges(name, arguments, value):
    found = getattr(arithmetic, name)(*arguments)
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_a_negative_zero_stays_one():
    for name in ("sin", "arcsin"):
        assert math.copysign(1.0, getattr(arithmetic, name)(-0.0)) == -1.0


def test_arrays_are_their_elements():
    values = np.abs(RANDOM.normal(size=(7, 11)))
    for view in (values, values.T, values[::-2, 1:]):
        assert np.array_equal(arithmetic.exps(view), np.vectorize(arithmetic.exp)(view))
        assert np.array_equal(arithmetic.logs(view), np.vectorize(arithmetic.log)(view))
        assert np.array_equal(arithmetic.powers(view, 1.7), np.vectorize(arithmetic.power)(view, 1.7))


def test_interpolation_meets_its_knots_and_is_numpys():
    knots, values = np.array([0.0, 0.3, 0.4, 1.0]), np.array([1.0, -2.0, 5.0, 5.5])
    x = np.concatenate([RANDOM.uniform(-0.2, 1.2, 500), knots])
    assert np.abs(arithmetic.interpolated(x, knots, values) - np.interp(x, knots, values)).max() < 1e-14
    assert np.array_equal(arithmetic.interpolated(knots, knots, values), values)


def test_results_are_the_golden_bits(request):
    """Written by `pytest --golden`; the same on every machine, so a difference is a new law or a machine to name."""
    lines = [f"fingerprint {arithmetic.VERSION} {arithmetic.fingerprint()}"]
    lines += [f"{name} {x!r} {getattr(arithmetic, name)(x).hex()}" for name in CASES for x in (1e-9, 0.1, 0.7, 0.99)]
    lines += [
        f"{name} {x!r} {getattr(arithmetic, name)(x).hex()}" for name in ("exp", "log", "sin") for x in (2.5, 500.1)
    ]
    lines += [f"power {x!r} {y!r} {arithmetic.power(x, y).hex()}" for x in (0.1, 3.0, 1e9) for y in (-2.5, 0.3, 1.0)]
    lines += [f"normal {u!r} {arithmetic.normal(u).hex()}" for u in (1e-12, 0.01, 0.3, 0.999)]
    found = "\n".join(lines) + "\n"
    if request.config.getoption("--golden"):
        GOLDEN.write_text(found)
    assert found == GOLDEN.read_text()


def test_code_for_the_plainest_processor_computes_the_same(tmp_path):
    """Compiled without any instruction beyond the baseline: no vectors wider than the least, nothing fused."""
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    call = "from lanelock.engine import arithmetic; print(arithmetic.fingerprint())"
    child = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, env=child_environment(**plain))
    assert child.stdout.strip() == arithmetic.fingerprint(), child.stderr


# --- laws use nothing else --------------------------------------------------------------------------------

OURS = {
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "pow", "power", "float_power", "sin", "cos", "tan", "sinh",
    "cosh", "tanh", "arcsin", "arccos", "arctan", "arctan2", "asin", "acos", "atan", "atan2", "cbrt", "hypot", "interp",
    "logaddexp", "erf", "erfc", "gamma", "lgamma", "dot", "matmul", "einsum", "inner", "vdot", "tensordot",
}  # fmt: skip
DRAWN = {"gumbel", "normal", "standard_normal", "exponential", "lognormal", "poisson", "binomial"}


def borrowed(source):
    """Yields what a module takes from NumPy, the C library, BLAS or SciPy that may depend on the processor."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id in ("np", "math", "numpy") and node.attr in OURS:
                yield f"{node.value.id}.{node.attr}"
            if node.attr in DRAWN and node.value.id not in ("np", "math", "arithmetic"):
                yield f"{node.value.id}.{node.attr}"
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from (name for name in names if name.partition(".")[0] == "scipy")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            yield "@"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow) and not _exact(node):
            yield ast.unparse(node)


def _exact(node):
    """Returns whether a power is a square or a power of two, which are exact everywhere."""
    squared = isinstance(node.right, ast.Constant) and node.right.value == 2
    return squared or (isinstance(node.left, ast.Constant) and node.left.value == 2)


@pytest.mark.parametrize("room", ["engine/segment_2b", "scoring/segment_2b"])
def test_laws_and_metrics_take_elementary_functions_from_arithmetic_alone(room):
    for path in (ROOT / room).rglob("*.py"):
        assert [*borrowed(path.read_text())] == [], path


@pytest.mark.parametrize(
    "line", ["np.exp(x)", "math.log(x)", "x ** y", "x ** 0.5", "a @ b", "np.interp(x, a, b)", "draw.gumbel(size=3)",
             "from scipy.special import ndtri"]
)  # fmt: skip
def test_a_borrowed_function_is_seen(line):
    assert len([*borrowed(line)]) == 1
    assert [*borrowed("x ** 2 + 2.0 ** -bits; np.sqrt(x); draw.random(3)")] == []
