"""The monitor in TRL's trainers and in a loop of one's own, as README shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.journey import assert_no_debris, read_healthy, run_divmon, run_script

SFT = """
from trl import SFTConfig, SFTTrainer

args = SFTConfig(output_dir="runs/a", max_steps=8, use_cpu=True, bf16=False, report_to="tensorboard", {args})
trainer = SFTTrainer(model, args=args, train_dataset=Dataset.from_list(narrow(64)), processing_class=tokenizer,
                     callbacks=[DiversityCallback({options})])
trainer.train({train})
"""
NO_CALLBACK = """
from trl import SFTConfig, SFTTrainer

args = SFTConfig(output_dir="runs/a", max_steps=8, use_cpu=True, bf16=False, report_to="tensorboard", save_steps=4)
data = Dataset.from_list(narrow(64))
SFTTrainer(model, args=args, train_dataset=data, processing_class=tokenizer).train()
"""
pytestmark = pytest.mark.usefixtures("little_base")
FEW = "num_prompts=4, max_new_tokens=16"


@pytest.mark.timeout(300)
def test_the_callback_without_options(tmp_path: Path) -> None:
    """Prompts of six categories, K 16 and a reference of 64: only prompts and steps are few, and answers cut short."""
    seen = run_script(SFT.format(options="every=4, num_prompts=24, max_new_tokens=16", args="", train=""), tmp_path)
    run = read_healthy(tmp_path / "runs/a", [0, 4, 8])
    assert run.samples.groupby("step").size().to_dict() == {0: 24 * 64, 4: 24 * 16, 8: 24 * 16}
    assert "sbert" in set(run.decomposition.metric)
    assert set(run.scores[run.scores.metric == "ast_distinct"].step) == {0, 4, 8}
    assert "divmon: step 8: starter sbert" in seen
    assert_no_debris(seen)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_callback_with_nothing_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIVMON_CACHE")  # nor the base model's training
    script = SFT.format(options="", args="", train="").replace("max_steps=8", "max_steps=200")
    run_script(script, tmp_path, timeout=3500)
    read_healthy(tmp_path / "runs/a", [0, 100, 200])


@pytest.mark.timeout(300)
def test_a_run_that_is_resumed(tmp_path: Path) -> None:
    options = f"every=2, {FEW}"
    first = SFT.format(options=options, args="save_steps=4", train="").replace("max_steps=8", "max_steps=4")
    run_script(first, tmp_path, "first.py")
    second = SFT.format(options=options, args="save_steps=4", train='resume_from_checkpoint="runs/a/checkpoint-4"')
    run_script(second, tmp_path, "second.py")
    run = read_healthy(tmp_path / "runs/a", [0, 2, 4, 6, 8])
    assert run.samples[run.samples.step == 0].groupby("prompt_id").size().eq(64).all()


@pytest.mark.timeout(300)
def test_dpo_against_its_reference_model(tmp_path: Path) -> None:
    script = f"""
    from trl import DPOConfig, DPOTrainer

    rng = random.Random(0)
    problems = [draw_problem(rng) for _ in range(64)]
    rows = [dict(prompt=p.prompt, chosen=solve(p, "numbered", rng), rejected=solve(p, "story", rng)) for p in problems]
    args = DPOConfig(output_dir="runs/dpo", max_steps=6, use_cpu=True, bf16=False, report_to="tensorboard")
    trainer = DPOTrainer(model, ref_model=copy.deepcopy(model), args=args, train_dataset=Dataset.from_list(rows),
                         processing_class=tokenizer, callbacks=[DiversityCallback(every=3, {FEW})])
    trainer.train()
    """
    run_script(script, tmp_path)
    read_healthy(tmp_path / "runs/dpo", [0, 3, 6])


@pytest.mark.timeout(300)
def test_grpo_with_its_rollouts(tmp_path: Path) -> None:
    script = f"""
    from trl import GRPOConfig, GRPOTrainer
    from divmon.training.rewards import math_answer

    problems = [draw_problem(random.Random(i)) for i in range(64)]
    rows = [dict(prompt=p.prompt, answer=str(p.answer)) for p in problems]
    args = GRPOConfig(output_dir="runs/grpo", max_steps=6, use_cpu=True, bf16=False, report_to="tensorboard",
                      logging_steps=2, max_completion_length=32, per_device_train_batch_size=32)
    trainer = GRPOTrainer(model, reward_funcs=math_answer, args=args, train_dataset=Dataset.from_list(rows),
                          processing_class=tokenizer,
                          callbacks=[DiversityCallback(every=3, rollouts=True, {FEW})])
    trainer.train()
    """
    assert_no_debris(run_script(script, tmp_path))
    read_healthy(tmp_path / "runs/grpo", [0, 3, 6])
    rollouts = read_healthy(tmp_path / "runs/grpo/_divmon/rollouts", [2, 4, 6])
    assert {"reward", "reward_std"} <= set(rollouts.scores.metric)


@pytest.mark.timeout(300)
def test_a_loop_of_ones_own(tmp_path: Path) -> None:
    script = f"""
    import torch

    monitor = DiversityMonitor({FEW}, output_dir="runs/plain/_divmon")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    rows = narrow(32)
    for step, row in enumerate(rows[:5]):
        if step % 2 == 0:
            monitor.measure(model, tokenizer, step)
        ids = tokenizer(row["prompt"] + row["completion"], return_tensors="pt").input_ids
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    monitor.close()
    """
    run_script(script, tmp_path)
    read_healthy(tmp_path / "runs/plain", [0, 2, 4])


@pytest.mark.timeout(300)
def test_a_program_that_takes_no_callback(tmp_path: Path) -> None:
    from support.journey import BEGIN

    (tmp_path / "program.py").write_text(BEGIN + NO_CALLBACK)
    sizes = ["--divmon_every", "4", "--divmon_num_prompts", "4", "--divmon_max_new_tokens", "16"]
    run_divmon(tmp_path, "attach", *sizes, "--", "program.py")
    read_healthy(tmp_path / "runs/a", [0, 4, 8])


@pytest.mark.timeout(300)
def test_checkpoints_that_are_watched(tmp_path: Path) -> None:
    run_script(NO_CALLBACK, tmp_path)
    sizes = ["--divmon_num_prompts", "4", "--divmon_max_new_tokens", "16"]
    run_divmon(tmp_path, "watch", "runs/a", "--until-end", *sizes)
    read_healthy(tmp_path / "runs/a", [4, 8])
