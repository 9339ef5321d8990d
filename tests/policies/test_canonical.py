"""The fast way to a document's digest gives what the slow way gives, or says that it cannot."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanelock.policies.canonical import quick_digest
from lanelock.policies.documents import digest

NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1e5, 1e5).map(lambda value: round(value, 3)),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.sampled_from([0.0, -0.0, 1e-4, 1e-5, 1e-7, 9999999999999998.0, 1e16, 1e21, 2.0**53, 120.0]),
)
TEXTS = st.one_of(
    st.text(max_size=6), st.sampled_from(["é", "\u20ac", "\U0001f600", "\ufb33", "\x7f", "\x00", '"\\\n\b'])
)
VALUES = st.recursive(
    st.one_of(NUMBERS, TEXTS, st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=12,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=5), st.booleans(), st.sampled_from([None, 2]))
def test_it_is_the_slow_digest_or_none(document, ascii_only, indent):
    text = json.dumps({**document, "id": "x"}, ensure_ascii=ascii_only, indent=indent).encode(errors="surrogatepass")
    body = {name: value for name, value in json.loads(text).items() if name != "id"}
    found = quick_digest(text, "id")
    assert found is None or found[1] == digest(body)


def test_a_lock_s_usual_numbers_need_no_slow_way():
    document = {"a": [1, 1.0, -0.0, 0.25, 120.0, 1e-4, 123456789.5], "é": {"\u20ac": None, "b": True}}
    text = json.dumps({**document, "id": ""}, ensure_ascii=False).encode()
    assert quick_digest(text, "id")[1] == digest(document)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}', b'{"a": NaN}', b'{"a": 1e400}', b'{"a": 9007199254740993}', b'{"a": 1e-7}', b"[1]", b"{",
        b'{"a": "\\ud83d"}', '{"\U0001f600": 1}'.encode(), b"\xff", b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_it_cannot_answer_it_leaves_to_the_slow_way(text):
    assert quick_digest(text, "id") is None
