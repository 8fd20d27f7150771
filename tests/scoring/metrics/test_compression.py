from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from divmon.scoring.metrics.compression import compression


@given(st.lists(st.text(min_size=1, max_size=40), min_size=2, max_size=5))
def test_it_is_bytes_out_over_bytes_in(texts: list[str]) -> None:
    plain = "\n".join(texts).encode("utf-8", "replace")
    assert compression([texts]).item() == pytest.approx(len(zlib.compress(plain, 9)) / len(plain))


def test_repetition_lowers_it() -> None:
    different = [f"{i * 7919} apples and {i * 104729} pears" for i in range(16)]
    assert compression([[different[0]] * 16]).item() < compression([different]).item() / 2
    assert compression([["", ""]]).isnan().all()
