"""`keep_best=True` in real trainings: what is kept loads, is what the trainer saved, and nothing else changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import graded_runs, runs
from transformers import AutoModelForCausalLM, AutoTokenizer

import divmon
from divmon import DiversityCallback
from divmon.cli import main
from divmon.options import Options
from divmon.scoring.best_point import choose, point_of
from divmon.storage import best
from divmon.training import best_checkpoint

ASKED = {"verifier": graded_runs.noisy, "max_new_tokens": 8, "every": 10, "embedder": "minilm"}


def callback(**options: Any) -> DiversityCallback:
    return DiversityCallback(graded_runs.GOLD, **{**ASKED, "keep_best": True, **options})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """With the trainer's own checkpoints beside it, to compare with."""
    trainer = runs.sft(tmp_path_factory.mktemp("kept"), [callback()], save_strategy="steps", save_steps=10)
    trainer.train()
    return trainer


def test_what_is_kept_is_what_the_trainer_saved_at_that_step(trained: Any) -> None:
    out = Path(trained.args.output_dir)
    folder = out / "_divmon" / "best"
    step = best.best_step(out / "_divmon")
    assert step in (10, 20, 30)
    kept = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(out / f"checkpoint-{step}").state_dict()
    assert kept.keys() == theirs.keys() and all(torch.equal(kept[name], theirs[name]) for name in kept)
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == trained.processing_class.get_vocab()
    assert sorted(p.name for p in folder.parent.glob("best*")) == ["best"], "one is kept, and no parts"


def test_it_is_what_the_rule_names(trained: Any) -> None:
    run = divmon.read_run(trained.args.output_dir)
    points = [point_of(run.read(step)) for step in run.steps[1:]]
    kept = points[0]
    for point in points[1:]:
        kept = choose([kept, point]).point
    facts = run.manifest["best"]
    assert facts["step"] == kept.step == best.best_step(run.folder)
    assert facts["figure"] == "sbert_correct" and facts["accuracy"] == pytest.approx(kept.accuracy.value)


def test_the_training_is_the_same_run_without_it(trained: Any, tmp_path: Path) -> None:
    plain = runs.sft(tmp_path, save_strategy="steps", save_steps=10)
    plain.train()
    runs.assert_same_run(trained, plain)


def test_select_prints_the_path_alone(trained: Any, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(trained.args.output_dir)
    assert main(["select", str(out)]) == 0
    path, why = capsys.readouterr()
    assert path.count("\n") == 1 and Path(path.strip()).parent == out
    AutoModelForCausalLM.from_pretrained(path.strip())
    assert why.startswith("step ") and "the reference, step 0" in why and "chosen from steps 10, 20, 30" in why
    assert main(["select", str(out), "--step", "20"]) == 0
    assert capsys.readouterr().out.strip() == str(out / "checkpoint-20")


@pytest.mark.slow
def test_an_adapter_is_kept_and_outlives_a_resume(tmp_path: Path) -> None:
    from peft import AutoPeftModelForCausalLM, LoraConfig, get_peft_model

    def train(callbacks: Any, resume: bool) -> None:
        base = runs.model()
        base.save_pretrained(tmp_path / "base")
        base.config._name_or_path = base.name_or_path = str(tmp_path / "base")
        model = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"))
        trainer = runs.sft(tmp_path / "out", callbacks, model, save_strategy="steps", save_steps=10)
        trainer.train(resume_from_checkpoint=resume)

    run = tmp_path / "out" / "_divmon"
    few = {"metrics": "sbert", "num_samples": 2}
    train([callback(**few), runs.StopAt(10)], resume=False)
    assert best.best_step(run) == 10
    (run / "best.new").mkdir()  # as a kill while saving leaves it
    resumed = callback(**few)
    train([resumed], resume=True)
    assert not resumed.failures
    assert best.best_step(run) in (10, 20, 30) and sorted(p.name for p in run.glob("best*")) == ["best"]
    step = best.best_step(run)
    kept = AutoPeftModelForCausalLM.from_pretrained(run / "best").state_dict()
    theirs = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "out" / f"checkpoint-{step}").state_dict()
    assert all(torch.equal(kept[name], theirs[name]) for name in theirs)


def test_a_save_that_fails_ends_nothing(tmp_path: Path) -> None:
    kept = callback(metrics="sbert", num_samples=2)
    trainer = runs.sft(tmp_path, [kept], max_steps=10)

    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left on device")

    trainer.save_model = full
    trainer.train()
    assert trainer.state.global_step == 10 and divmon.read_run(tmp_path).steps == [0, 10]
    assert [reason for _, reason in kept.failures] == ["OSError: no space left on device"]
    assert divmon.read_run(tmp_path).manifest["failures"][0]["what"] == "keeping the best checkpoint"


def test_one_process_of_several_cannot_save_alone() -> None:
    best_checkpoint.check(Options(keep_best=True), 2)
    best_checkpoint.check(Options(processes="main"), 2)
    with pytest.raises(ValueError, match="keep_best: all processes save together"):
        best_checkpoint.check(Options(keep_best=True, processes="main"), 2)


def test_what_was_kept_stays_until_the_next_is_whole(tmp_path: Path) -> None:
    def write(text: str, step: int) -> None:
        best.being_written(tmp_path).mkdir(exist_ok=True)
        (best.being_written(tmp_path) / "weights").write_text(text)
        best.put_in_place(tmp_path, {"step": step, "accuracy": float("nan")})

    assert best.best_step(tmp_path) is None
    write("a", 1)
    write("b", 2)
    assert best.best_step(tmp_path) == 2 and (tmp_path / "best" / "weights").read_text() == "b"
    assert json.loads((tmp_path / "best" / best.FACTS).read_text())["accuracy"] is None
    with pytest.raises(RuntimeError, match="wrote nothing"):
        best.put_in_place(tmp_path, {"step": 3})
    (tmp_path / "best").rename(tmp_path / "best.old")  # killed between the two renames
    best.being_written(tmp_path).mkdir(exist_ok=True)
    best.recover(tmp_path)
    assert best.best_step(tmp_path) == 2 and [p.name for p in tmp_path.iterdir()] == ["best"]
