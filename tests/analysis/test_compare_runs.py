"""`divmon compare` on real runs: two trainings, and runs whose texts went through the pipeline; scoring them again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import run_dirs, runs

import divmon
from divmon import cli
from divmon.callback import DiversityCallback
from divmon.scoring.scorer import Scorer
from divmon.types import Prompt

WAYS = ["That makes", "The answer is", "Adding one gives", "It must be", "We get", "In all", "So there are", "Clearly"]


def styles(narrowing: float, wrong: float = 0.0) -> run_dirs.Draw:
    """Answers in eight ways, fewer as training goes on; `wrong` of them wrong at first."""

    def text(step: int, prompt: Prompt, k: int) -> tuple[str, bool]:
        generator = np.random.default_rng([step, int(prompt.id[1:]), k])
        ways = max(1, round(len(WAYS) * (1 - narrowing * step / 20)))
        right = bool(generator.random() >= wrong * (1 - step / 20))
        answer = int(prompt.gold or 0) if right else int(generator.integers(100, 120))
        return f"{WAYS[generator.integers(ways)]} {answer}.", right

    return text


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs "broad" and "narrow", scored with an encoder."""
    folder, scorer = tmp_path_factory.mktemp("drawn"), Scorer("sbert,ead,duplicates", embedder="minilm", device="cpu")
    for name, narrowing in (("broad", 0.0), ("narrow", 0.9)):
        run_dirs.draw(folder / name, [0, 10, 20], styles(narrowing, wrong=0.5), scorer)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two real fine-tunings of one model, on all rows and on eight."""
    folder = tmp_path_factory.mktemp("trained")
    for name, rows in (("all", runs.ROWS), ("few", runs.ROWS[:8])):
        callback = DiversityCallback(
            runs.PROBES, **{**runs.CHEAP, "metrics": "ead,duplicates,length", "num_samples": 4, "progress": False}
        )
        runs.sft(folder / name, [callback], rows=rows, include_num_input_tokens_seen=True).train()
    return folder


def changed(run: Path, **facts: Any) -> Path:
    """The run with other facts in its manifest."""
    file = run / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **facts}))
    return run


# Real trainings


def test_two_trainings_from_one_model_begin_alike(trained: Path) -> None:
    comparison = divmon.compare([trained / "all", trained / "few"])
    assert comparison.refused.empty and list(comparison.groups) == ["all", "few"]
    first = comparison.differences.query("by == 'step' and at == 0")
    assert len(first) and (first["difference"] == 0).all(), "the same model, the same samples"
    assert set(comparison.differences.query("by == 'step'")["at"]) == {0, 10, 20, 30}
    recorded = divmon.read_run(trained / "few").scores.query("metric == 'ead' and step == 30").iloc[0]
    ours = comparison.curves.query("run == 'few' and metric == 'ead' and step == 30").iloc[0]
    assert (ours["mean"], ours["n"]) == (recorded["mean"], recorded["n"])
    assert np.isnan(ours["low"]) and np.isnan(recorded["low"]), "four prompts"


@pytest.mark.parametrize("axis", ["tokens", "examples"])
def test_trainings_are_matched_by_what_they_read(trained: Path, axis: str) -> None:
    comparison = divmon.compare([trained / "all", trained / "few"], by=axis, metrics="ead")
    rows = comparison.differences
    assert rows["at"].iloc[0] == 0 and rows["at"].is_monotonic_increasing and len(rows) >= 4
    places = comparison.curves.query("run == 'all' and metric == 'ead'").set_index("step")[axis]
    assert places[30] > places[10] > 0
    same = rows[rows["at"] == places[10]].iloc[0]
    assert same["step_first"] == 10


def test_trainings_with_other_options_are_refused_with_the_way_out(trained: Path, tmp_path: Path) -> None:
    callback = DiversityCallback(runs.PROBES, **{**runs.CHEAP, "temperature": 1.0, "every": 0, "progress": False})
    runs.sft(tmp_path / "hot", [callback], max_steps=2).train()
    with pytest.raises(ValueError, match=r"decoding differs: temperature 0\.6 and temperature 1\.0"):
        divmon.compare([trained / "all", tmp_path / "hot"])


# Through the pipeline: verdicts, decomposition, frontier


def test_what_narrowed_is_seen_and_what_it_is_made_of(drawn: Path) -> None:
    comparison = divmon.compare([drawn / "broad", drawn / "narrow"])
    kept = comparison.summary.query("metric == 'sbert'").set_index("group")
    assert kept.loc["narrow", "high"] < 40 < kept.loc["broad", "low"]
    assert comparison.parting.query("metric == 'sbert' and by == 'step'")["parted_at"].item() == 10
    parts = comparison.decomposition.query("run == 'narrow' and metric == 'sbert' and step == 20").set_index("part")
    terms = ["quality_control", "narrowing_correct", "narrowing_wrong", "narrowing_cross"]
    assert parts.loc[terms, "value"].sum() == pytest.approx(parts.loc["change", "value"])
    assert parts.loc["narrowing_correct", "high"] < 0
    best = comparison.frontier.query("metric == 'sbert'").set_index(["run", "step"])["best"]
    assert best[("broad", 20)] and not best[("narrow", 20)]
    text = str(comparison)
    assert "narrowing among correct answers" in text and "sbert at equal accuracy" in text


def test_stages_trained_one_after_the_other_give_a_table_and_one_curve(tmp_path: Path) -> None:
    """Two real trainings, the second from where the first ended, in one run directory."""
    options = {
        **runs.CHEAP,
        "metrics": "ead,duplicates",
        "every": 0,
        "progress": False,
        "output_dir": tmp_path / "line",
    }
    model = runs.model()
    for stage, first, rows in (("sft", 0, runs.ROWS), ("more", 12, runs.ROWS[:4])):
        callback = DiversityCallback(runs.PROBES, stage=stage, first_step=first, **options)
        runs.sft(tmp_path / stage, [callback], trained=model, rows=rows, max_steps=12).train()
    comparison = divmon.compare([tmp_path / "line"])
    table = comparison.stages.query("metric == 'ead' and task == 'mean'")
    assert table["stage"].tolist() == ["base", "sft", "more"] and table["step"].tolist() == [0, 12, 24]
    assert table["change_percent"].iloc[1:].sum() == pytest.approx(table["kept_percent"].iloc[-1] - 100)
    curve = comparison.curves.query("metric == 'ead'").set_index("step")
    assert curve["examples"].tolist() == [0, 48, 96] and curve["stage"].tolist() == ["sft", "sft", "more"]
    text = str(comparison)
    assert "What each stage takes of the base model's ead" in text and "resumed" not in text


# Scoring again


def test_scored_again_alike_is_what_was_recorded(drawn: Path) -> None:
    runs_there = [drawn / "broad", drawn / "narrow"]
    recorded, again = divmon.compare(runs_there), divmon.compare(runs_there, rescore=True)
    for name in ("curves", "differences", "decomposition"):
        one, other = (getattr(c, name).sort_values(list(getattr(c, name).columns[:9])) for c in (recorded, again))
        pd.testing.assert_frame_equal(one.reset_index(drop=True), other.reset_index(drop=True), rtol=1e-6, atol=1e-9)


def test_scored_again_the_difference_of_two_runs_is_split_now_against_now(drawn: Path) -> None:
    comparison = divmon.compare([drawn / "broad", drawn / "narrow"], rescore=True)
    parts = comparison.between.query("metric == 'sbert'").set_index("part")
    terms = ["quality_control", "narrowing_correct", "narrowing_wrong", "narrowing_cross"]
    whole = comparison.differences.query("metric == 'sbert' and by == 'step' and at == 20").iloc[0]
    assert parts.loc[terms, "value"].sum() == pytest.approx(parts.loc["change", "value"])
    assert parts.loc["change", "value"] == pytest.approx(whole["difference"], abs=1e-6)
    assert parts.loc["change", "low"] == pytest.approx(whole["low"], abs=1e-6)
    assert parts.loc["narrowing_correct", "value"] == pytest.approx(whole["difference"], abs=0.02), (
        "all are right by now"
    )
    assert "narrow - broad" in str(comparison) and divmon.compare([drawn / "broad"]).between.empty


def test_scored_again_each_stage_is_split_by_itself(drawn: Path, tmp_path: Path) -> None:
    scorer = Scorer("ead,duplicates,sbert", embedder="minilm", device="cpu")
    chain = {
        "sft": run_dirs.draw(tmp_path / "sft", [0, 10], styles(0.9, wrong=0.5), scorer),
        "rl": run_dirs.draw(tmp_path / "rl", [10, 20], styles(0.9, wrong=0.5), scorer),
    }
    comparison = divmon.compare(chain, chain=True, rescore=True, metrics="sbert")
    changes = comparison.between.query("part == 'change' and first in ['base', 'sft'] and second in ['sft', 'rl']")
    stages = comparison.stages.query("metric == 'sbert' and task == 'sums'").set_index("stage")
    base = comparison.curves.query("run == 'sft' and step == 0 and metric == 'sbert'")["mean"].item()
    expected = stages.loc[["sft", "rl"], "change_percent"].to_numpy() / 100 * base
    assert changes.drop_duplicates(["first", "second"])["value"].tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_runs_of_two_encoders_are_scored_again_with_one(drawn: Path, tmp_path: Path) -> None:
    scorer = Scorer("ead,duplicates", embedder="minilm")
    other = run_dirs.draw(tmp_path / "other", [0, 10, 20], styles(0.9, wrong=0.5), scorer)
    changed(other, encoders={"encoder": "another"}, metrics=["sbert", "ead", "duplicates"])
    pair = [drawn / "broad", other]
    assert "sbert" not in set(divmon.compare(pair).differences["metric"]), "it was never measured in one"
    again, expected = divmon.compare(pair, rescore="minilm"), divmon.compare([drawn / "broad", drawn / "narrow"])
    mine, theirs = (c.differences.query("metric == 'sbert'")["difference"].to_numpy() for c in (again, expected))
    assert mine == pytest.approx(theirs, abs=1e-6)
    assert again.refused.empty


def test_runs_of_other_numbers_of_samples_are_scored_again_by_the_fewest(drawn: Path, tmp_path: Path) -> None:
    scorer = Scorer("ead,duplicates", embedder="minilm")
    four = run_dirs.draw(tmp_path / "four", [0, 10, 20], styles(0.0, wrong=0.5), scorer, num_samples=4)
    eight = run_dirs.draw(tmp_path / "eight", [0, 10, 20], styles(0.0, wrong=0.5), scorer, num_samples=8)
    with pytest.raises(ValueError, match=r"num_samples differs: 8 and 4\. --rescore"):
        divmon.compare([eight, four])
    again = divmon.compare([eight, four], rescore=True)
    shares = again.differences.query("metric == 'distinct_share' and by == 'step'")
    assert len(shares) >= 3 and (shares["difference"] == 0).all(), "of the same draws the first four are the same"
    assert again.curves.query("metric == 'accuracy' and step == 20")["n"].tolist() == [12, 12]


def test_runs_of_two_verifiers_are_judged_again_by_the_firsts(tmp_path: Path) -> None:
    def contrary(step: int, prompt: Prompt, k: int) -> tuple[str, bool]:
        text, right = styles(0.0)(step, prompt, k)
        return text, not right

    pair = []
    for name, rule, text in (("a", "math_answer", styles(0.0)), ("b", "value_match", contrary)):
        pair.append(run_dirs.draw(tmp_path / name, [0, 20], text, Scorer("ead", embedder="minilm")))
        changed(pair[-1], verifiers={"sums": rule})
    recorded = divmon.compare(pair, metrics="ead,accuracy")
    (refused,) = recorded.refused.itertuples()
    assert refused.metrics == "accuracy" and "graded by math_answer" in refused.remedy
    again = divmon.compare(pair, metrics="ead,accuracy", rescore=True)
    for comparison, expected in ((recorded, 0.0), (again, 1.0)):
        accuracy = comparison.curves.query("metric == 'accuracy' and step == 20").set_index("run")["mean"]
        assert accuracy["a"] == 1.0 and accuracy["b"] == expected


def test_texts_that_were_not_kept_whole_are_not_scored_again(tmp_path: Path) -> None:
    def text(step: int, prompt: Prompt, k: int) -> tuple[str, bool]:
        return f"It is {prompt.gold}" + " indeed" * (k + 1 if prompt.id == "p3" else 0), True

    run = run_dirs.draw(tmp_path / "cut", [0, 10], text, Scorer("ead", embedder="minilm"), max_chars=30)
    comparison = divmon.compare([run], rescore=True)
    ead = divmon.compare([run]).curves.query("metric == 'ead'")
    assert ead["n"].tolist() == [12, 12] and comparison.curves.query("metric == 'ead'")["n"].tolist() == [11, 11]
    assert "sums: cut has no sample of 1 of 12 prompts at step 0" in comparison.notes


# The command


def command(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, str, str]:
    code = cli.main(["compare", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_the_command_prints_tables_and_writes_csv(drawn: Path, tmp_path: Path, capsys: Any) -> None:
    code, out, _ = command(capsys, drawn / "broad", drawn / "narrow", "--csv", tmp_path / "tables")
    assert code == 0 and max(map(len, out.splitlines())) < 140
    glance = out.split("\n\n")[0].splitlines()
    assert len(glance) == 3 and "narrow" in glance[2] and re.search(r"step 10, p < 0\.001", glance[2])
    assert "They differ on these prompts from step 10 on, at 2 of 3 evaluations" in out
    frames = divmon.compare([drawn / "broad", drawn / "narrow"]).frames()
    assert {file.stem for file in (tmp_path / "tables").iterdir()} == set(frames)
    read = pd.read_csv(tmp_path / "tables" / "differences.csv")
    pd.testing.assert_series_equal(read["difference"], frames["differences"]["difference"])


def test_the_command_gives_json(drawn: Path, capsys: Any) -> None:
    code, out, _ = command(capsys, f"a={drawn / 'broad'}", f"b={drawn / 'narrow'}", "--json", "--metric", "sbert,ead")
    found = json.loads(out)
    assert code == 0 and found["groups"] == {"a": ["a"], "b": ["b"]} and "not training seeds" in found["covers"]
    assert {row["metric"] for row in found["differences"]} == {"sbert", "ead"}
    assert {row["part"] for row in found["decomposition"]} >= {"change", "narrowing_correct"}


def test_the_command_says_what_it_could_not_compare(drawn: Path, tmp_path: Path, capsys: Any) -> None:
    scorer = Scorer("ead,duplicates", embedder="minilm")
    four = run_dirs.draw(tmp_path / "four", [0], styles(0.0), scorer, num_samples=4)
    code, out, err = command(capsys, drawn / "broad", four)
    assert code == 2 and not out and "num_samples differs: 8 and 4" in err and "--rescore" in err
    code, out, _ = command(capsys, drawn / "broad", drawn / "narrow", four)
    assert code == 3 and "left out: four, sums: num_samples differs" in out and "They differ" in out
    assert command(capsys, drawn / "broad", tmp_path / "none")[0] == 2
    code, _, err = command(capsys, f"a={drawn / 'broad'}", drawn / "narrow")
    assert code == 2 and "give every run a group" in err
    code, _, err = command(capsys, f"a={drawn / 'broad'}", f"a={drawn / 'narrow'}")
    assert code == 2 and "expected each group once" in err
