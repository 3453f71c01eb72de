"""Where two JSON values differ."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from casstore.inference.reading.differences import Difference, differences

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("stored", "asked", "told"),
    [
        ({"a": 1}, {"a": 2}, ["$.a: stored 1, asked 2"]),
        ({"a": 1}, {"a": True}, ["$.a: stored 1, asked true"]),
        ({"a": 1}, {}, ["$.a: only stored: 1"]),
        ({}, {"top p": 0.5}, ["$['top p']: only asked: 0.5"]),
        ({"it's": 1}, {"it's": 2}, ["$['it\\'s']: stored 1, asked 2"]),
        ([1, 2, 3], [1, 9, 2, 3], ["$[1]: only asked: 9"]),
        ([1, 2, 3], [1, 3], ["$[1]: only stored: 2"]),
        ([1, 2, 3], [1, 9, 3], ["$[1]: stored 2, asked 9"]),
        ("Paris", "Parma", ['$: from character 3 on: stored "Paris", asked "Parma"']),
        (
            {"m": [{"c": "a"}]},
            {"m": [{"c": "ab"}]},
            ['$.m[0].c: from character 1 on: stored "a", asked "ab"'],
        ),
        ([1], {"0": 1}, ['$: stored [1], asked {"0": 1}']),
    ],
)
def test_a_difference_has_its_path(stored: Any, asked: Any, told: list[str]) -> None:
    """As of RFC 9535; an element put into a list does not move the others."""
    assert [str(each) for each in differences(stored, asked)] == told


def test_of_long_texts_the_place_where_they_part_is_shown() -> None:
    """And not the whole."""
    stored, asked = "x" * 1000 + "cat" + "y" * 1000, "x" * 1000 + "dog" + "y" * 1000
    (found,) = differences({"a": stored}, {"a": asked})
    assert found.at == 1000
    around = "…" + "x" * 30 + "{}" + "y" * 27 + "…"
    shown = [json.dumps(around.format(animal), ensure_ascii=False) for animal in ("cat", "dog")]
    assert str(found) == f"$.a: from character 1000 on: stored {shown[0]}, asked {shown[1]}"
    assert found.weight < 0.5 < Difference("$", "changed", 1, 2).weight


@given(JSON, JSON)
def test_there_is_a_difference_exactly_where_the_json_is_another(one: Any, other: Any) -> None:
    """Whatever the values."""
    assert differences(one, one) == []
    alike = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert bool(differences(one, other)) == (not alike)


def test_values_nested_beyond_measure_are_one_difference() -> None:
    """Instead of an error."""
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    assert [each.path for each in differences({"a": deep}, {"a": [deep]})] == ["$"]
