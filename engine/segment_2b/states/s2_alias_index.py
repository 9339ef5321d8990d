"""S2: one Walker/Vose alias table per merchant, all in one blob, exact in integers.

A merchant with n sites has quanta q_i that sum to 2^bits. Scaled by n their mean is 2^bits, so integer
subtraction fills every column of the alias table to exactly 2^bits; a column's own part, shifted to Q0.32,
loses nothing while bits <= 32. A column that needs no alias points at itself, with any threshold (here
2^32 - 1). So decoding gives the quanta back exactly.

A slice is u32 n_sites, u32 prob_qbits, two reserved u32, then per site u32 threshold and u32 alias, all
little-endian; 16 + 8n bytes, so every slice is 8-byte aligned.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanelock.engine.compiled import compiled
from lanelock.engine.segment_2b.states.s1_site_weights import site_quanta
from lanelock.engine.segment_2b.tables import published
from lanelock.engine.segment_2b.world import World
from lanelock.engine.surface import Surface
from lanelock.policies import IntegrityError

PROB_QBITS = 32
_HEADER = 4  # u32 words


def alias_index(world: World, s1: Surface, policy: Mapping[str, Any]) -> tuple[Surface, Surface]:
    """Returns the surfaces s2_alias_index ([m] rows) and s2_alias_blob (one row)."""
    bits = int(policy["quantised_bits"])
    quanta = site_quanta(world, np.asarray(s1["p_weight"]), bits)
    sites = np.diff(world.site_offsets)
    length = (_HEADER + 2 * sites) * 4
    offset = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    words = np.zeros(offset[-1] // 4, "<u4")
    _fill(world.site_offsets, quanta, bits, offset // 4, words)
    blob = words.tobytes()
    index = published(
        "s2_alias_index",
        merchant_id=world.merchant_id,
        offset=offset[:-1],
        length=length.astype(np.int64),
        sites=sites.astype(np.int32),
        sha256=_digests(blob[begin:end] for begin, end in itertools.pairwise(offset)),
    )
    size = np.array([len(blob)], np.int64)
    return index, published("s2_alias_blob", blob=np.array([blob], object), size=size, sha256=_digests([blob]))


def _digests(pieces: Iterable[bytes]) -> NDArray[np.object_]:
    return np.array([hashlib.sha256(piece).hexdigest() for piece in pieces], object)


def decode(blob: bytes, offset: int, length: int) -> NDArray[np.float64]:
    """Returns [n_sites] the weights of one slice. Raises IntegrityError if the slice is damaged."""
    words = np.frombuffer(blob[offset : offset + length], "<u4").astype(np.int64)
    n = int(words[0]) if len(words) >= _HEADER else -1
    if n < 1 or len(words) != _HEADER + 2 * n or words[1] != PROB_QBITS:
        raise IntegrityError(
            f"alias.bin: offset {offset}: not a slice of {length} bytes with {PROB_QBITS}-bit thresholds"
        )
    own, alias = words[_HEADER::2], words[_HEADER + 1 :: 2]
    if alias.max() >= n:
        raise IntegrityError(f"alias.bin: offset {offset}: an alias points past the {n} sites of the slice")
    mass = np.zeros(n, np.int64)
    np.add.at(mass, np.arange(n), own)
    np.add.at(mass, alias, (1 << PROB_QBITS) - own)
    return np.asarray(mass / (n * float(1 << PROB_QBITS)))


@compiled
def _fill(offsets: Any, quanta: Any, bits: int, at: Any, words: Any) -> None:
    for i in range(len(offsets) - 1):
        begin, n = offsets[i], offsets[i + 1] - offsets[i]
        base = at[i]
        words[base], words[base + 1] = n, 32
        full, left = np.int64(1) << bits, quanta[begin : begin + n] * n
        small, large = np.empty(n, np.int64), np.empty(n, np.int64)
        smalls, larges = 0, 0
        for k in range(n):
            if left[k] < full:
                small[smalls] = k
                smalls += 1
            else:
                large[larges] = k
                larges += 1
        while smalls > 0:
            smalls -= 1
            lo = small[smalls]
            hi = large[larges - 1]  # exact integers: while one column lacks mass, another has a surplus
            words[base + 4 + 2 * lo] = left[lo] << (32 - bits)
            words[base + 5 + 2 * lo] = hi
            left[hi] -= full - left[lo]
            if left[hi] < full:
                larges -= 1
                small[smalls] = hi
                smalls += 1
        for k in range(larges):
            words[base + 4 + 2 * large[k]] = np.uint32(0xFFFFFFFF)
            words[base + 5 + 2 * large[k]] = large[k]
