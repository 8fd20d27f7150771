"""TRL's own files of completions: the reader and the live tap agree, and what is no batch of training is left out."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support import rl_runs

import divmon
from divmon import cli
from divmon.scoring.scorer import Scorer
from divmon.training.rollouts import Rollouts
from divmon.training.rollouts.groups import Draw
from divmon.training.rollouts.scores import GroupScorer
from divmon.training.rollouts.trl_completions_log import read_completions
from divmon.training.rollouts.verdicts import GroupJudge

BY_NAME = {"parity": 0.5}


def format_reward(completions: list[str], **_: Any) -> list[float | None]:
    """A second reward, which has nothing to say of some completions."""
    return [None if not text else 0.2 * (len(text) % 3) for text in completions]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """A GRPO run that logged its completions, with the live tap's snapshots of the same steps."""
    out, taken = tmp_path_factory.mktemp("run"), []
    options = {"metrics": "ead,length,sbert", "resources": {"embedder": "minilm"}, "encoder_share": None}
    rollouts = Rollouts(**options, threshold=BY_NAME, min_groups=1)
    trainer = rl_runs.trainer(
        "grpo",
        out,
        [rl_runs.tap(rollouts, None, taken)],
        rewards=[rl_runs.parity, format_reward],
        log_completions=True,
        logging_steps=1,
        per_device_train_batch_size=16,
        max_steps=4,
    )
    trainer.train()
    return out, taken


def test_the_live_tap_and_the_reader_agree(run: tuple[Path, list[Any]]) -> None:
    """One batch a step, so each file holds all that the tap saw; by files alone the cut-off ones are wrong."""
    out, taken = run
    log = read_completions(out)
    assert (log.names, log.num_generations, log.left_out) == (["parity", "format_reward"], 4, {})
    assert log.steps == [snapshot.step for snapshot in taken] == [1, 2, 3, 4]
    scorer = Scorer("ead,length,sbert", embedder="minilm", device="cpu", vocab_size=400)
    scoring = GroupScorer(scorer, GroupJudge(log.names, threshold=BY_NAME))
    no_answer = 0
    for live in taken:
        draw = Draw(64, 0)
        for group in log.groups(live.step):
            draw.add(group)
        after = scoring.snapshot(draw.take(), live.step)
        assert [(s.prompt_id, s.index, s.text) for s in after.samples] == [
            (s.prompt_id, s.index, s.text) for s in live.samples
        ]
        for a, b, sample in ((a.verdict, b.verdict, b) for a, b in zip(after.samples, live.samples, strict=True)):
            assert a.correct == (False if b.correct is None else b.correct) and (b.correct is not None or cut(sample))
            no_answer += b.correct is None
        scores = {score.metric: score for score in after.scores}
        for metric in (
            "ead",
            "length_words",
            "sbert",
            "sbert_correct",
            "reward",
            "reward_std",
            "frac_reward_zero_std",
            "empty",
        ):
            theirs = live.score("rollouts", metric)
            assert scores[metric].values == pytest.approx(theirs.values, abs=1e-6, nan_ok=True), metric
            assert (scores[metric].low, scores[metric].n) == (
                pytest.approx(theirs.low, abs=1e-6, nan_ok=True),
                theirs.n,
            )
        for metric in ("truncated", "clipped_ratio"):
            assert math.isnan(scores[metric].mean) and scores[metric].n == 0, "not known is not zero"
        assert scores["accuracy"].mean == pytest.approx(live.score("rollouts", "accuracy_no_answer_wrong").mean)
    assert no_answer, "some gave no answer"


def cut(sample: Any) -> bool:
    return sample.finish == "length"


def test_evaluation_that_overwrote_a_file_is_left_out(tmp_path: Path) -> None:
    """At step 2 evaluation overwrites training's file, and at step 3 its completions are still the last ones."""
    trainer = rl_runs.trainer(
        "grpo", tmp_path, log_completions=True, logging_steps=1, max_steps=4, num_generations_eval=2,
        steps_per_generation=4, eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=4,
    )  # fmt: skip
    trainer.train()
    log = read_completions(tmp_path)
    assert log.steps == [1]
    assert "evaluation ran" in log.left_out[2] and "again" in log.left_out[3] and "evaluation ran" in log.left_out[4]
    shutil.rmtree(tmp_path / "checkpoint-4")
    log = read_completions(tmp_path, num_generations=4)
    assert log.steps == [1] and "2, 4 times in a row, not 4" in log.left_out[2], "by size"


