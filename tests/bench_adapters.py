"""What an adapter costs a run beside a bare call, in milliseconds of processor time: `make bench-adapters`.

Both are measured in one process, in turns, and the least of several rounds counts. A run ends as a trial ends it: its
surfaces are made and digests are not, since a trial asks for none. `CASES` maps a name to (its limit in ms, what gives
the bare call and the run of a seed).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from lanelock.engine.function import FunctionEngine
from lanelock.engine.resolved import Resolved
from lanelock.policies import pack_of

PARAMS = {"demand": 10, "reorder_point": 40, "order_up_to": 80, "law": "smooth", "shares": [0.5, 0.25, 0.25]}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": [*PARAMS],
    "properties": {name: {"default": value} for name, value in PARAMS.items()},
}
RUNS, ROUNDS = 100, 7
Case = tuple[float, Callable[[], tuple[Callable[[int], object], Callable[[int], object]]]]


def numbers(params, seed):
    return {"fill_rate": 0.97, "mean_stock": params["demand"] + seed, "max_stock": 120}


def frame(params, seed):
    draw = np.random.default_rng(seed)
    return pd.DataFrame({name: draw.random(1000) for name in ("wait", "stock", "order", "sold", "lost")})


def of_function(function) -> tuple[Callable[[int], object], Callable[[int], object]]:
    engine = FunctionEngine("bench", function, SCHEMA)
    pack, own = pack_of("start", {"params": PARAMS}, engine.policy_schemas), Resolved(engine)
    return lambda seed: function({**PARAMS}, seed), lambda seed: own.evaluate(pack, seed)


CASES: dict[str, Case] = {
    "function, three numbers": (2.0, lambda: of_function(numbers)),
    "function, 1,000 x 5 DataFrame": (2.0, lambda: of_function(frame)),
}


def milliseconds(call: Callable[[int], object]) -> float:
    """Returns the processor time of a call, on average over many seeds."""
    began = time.process_time()
    for seed in range(RUNS):
        call(seed)
    return (time.process_time() - began) * 1000 / RUNS


def main() -> int:
    slow = []
    print(f"{'':<32}{'bare':>9}{'run':>9}{'adapter':>9}{'limit':>9}   ms of processor time")
    for name, (limit, made) in CASES.items():
        bare, run = made()
        bare(0), run(0)
        rounds = [(milliseconds(bare), milliseconds(run)) for _ in range(ROUNDS)]
        least = min(one for one, _ in rounds), min(one for _, one in rounds)
        cost = least[1] - least[0]
        print(f"{name:<32}{least[0]:>9.3f}{least[1]:>9.3f}{cost:>9.3f}{limit:>9.1f}")
        slow += [name] if cost > limit else []
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
