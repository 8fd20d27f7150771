"""A resumed training in the event folder of the one that was killed: each point is shown once."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import runs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from divmon import DiversityCallback


def test_points_after_the_checkpoint_are_shown_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    options = {**runs.CHEAP, "every": 2, "progress": False}
    saved = {"report_to": "tensorboard", "save_strategy": "steps", "save_steps": 4, "logging_steps": 1}
    small = {"trained": runs.model("llama", num_hidden_layers=1)}
    runs.sft(tmp_path, [DiversityCallback(runs.PROBES, **options)], max_steps=6, **saved, **small).train()
    trainer = runs.sft(tmp_path, [DiversityCallback(runs.PROBES, **options)], max_steps=8, **saved, **small)
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [point.step for point in events.Scalars("Diversity/prompts/ead")] == [0, 2, 4, 6, 8]
    assert [point.step for point in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6, 7, 8], "the host's too"
