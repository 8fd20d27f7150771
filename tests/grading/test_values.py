"""What passes between a program and its tests: plain values whole, nothing else."""

from __future__ import annotations

import collections
import enum
import math
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.grading.sandbox.inside.program_side import _dump
from divmon.grading.sandbox.inside.values import NotPlain, tag, untag

PLAIN = (type(None), bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, range, type)
hashable = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=6,
)
values = st.recursive(
    hashable | st.complex_numbers(allow_nan=False) | st.sets(hashable, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(hashable, inner, max_size=4) | st.tuples(inner),
    max_leaves=12,
)
parts = st.text() | st.sampled_from(["int", "list", "dict", "str", "ref", "global", "type", "range", "0x1", "float"])
nested = st.recursive(parts, lambda inner: st.lists(inner, max_size=4), max_leaves=10)


def refuse(value: Any) -> list[Any]:
    raise NotPlain(type(value).__name__)


def there_and_back(value: Any) -> Any:
    import json

    return untag(json.loads(_dump(tag(value, refuse))), refuse)


@given(values)
def test_plain_values_come_back_equal_and_of_their_type(value: Any) -> None:
    back = there_and_back(value)
    assert back == value
    assert repr(back) == repr(value) or isinstance(value, (set, frozenset, dict, list, tuple))


@pytest.mark.parametrize(
    "value",
    [
        True,
        1,
        1.0,
        (1,),
        [1],
        {1},
        frozenset({1}),
        range(3),
        b"a",
        -0.0,
        math.inf,
        10**4000,
        int,
        dict,
        "\ud800",
        "\0é",
    ],
)
def test_types_are_kept(value: Any) -> None:
    back = there_and_back(value)
    assert type(back) is type(value) and repr(back) == repr(value)


def test_a_number_of_any_length_crosses() -> None:
    assert there_and_back(10**9999) == 10**9999


def test_nan_stays_nan() -> None:
    assert math.isnan(there_and_back(math.nan))


class Point(NamedTuple):
    x: int
    y: int


class Colour(enum.IntEnum):
    RED = 3


class Liar(int):
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Point(1, 2), (1, 2)),
        (Colour.RED, 3),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.deque([1, 2]), collections.deque([1, 2])),
        (np.float64(0.5), 0.5),
        (np.int64(7), 7),
        (np.bool_(True), True),
        (Decimal("0.1"), Decimal("0.1")),
        (Fraction(1, 3), Fraction(1, 3)),
        (Liar(2), 2),
    ],
)
def test_what_compares_as_a_builtin_crosses_as_one(value: Any, expected: Any) -> None:
    back = there_and_back(value)
    assert back == expected and type(back) is type(expected)


@pytest.mark.parametrize("value", [object(), len, lambda: 0, np.zeros(2), iter([]), Point, {"k": [object()]}])
def test_the_rest_does_not_cross(value: Any) -> None:
    with pytest.raises(NotPlain):
        tag(value, refuse)


@given(nested)
def test_nothing_but_plain_values_can_be_made_of_a_hostile_message(message: Any) -> None:
    def check(value: Any) -> None:
        assert type(value) in PLAIN, value
        for part in value.items() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
            check(part)

    try:
        value = untag(message, refuse)
    except Exception:  # the caller takes any
        return
    check(value)
