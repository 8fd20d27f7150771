"""Stages of a lineage, the frontier, and the data beside the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import paper_frames, run_dirs
from support.compared import STEPS, asked, figures, of, paths, two

import divmon
from divmon.analysis.comparison.frontier import unbeaten
from divmon.lineages.published import paper


def test_a_chain_of_runs_with_the_papers_values_gives_the_papers_table(tmp_path: Path) -> None:
    table = paper.tables().query("paper_table == 3").pivot(index="model", columns="task", values="value")
    chain = {}
    for stage, model, before in [
        ("SFT", "think-sft", "base"),
        ("DPO", "think-dpo", "think-sft"),
        ("RL", "think", "think-dpo"),
    ]:
        values = {
            (task, "sbert"): np.repeat(table.loc[[before, model], task].to_numpy()[:, None], 4, 1) for task in table
        }
        chain[stage] = run_dirs.write(tmp_path / model, [0, 10], values)
    stages = of(divmon.compare(chain, chain=True).stages, task="mean", metric="sbert").set_index("stage")
    published = paper_frames.stage_attribution().query("lineage == 'Think'").set_index("stage")
    assert stages.index.tolist() == ["base", "SFT", "DPO", "RL"] and set(stages["tasks"]) == {15}
    assert set(stages["lineage"]) == {"chain"}
    for column in ("change_percent", "kept_percent"):
        assert stages.loc[published.index, column].tolist() == pytest.approx(published[column].tolist())


def test_a_run_that_names_its_stages_gives_the_table_by_itself(tmp_path: Path) -> None:
    generator = np.random.default_rng(9)
    tasks = {task: generator.uniform(0.2, 0.6, (4, 10)) for task in ("sums", "more")}
    facts = {s: {"stage": stage} for s, stage in zip([0, 10, 20, 30], ["sft", "sft", "sft", "dpo"], strict=True)}
    run = run_dirs.write(tmp_path / "line", list(facts), {(t, "sbert"): v for t, v in tasks.items()}, facts=facts)
    stages = divmon.compare(str(run)).stages
    assert of(stages, task="mean")["stage"].tolist() == ["base", "sft", "dpo"]
    assert of(stages, task="mean")["step"].tolist() == [0, 20, 30]
    ratio = {task: 100 * v.mean(1) / v[0].mean() for task, v in tasks.items()}
    dpo = of(stages, stage="dpo").set_index("task")
    assert dpo.loc["sums", "change_percent"] == pytest.approx(ratio["sums"][3] - ratio["sums"][2])
    assert dpo.loc["mean", "kept_percent"] == pytest.approx(np.mean([r[3] for r in ratio.values()]))
    assert dpo.loc["mean", "n"] == 20 and dpo.loc["mean", "tasks"] == 2
    for column in ("change", "kept"):  # of two tasks, each counts half
        reach = {task: dpo.loc[task, f"{column}_high"] - dpo.loc[task, f"{column}_percent"] for task in dpo.index}
        error = np.hypot(reach["sums"], reach["more"]) / 2
        assert 0.85 * error < reach["mean"] <= error


def test_the_interval_of_a_stage_is_the_jackknife_of_its_ratio(tmp_path: Path) -> None:
    value_SP = np.random.default_rng(10).uniform(0.2, 0.6, (2, 10))
    run = run_dirs.write(
        tmp_path / "a", [0, 9], {("sums", "sbert"): value_SP}, facts={0: {"stage": "s"}, 9: {"stage": "s"}}
    )
    row = of(divmon.compare([run]).stages, stage="s", task="sums").iloc[0]
    from divmon.scoring.intervals import jackknife

    expected = jackknife(lambda v_P2: float(100 * v_P2[:, 1].mean() / v_P2[:, 0].mean()), value_SP.T)
    assert (row["kept_percent"], row["kept_low"], row["kept_high"]) == pytest.approx(
        (expected.value, expected.low, expected.high)
    )
    assert row["change_percent"] == pytest.approx(row["kept_percent"] - 100)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_the_frontier_holds_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    def beaten(p: tuple[int, int]) -> bool:
        return any(q[0] >= p[0] and q[1] >= p[1] and q != p for q in points)

    assert unbeaten(points).tolist() == [not beaten(p) for p in points]


def test_the_frontier_has_accuracy_and_diversity_of_every_snapshot(tmp_path: Path) -> None:
    generator = np.random.default_rng(11)
    prompts = asked(generator)
    one, other = (paths(generator, prompts, [0.4, 0.6, 0.8], d) for d in ([0.4, 0.3, 0.2], [0.4, 0.35, 0.1]))
    comparison = two(tmp_path, one, other)
    points = comparison.frontier.set_index(["run", "step"])
    assert len(points) == 6 and set(points["metric"]) == {"sbert"}
    assert points.loc[("b", 10), "value"] == pytest.approx(other["sums", "sbert"][1].mean())
    assert points.loc[("a", 20), "accuracy"] == pytest.approx(one["sums", "accuracy"][2].mean())
    assert points["best"].tolist() == unbeaten(points[["accuracy", "value"]].to_numpy()).tolist()


def test_each_runs_training_data_stands_beside_its_result(tmp_path: Path) -> None:
    sources = [
        {"name": name, "rows": rows, "tokens": 10 * rows, "within": {"sbert": apart}}
        for name, rows, apart in (("web", 30, 0.5), ("teacher", 90, 0.1))
    ]
    data = {
        "rows": 120,
        "tokens": 1200,
        "unit": "tokens",
        "fingerprint": "f",
        "sources": sources,
        "warning": "homogeneous",
    }
    comparison = two(tmp_path, figures(0), figures(1), data={"train": data})
    rows = comparison.composition.set_index("source")
    assert set(rows["run"]) == {"b"} and rows.loc["teacher", "token_share"] == 0.75
    assert "b: 75 % teacher (sbert 0.100), 25 % web (sbert 0.500), of 1,200 tokens" in str(comparison)
    assert "homogeneous" in str(comparison)
    stages = {0: {"stage": "sft"}, 10: {"stage": "sft"}, 20: {"stage": "dpo"}}
    other = run_dirs.write(tmp_path / "c", STEPS, figures(2), facts=stages, data={"sft": data, "dpo": data})
    assert divmon.compare([other]).composition["from_step"].tolist() == [0, 0, 20, 20]
    began = {"sft": data | {"from_step": 0}, "dpo": data | {"from_step": 10}}
    third = run_dirs.write(tmp_path / "d", STEPS, figures(2), facts=stages, data=began)
    assert divmon.compare([third]).composition["from_step"].tolist() == [0, 0, 10, 10], "it began where the other ended"


def test_prompts_that_are_rendered_differently_are_compared_and_it_is_said(tmp_path: Path) -> None:
    comparison = two(tmp_path, figures(0), figures(1), rendered_prompt="<user>What is 0 plus 1?")
    assert len(comparison.differences) and comparison.notes == [
        "a and b see their prompts rendered differently (chat template, system prompt or reasoning); they are compared"
        " all the same"
    ]


def test_room_to_reason_may_differ_and_is_said(tmp_path: Path) -> None:
    more = {"sums": {**run_dirs.DECODING, "max_new_tokens": 64 + 2048}}
    comparison = two(
        tmp_path, figures(0), figures(1), decoding=more, facts={step: {"decoding": more} for step in STEPS}
    )
    assert comparison.refused.empty and len(comparison.differences)
    assert comparison.notes == ["sums: tokens to reason with, which are not scored, differ: a 0, b 2,048"]


def test_three_runs_are_compared_in_pairs(tmp_path: Path) -> None:
    runs = [run_dirs.write(tmp_path / name, STEPS, figures(i)) for i, name in enumerate("abc")]
    comparison = divmon.compare(runs)
    pairs = comparison.differences[["first", "second"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [["a", "b"], ["a", "c"], ["b", "c"]]
    assert str(comparison).count("They differ") + str(comparison).count("No difference") == 3


def test_one_run_is_shown_without_a_comparison(tmp_path: Path) -> None:
    comparison = divmon.compare([run_dirs.write(tmp_path / "a", STEPS, figures(0))])
    assert comparison.differences.empty and comparison.parting.empty and len(comparison.curves) == 9
    assert "diverges" not in str(comparison) and "cover prompts" not in str(comparison)
