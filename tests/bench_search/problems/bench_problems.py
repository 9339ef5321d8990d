"""Six standard constrained problems as one engine: a policy per problem, and one surface with every answer.

A metric `PROBLEM/cost` is to be small; the other metrics are constraints, each met where it is at most 1. A seed
tightens every constraint by up to one per cent, each by its own draw, so that seeds rank candidates alike and differ.
`hartmann6_noisy` also moves its level and its place with the seed. `tests/bench_search/optima.py` has the known optima.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa

from lanelock.engine.resolved import run_of
from lanelock.engine.surface import Surface

TIGHTENED = 0.01  # the largest part of a limit that a seed takes away
PUBLISHED = np.r_[0.0, [0.5] * 15]  # the draw that moves nothing
Answers = dict[str, float]


@cache
def draws(problem: str, seed: int) -> np.ndarray:
    """Returns sixteen numbers in [0, 1) that belong to a problem and a seed."""
    return np.random.Generator(np.random.Philox(key=(seed << 32) + tuple(LAWS).index(problem))).random(16)


def welded_beam(h: float, l: float, t: float, b: float, draw: np.ndarray) -> Answers:  # noqa: E741
    """Coello 2000: the cheapest weld that carries 6,000 lb. Inches, psi."""
    load, reach = 6000.0, 14.0
    radius = math.sqrt(l * l / 4 + ((h + t) / 2) ** 2)
    polar = 2 * math.sqrt(2) * h * l * (l * l / 12 + ((h + t) / 2) ** 2)
    direct, bending = load / (math.sqrt(2) * h * l), load * (reach + l / 2) * radius / polar
    shear = math.sqrt(direct**2 + direct * bending * l / radius + bending**2)
    buckling = 4.013 * 30e6 * t * b**3 / 6 / reach**2 * (1 - t / (2 * reach) * math.sqrt(30e6 / (4 * 12e6)))
    return {
        "cost": 1.10471 * h * h * l + 0.04811 * t * b * (14 + l),
        "shear": shear / 13600,
        "stress": 6 * load * reach / (b * t * t) / 30000,
        "weld": h / b,
        "bar": (0.10471 * h * h + 0.04811 * t * b * (14 + l)) / 5,
        "deflection": 4 * load * reach**3 / (30e6 * t**3 * b) / 0.25,
        "buckling": 2 - buckling / load,
    }


def pressure_vessel(shell: float, head: float, radius: float, length: float, draw: np.ndarray) -> Answers:
    """Sandgren 1990: the cheapest vessel of 750 cubic feet; plates come in sixteenths of an inch."""
    volume = math.pi * radius**2 * length + 4 / 3 * math.pi * radius**3
    return {
        "cost": 0.6224 * shell * radius * length + 1.7781 * head * radius**2
        + 3.1661 * shell**2 * length + 19.84 * shell**2 * radius,
        "shell": 0.0193 * radius / shell,
        "head": 0.00954 * radius / head,
        "volume": 2 - volume / 1_296_000,
    }  # fmt: skip


def speed_reducer(
    face: float, module: float, teeth: int, first: float, second: float, thin: float, thick: float, draw: np.ndarray
) -> Answers:
    """Golinski 1973: the lightest gear box; seven knobs, one of them a number of teeth."""
    return {
        "cost": 0.7854 * face * module**2 * (3.3333 * teeth**2 + 14.9334 * teeth - 43.0934)
        - 1.508 * face * (thin**2 + thick**2) + 7.4777 * (thin**3 + thick**3)
        + 0.7854 * (first * thin**2 + second * thick**2),
        "bending": 27 / (face * module**2 * teeth),
        "surface": 397.5 / (face * module**2 * teeth**2),
        "first_bends": 1.93 * first**3 / (module * teeth * thin**4),
        "second_bends": 1.93 * second**3 / (module * teeth * thick**4),
        "first_stress": math.sqrt((745 * first / (module * teeth)) ** 2 + 16.9e6) / (110 * thin**3),
        "second_stress": math.sqrt((745 * second / (module * teeth)) ** 2 + 157.5e6) / (85 * thick**3),
        "space": module * teeth / 40,
        "narrow": 5 * module / face,
        "wide": face / (12 * module),
        "first_fits": (1.5 * thin + 1.9) / first,
        "second_fits": (1.1 * thick + 1.9) / second,
    }  # fmt: skip


def tension_spring(wire: float, coil: float, turns: float, draw: np.ndarray) -> Answers:
    """Arora 1989: the lightest spring; the feasible region is narrow and curved."""
    gap = coil * wire**3 - wire**4
    return {
        "cost": (turns + 2) * coil * wire**2,
        "deflection": 2 - coil**3 * turns / (71785 * wire**4),
        "shear": (4 * coil**2 - wire * coil) / (12566 * gap) + 1 / (5108 * wire**2) if gap else math.nan,
        "surge": 2 - 140.45 * wire / (coil**2 * turns),
        "diameter": (wire + coil) / 1.5,
    }


def c2dtlz2(*numbers: float, draw: np.ndarray) -> Answers:
    """Jain and Deb 2014: two costs, six knobs; the feasible front is three arcs of a circle."""
    x = np.array(numbers)
    distance = 1 + float(np.sum((x[1:] - 0.5) ** 2))
    costs = distance * np.cos(x[0] * math.pi / 2), distance * np.sin(x[0] * math.pi / 2)
    radius = 0.2 * (1 - TIGHTENED * draw[0])
    corners = min((costs[0] - 1) ** 2 + costs[1] ** 2, (costs[1] - 1) ** 2 + costs[0] ** 2) - radius**2
    middle = sum((cost - math.sqrt(0.5)) ** 2 - radius**2 for cost in costs)
    return {"cost": costs[0], "other_cost": costs[1], "arcs": 1 + min(corners, middle)}


_HEIGHTS = np.array([1.0, 1.2, 3.0, 3.2])
_WIDTHS = np.array([
    [10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14],
])  # fmt: skip
_PLACES = 1e-4 * np.array([
    [1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991],
    [2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381],
])  # fmt: skip


def hartmann6_noisy(*numbers: float, draw: np.ndarray) -> Answers:
    """Letham and others 2019: Hartmann's function, the knobs' sum at most 3; level and place follow the seed."""
    x = np.array(numbers)
    moved = x + 0.02 * (draw[1:7] - 0.5)
    value = -float(_HEIGHTS @ np.exp(-np.sum(_WIDTHS * (moved - _PLACES) ** 2, axis=1)))
    return {"cost": value + 0.2 * (draw[7] - 0.5), "sum": float(np.sum(x)) / 3}


LAWS: Mapping[str, Callable[..., Answers]] = {
    law.__name__: law for law in (welded_beam, pressure_vessel, speed_reducer, tension_spring, c2dtlz2, hartmann6_noisy)
}
FIELDS: Mapping[str, Mapping[str, tuple[str, float, float, str]]] = {  # problem -> field: type, least, greatest, unit
    "welded_beam": {
        "h": ("number", 0.125, 2, "inches of weld"), "l": ("number", 0.1, 10, "inches of length"),
        "t": ("number", 0.1, 10, "inches of height"), "b": ("number", 0.1, 2, "inches of thickness"),
    },
    "pressure_vessel": {
        "shell": ("number", 0.0625, 6.1875, "inches of plate"), "head": ("number", 0.0625, 6.1875, "inches of plate"),
        "radius": ("number", 10, 200, "inches"), "length": ("number", 10, 200, "inches"),
    },
    "speed_reducer": {
        "face": ("number", 2.6, 3.6, "cm"), "module": ("number", 0.7, 0.8, "cm"),
        "teeth": ("integer", 17, 28, "teeth of the pinion"),
        "first": ("number", 7.3, 8.3, "cm between bearings"), "second": ("number", 7.3, 8.3, "cm between bearings"),
        "thin": ("number", 2.9, 3.9, "cm of shaft"), "thick": ("number", 5.0, 5.5, "cm of shaft"),
    },
    "tension_spring": {
        "wire": ("number", 0.05, 2, "inches"), "coil": ("number", 0.25, 1.3, "inches"),
        "turns": ("number", 2, 15, "turns"),
    },
    "c2dtlz2": {f"x{i}": ("number", 0, 1, "no unit") for i in range(1, 7)},
    "hartmann6_noisy": {f"x{i}": ("number", 0, 1, "no unit") for i in range(1, 7)},
}  # fmt: skip


def answers(problem: str, values: Mapping[str, float], seed: int, *, tightened: bool = True) -> Answers:
    """Returns costs and constraints of one problem for a seed; not `tightened`: of the problem as published."""
    draw = draws(problem, seed) if tightened else PUBLISHED
    numbers = LAWS[problem](*(values[field] for field in FIELDS[problem]), draw=draw)
    tight = iter(TIGHTENED * draw[::-1] if tightened else np.zeros(16))
    return {name: value if "cost" in name or name == "arcs" else value + next(tight) for name, value in numbers.items()}


def schema(problem: str) -> dict[str, object]:
    """Returns the JSON Schema of a problem's policy."""
    rows = {
        field: {"type": kind, "minimum": low, "maximum": high, "description": unit}
        for field, (kind, low, high, unit) in FIELDS[problem].items()
    }
    return {
        "type": "object", "additionalProperties": False, "required": [*rows], "properties": rows,
        "x-first-state": "bench_problems",
    }  # fmt: skip


class Problems:
    name = "bench_problems"
    policy_schemas: ClassVar = {problem: schema(problem) for problem in LAWS}

    def evaluate(self, pack, seed):
        numbers = {
            f"{problem}/{name}": np.array([value])
            for problem in LAWS
            for name, value in answers(problem, pack[problem], seed).items()
        }
        columns = pa.schema([(name, pa.float64()) for name in numbers])
        return run_of(self, pack, seed, {"answers": Surface("answers", columns, numbers)})


class Metrics:
    name = "bench_problems"
    gates_file = Path(__file__).parent / "gates.json"

    def measure(self, run):
        table = run.surfaces["answers"]
        return {field.name: float(table[field.name][0]) for field in table.schema}


ENGINE, METRICS = Problems(), Metrics()
