"""Elementary functions with the same bits on every processor and under every C library, and their fingerprint.

A C library, and NumPy, choose how they compute exp, log, sin or pow by the processor, and differ in the last bit. Here
a value is made of IEEE additions, multiplications, divisions and square roots alone, in a fixed order: the compiler may
neither reorder them nor fuse a product with a sum (no fast-math), so nothing is left to choose. Results are within 1
ulp of the true value (the normal quantile within 4), as `tests/engine/test_arithmetic.py` measures. Scalars are for
compiled loops, plurals take arrays.

Sources: exp and log by table and short series, after Tang, ACM TOMS 15 (1989) 144 and 16 (1990) 378; power by the same
logarithm with its low parts kept; sin, cos and arcsin by the approximations of fdlibm (Sun Microsystems, see NOTICE);
the normal quantile is AS 241 (Wichura, Applied Statistics 37 (1988) 477).
"""

from __future__ import annotations

import hashlib
import math
from decimal import Context, Decimal
from functools import cache
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from lanelock.engine.compiled import compiled

VERSION = "arithmetic_v1"  # changes with any bit of any result
TURNS_LIMIT = 2.0**20  # sin and cos are defined up to this many radians; every angle of a law is below 13

_STEPS = 128  # entries of each table
_EXACT = Context(prec=45)
_LN2 = _EXACT.ln(Decimal(2))
_MANTISSA = (1 << 52) - 1
_ONE_BITS = 1023 << 52
_UPPER_HALF = -1 << 27  # keeps 26 bits of a mantissa: products of two such values are exact
_ROUNDER = 1.5 * 2.0**52  # adding it rounds to an integer, which stands in the low bits of the sum
_LEAST_NORMAL, _GREATEST = 2.0**-1022, float(np.finfo(np.float64).max)


