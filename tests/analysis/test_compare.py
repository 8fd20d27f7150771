"""Comparing runs: like with like, paired differences on every axis, groups of seeds, stages, the frontier."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from support import run_dirs

import divmon
from divmon.analysis.comparison.alignment import Task
from divmon.analysis.comparison.contrasts import Along, along, estimates
from divmon.analysis.comparison.frontier import unbeaten
from divmon.analysis.comparison.looks import first_meets, looks
from divmon.analysis.comparison.members import Member
from divmon.analysis.comparison.parting import sign_flips
from divmon.analysis.curves import Curves, Table
from divmon.lineages.published import paper
from divmon.scoring.figures import Registry
from divmon.scoring.stats import mean_interval, paired_change

STEPS = [0, 10, 20]


def figures(seed: int, steps: int = 3, prompts: int = 12, **more: Any) -> dict[tuple[str, str], Any]:
    """Values of one task, of prompts that differ more from one another than steps do."""
    generator = np.random.default_rng(seed)
    own_P = np.random.default_rng(99).uniform(0.2, 0.5, prompts)
    found = {name: own_P + generator.normal(0, 0.05, (steps, prompts)) for name in ("sbert", "ead", "vendi2_at8")}
    return {("sums", name): value for name, value in {**found, **more}.items()}


def two(folder: Path, a: Any, b: Any, steps: Any = STEPS, **of_b: Any) -> Any:
    """A comparison of runs a and b with these figures."""
    one = run_dirs.write(folder / "a", steps, a)
    other = run_dirs.write(folder / "b", of_b.pop("other_steps", steps), b, **of_b)
    return divmon.compare([one, other])


def of(frame: Any, **values: Any) -> Any:
    for name, value in values.items():
        frame = frame[frame[name] == value]
    return frame


# Paired differences at matched steps


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


# Like with like


def refusal(folder: Path, **of_second: Any) -> str:
    with pytest.raises(ValueError, match="nothing can be compared") as error:
        two(folder, figures(0), figures(1), **of_second)
    return str(error.value)


def test_other_decoding_is_refused_with_the_way_out(tmp_path: Path) -> None:
    hotter = {"sums": {**run_dirs.DECODING, "temperature": 1.0, "stop": ["\n"]}}
    said = refusal(tmp_path, facts={step: {"decoding": hotter} for step in STEPS}, decoding=hotter)
    assert "b is left out of sums: decoding differs: temperature 0.6, stop [] and temperature 1.0, stop ['\\n']" in said
    assert "measure the checkpoints again with the same decoding, DiversityMonitor(probes, temperature=0.6, o" in said


STOPPED = {"sums": {**run_dirs.DECODING, "stop": ["\n\n"]}}


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        # An old directory: chat answers were cut by the strings of plain prompts.
        ((True, STOPPED, False), (True, None, True), True),
        ((True, STOPPED, False), (False, STOPPED, False), True),
        # The paper's way, of a base model and a descendant that chats: each ends as its form does.
        ((False, STOPPED, True), (True, None, True), False),
        ((False, STOPPED, False), (True, None, True), False),
        # The same strings, chosen for chat too.
        ((False, STOPPED, True), (True, STOPPED, True), False),
        ((False, STOPPED, True), (False, None, True), True),
    ],
)
def test_answers_cut_by_other_stop_strings_are_not_compared(
    tmp_path: Path, first: Any, second: Any, refused: bool
) -> None:
    for name, seed, (chat, decoding, chosen) in (("a", 0, first), ("b", 1, second)):
        drawn = decoding or {"sums": run_dirs.DECODING}
        facts = {step: {"decoding": drawn} for step in STEPS}
        folder = run_dirs.write(tmp_path / name, STEPS, figures(seed), facts=facts, decoding=drawn, chat=chat)
        if not chosen:  # as divmon wrote it before a probe could say what stops a chat
            manifest = json.loads((folder / "manifest.json").read_text())
            for probe in manifest["probes"]:
                del probe["chat_stop"]
            (folder / "manifest.json").write_text(json.dumps(manifest))
    runs = [tmp_path / "a", tmp_path / "b"]
    if not refused:
        assert divmon.compare(runs).refused.empty
        return
    with pytest.raises(ValueError, match=r"decoding differs: stop .* in (chat|plain text)"):
        divmon.compare(runs)


def test_another_number_of_samples_is_refused(tmp_path: Path) -> None:
    said = refusal(tmp_path, options={"num_samples": 4})
    assert "num_samples differs: 8 and 4. --rescore scores the stored samples of all runs again, alike, by the" in said
    assert "first 4 samples of each prompt" in said


def test_the_larger_reference_is_no_other_number_of_samples(tmp_path: Path) -> None:
    comparison = two(tmp_path, figures(0), figures(1), facts={0: {"num_samples": 32}})
    assert comparison.refused.empty and len(of(comparison.differences, metric="sbert")) == 3


def test_other_prompts_are_refused(tmp_path: Path) -> None:
    assert "it shares no prompt with a" in refusal(tmp_path / "disjoint", first=100)
    b = run_dirs.write(tmp_path / "b", STEPS, figures(1))
    manifest = (b / "manifest.json").read_text()
    (b / "manifest.json").write_text(manifest.replace("What is 3 plus 1?", "What is 3 and 1?"))
    a = run_dirs.write(tmp_path / "a", STEPS, figures(0))
    with pytest.raises(ValueError, match="1 of 12 prompt ids stand for another prompt or gold than in a: p3"):
        divmon.compare([a, b])


def test_runs_that_share_some_prompts_are_compared_on_those(tmp_path: Path) -> None:
    first, second = figures(0), figures(1)
    comparison = two(tmp_path, first, second, first=4)
    assert comparison.notes == ["sums: 8 prompts are not in every run and left out; 8 are compared"]
    row = of(comparison.differences, metric="sbert", at=10).iloc[0]
    expected = paired_change(second["sums", "sbert"][1, :8], first["sums", "sbert"][1, 4:])
    assert (row["difference"], row["low"], row["n"]) == pytest.approx((expected.change, expected.low, 8))
    assert of(comparison.curves, metric="sbert", run="a")["n"].tolist() == [8] * 3


def test_another_encoder_bars_what_hangs_on_it_and_nothing_else(tmp_path: Path) -> None:
    comparison = two(tmp_path, figures(0), figures(1), encoders={"encoder": "mpnet"})
    (refused,) = comparison.refused.itertuples()
    assert refused.run == "b" and set(refused.metrics.split(", ")) == {"sbert", "vendi2_at8"}
    assert refused.reason == "encoder differs: minilm and mpnet" and "--rescore" in refused.remedy
    assert set(comparison.differences["metric"]) == {"ead"}
    assert {"sbert", "ead"} <= set(comparison.curves["metric"]), "each run's own curve stays"


@pytest.mark.parametrize(
    ("setting", "barred"),
    [({"vocab_size": 401}, {"ead"}), ({"verifiers": {"sums": "math_answer"}}, {"accuracy", "sbert_correct"})],
)
def test_another_tokenizer_or_verifier_bars_its_own_figures(
    tmp_path: Path, setting: dict[str, Any], barred: set[str]
) -> None:
    more = {name: np.random.default_rng(3).uniform(size=(3, 12)) for name in ("accuracy", "sbert_correct")}
    comparison = two(tmp_path, figures(0, **more), figures(1, **more), **setting)
    (refused,) = comparison.refused.itertuples()
    assert set(refused.metrics.split(", ")) == barred
    assert set(comparison.differences["metric"]) == {"sbert", "ead", "vendi2_at8", "accuracy", "sbert_correct"} - barred


def test_a_task_of_one_run_alone_is_named_and_the_rest_compared(tmp_path: Path) -> None:
    comparison = two(tmp_path, figures(0), figures(1) | {("more", "sbert"): np.ones((3, 4))})
    assert [(r.run, r.task) for r in comparison.refused.itertuples()] == [("b", "more")]
    assert set(comparison.differences["task"]) == {"sums"}


def test_rollouts_whose_prompts_change_are_refused(tmp_path: Path) -> None:
    runs = [run_dirs.write(tmp_path / name, STEPS, figures(i)) for i, name in enumerate("ab")]
    for run in runs:
        manifest = json.loads((run / "manifest.json").read_bytes())
        (run / "manifest.json").write_text(json.dumps(manifest | {"probes": []}))
    with pytest.raises(ValueError, match="b is left out of sums: a does not ask it a fixed set of prompts"):
        divmon.compare(runs)
    with pytest.raises(ValueError, match="a is left out of sums: a does not ask it a fixed set of prompts"):
        divmon.compare(runs[:1])


def test_a_look_with_too_many_cut_off_is_flagged_and_not_tested(tmp_path: Path) -> None:
    cut = np.array([[0.0] * 12, [0.0] * 12, [0.25] * 12])
    second = figures(1, no_answer=cut)
    second["sums", "sbert"][2] -= 0.3
    comparison = two(tmp_path, figures(0, no_answer=cut * 0), second)
    rows = of(comparison.differences, metric="sbert", by="step")
    assert rows["trouble"].str.contains("b at step 20: 25 % of its completions are truncated").tolist() == [0, 0, 1]
    assert rows["p"].isna().tolist() == [False, False, True] and not rows["apart"].any()
    assert of(comparison.parting, metric="sbert", by="step").iloc[0]["looks"] == 2
    assert set(of(comparison.summary, group="b")["last_step"]) == {10}
    assert any("b at step 20 is NOT COMPARABLE" in note for note in comparison.notes)
    assert "NOT COMPARABLE" in str(comparison)


def test_prompts_that_could_not_be_drawn_are_counted(tmp_path: Path) -> None:
    drawn = np.zeros((3, 12))
    drawn[1, :3] = np.nan
    second = figures(1, no_answer=drawn)
    second["sums", "sbert"][1, :3] = np.nan
    comparison = two(tmp_path, figures(0, no_answer=drawn * 0), second)
    assert "sums: b has no sample of 3 of 12 prompts at step 10" in comparison.notes
    assert of(comparison.differences, metric="sbert", by="step")["n"].tolist() == [12, 9, 12]


def test_wrong_arguments_are_named(tmp_path: Path) -> None:
    a, b = (run_dirs.write(tmp_path / name, STEPS, figures(i)) for i, name in enumerate("ab"))
    with pytest.raises(ValueError, match="by: expected one of step, tokens, examples, accuracy, got 'time'"):
        divmon.compare([a, b], by="time")
    with pytest.raises(ValueError, match="no metric 'berts' with values by prompt; there are ead, sbert, vendi2_at8"):
        divmon.compare([a, b], metrics="sbert,berts")
    with pytest.raises(ValueError, match="no task 'gsm'; there are sums"):
        divmon.compare([a, b], tasks=["gsm"])
    with pytest.raises(ValueError, match="is given twice"):
        divmon.compare([a, a])
    with pytest.raises(ValueError, match="no run is given"):
        divmon.compare([])
    with pytest.raises(FileNotFoundError, match="no divmon run"):
        divmon.compare([a, tmp_path / "none"])
    with pytest.raises(ValueError, match="chain: expected one run for each stage"):
        divmon.compare({"x": [a, b]}, chain=True)
    with pytest.raises(ValueError, match="tokens; compare by step, or set include_num_input_tokens_seen"):
        divmon.compare([a, b], by="tokens")


# Tokens and examples


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


# Equal accuracy


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


def asked(generator: np.random.Generator, prompts: int = 64) -> tuple[Any, Any]:
    """Prompts: how easy each is, and how diverse its answers are."""
    return generator.normal(0, 1.2, prompts), generator.uniform(0.6, 1.4, prompts)


def paths(
    generator: np.random.Generator, prompts: tuple[Any, Any], accuracy_S: Any, diversity_S: Any, samples: int = 16
) -> dict[tuple[str, str], Any]:
    """Figures of a run on these prompts, whose accuracy and diversity spread around the means."""
    odds_P, own_P = prompts
    chance_SP = 1 / (1 + np.exp(-(scipy_stats.norm.ppf(np.array(accuracy_S))[:, None] * 2.2 + odds_P)))
    accuracy_SP = generator.binomial(samples, chance_SP) / samples
    diversity_SP = np.array(diversity_S)[:, None] * own_P * generator.uniform(0.85, 1.15, chance_SP.shape)
    return {("sums", "accuracy"): accuracy_SP, ("sums", "sbert"): diversity_SP}


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


# Groups of seeds


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


# Stages, the frontier, decomposition, composition


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
    published = paper.stage_attribution().query("lineage == 'Think'").set_index("stage")
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
    from divmon.scoring.stats import jackknife

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
