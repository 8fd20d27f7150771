"""Contract 1: with the monitor on, the training run is the same run, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import runs
from support.runs import assert_same_run

import divmon
from divmon import DiversityCallback
from divmon.training import likelihood_looks


def monitored(tmp_path: Path, **options: Any) -> DiversityCallback:
    options = {**runs.CHEAP, "every": 5, "on_error": "raise", "progress": False, **options}
    return DiversityCallback(runs.PROBES, output_dir=str(tmp_path / "divmon"), **options)


@pytest.mark.parametrize(
    ("lora", "dtype"),
    [
        (False, "fp32"),
        (True, "bf16"),
        pytest.param(False, "bf16", marks=pytest.mark.slow),
        pytest.param(True, "fp32", marks=pytest.mark.slow),
    ],
)
def test_sft_with_dropout_and_gradient_checkpointing(
    tmp_path: Path, lora: bool, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(callbacks: list[Any], out: Path) -> Any:
        model = runs.model(attention_dropout=0.1)
        if lora:
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], lora_dropout=0.1))
        trainer = runs.sft(out, callbacks, model, gradient_checkpointing=True, bf16=dtype == "bf16", max_steps=15)
        trainer.train()
        return trainer

    monkeypatch.setattr(likelihood_looks, "SHARE", 0.9)  # between measurements too, however short the run
    metrics = "ead,length,token_entropy,cross_entropy"
    callback = monitored(tmp_path, metrics=metrics, likelihood_every=2)
    with_monitor = train([callback], tmp_path / "with")
    scores = divmon.read_run(tmp_path / "divmon").scores
    measured = scores.loc[scores["metric"] == "forward_kl", "step"].tolist()
    assert set(measured) >= {0, 5, 10, 15} and len(measured) > 5 and len(set(measured)) == len(measured)
    assert scores.loc[scores["metric"] == "reverse_kl", "n"].gt(0).sum() == (4 if lora else 1)
    assert len(callback.monitor.probes) == 1
    without = train([], tmp_path / "without")
    assert_same_run(with_monitor, without)
    assert with_monitor.model.training == without.model.training
    assert {row["step"] for row in runs.log_rows(without) if "loss" in row} == {5, 10, 15}


@pytest.mark.parametrize("make", [runs.sft, runs.plain_trainer])
@pytest.mark.parametrize(
    "args",
    [
        {"accelerator_config": {"use_seedable_sampler": False}, "max_steps": 20},
        {"gradient_accumulation_steps": 2, "eval_strategy": "steps", "eval_steps": 7, "max_steps": 15},
        {"neftune_noise_alpha": 5.0, "gradient_checkpointing": False, "max_steps": 12},
    ],
    ids=["global-sampler", "accumulation-and-evaluation", "neftune"],
)
def test_other_users_of_the_global_generators(tmp_path: Path, make: Any, args: dict[str, Any]) -> None:
    """Shuffling from the global generator (an epoch is 16 steps), and all that a measurement may load or draw."""

    def train(callbacks: list[Any], out: Path) -> Any:
        trainer = make(out, callbacks, runs.model(attention_dropout=0.1), **args)
        trainer.train()
        return trainer

    callback = monitored(tmp_path, on_evaluate=True, metrics="ead,sbert,vendi,duplicates", sampler="generate")
    assert_same_run(train([callback], tmp_path / "with"), train([], tmp_path / "without"))
    assert len(callback.monitor.reference.samples) == 16


def test_the_tokenizer_and_generation_config_that_are_saved_do_not_change(tmp_path: Path) -> None:
    saved = {}
    for name in ("with", "without"):
        callbacks = [monitored(tmp_path, sampler="generate")] if name == "with" else []
        trainer = runs.sft(tmp_path / name, callbacks, max_steps=4, save_strategy="steps", save_steps=4)
        trainer.train()
        folder = tmp_path / name / "checkpoint-4"
        saved[name] = {
            f.name: f.read_bytes()
            for f in folder.iterdir()
            if f.name not in ("training_args.bin", "trainer_state.json", "README.md")
        }
    assert saved["with"].keys() == saved["without"].keys()
    assert {"tokenizer.json", "generation_config.json", "model.safetensors"} <= saved["with"].keys()
    for file, content in saved["with"].items():
        assert content == saved["without"][file], file


def test_hooks_and_modes_are_as_before(tmp_path: Path) -> None:
    trainer = runs.sft(tmp_path / "run", [monitored(tmp_path)], gradient_checkpointing=True, max_steps=6)
    trainer.train()
    plain = runs.sft(tmp_path / "plain", gradient_checkpointing=True, max_steps=6)
    plain.train()

    def described(model: Any) -> list[Any]:
        return [(n, m.training, len(m._forward_hooks), len(m._forward_pre_hooks)) for n, m in model.named_modules()]

    assert described(trainer.model) == described(plain.model)
    assert vars(trainer.model).keys() == vars(plain.model).keys()
