"""Windows of rollouts: of which batches and prompts, stored as a run, gone on with, compared with the first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import rl_runs
from test_rollouts import CHEAP, train

import divmon
from divmon import loggers
from divmon.storage.writer import Store
from divmon.training.rollouts import Rollouts


def test_stored_as_a_run_of_its_own_beside_the_main_one(tmp_path: Path) -> None:
    main = Store(tmp_path / "_divmon").open({"probes": []})
    _, taken = train("grpo", tmp_path, Rollouts(**CHEAP), tmp_path / "_divmon" / "rollouts")
    main.close()
    assert divmon.read_run(tmp_path).steps == [] and divmon.read_run(tmp_path).folder == tmp_path / "_divmon"
    run = divmon.read_run(tmp_path / "_divmon" / "rollouts")
    assert run.steps == [2, 4, 6, 8] and set(run.scores.task) == {"rollouts"}
    assert run.manifest["num_generations"] == 4 and run.manifest["decoding"]["rollouts"]["max_new_tokens"] == 8
    assert [s.text for s in run.read(4).samples] == [s.text for s in taken[1].samples]
    assert run.read(8).changes == taken[3].changes and not run.read(2).changes
    assert "unpaired" in run.provenance[8]["compared"]
    ead = run.per_prompt.query("step == 8 and metric == 'ead'").set_index("prompt_id").value
    assert list(ead.index) == list(taken[3].provenance["prompts"]) and len(ead) == 4
    assert ead.mean() == pytest.approx(taken[3].score("rollouts", "ead").mean)
    named = loggers.scalars(taken[3], everything=True)
    assert {"Diversity/rollouts/ead", "Diversity/rollouts/ead_change", "divmon/rollouts/reward_change"} <= named.keys()


def test_a_resumed_run_goes_on_with_the_same_reference(tmp_path: Path) -> None:
    """Stopped at 6 and resumed from 4: the window of 6 is made again, and all is as in the run that was not stopped."""
    options = {"metrics": "ead,sbert", "resources": {"embedder": "minilm"}, "encoder_share": None, "min_groups": 1}
    for name, stops in {"whole": [8], "parts": [6, 8]}.items():
        for stop in stops:
            args = {"max_steps": stop, "save_strategy": "steps", "save_steps": 4, "lr_scheduler_type": "constant"}
            rollouts, folder = Rollouts(**options), tmp_path / name / "_divmon" / "rollouts"
            trainer = rl_runs.trainer("grpo", tmp_path / name, [rl_runs.tap(rollouts, folder)], **args)
            resume = str(tmp_path / name / "checkpoint-4") if (name, stop) == ("parts", 8) else None
            trainer.train(resume_from_checkpoint=resume)
    whole, parts = (Store(tmp_path / name / "_divmon" / "rollouts") for name in ("whole", "parts"))
    assert whole.steps() == parts.steps() == [2, 4, 6, 8]
    assert len(list((parts.path / "superseded").glob("*/*.json"))) == 1
    for step in (6, 8):
        a, b = whole.read(step), parts.read(step)
        assert a.samples == b.samples and a.changes == b.changes
        assert a.decomposition == b.decomposition and a.decomposition["rollouts"]["sbert"]["paired"] is False
    terms = a.decomposition["rollouts"]["sbert"]
    names = ("quality_control", "narrowing_correct", "narrowing_wrong", "narrowing_cross")
    assert sum(terms[name] for name in names) == pytest.approx(terms["change"])


def test_the_same_prompts_again_are_compared_prompt_by_prompt(tmp_path: Path) -> None:
    """Of a data set of 10 prompts, each window of 5 batches holds all."""
    rows = rl_runs.PROMPTS[:10]
    args = {"rows": rows, "max_steps": 10, "logging_steps": 5}
    options = {"metrics": "ead,sbert", "resources": {"embedder": "minilm"}, "encoder_share": None, "min_groups": 1}
    _, (first, second) = train("grpo", tmp_path, Rollouts(**options), **args)
    assert first.provenance["prompts"] == second.provenance["prompts"] and len(first.provenance["prompts"]) == 10
    assert "paired by prompt on the 10 prompts" in second.provenance["compared"]
    change = next(change for change in second.changes if change.metric == "ead")
    by_hand = np.subtract(second.score("rollouts", "ead").values, first.score("rollouts", "ead").values)
    assert change.change == pytest.approx(np.nanmean(by_hand)) and change.n == np.isfinite(by_hand).sum()
    assert second.decomposition["rollouts"]["sbert"]["paired"] is True


def test_no_more_groups_than_asked_for_and_the_same_prompts(tmp_path: Path) -> None:
    args = {"rows": rl_runs.PROMPTS[:10], "max_steps": 10, "logging_steps": 5}
    _, (first, second) = train("grpo", tmp_path, Rollouts(**CHEAP, max_groups=6, seed=1), **args)
    for snapshot in (first, second):
        assert (snapshot.provenance["groups"], snapshot.provenance["groups_seen"]) == (6, 10)
        assert len(snapshot.samples) == 24 and len(snapshot.score("rollouts", "reward").values) == 6
    assert first.provenance["prompts"] == second.provenance["prompts"]
    for least, most in ((1, 1), (0, 4), (5, 4)):
        with pytest.raises(ValueError, match="max_groups"):
            Rollouts(min_groups=least, max_groups=most)


def test_a_window_with_too_few_groups_goes_on(tmp_path: Path) -> None:
    """Of 2 groups a step and 6 at least, each third step has a window; nothing is lost on the way."""
    _, taken = train("grpo", tmp_path, Rollouts(**CHEAP | {"min_groups": 6}), logging_steps=1)
    assert [(s.step, s.provenance["groups"], s.provenance["batches"]) for s in taken] == [(3, 6, 3), (6, 6, 3)]


def test_metrics_that_need_a_model_take_their_share_and_no_more(tmp_path: Path) -> None:
    """With a share of nothing only the first window has them; the cheap ones are in every window."""
    options = {"metrics": "ead,sbert", "resources": {"embedder": "minilm"}, "encoder_share": 0.0, "min_groups": 1}
    _, taken = train("grpo", tmp_path, Rollouts(**options))
    assert [snapshot.provenance["with_encoder"] for snapshot in taken] == [True, False, False, False]
    for snapshot in taken:
        metrics = {score.metric for score in snapshot.scores}
        assert "ead" in metrics and ("sbert" in metrics) == snapshot.provenance["with_encoder"]


def test_too_few_groups_for_a_window_are_said(tmp_path: Path) -> None:
    said: list[str] = []
    _, taken = train("grpo", tmp_path, Rollouts(metrics="ead", say=said.append, min_groups=64))
    assert not taken
    assert [line for line in said if "no rollouts were scored" in line and "a window needs 64" in line]
