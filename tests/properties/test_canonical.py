"""Canonical JSON, held against its own slow path, against another implementation, and against itself."""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from casstore.inference.canonical import CanonicalError, canonical, canonical_slow

SAFE = 2**53 - 1

doubles = st.floats(allow_nan=False, allow_infinity=False) | st.integers(0, 2**64 - 1).map(
    lambda bits: struct.unpack(">d", bits.to_bytes(8, "big"))[0]
).filter(math.isfinite)
texts = st.text(st.characters(exclude_categories=["Cs"]))
leaves: st.SearchStrategy[Any] = st.none() | st.booleans() | st.integers(-SAFE, SAFE) | doubles | texts


def nested(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return JSON values made of `leaf`."""
    return st.recursive(leaf, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=30)


@given(nested(leaves))
def test_fast_slow_and_foreign_agree(value: Any) -> None:
    """The fast path, the slow path and the rfc8785 package write the same bytes."""
    assert canonical(value) == canonical_slow(value) == rfc8785.dumps(value)


@given(nested(leaves | st.integers()))
def test_canonical_is_json_and_stable(value: object) -> None:
    """The bytes are JSON, and the value they hold has the same bytes."""
    written = canonical(value)
    assert canonical(json.loads(written)) == written


@given(nested(leaves | st.integers()))
def test_fast_and_slow_agree_on_any_integer(value: object) -> None:
    """Integers of any size are written alike by both paths."""
    assert canonical(value) == canonical_slow(value)


@given(nested(st.none() | st.booleans() | st.integers() | st.text()))
def test_what_was_parsed_needs_no_look_where_it_has_no_floats(value: object) -> None:
    """Without a walk through the value first, the bytes are the same, or it is refused as well."""
    parsed = json.loads(json.dumps(value))
    try:
        written = canonical_slow(parsed)
    except CanonicalError:
        with pytest.raises(CanonicalError):
            canonical(parsed, exact=True)
    else:
        assert canonical(parsed, exact=True) == written


@given(st.dictionaries(texts, leaves, min_size=2))
def test_order_of_keys_does_not_count(value: dict[str, object]) -> None:
    """A dictionary filled in another order has the same bytes."""
    assert canonical(dict(reversed(value.items()))) == canonical(value)


@given(st.integers(), st.integers())
def test_different_integers_never_share_a_spelling(one: int, other: int) -> None:
    """Integers of any size have one spelling each."""
    assert (canonical(one) == canonical(other)) == (one == other)


@given(st.lists(st.text(), min_size=2, max_size=4), st.lists(st.text(), min_size=2, max_size=4))
def test_lists_of_texts_are_length_safe(one: list[str], other: list[str]) -> None:
    """No two lists of texts share bytes because their parts run together."""
    try:
        left, right = canonical(one), canonical(other)
    except CanonicalError:
        return
    assert (left == right) == (one == other)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@given(leaves)
def test_what_is_not_finite_is_refused_anywhere(value: float, beside: object) -> None:
    """NaN and the infinities have no canonical form, wherever they stand."""
    with pytest.raises(CanonicalError):
        canonical({"a": [beside, {"b": value}]})