def written(folder: Path, step: int, prompts: list[Any], completions: list[Any], **columns: Any) -> None:
    (folder / "completions").mkdir(parents=True, exist_ok=True)
    n = len(prompts)
    table = {"step": [step] * n, "prompt": prompts, "completion": completions, **columns, "advantage": [0.0] * n}
    pd.DataFrame(table).to_parquet(folder / "completions" / f"completions_{step:05d}.parquet")


def test_conversations_and_columns_that_are_no_rewards(tmp_path: Path) -> None:
    prompts = [[{"role": "user", "content": text}] for text in ("a", "a", "b", "b")]
    completions = [[{"role": "assistant", "content": text, "tool_calls": None}] for text in "wxyz"]
    written(
        tmp_path, 3, prompts, completions, good=[1.0, np.nan, 0.0, 1.0], gold=["4", "4", "5", "5"], seconds=[0.5] * 4
    )
    log = read_completions(tmp_path, rewards=["good"])
    first, second = log.groups(3)
    assert first.prompt == [{"role": "user", "content": "a"}]
    assert first.completions[1] == [{"role": "assistant", "content": "x"}]
    assert second.row == {"gold": "5", "seconds": 0.5}
    assert math.isnan(first.rewards[1][0]) and second.rewards == [[0.0], [1.0]]
    assert read_completions(tmp_path).names == ["good", "seconds"]
    with pytest.raises(ValueError, match="step 3 has no column 'best'; columns of numbers are good, seconds"):
        read_completions(tmp_path, rewards=["best"])


def test_what_cannot_be_told_is_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="log_completions=True"):
        read_completions(tmp_path)
    written(tmp_path, 1, list("abcd"), list("wxyz"), reward=[0.0] * 4)
    with pytest.raises(ValueError, match="give num_generations"):
        read_completions(tmp_path)
    (tmp_path / "completions" / "completions_00002.parquet").write_bytes(b"PAR1 half")
    written(tmp_path, 3, ["a", "a", "b", "b"], list("wxyz"), reward=[0.0] * 4)
    log = read_completions(tmp_path, num_generations=2)
    assert log.steps == [3] and set(log.left_out) == {1, 2}
    assert "cannot be read" in log.left_out[2] and "1 times in a row, not 2" in log.left_out[1]
    assert read_completions(tmp_path / "completions", 2).steps == [3], "the folder itself will do"


