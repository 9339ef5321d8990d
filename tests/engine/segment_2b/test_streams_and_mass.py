"""Counter-based draws against NumPy's own Philox; quanta against exact fractions."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from oracle import laws

from lanelock.engine.segment_2b import mass, streams

WORD = st.integers(0, 2**64 - 1)


@given(WORD, WORD, WORD, WORD)
def test_philox_is_numpys(k0, k1, lo, hi):
    ours = streams.philox(np.uint64(k0), np.uint64(k1), np.uint64(lo), np.uint64(hi))
    # NumPy steps the counter before it draws: the block at c is the one it gives from c - 1.
    before = (lo + (hi << 64) - 1) % (1 << 256)
    theirs = np.random.Philox(key=k0 + (k1 << 64), counter=before).random_raw()
    assert int(ours) == int(theirs) == laws.philox((k0, k1), (lo, hi))


def test_uniforms_lie_inside_the_unit_interval_and_look_uniform():
    key = streams.stream_key("f" * 64, 42, "s3.day_effect")
    u = streams.uniforms(key, np.arange(200_000, dtype=np.uint64), np.zeros(200_000, np.uint64))
    assert u.min() > 0.0 and u.max() < 1.0
    assert abs(u.mean() - 0.5) < 4 * np.sqrt(1 / 12 / len(u))
    counts = np.bincount((u * 64).astype(int), minlength=64)
    assert ((counts - len(u) / 64) ** 2 / (len(u) / 64)).sum() < 120  # chi-squared, 63 degrees


def test_no_word_gives_0_or_1():
    """The last cell's middle is a tie that rounds to 1: an inverse CDF would run past its end."""
    last = 2**64 - 1
    for word in (0, 1 << 11, last - (1 << 11), last):
        assert 0.0 < streams.fraction(np.uint64(word)) == min(((word >> 11) + 0.5) / 2**53, 1 - 2**-53) < 1.0
    assert ((last >> 11) + 0.5) / 2**53 == 1.0


def test_a_draw_depends_on_its_address_alone():
    key = streams.stream_key("f" * 64, 42, "x")
    lo, hi = np.arange(50, dtype=np.uint64), np.full(50, 7, np.uint64)
    whole = streams.uniforms(key, lo, hi)
    order = np.random.default_rng(0).permutation(50)
    assert np.array_equal(streams.uniforms(key, lo[order], hi), whole[order])
    assert not np.any(streams.uniforms(streams.stream_key("f" * 64, 43, "x"), lo, hi) == whole)
    assert not np.any(streams.uniforms(streams.stream_key("f" * 64, 42, "y"), lo, hi) == whole)


SHARES = st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=60).map(lambda x: np.array(x) / np.sum(x))


@given(SHARES, st.sampled_from([8, 24, 48]))
def test_quanta_sum_exactly_and_keep_order(shares, bits):
    quanta = np.empty(len(shares), np.int64)
    mass.apportion(shares, 1 << bits, quanta)
    assert quanta.sum() == 1 << bits
    p = quanta / float(1 << bits)
    assert p.sum() == p[::-1].sum() == 1.0
    order = np.argsort(shares, kind="stable")
    assert np.all(np.diff(quanta[order])[np.diff(shares[order]) > 0] >= 0)
    assert np.max(np.abs(quanta - shares * (1 << bits))) <= 1 + len(shares) * 2.0 ** (bits - 52)


@given(SHARES)
def test_quanta_are_those_of_exact_fractions(shares):
    for bits, rounded in ((24, True), (24, False)):
        quanta = np.empty(len(shares), np.int64)
        mass.apportion(shares, 1 << bits, quanta, rounded)
        assert sum(quanta) == 1 << bits
        exact = laws.apportion(shares, 1 << bits, rounded=rounded)
        # The shares' own sum is off one by a few ulps: a tie at the last place may then fall either way.
        off = abs(sum(map(Fraction, shares)) - 1) * (1 << bits)
        assert np.abs(quanta - exact).max() <= (1 if off else 0)
        assert np.abs(quanta - exact).sum() <= 2
