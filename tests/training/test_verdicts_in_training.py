"""Verdicts, quality and the decomposition live in a training run, and still nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import runs
from support.graded_runs import GOLD, options
from support.runs import assert_same_run

from divmon import DiversityCallback
from divmon.storage.writer import Store, read_run
from divmon.types import Prompt


def test_quality_and_decomposition_stand_beside_diversity_and_the_run_is_the_same(tmp_path: Path) -> None:
    callback = DiversityCallback(GOLD, **options(tmp_path))
    trained = []
    for name, callbacks in {"with": [callback], "without": []}.items():
        trained.append(runs.sft(tmp_path / name, callbacks, runs.model(attention_dropout=0.1)))
        trained[-1].train()
    assert_same_run(*trained)
    run = read_run(tmp_path / "divmon")
    metrics = set(run.scores[run.scores.step == 30].metric)
    assert {"accuracy", "accuracy_no_answer_wrong", "pass_at4", "coverage", "sbert_correct"} <= metrics
    store = Store(tmp_path / "divmon")
    for step in (10, 20, 30):
        snapshot = store.read(step)
        assert all(sample.verdict for sample in snapshot.samples)
        parts = snapshot.decomposition["prompts"]["sbert"]
        terms = ["quality_control", "narrowing_correct", "narrowing_wrong", "narrowing_cross"]
        assert sum(parts[term] for term in terms) == pytest.approx(parts["change"], abs=1e-9)
        assert parts["paper"]["d_all"]["now"] is not None
        shown = {c.metric: c for c in snapshot.changes}
        assert shown["sbert/narrowing_correct"].change == pytest.approx(parts["narrowing_correct"], nan_ok=True)
    assert not store.read(0).decomposition, "the reference has nothing before it"


def test_a_decomposition_that_fails_costs_its_metric_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from divmon.scoring import reference

    asked = []

    def refuse(*sides: Any) -> Any:
        asked.append(sides)
        raise ValueError("these do not fit one another")

    monkeypatch.setattr(reference, "decompose", refuse)
    callback = DiversityCallback(GOLD, **{**options(tmp_path), "on_error": "warn"})
    runs.sft(tmp_path / "run", [callback], max_steps=10).train()
    assert asked and callback.failures == []
    run = read_run(tmp_path / "divmon")
    assert run.steps == [0, 10]
    reason = {"prompts/sbert/decomposition": "ValueError: these do not fit one another"}
    assert run.provenance[10]["left_out"] == reason
    assert run.changes.query("step == 10 and metric == 'sbert'").change.notna().all()


def test_a_resumed_run_decomposes_against_the_same_reference(tmp_path: Path) -> None:
    """The reference's distances are not stored; they are computed again from its texts."""
    for name, stops in {"whole": [20], "parts": [10, 20]}.items():
        for stop in stops:
            callback = DiversityCallback(GOLD, **options(tmp_path, output_dir=str(tmp_path / name / "divmon")))
            trainer = runs.sft(tmp_path / name, [callback], max_steps=20, save_strategy="steps", save_steps=10)
            if stop == 10:
                trainer.add_callback(runs.StopAt(10))
            trainer.train(resume_from_checkpoint=len(stops) == 2 and stop == 20)
    whole, parts = (Store(tmp_path / name / "divmon").read(20) for name in ("whole", "parts"))
    assert whole.decomposition == parts.decomposition
    assert [c.metric for c in whole.changes] == [c.metric for c in parts.changes]


def test_a_verifier_that_fails_costs_verdicts_and_not_the_run(tmp_path: Path) -> None:
    def failing(text: str, prompt: Prompt) -> bool:
        raise RuntimeError("no")

    callback = DiversityCallback(GOLD, **options(tmp_path, verifier=failing))
    runs.sft(tmp_path / "run", [callback], max_steps=2).train()
    run = read_run(tmp_path / "divmon")
    assert "accuracy" not in set(run.scores.metric)
    assert set(run.samples.correct) == {None}
    assert run.samples.reason.str.contains("RuntimeError: no").all()


def test_a_tasks_own_rule_judges_in_child_processes(tmp_path: Path) -> None:
    """The starter's rule on a model that knows nothing: judged where there is gold, not judged where there is none."""
    callback = DiversityCallback("starter", **options(tmp_path, verifier=None, metrics="ead", num_prompts=64))
    runs.sft(tmp_path / "run", [callback], max_steps=1).train()
    samples = read_run(tmp_path / "divmon").samples
    gold = {p.id for p in callback.monitor.probes[0].prompts if p.gold is not None}
    judged = samples[samples.prompt_id.isin(gold)]
    assert not judged.correct.eq(True).any()
    assert samples[~samples.prompt_id.isin(gold)].correct.isna().all()
    assert set(samples[~samples.prompt_id.isin(gold)].reason) == {"no gold"} or samples.reason.notna().all()


def test_reasoning_and_its_suppression_side_by_side_and_scored_in_full(tmp_path: Path) -> None:
    """A model taught to reason in tags: measured with its reasoning and with an empty block prefilled."""
    rows = [
        {"prompt": r["prompt"], "completion": f"<think>hm {i % 5}</think> {r['completion']}"}
        for i, r in enumerate(runs.ROWS)
    ]
    own = options(tmp_path, think="both", on="full", max_new_tokens=40, max_reasoning_tokens=8, metrics="ead", every=60)
    callback = DiversityCallback(GOLD, **own)
    trainer = runs.sft(tmp_path / "run", [callback], max_steps=60, learning_rate=5e-3, rows=rows)
    trainer.train()
    run = read_run(tmp_path / "divmon")
    tasks = set(run.scores.task)
    assert tasks == {"prompts", "prompts-no-think", "prompts-full", "prompts-no-think-full"}
    asking = callback.monitor.asking
    asked = {probe.name: asking.render(probe, probe.prompts[0]).text for probe in asking.probes}
    assert asked["prompts-no-think"] == asked["prompts"] + "<think>\n</think>\n"
    last = run.samples[run.samples.step == 60]
    assert last[last.task == "prompts"].reasoning.notna().any()
    assert last[last.task == "prompts-no-think"].reasoning.isna().all()
    accuracy = run.scores[(run.scores.metric == "accuracy")]
    assert {"prompts", "prompts-no-think"} == set(accuracy.task), "accuracy of both"
    ead = run.scores[(run.scores.step == 60) & (run.scores.metric == "ead")].set_index("task")["mean"]
    assert ead["prompts-full"] != ead["prompts"]


def test_what_the_change_is_made_of_stands_in_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of the terms where all is asked for, and the stacked picture at each step after the reference."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    callback = DiversityCallback(GOLD, tensorboard="all", **options(tmp_path))
    runs.sft(tmp_path / "run", [callback], report_to="tensorboard").train()
    (file,) = (tmp_path / "run").rglob("events.out.tfevents*")
    events = EventAccumulator(str(file)).Reload()
    pictures = events.Images("Diversity/prompts/sbert_decomposition")
    assert [picture.step for picture in pictures] == [10, 20, 30]
    assert pictures[-1].encoded_image_string.startswith(b"\x89PNG")
    assert [e.step for e in events.Scalars("divmon/prompts/sbert_quality_control_change")] == [10, 20, 30]
    assert [e.step for e in events.Scalars("Diversity/prompts/accuracy")] == [0, 10, 20, 30]
