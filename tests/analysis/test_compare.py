"""Comparing runs: like with like, paired differences on every axis, groups of seeds, stages, the frontier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.compared import STEPS, figures, of, two

from divmon.analysis.comparison.divergence import sign_flips
from divmon.scoring.figure_registry import Registry
from divmon.scoring.intervals import paired_change


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6), st.sampled_from(["sbert", "vendi2_at8"]))
def test_a_difference_is_the_paired_change_of_now_against_now(
    tmp_path_factory: pytest.TempPathFactory, seed: int, figure: str
) -> None:
    first, second = figures(seed), figures(seed + 1)
    undefined = np.random.default_rng(seed).random((3, 12)) < 0.1
    second["sums", figure] = np.where(undefined, np.nan, second["sums", figure])
    rows = of(two(tmp_path_factory.mktemp("runs"), first, second).differences, metric=figure, by="step")
    assert rows["at"].tolist() == STEPS
    for s, row in enumerate(rows.itertuples()):
        expected = paired_change(second["sums", figure][s], first["sums", figure][s], Registry()[figure].aggregate)
        assert (row.value_first, row.value_second, row.difference, row.low, row.high) == pytest.approx(
            (expected.reference, expected.now, expected.change, expected.low, expected.high)
        )
        assert row.n == expected.n and not row.seeds


def test_the_whole_curve_is_tested_on_the_prompts_own_differences(tmp_path: Path) -> None:
    first, second = figures(0, ead=figures(0)["sums", "ead"]), figures(1)
    comparison = two(tmp_path, first, second)
    for figure in ("sbert", "ead"):
        expected = sign_flips(second["sums", figure] - first["sums", figure])
        rows = of(comparison.differences, metric=figure, by="step")
        assert rows["p"].tolist() == pytest.approx(expected.tolist())
        verdict = of(comparison.parting, metric=figure, by="step").iloc[0]
        assert verdict["p"] == pytest.approx(expected.min()) and verdict["looks"] == 3


def test_runs_part_where_one_falls_and_not_before(tmp_path: Path) -> None:
    first, second = figures(0, steps=5, prompts=32), figures(1, steps=5, prompts=32)
    second["sums", "sbert"][3:] -= 0.1
    comparison = two(tmp_path, first, second, [0, 10, 20, 30, 40])
    verdict = of(comparison.parting, metric="sbert", by="step").iloc[0]
    assert verdict["parted_at"] == 30 and verdict["apart"] == 2 and verdict["p"] < 0.001
    assert np.isnan(of(comparison.parting, metric="ead", by="step").iloc[0]["parted_at"])
    kept = of(comparison.summary, metric="sbert").set_index("group")["kept_percent"]
    start, end = second["sums", "sbert"][[0, -1]].mean(1)
    assert kept["b"] == pytest.approx(100 * end / start)


def test_only_steps_that_both_have_are_matched(tmp_path: Path) -> None:
    comparison = two(tmp_path, figures(0), figures(1), STEPS, other_steps=[0, 15, 20])
    assert of(comparison.differences, metric="sbert", by="step")["at"].tolist() == [0, 20]
    assert of(comparison.curves, metric="sbert", run="b")["step"].tolist() == [0, 15, 20]