def _bitcast(source: Any, target: Any) -> Any:
    """Returns an intrinsic that reads the bits of a number as another type, independent of byte order."""

    def typed(_context: Any, _value: Any) -> Any:
        def build(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            return builder.bitcast(values[0], context.get_value_type(target))

        return target(source), build

    return intrinsic(typed)


_bits: Any = _bitcast(types.float64, types.int64)
_double: Any = _bitcast(types.int64, types.float64)


def _split(value: Decimal, places: int) -> tuple[float, float]:
    """Returns a number as a multiple of 2^-places and the rest, each as a double."""
    high = float(_EXACT.multiply(value, Decimal(1 << places)).to_integral_value()) / (1 << places)
    return high, float(_EXACT.subtract(value, Decimal(high)))


@compiled
def _polynomial(coefficients: Any, x: float) -> float:
    """Returns a polynomial, its highest power first."""
    total = coefficients[0]
    for i in range(1, len(coefficients)):
        total = total * x + coefficients[i]
    return float(total)


# --- exp ----------------------------------------------------------------------------------------------

_PER_LN2 = float(_EXACT.divide(Decimal(_STEPS), _LN2))
_STEP_HIGH, _STEP_LOW = _split(_EXACT.divide(_LN2, Decimal(_STEPS)), 40)  # a multiple below 2^18 of the first is exact


def _powers_of_two() -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns [128] 2^(i/128) as the bits of a double, and what that double leaves out, relative to it."""
    exact = [_EXACT.exp(_EXACT.divide(_EXACT.multiply(_LN2, Decimal(i)), Decimal(_STEPS))) for i in range(_STEPS)]
    high = [float(value) for value in exact]
    low = [_EXACT.divide(_EXACT.subtract(value, Decimal(near)), value) for value, near in zip(exact, high, strict=True)]
    return np.array(high).view(np.int64), np.array([float(value) for value in low])


_POWER_BITS, _POWER_REST = _powers_of_two()


@compiled
def _exp_sum(x: float, more: float) -> float:
    """Returns exp(x + more) for a small `more`: 2^(n/128) from the table, times the series of the rest."""
    shift, back = 0, 1.0
    if not abs(x) < 640.0:  # beyond, the result or what is added to it may leave the normal range
        if not -746.0 < x < 710.0:
            return math.inf if x > 0.0 else 0.0 if x < 0.0 else x
        shift, back = (-64, 2.0**64) if x > 0.0 else (64, 2.0**-64)
    rounded = x * _PER_LN2 + _ROUNDER
    n, near = _bits(rounded) - _bits(_ROUNDER), rounded - _ROUNDER
    r = (x - near * _STEP_HIGH) - near * _STEP_LOW + more
    scale = _double(_POWER_BITS[n & 127] + (((n >> 7) + shift) << 52))
    square = r * r
    series = square * (0.5 + r * (1.0 / 6.0)) + square * square * (1.0 / 24.0 + r * (1.0 / 120.0))
    return float((scale + scale * (_POWER_REST[n & 127] + r + series)) * back)


@compiled
def exp(x: float) -> float:
    """Returns e^x; infinity from 709.79, 0 below -745.14."""
    return _exp_sum(x, 0.0)


# --- log and power --------------------------------------------------------------------------------------

_LN2_HIGH, _LN2_LOW = _split(_LN2, 42)  # a multiple below 2^11 of the first is exact
_FIRST_BITS = _ONE_BITS - (151 << 44)  # intervals of 2^45 from here; the one around 1 reaches half a step to each side


def _near_inverses() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns [128] short inverses of the intervals' centres, and -log of those in two parts."""
    centre = (_FIRST_BITS + (np.arange(_STEPS) << 45) + (1 << 44)).view(np.float64)
    inverse = np.where(np.abs(centre - 1.0) < 2.0**-8, 1.0, np.round(512.0 / centre) / 512.0)
    parts = [_split(-_EXACT.ln(Decimal(value)), 42) for value in inverse.tolist()]
    return inverse, np.array([high for high, _ in parts]), np.array([low for _, low in parts])


_INVERSE, _LOG_HIGH, _LOG_LOW = _near_inverses()


@compiled
def _nearest(x: float, lift: float) -> tuple[float, float, float, float]:
    """Returns log of 2^-lift times the table's point nearest to x, and x over that point, less 1, in two parts each."""
    from_first = _bits(x) - _FIRST_BITS
    k, i = float(from_first >> 52) - lift, (from_first >> 45) & 127
    bits = (from_first & _MANTISSA) + _FIRST_BITS
    z, upper = _double(bits), _double((bits + (1 << 31)) & (-1 << 32))  # x = 2^k z; the upper half of its bits
    inverse = _INVERSE[i]  # short, so that the products are exact
    return k * _LN2_HIGH + _LOG_HIGH[i], k * _LN2_LOW + _LOG_LOW[i], upper * inverse - 1.0, (z - upper) * inverse


@compiled
def log(x: float) -> float:
    """Returns the natural logarithm; -infinity at 0, NaN below."""
    lift = 0.0
    if not _LEAST_NORMAL <= x <= _GREATEST:
        if not 0.0 < x < 1.0:
            return -math.inf if x == 0.0 else x if x > 0.0 else math.nan
        x, lift = x * 2.0**54, 54.0
    whole, low, r_high, r_low = _nearest(x, lift)
    r = r_high + r_low
    first = whole + r
    low += whole - first + r
    square = r * r
    series = (r * (1.0 / 5.0) - 1.0 / 4.0) + square * (r * (1.0 / 7.0) - 1.0 / 6.0)
    return float(first + (low + square * ((r * (1.0 / 3.0) - 0.5) + square * series)))


@compiled
def power(x: float, y: float) -> float:
    """Returns x^y for x >= 0, as IEEE 754 defines pow there; NaN for any negative x."""
    lift = 0.0
    if not (_LEAST_NORMAL <= x <= _GREATEST and abs(y) <= 2.0**64):
        if y == 0.0 or x == 1.0:
            return 1.0
        if not x >= 0.0 or y != y:
            return math.nan
        if x == 0.0 or x > _GREATEST:
            return 0.0 if (x == 0.0) == (y > 0.0) else math.inf
        y = min(max(y, -(2.0**64)), 2.0**64)  # beyond, every power but that of 1 is 0 or infinite
        x, lift = (x * 2.0**54, 54.0) if x < _LEAST_NORMAL else (x, 0.0)
    whole, low, r_high, r_low = _nearest(x, lift)  # the logarithm to about 68 bits
    r = r_high + r_low
    first = whole + r
    low += (whole - first + r) + ((r_high - r) + r_low)
    square = -0.5 * r_high * r_high  # exact
    second = first + square
    low += r_low * (-0.5 * (r + r_high)) + (first - second + square)
    r2 = r * r
    series = (1.0 / 7.0 - r * (1.0 / 8.0)) + r2 * (1.0 / 9.0)
    low += r * r2 * ((1.0 / 3.0 - r * (1.0 / 4.0)) + r2 * ((1.0 / 5.0 - r * (1.0 / 6.0)) + r2 * series))
    y_upper, upper = _double(_bits(y) & _UPPER_HALF), _double(_bits(second) & _UPPER_HALF)
    return _exp_sum(y_upper * upper, (y - y_upper) * upper + y * (second - upper + low))


# --- sin, cos, arcsin -----------------------------------------------------------------------------------

_QUARTER = Decimal("1.57079632679489661923132169163975144209858469968755291")  # half of pi
_QUARTER_1 = _split(_QUARTER, 32)[0]  # a multiple below 2^20 of this and of the next is exact
_QUARTER_2, _QUARTER_3 = _split(_EXACT.subtract(_QUARTER, Decimal(_QUARTER_1)), 65)
_PER_QUARTER = 2.0 / math.pi
_HALF_PI = math.pi / 2.0
_HALF_PI_LOW = float(_EXACT.subtract(_QUARTER, Decimal(_HALF_PI)))


@compiled
def _quarters(x: float) -> tuple[int, float, float]:
    """Returns (n, r, rest): x is n quarter turns and r + rest radians, where |r| <= pi/4."""
    rounded = x * _PER_QUARTER + _ROUNDER
    n = rounded - _ROUNDER
    a, b = x - n * _QUARTER_1, n * _QUARTER_2
    r = a - b
    taken = a - r
    rest = (a - (r + taken)) - (b - taken) - n * _QUARTER_3  # what the subtraction rounded off, and the last part
    high = r + rest
    return _bits(rounded) & 3, high, (r - high) + rest


_SIN = (
    1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
    -1.98412698298579493134e-04, 8.33333333332248946124e-03,
)  # fmt: skip
_SIN_FIRST = -1.66666666666666324348e-01
_COS = (
    -1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07, 2.48015872894767294178e-05,
    -1.38888888888741095749e-03, 4.16666666666666019037e-02,
)  # fmt: skip


@compiled
def _sin_near(x: float, rest: float) -> float:
    """Returns sin(x + rest) for |x| <= pi/4 and a tiny rest."""
    z = x * x
    v = z * x
    return float(x - ((z * (0.5 * rest - v * _polynomial(_SIN, z)) - rest) - v * _SIN_FIRST))


@compiled
def _cos_near(x: float, rest: float) -> float:
    """Returns cos(x + rest) for |x| <= pi/4 and a tiny rest."""
    z = x * x
    half = 0.5 * z
    w = 1.0 - half
    return float(w + (((1.0 - w) - half) + (z * (z * _polynomial(_COS, z)) - x * rest)))


@compiled
def _turned(x: float, turn: int) -> float:
    """Returns sin(x + turn quarter turns); NaN beyond TURNS_LIMIT radians."""
    if not (abs(x) <= TURNS_LIMIT):
        return math.nan
    n, r, rest = _quarters(x)
    n = (n + turn) & 3
    value = _cos_near(r, rest) if n & 1 else _sin_near(r, rest)
    return -value if n & 2 else value


@compiled
def sin(x: float) -> float:
    """Returns the sine of an angle in radians, at most TURNS_LIMIT."""
    return _turned(x, 0) if x != 0.0 else x


@compiled
def cos(x: float) -> float:
    """Returns the cosine of an angle in radians, at most TURNS_LIMIT."""
    return _turned(x, 1)


_ARCSIN = (
    (3.47933107596021167570e-05, 7.91534994289814532176e-04, -4.00555345006794114027e-02, 2.01212532134862925881e-01,
     -3.25565818622400915405e-01, 1.66666666666666657415e-01),
    (7.70381505559019352791e-02, -6.88283971605453293030e-01, 2.02094576023350569471e00, -2.40339491173441421878e00,
     1.0),
)  # fmt: skip


@compiled
def _arcsin_ratio(z: float) -> float:
    """Returns (arcsin x - x) / x for z = x^2 up to 1/4."""
    return float(z * _polynomial(_ARCSIN[0], z) / _polynomial(_ARCSIN[1], z))


@compiled
def arcsin(x: float) -> float:
    """Returns the angle in [-pi/2, pi/2] whose sine is x; NaN outside [-1, 1]."""
    a = abs(x)
    if not a <= 1.0:
        return math.nan
    if a < 0.5:
        return x + x * _arcsin_ratio(x * x)
    z = 0.5 * (1.0 - a)
    s = math.sqrt(z)
    upper = _double(_bits(s) & (-1 << 32))
    lower = (z - upper * upper) / (s + upper) if z > 0.0 else 0.0
    half = (2.0 * s * _arcsin_ratio(z) - (_HALF_PI_LOW - 2.0 * lower)) - (0.5 * _HALF_PI - 2.0 * upper)
    return math.copysign(0.5 * _HALF_PI - half, x)


# --- the normal distribution ------------------------------------------------------------------------------

_CENTRE = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_TAIL = (
    (7.7454501427834140764e-4, 2.27238449892691845833e-2, 2.4178072517745061177e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.7694972214606914055e0, 4.6303378461565452959e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 1.51986665636164571966e-2, 1.4810397642748007459e-1,
     6.8976733498510000455e-1, 1.6763848301838038494e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.2426609473880784386e-3, 2.6532189526576123093e-2,
     2.9656057182850489123e-1, 1.7848265399172913358e0, 5.4637849111641143699e0, 6.6579046435011037772e0),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     1.48753612908506148525e-2, 1.3692988092273580531e-1, 5.9983220655588793769e-1, 1.0),
)  # fmt: skip


