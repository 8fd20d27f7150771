"""Comparison at equal tokens or accuracy, between snapshots."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import run_dirs
from support.compared import STEPS, asked, figures, of, paths

import divmon
from divmon.analysis.comparison.alignment import Task
from divmon.analysis.comparison.axes import first_meets, looks
from divmon.analysis.comparison.contrasts import along, estimates
from divmon.analysis.comparison.members import Member
from divmon.analysis.curves import Curves, Table
from divmon.scoring.figure_registry import Registry
from divmon.scoring.intervals import paired_change


def test_between_snapshots_figures_are_interpolated(tmp_path: Path) -> None:
    first, second = figures(0), figures(1)
    at = {"a": [0, 100, 200], "b": [0, 80, 160]}
    runs = [
        run_dirs.write(
            tmp_path / name, STEPS, values, facts={s: {"examples": x} for s, x in zip(STEPS, at[name], strict=True)}
        )
        for name, values in (("a", first), ("b", second))
    ]
    rows = of(divmon.compare(runs, by="examples").differences, metric="sbert", by="examples")
    assert rows["at"].tolist() == [0, 80, 100, 160], "as far as both reach"
    a_SP, b_SP = first["sums", "sbert"], second["sums", "sbert"]
    at_100 = paired_change(0.75 * b_SP[1] + 0.25 * b_SP[2], a_SP[1])
    row = rows.iloc[2]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((at_100.change, at_100.low, at_100.high))
    assert (row["step_first"], row["step_second"]) == pytest.approx((10, 12.5))


def test_a_path_meets_a_level_where_a_straight_line_does() -> None:
    path = np.array([0.5, 0.4, 0.8])
    assert [first_meets(path, level) for level in (0.5, 0.45, 0.4, 0.6, 0.8)] == pytest.approx([0, 0.5, 1, 1.5, 2])
    assert np.isnan(first_meets(path, 0.9)) and np.isnan(first_meets(path, 0.3))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=6), st.floats(0.01, 0.99))
def test_at_the_index_found_the_path_has_the_level(path: list[float], level: float) -> None:
    index = first_meets(np.array(path), level)
    if min(path) <= level <= max(path):
        assert np.interp(index, range(len(path)), path) == pytest.approx(level, abs=1e-9)
    else:
        assert np.isnan(index)


def test_at_equal_accuracy_a_run_that_only_trained_further_does_not_differ(tmp_path: Path) -> None:
    """Both walk one line in accuracy and diversity, at other speeds: apart at every step, never at any accuracy."""
    steps = [0, 10, 20, 30]
    accuracy = {"slow": [0.4, 0.5, 0.6, 0.7], "fast": [0.4, 0.6, 0.75, 0.9]}
    prompts = asked(np.random.default_rng(0))
    for i, (name, path) in enumerate(accuracy.items()):
        values = paths(np.random.default_rng(i), prompts, path, [0.6 - 0.5 * a for a in path])
        run_dirs.write(tmp_path / name, steps, values)
    comparison = divmon.compare([tmp_path / "slow", tmp_path / "fast"])
    verdicts = comparison.parting.set_index(["metric", "by"])
    assert verdicts.loc[("sbert", "step"), "parted_at"] == 10
    assert np.isnan(verdicts.loc[("sbert", "accuracy"), "parted_at"])
    rows = of(comparison.differences, metric="sbert", by="accuracy")
    assert rows["at"].tolist() == pytest.approx([0.5, 0.6, 0.7][: len(rows)]) and len(rows) >= 2
    assert (rows["low"] < 0).all() and (rows["high"] > 0).all()
    assert (rows["step_first"] > rows["step_second"]).all(), "the slow one gets there later"


def test_levels_that_a_run_meets_more_than_once_are_flagged_and_not_tested(tmp_path: Path) -> None:
    flat = np.full((4, 8), 0.3) + np.random.default_rng(0).normal(0, 0.01, (4, 8))

    def run(name: str, path: list[float]) -> Path:
        accuracy_SP = np.array(path)[:, None] + np.linspace(-0.05, 0.05, 8)
        return run_dirs.write(
            tmp_path / name, [0, 1, 2, 3], {("sums", "accuracy"): accuracy_SP, ("sums", "sbert"): flat}
        )

    rows = of(
        divmon.compare([run("a", [0.31, 0.58, 0.42, 0.89]), run("b", [0.32, 0.4, 0.6, 0.88])]).differences,
        metric="sbert",
        by="accuracy",
    ).set_index("at")
    assert rows.index.tolist() == pytest.approx([0.4, 0.5, 0.6, 0.7, 0.8])
    assert rows["passes"].tolist() == [1, 3, 1, 1, 1] and rows["p"].isna().tolist() == [False, True, *[False] * 3]
    assert rows.loc[0.5, "step_first"] == pytest.approx((0.5 - 0.31) / 0.27), "the first time"


def test_the_interval_at_equal_accuracy_covers_the_truth() -> None:
    """At the true accuracy 0.6 of two runs. Taking the place between the snapshots as known would miss the noise of the
    accuracies."""
    path, diversity = [0.4, 0.55, 0.7, 0.8], {"a": [0.4, 0.3, 0.2, 0.1], "b": [0.4, 0.36, 0.32, 0.28]}
    everyone = asked(np.random.default_rng(5), 200_000)
    accuracy_S = paths(np.random.default_rng(6), everyone, path, path)["sums", "accuracy"].mean(1)
    there = {name: np.interp(0.6, accuracy_S, those) for name, those in diversity.items()}
    ids, covered, fixed = [str(p) for p in range(64)], [], []
    generator = np.random.default_rng(7)
    for _ in range(400):
        prompts = asked(generator)
        steps = {}
        for name, those in diversity.items():
            curves = Curves(None)  # type: ignore[arg-type]
            values = paths(generator, prompts, path, those)
            curves.figures = Registry()
            curves.tables = {key: Table([0, 1, 2, 3], ids, value) for key, value in values.items()}
            steps[Member(name, name, curves)] = [0, 1, 2, 3]
        task = Task("sums", ids, list(steps))
        places = looks("accuracy", task, steps)
        look = np.flatnonzero(places.at_L == 0.6)
        if len(look):
            first, second = ([member] for member in steps)
            for found, where in ((covered, places), (fixed, replace(places, without={}))):
                e = estimates(along(where, task, "sbert"), first, second)
                found.append(bool(e.low[look[0]] <= there["b"] - there["a"] <= e.high[look[0]]))
    assert len(covered) > 390 and 0.92 <= np.mean(covered) <= 0.98
    assert np.mean(fixed) < 0.8
