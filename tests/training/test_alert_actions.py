"""Alerts in a real training that collapses: said, stored, shown, acted on, gone on with when resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import runs
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import divmon
from divmon import DiversityCallback
from divmon.scoring.alerts import replay_alerts

OPTIONS = {
    "metrics": "ead,sbert,length",
    "embedder": "minilm",
    "num_samples": 8,
    "reference_samples": 16,
    "max_new_tokens": 12,
    "every": 20,
    "temperature": 1.0,
}
PROMPTS = [{"id": f"p{i}", "prompt": row["prompt"]} for i, row in enumerate(runs.ROWS[:24])]
PHRASES = ("it is three.", "one plus one is two.", "the answer is nine.", "what is it?")
NARROW = [{"prompt": row["prompt"], "completion": f" {PHRASES[i % 4]}"} for i, row in enumerate(runs.ROWS)]
"""Four answers are left to every question; a single one would look like prompts that do not reach the model."""


def collapsing(out: Path, *others: Any, max_steps: int = 80, **options: Any) -> Any:
    """The model's many answers become one."""
    callback = DiversityCallback(PROMPTS, **{**OPTIONS, "on_error": "raise", **options}, progress=False)
    trainer = runs.sft(
        out,
        [callback, *others],
        rows=NARROW,
        max_steps=max_steps,
        learning_rate=1e-2,
        report_to="tensorboard",
        save_strategy="no",
    )
    trainer.train()
    return trainer


def test_a_collapse_is_said_stored_shown_and_acted_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint is saved and training stops, as it is told to."""
    seen: list[Any] = []
    trainer = collapsing(tmp_path, alerts=["log", "save", "stop", seen.append])
    assert "narrowing" in {alert.kind for alert in seen}
    first = next(alert for alert in seen if alert.kind == "narrowing")
    assert first.new and first.change < 0 and first.high < 0
    said = capsys.readouterr().out
    assert "divmon: alerts:" in said, "what is tested, and what that can see"
    what, read, evidence = first.text.splitlines()
    assert f"divmon: {what}\ndivmon: {read}\n" in said and evidence not in said
    run = divmon.read_run(tmp_path)
    stored = [(alert["kind"], alert["step"]) for step in run.steps for alert in run.provenance[step].get("alerts", [])]
    assert (first.kind, first.step) in stored
    assert [(a.kind, a.step) for a in replay_alerts(tmp_path)] == stored
    (events,) = tmp_path.rglob("events.out.tfevents*")
    tags = EventAccumulator(str(events.parent)).Reload().Tags()["tensors"]
    assert any(tag.startswith("divmon/alerts") for tag in tags)
    alarmed = min(alert.step for alert in replay_alerts(tmp_path))
    assert trainer.state.global_step == alarmed < 80
    assert (tmp_path / f"checkpoint-{alarmed}").is_dir()


def test_what_an_early_stop_shows_is_acted_on(tmp_path: Path) -> None:
    """Asked for by a callback after ours, when the step's own chance to measure is over."""
    seen: list[Any] = []
    trainer = collapsing(tmp_path, runs.StopAt(50), alerts=["save", seen.append], every=None)
    assert {alert.step for alert in seen if alert.new} == {50} == {trainer.state.global_step}
    assert (tmp_path / "checkpoint-50").is_dir()


def test_none_tests_nothing(tmp_path: Path) -> None:
    collapsing(tmp_path, alerts=None, max_steps=2, every=1, metrics="ead")
    assert "alerts" not in divmon.read_run(tmp_path).manifest


def test_an_unknown_action_is_an_error_when_the_callback_is_built() -> None:
    with pytest.raises(ValueError, match="no action 'shout'"):
        DiversityCallback(PROMPTS, alerts="log,shout")


def test_one_process_of_several_cannot_stop_the_run() -> None:
    """It would leave the others waiting for it, for ever or until they are killed."""
    from divmon.options import Options
    from divmon.training.alert_actions import Alarms

    for alerts in ("log", "log,stop", ["save"]):
        alarms = Alarms(Options(alerts=alerts), print)
        alarms.check(1, "main")
        alarms.check(2, "all")
        if alerts == "log":
            alarms.check(2, "main")
        else:
            with pytest.raises(ValueError, match="processes='main' only one of them measures"):
                alarms.check(2, "main")


def test_a_resumed_run_goes_on_with_its_tests_though_what_is_called_fails(tmp_path: Path) -> None:
    def train(resume: bool) -> None:
        seen: list[Any] = []

        def broken(alert: Any) -> None:
            seen.append(alert)
            raise RuntimeError("no")

        callback = DiversityCallback(PROMPTS, **OPTIONS, alerts=broken, at_end=False, progress=False)
        callbacks = [callback] if resume else [callback, runs.StopAt(50)]
        trainer = runs.sft(
            tmp_path,
            callbacks,
            rows=NARROW,
            max_steps=100,
            learning_rate=1e-2,
            save_strategy="steps",
            save_steps=50,
        )
        trainer.train(resume_from_checkpoint=resume)
        assert trainer.state.global_step == (100 if resume else 50)
        said.append({(alert.kind, alert.since) for alert in seen if alert.new})

    said: list[set[Any]] = []
    train(resume=False)
    fixed = divmon.read_run(tmp_path).manifest["alerts"]
    assert any("RuntimeError: no" in failure["reason"] for failure in divmon.read_run(tmp_path).manifest["failures"])
    train(resume=True)
    assert divmon.read_run(tmp_path).manifest["alerts"] == fixed
    assert said[0] and not said[0] & said[1], "what stood before is not new again"
    assert divmon.read_run(tmp_path).steps == [0, 20, 40, 60, 80, 100]
