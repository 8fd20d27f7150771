"""The paper's story as the miniature tells it: directions written down before the first run, three seeds.

    DIVMON_LINEAGES=replays pytest -m slow tests/miniature/test_lineages.py

Without DIVMON_LINEAGES everything is run anew, about ten minutes a seed. The numbers are in recipes/olmo3/README.md.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import lineage_figures

from divmon import read_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
"""Beyond the project's limit of 300 s: the replays of a seed count as part of its first test."""

STORY = (
    "seed 2 gives the main teacher of Think-SFT the style with most words to choose, whose nouns the model does not"
    " copy: 117 percent of the base are left, with next to all answers in that style"
)
TASTE = (
    "no judge has a taste here and no teacher the policy's habits, so pairs teach what is right, not a way to say it: "
)
MISSES: dict[str, dict[int, str]] = {
    "test_think_loses_most_of_its_diversity_at_sft": {2: STORY},
    "test_instruct_sft_recovers_part_of_it": {
        0: "it recovers all of it, 104 percent of the base",
        2: f"114 percent are left of 117: nothing was lost; {STORY}",
    },
    "test_dpo_takes_more_from_instruct_than_from_think": {
        0: f"{TASTE}+1.6 points in Think, +4.0 in Instruct",
        1: f"{TASTE}+1.7 and +4.7",
        2: f"{TASTE}-0.2 and +2.7",
    },
    "test_suppressing_thought_changes_accuracy_but_not_the_diversity_of_answers": {
        seed: f"rises by up to {points} percent of the base: wrong answers are of more kinds, stories of other things"
        for seed, points in ((0, 14), (1, 21), (2, 7))
    },
    "test_narrowing_among_correct_answers_is_told_from_mistakes_removed": {2: STORY},
}
"""What did not come out, by seed, and the likely reason."""


@pytest.fixture(scope="module", params=[0, 1, 2], ids=lambda seed: f"seed{seed}")
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = os.environ.get("DIVMON_LINEAGES") or tmp_path_factory.mktemp("lineages")
    out = Path(folder) / f"seed{request.param}"
    lineage_figures.replay(out, request.param)
    lineage_figures.suppress(out, request.param)
    return {"seed": request.param, **lineage_figures.figures(out)}


@pytest.fixture(autouse=True)
def missed(request: pytest.FixtureRequest) -> None:
    if "found" in request.fixturenames:
        seed = request.getfixturevalue("found")["seed"]
        reason = MISSES.get(request.node.originalname, {}).get(seed)
        if reason:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))


def test_the_same_seed_gives_the_same_line(tmp_path: Path) -> None:
    """Every score of RL from the base, in two folders."""
    both = []
    for name in ("one", "two"):
        lineage_figures.replay(tmp_path / name, 0, ["rl_zero_math"])
        both.append(read_run(tmp_path / name / lineage_figures.LINES["rl_zero_math"]).scores)
    pd.testing.assert_frame_equal(*both, check_exact=True)


def lost(kept: dict[str, float], stage: str, before: str | None = None) -> float:
    """Points of the base's diversity that a stage takes."""
    return (kept[before] if before else 100.0) - kept[stage]


def test_the_base_is_right_about_half_of_the_time(found: dict[str, Any]) -> None:
    assert 0.35 <= found["base"]["accuracy"] <= 0.65


def test_think_loses_most_of_its_diversity_at_sft(found: dict[str, Any]) -> None:
    kept = found["kept"]["think"]
    sft, dpo, rl = lost(kept, "sft"), lost(kept, "dpo", "sft"), lost(kept, "rl", "dpo")
    assert sft > 0 and sft > dpo and sft > rl
    assert sft >= 0.5 * lost(kept, "rl")


def test_instruct_sft_recovers_part_of_it(found: dict[str, Any]) -> None:
    kept = found["kept"]["instruct"]
    assert kept["think-sft"] < kept["sft"] < 100


def test_dpo_takes_more_from_instruct_than_from_think(found: dict[str, Any]) -> None:
    think, instruct = found["kept"]["think"], found["kept"]["instruct"]
    assert lost(instruct, "dpo", "sft") > lost(think, "dpo", "sft")


def test_rl_zero_keeps_four_fifths_of_the_base(found: dict[str, Any]) -> None:
    assert found["kept"]["rl_zero_math"]["rl"] >= 80


def test_suppressing_thought_changes_accuracy_but_not_the_diversity_of_answers(found: dict[str, Any]) -> None:
    """By five points of accuracy at least, and five percent of the base's diversity at most, in each stage."""
    for stage, thinking in found["with_thought"].items():
        silent = found["without_thought"][stage]
        assert abs(silent["accuracy"] - thinking["accuracy"]) >= 0.05, stage
        assert abs(silent["diversity"] - thinking["diversity"]) <= 0.05 * found["base"]["diversity"], stage


def test_narrowing_among_correct_answers_is_told_from_mistakes_removed(found: dict[str, Any]) -> None:
    """At the end of Think-SFT both are losses, the narrowing beyond its interval, and the parts add up."""
    terms = found["terms"]
    parts = ("quality_control", "narrowing_correct", "narrowing_wrong", "narrowing_cross")
    assert sum(terms[name]["value"] for name in parts) == pytest.approx(terms["change"]["value"], abs=1e-9)
    assert terms["narrowing_correct"]["high"] < 0
    assert terms["quality_control"]["value"] < 0
