"""The decomposition where the truth is known: bias of the terms, coverage of the intervals, and survivor bias."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from support import RESULTS, simulation
from support.simulation import ACCURACIES, SCENARIOS, Setting, world

from divmon.scoring.decomposition import pairs

NARROWING = ("narrowing_correct", "narrowing_wrong", "narrowing_cross")
TABLE = RESULTS / "simulation.txt"


def test_the_truth_is_what_large_samples_give() -> None:
    """The exact formulas themselves: 600 samples of a prompt lie near its population values."""
    here = world("both", ACCURACIES["0.1 to 0.9"])
    some_T, generator = np.arange(60), np.random.default_rng(0)
    for policy in (here.before, here.after):
        distance_PNN, correct_PN = simulation.draw(here, policy, some_T, 600, generator)
        seen = pairs(distance_PNN, correct_PN.tolist())
        np.testing.assert_allclose(seen.weight_PS, policy.weight_PS()[some_T], atol=0.07)
        exact_PS = policy.distance_PS(here.between_PMM)[some_T]
        assert np.abs(seen.distance_PS - exact_PS).mean() < 0.01


def test_the_three_worlds_are_what_they_are_called() -> None:
    truth = {name: world(name, ACCURACIES["0.1 to 0.9"]).truth() for name in SCENARIOS}
    rises, narrows, both = (truth[name] for name in SCENARIOS)
    assert all(rises[name] == pytest.approx(0, abs=1e-15) for name in NARROWING) and rises["quality_control"] < -0.02
    assert narrows["quality_control"] == pytest.approx(0, abs=1e-3) and narrows["narrowing_correct"] < -0.01
    assert both["quality_control"] < -0.02 and both["narrowing_correct"] < -0.02


# Bounds of the small suite: 250 trials put 3 standard errors of a coverage at 4.1 points.
SMALL = [Setting(scenario, "0.1 to 0.9", samples) for scenario in SCENARIOS for samples in (4, 8)]


@pytest.mark.parametrize("setting", SMALL, ids=str)
def test_terms_are_unbiased_and_intervals_cover(setting: Setting) -> None:
    result = simulation.run(setting, 250)
    print(result)
    for name, m in result.terms.items():
        assert abs(m.bias) < 0.2 * m.spread + 4 * m.bias_error, name
        assert 89 <= m.covered_percent <= 99.5, name


def test_survivor_bias_in_the_papers_view_and_none_in_ours() -> None:
    """Nothing narrows and accuracy rises: D_c moves, because other prompts come to have two correct answers."""
    result = simulation.run(Setting("accuracy rises", "0.1 to 0.9", 4), 100)
    before, after = result.d_correct
    assert after - before > 0.01
    m = result.terms["narrowing_correct"]
    assert m.truth == pytest.approx(0, abs=1e-15) and abs(m.bias) < 0.001


SUITE = [
    *(Setting(s, a, k) for s, a, k in product(SCENARIOS, ("0.1 to 0.9", "0.1 to 0.4"), (4, 8, 16))),
    *(Setting(s, "0.1 to 0.9", k, reference_ratio=1) for s, k in product(SCENARIOS, (4, 8, 16))),
]
BEYOND = [Setting(s, "0.02 to 0.1", 8) for s in SCENARIOS]
"""Measured and written down; nothing is promised there, and the decomposition says "mostly unseen"."""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_whole_suite_of_2000_trials() -> None:
    """Coverage of 92 to 97 percent for narrowing among correct answers, 93 to 97 for the other terms, from K = 8 on.

    Writes results/simulation.txt.
    """
    results = [simulation.run(setting, 2000) for setting in SUITE + BEYOND]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n\n".join(map(str, results)) + "\n", encoding="utf-8")
    outside = []
    for result in results[: len(SUITE)]:
        for name, m in result.terms.items():
            lowest = 92 if name in ("narrowing_correct", "correct_pair_change") else 93
            if result.setting.samples >= 8 and not lowest <= m.covered_percent <= 97:
                outside.append(f"{result.setting}: {name} {m.covered_percent:.1f}%")
    assert not outside, "\n".join(outside)
