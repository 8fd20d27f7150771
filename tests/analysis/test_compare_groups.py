"""Groups of runs: several seeds each."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats
from support import run_dirs
from support.compared import STEPS, of

import divmon
from divmon.analysis.comparison.contrasts import Along, estimates
from divmon.scoring.intervals import mean_interval, paired_change


def simulated(generator: np.random.Generator, seeds: int, prompts: int, spread: float) -> tuple[Along, list[Any]]:
    """Two groups whose true difference is 0: prompts, seeds, group and prompt, and sampling all move them."""
    members = [[f"{group}{r}" for r in range(seeds)] for group in "ab"]
    own_P, value, rest = generator.normal(0, 0.3, prompts), {}, {}
    for group in members:
        of_group_P = generator.normal(0, 0.15, prompts)
        for name in group:
            x_P = own_P + of_group_P + generator.normal(0, spread) + generator.normal(0, 0.1, prompts)
            value[name], rest[name] = np.array([x_P.mean()]), ((x_P.sum() - x_P) / (prompts - 1))[None]
    every = np.ones((1, prompts), dtype=bool)
    return Along(value, rest, every, every), members  # type: ignore[arg-type]


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.0, 0.02, 0.1])
def test_intervals_of_groups_cover_prompts_and_seeds(seeds: int, spread: float) -> None:
    generator = np.random.default_rng(6)
    covered = alone = 0
    for _ in range(500):
        seen, (first, second) = simulated(generator, seeds, 64, spread)
        e = estimates(seen, first, second)
        covered += bool(e.low[0] <= 0 <= e.high[0])
        both = [np.mean([64 * seen.value[m][0] - 63 * seen.rest[m][0] for m in g], axis=0) for g in (first, second)]
        by_prompt = mean_interval(both[1] - both[0])
        alone += by_prompt.low <= 0 <= by_prompt.high
        assert e.seeds and e.high[0] - e.low[0] >= 0.999 * (by_prompt.high - by_prompt.low)
    assert 0.92 <= covered / 500 <= 0.985
    if spread == 0.1:
        assert alone / 500 < 0.7, "prompts alone do not"


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_the_variance_counts_sampling_once(spread: float) -> None:
    """Both the spread over prompts and that over seeds hold it."""
    generator = np.random.default_rng(12)
    of_groups = [simulated(generator, 3, 24, spread) for _ in range(1500)]
    found = np.mean([estimates(seen, *groups).error[0] ** 2 for seen, groups in of_groups])
    expected = (2 * 0.15**2 + 2 * 0.1**2 / 3) / 24 + 2 * spread**2 / 3
    assert 0.95 < found / expected < 1.08


def test_of_one_run_a_group_the_estimate_is_the_paired_interval() -> None:
    seen, _ = simulated(np.random.default_rng(7), 1, 20, 0.1)
    e = estimates(seen, ["a0"], ["b0"])  # type: ignore[list-item]
    x_P = [20 * seen.value[m][0] - 19 * seen.rest[m][0] for m in ("a0", "b0")]
    expected = paired_change(x_P[1], x_P[0])
    assert (e.value[0], e.low[0], e.high[0]) == pytest.approx((expected.change, expected.low, expected.high))
    assert not e.seeds
    assert e.p[0] == pytest.approx(scipy_stats.ttest_rel(x_P[1], x_P[0]).pvalue)


def grouped(folder: Path, seeds: int, shift: float, spread: float = 0.02) -> dict[str, list[Path]]:
    generator = np.random.default_rng(8)
    own_P = generator.uniform(0.2, 0.5, 24)
    groups: dict[str, list[Path]] = {"narrow": [], "broad": []}
    for name, r in itertools.product(groups, range(seeds)):
        moved_S = np.array([0, 0.5, 1]) * ((shift if name == "broad" else 0) + generator.normal(0, spread))
        value_SP = own_P + moved_S[:, None] + generator.normal(0, 0.02, (3, 24))
        groups[name].append(run_dirs.write(folder / f"{name}{r}", STEPS, {("sums", "sbert"): value_SP}))
    return groups


def test_groups_are_compared_by_the_mean_of_their_runs(tmp_path: Path) -> None:
    comparison = divmon.compare(grouped(tmp_path, 3, 0.15))
    assert comparison.seeds and list(comparison.groups) == ["narrow", "broad"]
    means = {
        m.name: m.curves.tables["sums", "sbert"].value_SP[-1].mean() for ms in comparison.groups.values() for m in ms
    }
    assert list(means) == [f"{g}/{g}{r}" for g in ("narrow", "broad") for r in range(3)]
    row = of(comparison.differences, at=20, by="step").iloc[0]
    assert row["difference"] == pytest.approx(np.mean(list(means.values())[3:]) - np.mean(list(means.values())[:3]))
    assert row["seeds"] and row["apart"] and "training seeds" in comparison.covers
    assert "They differ beyond prompts and training seeds" in str(comparison)
    level = of(comparison.levels, group="broad", step=20).iloc[0]
    assert level["value"] == pytest.approx(np.mean(list(means.values())[3:])) and level["runs"] == 3 and level["seeds"]


def test_a_difference_within_the_spread_of_the_seeds_is_none_beyond_them(tmp_path: Path) -> None:
    groups = grouped(tmp_path, 2, 0.05, spread=0.1)
    alone = divmon.compare([groups["narrow"][0], groups["broad"][0]])
    assert alone.parting.iloc[0]["p"] < 0.01, "one run a group differ on these prompts"
    assert np.isnan(divmon.compare(groups).parting.iloc[0]["parted_at"])


def test_with_one_run_a_group_it_says_what_the_intervals_do_not_cover(tmp_path: Path) -> None:
    groups = grouped(tmp_path, 2, 0.15)
    for comparison in (
        divmon.compare({name: runs[0] for name, runs in groups.items()}),
        divmon.compare({"narrow": groups["narrow"], "broad": groups["broad"][:1]}),
    ):
        text = " ".join(str(comparison).split())
        assert not comparison.seeds and "cover prompts and sampling, not training seeds" in text
        assert "They differ on these prompts from step" in text
        assert "significant" not in text.lower() and "beyond" not in text
