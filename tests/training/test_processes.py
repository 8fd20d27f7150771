"""Two real processes: shares of the prompts, one that fails, is late or hangs, a training that notices nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from support import SUPPORT, forks, runs

import divmon
from divmon import DiversityCallback
from divmon.types import Sample


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs of `ranks.py`, in two processes."""
    out = tmp_path_factory.mktemp("ranks")
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = forks.run(["ranks.py", str(out)], cwd=SUPPORT, env=env, ranks=2)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return out


def read(run: Path) -> Any:
    return divmon.read_run(run)


def samples_at(run: Path, step: int) -> list[Sample]:
    from divmon.storage.writer import Store

    return Store(run / "_divmon").read(step).samples


def missing_at(run: Path, step: int) -> dict[tuple[str, str], str]:
    from divmon.storage.writer import Store

    return Store(run / "_divmon").read(step).missing


def failures(run: Path, rank: int) -> list[Any]:
    return json.loads((run / f"failures{rank}.json").read_text())


@pytest.mark.parametrize("name", ["three", "one", "main_alone", "unlucky", "later", "hanging"])
def test_training_is_the_same_run_whatever_becomes_of_the_measurements(ran: Path, name: str) -> None:
    expected = torch.load(ran / "without" / "weights.pt")
    found = torch.load(ran / name / "weights.pt")
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert json.loads((ran / name / "rows.json").read_text()) == json.loads((ran / "without" / "rows.json").read_text())


@pytest.mark.parametrize(("name", "prompts"), [("three", 3), ("one", 1), ("main_alone", 3)])
def test_uneven_shares_and_a_process_without_any(ran: Path, name: str, prompts: int) -> None:
    for step, each in ((0, 4), (6, 2), (12, 2)):
        drawn = [(s.prompt_id, s.index) for s in samples_at(ran / name, step)]
        assert drawn == [(f"p{p}", k) for p in range(prompts) for k in range(each)]
        assert not missing_at(ran / name, step)
    assert failures(ran / name, 0) == failures(ran / name, 1) == []


def test_samples_do_not_depend_on_the_number_of_processes(ran: Path, tmp_path: Path) -> None:
    probes = [{"id": f"p{i}", "prompt": row["prompt"]} for i, row in enumerate(runs.ROWS[:3])]
    options = {**runs.CHEAP, "metrics": "ead,length,token_entropy,cross_entropy"}
    callback = DiversityCallback(probes, output_dir=str(tmp_path / "_divmon"), progress=False, **options)
    runs.sft(tmp_path, [callback], max_steps=1).train()
    for metric in ("token_entropy", "own_nll", "reference_nll"):
        alone, together = (read(run).read(0).score("prompts", metric).values for run in (tmp_path, ran / "three"))
        assert len(alone) == 3 and alone == pytest.approx(together, abs=1e-4)
    assert samples_at(tmp_path, 0) == samples_at(ran / "three", 0) == samples_at(ran / "main_alone", 0)
    assert samples_at(ran / "three", 12) == samples_at(ran / "main_alone", 12)


def test_stored_completions_are_scored_between_measurements_in_all_processes(ran: Path) -> None:
    scores = read(ran / "three").scores
    lost = scores[scores["metric"] == "forward_kl"].set_index("step")
    assert {0, 6, 12} < set(lost.index) and set(lost["n"]) == {3}
    assert lost.loc[0, "mean"] == 0 and lost.loc[12, "mean"] != 0


def test_what_a_process_could_not_draw_is_missing_with_its_reason(ran: Path) -> None:
    for step in (0, 2):
        assert {s.prompt_id for s in samples_at(ran / "unlucky", step)} == {"p0", "p2"}
        assert missing_at(ran / "unlucky", step) == {("prompts", "p1"): "process 1: RuntimeError: no luck here"}
    for step in (10, 12):
        assert {s.prompt_id for s in samples_at(ran / "unlucky", step)} == {"p0", "p1", "p2"}


def test_what_was_not_drawn_in_time_is_missing(ran: Path) -> None:
    assert {s.prompt_id for s in samples_at(ran / "unlucky", 4)} == {"p0", "p2"}
    ((key, reason),) = missing_at(ran / "unlucky", 4).items()
    assert key == ("prompts", "p1")
    assert "timeout=" in reason


def test_a_process_that_hangs_ends_the_measurements_and_not_the_run(ran: Path) -> None:
    assert read(ran / "hanging").steps == [0]
    for rank in (0, 1):
        ((step, reason),) = failures(ran / "hanging", rank)
        assert step == 6
        assert "could not measure together" in reason


def test_a_failure_of_the_main_process_costs_that_measurement_only_and_keeps_nobody_waiting(ran: Path) -> None:
    """After all have drawn, and before it has said whether to measure."""
    assert read(ran / "unlucky").steps == [0, 2, 4, 10, 12]
    assert failures(ran / "unlucky", 0) == [[6, "RuntimeError: scoring failed"], [8, "OSError: the disk is gone"]]
    assert failures(ran / "unlucky", 1) == []


def test_all_processes_train_while_the_main_one_scores_and_act_on_its_alert_one_step_later(ran: Path) -> None:
    assert failures(ran / "later", 0) == failures(ran / "later", 1) == []
    assert [read(ran / "later").read(step).provenance.get("scored_while_training") for step in (0, 6, 12)] == [
        None, True, None,
    ]  # fmt: skip
    assert samples_at(ran / "later", 6) == samples_at(ran / "main_alone", 6)
    assert [folder.name for folder in (ran / "later").glob("checkpoint-*")] == ["checkpoint-7"]
    assert len(list((ran / "later" / "checkpoint-7").glob("rng_state_*.pth"))) == 2, "each process saves its own"


def test_an_option_that_is_wrong_in_one_process_is_an_error_in_all(ran: Path) -> None:
    assert "no chat template" in (ran / "unlike" / "error1.txt").read_text()
    message = (ran / "unlike" / "error0.txt").read_text()
    assert "process 1 cannot measure, so none does" in message
    assert "no chat template" in message


def test_a_process_that_is_left_alone_is_told_why(ran: Path) -> None:
    message = (ran / "alone.txt").read_text()
    assert "this is process 0 of 2" in message
    assert "every process" in message
