"""Parity of S2: how far its alias tables are from the weights of S1.

S2 follows from S1 alone, and a run that ends early leaves it out: its tables are then built here by the same law, so
that a trial shows what its weights would be routed by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.compiled import compiled
from lanelock.engine.protocol import Run
from lanelock.engine.segment_2b.states.s2_alias_index import PROB_QBITS, alias_index

LAYOUT, SITES, ALIAS, BLOB = "alias_layout_policy_v1", "s1_site_weights", "s2_alias_index", "s2_alias_blob"


def alias_error(run: Run) -> float:
    """Returns the greatest distance of a decoded weight from S1's, in quanta.

    A table that cannot be decoded, and weights that no table can be built from, are a whole merchant's mass away.
    """
    policy, p = run.pack[LAYOUT], np.asarray(run.surfaces[SITES]["p_weight"])
    sites, whole = run.upstream.site_offsets, 2.0 ** int(policy["quantised_bits"])
    if ALIAS in run.surfaces and BLOB in run.surfaces:
        index, blob = run.surfaces[ALIAS], run.surfaces[BLOB]
    elif _are_shares(sites, p):
        index, blob = alias_index(run.upstream, run.surfaces[SITES], policy)
    else:
        return whole
    content = bytes(np.asarray(blob["blob"])[0])
    words = np.frombuffer(content[: len(content) // 4 * 4], "<u4")
    offset, length = (np.asarray(index[name], np.int64) for name in ("offset", "length"))
    if len(offset) != len(sites) - 1 or len(p) != sites[-1]:
        return whole
    return float(_furthest(words, offset, length, sites, p, whole))


def alias_tables(samples: Sequence[float]) -> dict[str, float]:
    """Returns S2's metrics, from the samples of all shards."""
    return {"s2/alias_error": max(samples)}


def _are_shares(sites: NDArray[np.int64], p: NDArray[np.float64]) -> bool:
    """Returns whether every merchant's weights sum to about 1: the law of S2 takes nothing else."""
    if len(p) != sites[-1] or not np.all((p >= 0.0) & (p <= 1.0)):
        return False
    return bool(np.all(np.abs(np.add.reduceat(p, sites[:-1]) - 1.0) < 1e-6))


@compiled
def _furthest(words: Any, offset: Any, length: Any, sites: Any, p: Any, whole: float) -> float:
    far = 0.0
    for i in range(len(offset)):
        n, base = sites[i + 1] - sites[i], offset[i] // 4
        sound = offset[i] % 4 == 0 and base >= 0 and length[i] == 4 * (4 + 2 * n) and base + 4 + 2 * n <= len(words)
        if not sound or words[base] != n or words[base + 1] != PROB_QBITS:
            return whole
        mass = np.zeros(n, np.int64)
        for k in range(n):
            own, alias = np.int64(words[base + 4 + 2 * k]), np.int64(words[base + 5 + 2 * k])
            if alias >= n:
                return whole
            mass[k] += own
            mass[alias] += (np.int64(1) << PROB_QBITS) - own
        for k in range(n):
            apart = abs(mass[k] / (n * float(np.int64(1) << PROB_QBITS)) - p[sites[i] + k]) * whole
            if not apart <= far:  # not a number counts too
                far = apart
    return far
