"""The picture of the parts: bounded, however long the run."""

from __future__ import annotations

import pytest
from matplotlib.container import BarContainer

from divmon.loggers.decomposition_chart import MOST, evenly, stacked
from divmon.types import TERMS


@pytest.mark.parametrize(("count", "bars"), [(3, 3), (1000, MOST)])
def test_a_picture_holds_the_first_and_the_last_step_and_not_too_many(count: int, bars: int) -> None:
    parts = {10 * i: {**dict.fromkeys(TERMS, -0.1), "change": -0.4, "n": 64} for i in range(count)}
    figure = stacked(parts, "sbert", "gsm8k")
    (axes,) = figure.axes
    assert [len(own) for own in axes.containers if isinstance(own, BarContainer)] == [bars] * len(TERMS)
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[0] == "0" and labels[-1] == str(10 * (count - 1))
    assert ("of 1000 steps" in axes.get_title()) == (count > bars)


@pytest.mark.parametrize(("steps", "most", "kept"), [([], 5, []), ([7], 1, [7]), ([1, 2, 3, 4], 2, [1, 4])])
def test_evenly_keeps_the_ends(steps: list[int], most: int, kept: list[int]) -> None:
    assert evenly(steps, most) == kept
