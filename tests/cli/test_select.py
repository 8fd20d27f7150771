"""`divmon select` on runs whose figures are given: which checkpoint, by which rule, and what is said where none is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import run_dirs

from divmon.cli import main

ACCURACY = np.array([[0.5], [0.78], [0.8], [0.8]]) + np.linspace(-0.1, 0.1, 8) * np.array([[0], [1], [-1], [0.5]])
DIVERSITY = np.repeat([[0.2], [0.15], [0.1], [0.02]], 8, axis=1)


def run(tmp_path: Path, checkpoints: tuple[int, ...] = (10, 20, 30), **facts: object) -> str:
    values = {("sums", name): DIVERSITY for name in ("sbert", "sbert_correct")} | {("sums", "accuracy"): ACCURACY}
    run_dirs.write(tmp_path / "out" / "_divmon", [0, 10, 20, 30], values, **facts)  # type: ignore[arg-type]
    for step in checkpoints:
        checkpoint(tmp_path / "out" / f"checkpoint-{step}")
    return str(tmp_path / "out")


def checkpoint(folder: Path) -> None:
    folder.mkdir()
    (folder / "pytorch_model.bin").write_bytes(b"weights")
    (folder / "trainer_state.json").write_text("{}")


def test_the_most_diverse_of_the_most_accurate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", run(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path}/out/checkpoint-10\n"
    assert "as accurate as step 20, the best at 0.80" in err and "sbert_correct 0.150" in err


@pytest.mark.parametrize(
    ("flags", "step"), [("--step 20", 20), ("--min-accuracy 0.79", 20), ("--metric sbert", 10), ("--task sums", 10)]
)
def test_the_rule_is_the_users(flags: str, step: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", run(tmp_path), *flags.split()]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/out/checkpoint-{step}\n"


def test_only_what_is_kept_is_chosen_and_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", run(tmp_path, (20, 30))]) == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path}/out/checkpoint-20\n"
    assert "step 10 is no candidate: no checkpoint of it is kept" in err
    assert "the rule names step 10" in err and "of which no weights are kept (keep_best=True keeps them)" in err


def test_what_the_callback_kept_is_a_candidate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out" / "_divmon" / "best"
    out = run(tmp_path, (20, 30))
    folder.mkdir()
    (folder / "divmon_best.json").write_text(json.dumps({"step": 10}))
    assert main(["select", out]) == 0
    assert capsys.readouterr().out == f"{folder}\n"


@pytest.mark.parametrize(
    ("checkpoints", "flags", "says"),
    [
        ((), "", "no evaluation has a checkpoint; no checkpoints are kept, and steps 0, 10, 20, 30 were evaluated"),
        ((25,), "", "checkpoints are kept of steps 25"),
        ((20,), "--step 10", "step 10: no checkpoint of it is kept; checkpoints are kept of steps 20"),
        ((20,), "--step 15", "step 15 was not evaluated"),
        ((20,), "--metric vendi", "vendi was not measured at step 0; there are accuracy, sbert, sbert_correct"),
        ((20,), "--task maths", "no task named maths in"),
        ((20,), "--min-accuracy 0.99", "min_accuracy: none reaches 0.99; the most accurate is step 20"),
        ((20,), "--min-accuracy 0.5 --keep 0.5", "expected one of them"),
        ((20,), "--checkpoints nowhere", "there is no folder 'nowhere'"),
    ],
)
def test_what_cannot_be_chosen_is_one_line(
    checkpoints: tuple[int, ...], flags: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["select", run(tmp_path, checkpoints), *flags.split()]) == 2
    out, err = capsys.readouterr()
    assert says in err and out == "" and len(err.splitlines()) == 1


def test_a_checkpoint_that_is_not_whole_is_no_candidate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(tmp_path)
    (tmp_path / "out" / "checkpoint-10" / "trainer_state.json").unlink()
    assert main(["select", out]) == 0
    assert "checkpoint-20" in (said := capsys.readouterr()).out
    assert "checkpoint-10: trainer_state.json, which is written last, is not there" in said.err


def test_steps_of_a_later_stage_are_those_of_its_own_trainer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"num_samples": 8, "max_new_tokens": None, "max_reasoning_tokens": 2048, "first_step": 10}
    assert main(["select", run(tmp_path, (10,), options=options)]) == 0
    assert "step 20: accuracy" in (said := capsys.readouterr()).err and "checkpoint-10" in said.out