@compiled
def _ratio(polynomials: Any, r: float) -> float:
    """Returns the first polynomial over the second."""
    return float(_polynomial(polynomials[0], r) / _polynomial(polynomials[1], r))


@compiled
def normal(u: float) -> float:
    """Returns the standard normal z with P(Z < z) = u, for u in (0, 1)."""
    q = u - 0.5
    if abs(q) <= 0.425:
        return float(_ratio(_CENTRE, 0.180625 - q * q) * q)
    r = math.sqrt(-log(min(u, 1.0 - u)))
    far = _ratio(_TAIL, r - 1.6) if r <= 5.0 else _ratio(_FAR_TAIL, r - 5.0)
    return -far if q < 0.0 else far


# --- arrays -----------------------------------------------------------------------------------------------


@compiled
def exps(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns e^x of each value."""
    flat = values.ravel()
    out = np.empty(flat.size, np.float64)
    for i in range(flat.size):
        out[i] = exp(flat[i])
    return out.reshape(values.shape)


@compiled
def logs(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the natural logarithm of each value."""
    flat = values.ravel()
    out = np.empty(flat.size, np.float64)
    for i in range(flat.size):
        out[i] = log(flat[i])
    return out.reshape(values.shape)


@compiled
def powers(values: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    """Returns x^exponent of each value, none of which may be negative."""
    flat = values.ravel()
    out = np.empty(flat.size, np.float64)
    for i in range(flat.size):
        out[i] = power(flat[i], exponent)
    return out.reshape(values.shape)


@compiled
def interpolated(x: NDArray[np.float64], knots: NDArray[np.float64], values: NDArray[np.float64]) -> Any:
    """Returns the piecewise linear curve through (knots, values) at each x; knots ascend, the ends continue flat.

    NumPy's own is one C expression, which compilers fuse on some processors.
    """
    out = np.empty(len(x), np.float64)
    for i in range(len(x)):
        k = min(max(np.searchsorted(knots, x[i], side="right") - 1, 0), len(knots) - 2)
        slope = (values[k + 1] - values[k]) / (knots[k + 1] - knots[k])
        at = min(max(x[i], knots[0]), knots[-1])
        out[i] = values[k + 1] if at == knots[k + 1] else slope * (at - knots[k]) + values[k]
    return out


# --- the fingerprint --------------------------------------------------------------------------------------

_ARGUMENTS = 1024


@cache
def fingerprint() -> str:
    """Returns hex64 over what this machine makes of fixed arguments; computed once per process, in milliseconds.

    It covers every function here and what laws take from NumPy, so that machines with one fingerprint compute alike.
    """
    u = (np.arange(1, _ARGUMENTS + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(11)) * 2.0**-53
    sink = hashlib.sha256(VERSION.encode())
    for part in (_ours(u, u[::-1].copy()), *_numpys(u)):
        sink.update(np.asarray(part, "<f8").tobytes())
    return sink.hexdigest()


@compiled
def _ours(u: Any, v: Any) -> Any:
    """Returns [9, n] every function over its domain, for uniforms u and v."""
    out = np.empty((9, len(u)), np.float64)
    for i in range(len(u)):
        out[0, i] = exp(1420.0 * u[i] - 710.0)
        out[1, i] = log(u[i])
        out[2, i] = log(1.0 + (u[i] - 0.5) * v[i] * v[i])
        out[3, i] = power(4.0 * u[i], 40.0 * v[i] - 20.0)
        out[4, i] = sin(100.0 * u[i])
        out[5, i] = cos(100.0 * v[i])
        out[6, i] = arcsin(2.0 * u[i] - 1.0)
        out[7, i] = normal(u[i])
        out[8, i] = math.sqrt(u[i]) / (u[i] * v[i] + 1.0)
    return out


def _numpys(u: Any) -> tuple[Any, ...]:
    """Returns the results of NumPy's sums, ranks and roundings, whose order or code might depend on the machine."""
    starts = np.arange(0, len(u), 37)
    sums = [np.sum(u), np.mean(u[:777]), *np.add.reduceat(u, starts), *np.bincount(np.arange(len(u)) % 7, u)]
    ranks = [np.median(u), np.std(u), *np.quantile(u, [0.1, 0.25, 0.9]), *np.argsort(np.round(u, 1), kind="stable")]
    knots = np.linspace(0.0, 1.0, 12)
    return np.cumsum(u), sums, ranks, np.sqrt(u), np.rint(u * 1e6), u % 0.1, interpolated(u, knots, np.sqrt(knots))
