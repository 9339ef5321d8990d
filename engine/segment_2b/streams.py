"""Counter-based random numbers: every draw is addressed by (stream key, counter), never by what came before.

Philox4x64-10 (Salmon et al., 2011) over 64-bit words. A stream's key is SHA-256 over the manifest
fingerprint, the seed and the stream's id, so no two states, worlds or seeds share a stream; within a
stream the counter words are (lo, hi, 0, 0). `stable_uniform` is the same function under a key that
knows neither seed nor world: the facts call it a stable hash.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from lanelock.engine.compiled import compiled

_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_DROP, _UNIT = np.uint64(11), 2.0**-53
_TOP = 1.0 - _UNIT  # the largest double below 1

Key = tuple[np.uint64, np.uint64]


def stream_key(manifest_fingerprint: str, seed: int, stream: str) -> Key:
    """128 bits of SHA-256 over what the stream belongs to."""
    return _key(f"{manifest_fingerprint}/{seed}/{stream}")


def stable_uniform(name: str, lo: NDArray[np.uint64], hi: NDArray[np.uint64] | int = 0) -> NDArray[np.float64]:
    """A uniform in (0, 1) that depends on `name` and the two words alone; shape of `lo`."""
    return uniforms(_key(f"stable/{name}"), lo, np.broadcast_to(np.asarray(hi, np.uint64), lo.shape))


def uniforms(key: Key, lo: NDArray[np.uint64], hi: NDArray[np.uint64]) -> NDArray[np.float64]:
    """One uniform in (0, 1) a counter: (first output word >> 11, plus a half) / 2^53. Never 0, never 1.

    The upper half of these has no room for the half, and rounds to even: the last one would be 1, and is kept below.
    """
    found: NDArray[np.float64] = _uniforms(key, lo, hi)
    return found


def normals(key: Key, lo: NDArray[np.uint64], hi: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Returns one standard normal per counter, by the inverse CDF of its uniform."""
    from scipy.special import ndtri  # here, since it takes as long to import as a small state to compute

    found: NDArray[np.float64] = ndtri(uniforms(key, lo, hi))
    return found


def words(key: Key, lo: NDArray[np.uint64], hi: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The first output word of each counter, 64 random bits."""
    found: NDArray[np.uint64] = _words(key[0], key[1], lo, hi)
    return found


def _key(text: str) -> Key:
    digest = hashlib.sha256(text.encode()).digest()
    return np.uint64(int.from_bytes(digest[:8], "little")), np.uint64(int.from_bytes(digest[8:16], "little"))


def _high_word(_context: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of a 128-bit product: one instruction, which no loop of 64-bit words can ask for."""

    def build(_target: Any, builder: Any, _signature: Any, words: Any) -> Any:
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(word, wide) for word in words))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), build


_high: Any = intrinsic(_high_word)


@compiled
def philox(k0: Any, k1: Any, c0: Any, c1: Any) -> Any:
    """First output word of Philox4x64-10 at counter (c0, c1, 0, 0)."""
    c2, c3 = np.uint64(0), np.uint64(0)
    for _ in range(10):
        h0, l0 = _high(_M0, c0), _M0 * c0
        h1, l1 = _high(_M1, c2), _M1 * c2
        c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
        k0, k1 = k0 + _W0, k1 + _W1
    return c0


@compiled
def unit(key: Any, lo: Any, hi: Any) -> Any:
    """The uniform of one counter, for loops that draw as they go."""
    return fraction(philox(key[0], key[1], lo, hi))


@compiled
def fraction(word: Any) -> Any:
    """The uniform of one output word."""
    return min((np.float64(word >> _DROP) + 0.5) * _UNIT, _TOP)


@compiled
def _words(k0: Any, k1: Any, lo: Any, hi: Any) -> Any:
    out = np.empty(len(lo), np.uint64)
    for i in range(len(lo)):
        out[i] = philox(k0, k1, lo[i], hi[i])
    return out


@compiled
def _uniforms(key: Any, lo: Any, hi: Any) -> Any:
    out = np.empty(len(lo), np.float64)
    for i in range(len(lo)):
        out[i] = unit(key, lo[i], hi[i])
    return out
