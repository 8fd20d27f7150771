"""Runs and figures that may not be compared, and those that may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import run_dirs
from support.compared import STEPS, figures, of, two

import divmon
from divmon.scoring.intervals import paired_change


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