def test_the_command_prints_writes_and_tells_what_it_left_out(
    run: tuple[Path, list[Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, taken = run
    command = ["rollouts", str(out), "--embedder", "minilm", "--threshold", "parity=0.5", "--metrics", "ead,sbert"]
    assert cli.main([*command, "--out", str(tmp_path / "afterwards")]) == 0
    shown = capsys.readouterr().out
    assert "groups of 4 completions; rewards: parity, format_reward; correct: parity above 0.5" in shown
    row = next(line.split() for line in shown.splitlines() if line.startswith("4 "))
    assert row[2] == f"{taken[-1].score('rollouts', 'reward').mean:.3f}"
    assert "step 4 since step 1, unpaired" in shown and "sbert/narrowing_correct" in shown
    stored = divmon.read_run(tmp_path / "afterwards")
    assert stored.steps == [1, 2, 3, 4] and stored.manifest["kind"] == "rollouts"
    assert set(stored.samples.finish) == {"unknown"} and stored.samples.n_tokens.isna().all()
    assert stored.read(4).changes

    assert cli.main([*command, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [step["step"] for step in report["steps"]] == [1, 2, 3, 4] and report["num_generations"] == 4
    last = report["steps"][-1]
    assert last["metrics"]["reward"]["mean"] == pytest.approx(taken[-1].score("rollouts", "reward").mean)
    assert last["metrics"]["truncated"] == {"mean": None, "n": 0, "ci95": [None, None]}
    assert last["decomposition"]["sbert"]["paired"] is False

    shutil.copytree(out, tmp_path / "copy")
    (tmp_path / "copy" / "completions" / "completions_00002.parquet").write_bytes(b"")
    assert cli.main([*command[:1], str(tmp_path / "copy"), "--metrics", "ead"]) == 3
    told = capsys.readouterr()
    assert "step 2 left out: completions_00002.parquet cannot be read" in told.err
    assert "not judged right or wrong: rewards are of 2 functions" in told.err and "accuracy" not in told.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere"], "no completions_*.parquet"),
        (["RUN", "--threshold", "accuracy=1"], "no reward function named 'accuracy'; there are parity, format_reward"),
        (["RUN", "--weights", "1"], "expected one for each of parity, format_reward"),
        (["RUN", "--rewards", "best"], "has no column 'best'"),
        (["RUN", "--num-generations", "3"], "times in a row, not 3"),
    ],
)
def test_wrong_usage_is_named(
    run: tuple[Path, list[Any]], arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(run[0]) if argument == "RUN" else argument for argument in arguments]
    assert cli.main(["rollouts", *given, "--metrics", "ead"]) == 2
    assert says in capsys.readouterr().err


def test_a_gold_answer_that_a_reward_function_logged_can_be_judged_by(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = ["so 4", "it is 5", "7", "7", "8", "8"]
    written(tmp_path, 1, ["2+2?"] * 2 + ["3+4?"] * 4, texts, reward=[0.3] * 6, gold=["4"] * 2 + ["7"] * 4)
    arguments = ["rollouts", str(tmp_path), "--verifier", "value_match", "--metrics", "ead", "--json"]
    assert cli.main([*arguments, "--num-generations", "2"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["correctness"] == "correct: by the verifier value_match"
    assert report["steps"][0]["metrics"]["accuracy"]["n"] == 3


def test_a_null_completion_has_no_answer_and_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path, 1, ["2+2?"] * 2 + ["3+4?"] * 2, ["so 4", None, "7", "8"], reward=[1.0, 0.0, 1.0, 0.0])
    assert cli.main(["rollouts", str(tmp_path), "--metrics", "ead,length", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["steps"][0]["metrics"]
    assert figures["ead"]["n"] == 1 and figures["reward"]["n"] == 2


def test_whole_numbers_are_rewards_and_whole_reference_answers_are_not(tmp_path: Path) -> None:
    texts = ["4", "5", "7", "8"]
    written(tmp_path, 1, ["2+2?"] * 2 + ["3+4?"] * 2, texts, right=[1, 0, 1, 0], answer=[4, 4, 7, 7])
    log = read_completions(tmp_path)
    assert log.names == ["right"]
    assert [group.rewards for group in log.groups(1)] == [[[1.0], [0.0]], [[1.0], [0.0]]]
    assert read_completions(tmp_path, rewards=["answer"]).names == ["answer"]


def test_few_shared_prompts_are_compared_unpaired_and_it_is_said_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for step, first in ((1, 0), (2, 3)):
        prompts = [f"{first + i // 2}?" for i in range(8)]
        written(tmp_path, step, prompts, [f"{step} {i}" for i in range(8)], reward=[0.0, 1.0] * 4)
    assert cli.main(["rollouts", str(tmp_path), "--metrics", "ead", "--json"]) == 0
    how = json.loads(capsys.readouterr().out)["steps"][1]["compared"]
    assert how == "since step 1, unpaired: the prompts of the two windows differ but for 1"


def test_other_formats_of_the_same_rows(run: tuple[Path, list[Any]], tmp_path: Path) -> None:
    """A file a step or one with all, by the names of others: the same groups."""
    out, _ = run
    log = read_completions(out)
    tables = {step: pd.read_parquet(file) for step, file in log.files.items()}
    for step, table in tables.items():
        table.to_json(tmp_path / f"completions_{step:05}.jsonl.gz", orient="records", lines=True)
    whole = tmp_path / "all.csv"
    named = {"completion": "response", "step": "global_step"}
    pd.concat(tables.values()).rename(columns=named).to_csv(whole, index=False)
    for other in (tmp_path, whole):
        read = read_completions(other, rewards=log.names)
        assert (read.steps, read.num_generations) == (log.steps, log.num_generations)
        for step in log.steps:
            texts, same = ([group.completions for group in one.groups(step)] for one in (read, log))
            assert texts == same
            rewards, theirs = (np.array([group.rewards for group in one.groups(step)]) for one in (read, log))
            assert np.allclose(rewards, theirs, equal_nan=True)
