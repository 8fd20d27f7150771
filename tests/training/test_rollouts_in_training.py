"""DiversityCallback(rollouts=True): rollouts and probes side by side, the training the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import rl_runs, runs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import divmon
from divmon import DiversityCallback

ONLY = {"every": 0, "at_start": False, "at_end": False}


def train(kind: str, out: Path, callbacks: Any = (), **args: Any) -> Any:
    trainer = rl_runs.trainer(kind, out, callbacks, rewards=[rl_runs.parity, rl_runs.drawn], **args)
    trainer.train()
    return trainer


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_rollouts_and_probes_are_logged_and_training_is_the_same(tmp_path: Path, kind: str) -> None:
    options = {**runs.CHEAP, "every": 4, "metrics": "ead,sbert,length", "embedder": "minilm"}
    monitor = DiversityCallback(
        runs.PROBES, rollouts=True, rollout_threshold=0.5, on_error="raise", progress=False, **options
    )
    ours = train(kind, tmp_path / "with", [monitor], report_to="tensorboard")
    theirs = train(kind, tmp_path / "without")
    assert runs.log_rows(ours) == runs.log_rows(theirs)
    expected = runs.weights(theirs)
    assert all(torch.equal(weight, expected[name]) for name, weight in runs.weights(ours).items())
    probes = divmon.read_run(tmp_path / "with")
    rollouts = divmon.read_run(tmp_path / "with" / "_divmon" / "rollouts")
    assert probes.steps == [0, 4, 8]
    assert rollouts.steps == [4, 8], "two groups a step, and windows of eight at least"
    assert {"ead", "sbert", "accuracy"} <= set(rollouts.scores.metric)
    (events,) = (tmp_path / "with").rglob("events.out.tfevents*")
    shown = EventAccumulator(str(events.parent)).Reload()
    assert [event.step for event in shown.Scalars("Diversity/rollouts/ead")] == [4, 8]
    assert [event.step for event in shown.Scalars("Diversity/prompts/ead")] == [0, 4, 8]
    assert [event.step for event in shown.Scalars("train/loss")] == [2, 4, 6, 8]


def test_rollouts_alone_draw_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monitor = DiversityCallback(runs.PROBES, **{**runs.CHEAP, **ONLY}, rollouts=True, on_error="raise", progress=False)
    trainer = train("grpo", tmp_path, [monitor])
    assert divmon.read_run(tmp_path).steps == []
    assert divmon.read_run(tmp_path / "_divmon" / "rollouts").steps == [4, 8]
    said = capsys.readouterr().out
    assert "timed on 2 prompts" not in said
    assert "divmon: rollouts ead " in said and "at step 8, since the first window of rollouts at step 4" in said
    assert f"divmon: 2 windows of rollouts in {tmp_path / '_divmon' / 'rollouts'}; the report" in said
    assert "_calculate_rewards" not in vars(trainer), "the trainer is left as it was found"


def test_a_trainer_without_rollouts_is_an_error_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="GRPOTrainer and RLOOTrainer"):
        runs.sft(tmp_path, [DiversityCallback(runs.PROBES, **runs.CHEAP, rollouts=True)]).train()


def test_what_fails_in_a_verifier_of_rollouts_is_recorded(tmp_path: Path) -> None:
    def broken(text: str, prompt: Any) -> bool:
        raise RuntimeError("no verdict today")

    monitor = DiversityCallback(runs.PROBES, **{**runs.CHEAP, **ONLY}, rollouts=True, verifier=broken, progress=False)
    ours, theirs = train("grpo", tmp_path / "with", [monitor]), train("grpo", tmp_path / "without")
    assert runs.log_rows(ours) == runs.log_rows(theirs)
    run = divmon.read_run(tmp_path / "with" / "_divmon" / "rollouts")
    assert set(run.samples.correct.isna()) == {True}
