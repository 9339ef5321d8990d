"""Elementary functions to 50 digits, from their series, in decimal numbers: what `engine.arithmetic` is held to."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

getcontext().prec = 60
PI = Decimal("3.1415926535897932384626433832795028841971693993751058209749445923078164")
TINY = Decimal("1e-58")


def exp(x):
    return Decimal(x).exp()


def log(x):
    return Decimal(x).ln()


def power(x, y):
    return (Decimal(y) * Decimal(x).ln()).exp()


def sin(x):
    x = Decimal(x)
    x -= 2 * PI * (x / (2 * PI)).to_integral_value()
    return _series(x, x, 2)


def cos(x):
    x = Decimal(x)
    x -= 2 * PI * (x / (2 * PI)).to_integral_value()
    return _series(Decimal(1), x, 1)


def _series(term, x, place):
    """The sum of term, -term x^2 / (place (place + 1)), and so on."""
    total = Decimal(0)
    while abs(term) > TINY * abs(x or 1):
        total += term
        term = -term * x * x / (place * (place + 1))
        place += 2
    return total


def arcsin(x):
    x = Decimal(x)
    if abs(x) > Decimal("0.7"):  # there the sine is too flat to be turned around
        rest = 2 * arcsin(((1 - abs(x)) / 2).sqrt())
        return (PI / 2 - rest).copy_sign(x)
    angle = Decimal(math.asin(x))
    for _ in range(2):  # Newton doubles the digits
        angle -= (sin(angle) - x) / cos(angle)
    return angle


def normal(u):
    """The standard normal quantile of u >= 1e-17, by Newton's method on the series of the distribution function."""
    u, z = Decimal(u), Decimal(0)
    if u > Decimal("0.5"):
        return -normal(1 - u)
    z = -(-2 * (2 * u).ln()).sqrt() / Decimal("1.1") if u < Decimal("0.5") else Decimal(0)
    for _ in range(60):
        density = (-z * z / 2).exp() / (2 * PI).sqrt()
        term, upto, k = z, Decimal(0), 1
        while abs(term) > TINY:
            upto += term
            k += 2
            term = term * z * z / k
        step = (Decimal("0.5") + density * upto - u) / density
        z -= max(min(step, Decimal("0.5")), Decimal("-0.5"))
        if abs(step) < Decimal("1e-25"):
            return z
    raise ArithmeticError(f"no quantile found of {u}")
