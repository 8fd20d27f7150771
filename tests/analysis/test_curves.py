"""Curves: where snapshots lie on each axis, figures on some of the prompts, and what is not comparable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import run_dirs

from divmon.analysis.curves import Curves, left_out
from divmon.scoring.figure_registry import Registry
from divmon.scoring.intervals import jackknife, within_bounds
from divmon.storage.reader import read_run

values = st.lists(st.floats(0.1, 9) | st.just(float("nan")), min_size=1, max_size=9)


@settings(deadline=None)
@given(values, st.sampled_from(["mean", "harmonic_mean"]))
def test_leaving_out_each_prompt_equals_computing_it_anew_without(value_P: list[float], how: str) -> None:
    whole, rest_P = left_out(np.array(value_P), how)
    assert whole == pytest.approx(jackknife(how, value_P).value, nan_ok=True)
    anew = [jackknife(how, np.delete(value_P, p)).value for p in range(len(value_P))]
    assert rest_P == pytest.approx(anew, nan_ok=True)


def test_leaving_out_works_on_whole_tables() -> None:
    value_SP = np.random.default_rng(0).uniform(size=(3, 5))
    value_SP[1, 2] = np.nan
    whole_S, rest_SP = left_out(value_SP)
    for s in range(3):
        one, rest = left_out(value_SP[s])
        assert whole_S[s] == one and rest_SP[s].tolist() == rest.tolist()


def test_a_curve_has_the_recorded_means_and_its_place_on_every_axis(tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    figures = {("sums", name): generator.uniform(size=(3, 6)) for name in ("sbert", "accuracy", "vendi2_at8")}
    facts = {0: {"examples": 0, "tokens": None, "epoch": 0.0}, 10: {"examples": 80, "tokens": 900, "epoch": 0.5}}
    facts[20] = {"examples": 160, "tokens": 1800, "epoch": 1.0}
    run = read_run(run_dirs.write(tmp_path / "a", [0, 10, 20], figures, facts=facts))
    frame = Curves(run).frame()
    recorded = run.scores.merge(frame, on=["step", "task", "metric"])
    assert len(recorded) == len(run.scores) == len(frame) == 9
    for name in ("mean", "low", "high", "n"):
        pd.testing.assert_series_equal(recorded[f"{name}_x"], recorded[f"{name}_y"], check_names=False)
    last = frame[(frame["step"] == 20) & (frame["metric"] == "sbert")].iloc[0]
    assert (last["examples"], last["tokens"], last["epoch"]) == (160, 1800, 1.0)
    assert last["accuracy"] == pytest.approx(figures["sums", "accuracy"][2].mean())
    assert frame.loc[frame["step"] == 0, "tokens"].tolist() == [0.0] * 3, "nothing was read before the first step"
    assert (frame["trouble"] == "").all()


def test_on_some_prompts_it_is_the_mean_over_those(tmp_path: Path) -> None:
    figures = {("sums", name): np.random.default_rng(2).uniform(0.1, 1, (2, 7)) for name in ("sbert", "vendi2_at8")}
    curves = Curves(read_run(run_dirs.write(tmp_path / "a", [0, 10], figures)))
    frame = curves.frame(prompts={"sums": ["p4", "p1", "p2", "p6", "p0"]}).set_index(["step", "metric"])
    for (_, name), value_SP in figures.items():
        expected = jackknife(Registry()[name].aggregate, value_SP[1, [0, 1, 2, 4, 6]])
        row = frame.loc[(10, name)]
        assert (row["mean"], row["low"], row["high"], row["n"]) == pytest.approx(
            (expected.value, *within_bounds(expected.value, expected.low, expected.high, Registry()[name].bounds), 5)
        )
    assert curves.frame(prompts={}).empty and set(curves.frame(["sbert"])["metric"]) == {"sbert"}


def test_tokens_and_examples_count_on_over_the_stages_of_a_lineage(tmp_path: Path) -> None:
    facts = {
        step: {"stage": stage, "examples": examples, "tokens": 10 * examples or None}
        for step, stage, examples in [(0, "sft", 0), (50, "sft", 400), (60, "dpo", 20), (70, "dpo", 40), (80, "rl", 5)]
    }
    run = read_run(run_dirs.write(tmp_path / "a", list(facts), {("sums", "sbert"): np.ones((5, 3))}, facts=facts))
    positions = Curves(run).positions
    assert positions["examples"].tolist() == [0, 400, 420, 440, 445]
    assert positions["tokens"].tolist() == [0, 4000, 4200, 4400, 4450]
    assert positions["stage"].tolist() == ["sft", "sft", "dpo", "dpo", "rl"]


def test_what_must_not_be_compared_says_why(tmp_path: Path) -> None:
    no_answer_SP = np.array([[0.1] * 4, [0.2] * 4, [0.0] * 4])
    figures = {("sums", "sbert"): np.ones((3, 4)), ("sums", "no_answer"): no_answer_SP}
    facts = {20: {"suspicion": "all completions are empty"}}
    troubles = Curves(read_run(run_dirs.write(tmp_path / "a", [0, 10, 20], figures, facts=facts))).troubles
    assert set(troubles) == {(10, "sums"), (20, "sums")}, "a share of 10 percent is not above it"
    assert "20 % of its completions are truncated before their answer, at 64 tokens; raise" in troubles[10, "sums"]
    assert "sampler may be at fault: all completions are empty" in troubles[20, "sums"]


def test_snapshots_before_a_resume_with_other_options_are_not_comparable(tmp_path: Path) -> None:
    hotter = {**run_dirs.DECODING, "temperature": 1.0}
    facts = {30: {"decoding": {"sums": hotter}}}
    values = {("sums", "sbert"): np.ones((3, 4))}
    run = run_dirs.write(tmp_path / "a", [0, 20, 30], values, facts=facts, resumed=(20, {"decoding": {"sums": hotter}}))
    troubles = Curves(read_run(run)).troubles
    assert set(troubles) == {(0, "sums"), (20, "sums")}
    assert "other settings than step 30: decoding differs: temperature 1.0 and temperature 0.6" in troubles[0, "sums"]
    other = run_dirs.write(tmp_path / "c", [0, 20, 30], values, resumed=(20, {"encoders": {"encoder": "mpnet"}}))
    assert "encoder differs: mpnet and minilm" in Curves(read_run(other)).troubles[20, "sums"]
    same = run_dirs.write(tmp_path / "b", [0, 20, 30], values, resumed=(20, {}))
    assert Curves(read_run(same)).troubles == {}


def test_room_to_reason_is_no_other_limit_of_the_answer(tmp_path: Path) -> None:
    more = {**run_dirs.DECODING, "max_new_tokens": 64 + 2048}
    run = run_dirs.write(
        tmp_path / "a", [0, 10], {("sums", "sbert"): np.ones((2, 4))}, facts={10: {"decoding": {"sums": more}}}
    )
    assert Curves(read_run(run)).troubles == {}
