"""Counter-based random numbers: every draw is addressed by (stream key, counter), independent of earlier draws.

Philox4x64-10 (Salmon et al., 2011) over 64-bit words. A stream's key is SHA-256 over the manifest
fingerprint, the seed and the stream's id, so no two states, worlds or seeds share a stream; within a
stream the counter words are (lo, hi, 0, 0). `stable_uniform` is the same function under a key without
seed and world: a merchant's own jitter and phase in S3, whatever else is drawn.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from lanelock.engine import arithmetic
from lanelock.engine.arithmetic import normal
from lanelock.engine.compiled import compiled

_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_DROP, _UNIT = np.uint64(11), 2.0**-53
_TOP = 1.0 - _UNIT  # the largest double below 1

Key = tuple[np.uint64, np.uint64]


def stream_key(manifest_fingerprint: str, seed: int, stream: str) -> Key:
    """Returns 128 bits of SHA-256 over the world, the seed and the stream's name."""
    return _key(f"{manifest_fingerprint}/{seed}/{stream}")


def stable_uniform(name: str, lo: NDArray[np.uint64], hi: NDArray[np.uint64] | int = 0) -> NDArray[np.float64]:
    """Returns uniforms in (0, 1) that depend only on `name` and the two words; shape of `lo`."""
    return uniforms(_key(f"stable/{name}"), lo, np.broadcast_to(np.asarray(hi, np.uint64), lo.shape))


@compiled
def uniforms(key: Key, lo: NDArray[np.uint64], hi: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Returns one uniform in (0, 1) per counter."""
    out = np.empty(len(lo), np.float64)
    for i in range(len(lo)):
        out[i] = unit(key, lo[i], hi[i])
    return out


@compiled
def normals(key: Key, lo: NDArray[np.uint64], hi: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Returns one standard normal per counter, by the inverse CDF of its uniform."""
    out = uniforms(key, lo, hi)
    for i in range(len(out)):  # a loop of its own: the two together compile to slower code
        out[i] = normal(out[i])
    return out


@compiled
def words(key: Key, lo: NDArray[np.uint64], hi: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Returns 64 random bits per counter: the first output word."""
    out = np.empty(len(lo), np.uint64)
    for i in range(len(lo)):
        out[i] = philox(key[0], key[1], lo[i], hi[i])
    return out


@cache
def fingerprint() -> str:
    """Returns hex64 over this machine's arithmetic and its draws, ours and NumPy's; computed once per process."""
    key, lo = _key("fingerprint"), np.arange(256, dtype=np.uint64)
    drawn = np.random.Generator(np.random.Philox(key=np.array(key, np.uint64)))
    sink = hashlib.sha256(arithmetic.fingerprint().encode())
    for part in (words(key, lo, lo), normals(key, lo, lo), drawn.random(256), drawn.permutation(256)):
        sink.update(part.astype(f"<{part.dtype.kind}8").tobytes())
    return sink.hexdigest()


def _key(text: str) -> Key:
    digest = hashlib.sha256(text.encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little")), np.uint64(int.from_bytes(digest[8:16], "little"))


def _high_word(_context: Any, a: Any, b: Any) -> Any:
    """Types and builds the upper 64 bits of a 128-bit product: one instruction that Python code cannot express."""

    def build(_target: Any, builder: Any, _signature: Any, words: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(word, wide) for word in words))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), build


_high: Any = intrinsic(_high_word)


@compiled
def philox(k0: Any, k1: Any, c0: Any, c1: Any) -> Any:
    """Returns the first output word of Philox4x64-10 at counter (c0, c1, 0, 0)."""
    c2, c3 = np.uint64(0), np.uint64(0)
    for _ in range(10):
        h0, l0 = _high(_M0, c0), _M0 * c0
        h1, l1 = _high(_M1, c2), _M1 * c2
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0, k1 = k0 + _W0, k1 + _W1
    return c0


@compiled
def unit(key: Any, lo: Any, hi: Any) -> Any:
    """Returns the uniform of one counter, for compiled loops that draw as they go."""
    return fraction(philox(key[0], key[1], lo, hi))


@compiled
def fraction(word: Any) -> Any:
    """Returns the uniform of one output word, (word >> 11, plus 1/2) / 2^53, never 0 and never 1.

    Above 1/2 a double has no bit for the added half and rounds to even; the last value would round to 1, so it is
    held just below.
    """
    return min((np.float64(word >> _DROP) + 0.5) * _UNIT, _TOP)
