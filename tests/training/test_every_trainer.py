"""Contract 1 on every trainer of TRL, and references that are not the first look."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from support import runs, tiny, trainers
from support.runs import assert_same_run

import divmon
from divmon import DiversityCallback
from divmon.storage.writer import Store


def monitored(out: Path, **options: Any) -> DiversityCallback:
    options = {**runs.CHEAP, "every": 2, "on_error": "raise", "progress": False, **options}
    return DiversityCallback(runs.PROBES, output_dir=str(out / "_divmon"), **options)


def lora(model: Any) -> Any:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(target_modules=["q_proj", "v_proj"], lora_dropout=0.1))


def adapted(model: Any) -> Any:
    """With an adapter that has been trained before."""
    model = lora(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize(
    ("kind", "adapter", "args"),
    [
        ("dpo", False, {"gradient_checkpointing": True}),
        ("dpo", True, {"gradient_checkpointing": True}),
        ("kto", False, {"gradient_checkpointing": True}),
        pytest.param("kto", True, {}, marks=pytest.mark.slow),
        ("grpo", False, {"gradient_checkpointing": True, "num_iterations": 2}),
        ("grpo", True, {"gradient_checkpointing": True}),
        ("rloo", False, {"gradient_checkpointing": True}),
        pytest.param("rloo", True, {}, marks=pytest.mark.slow),
        ("distillation", False, {}),
        ("online_dpo", False, {}),
    ],
)
def test_training_is_the_same_run(
    tmp_path: Path, kind: str, adapter: bool, args: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def train(callbacks: Any, out: Path) -> Any:
        model = runs.model(attention_dropout=0.1)
        trainer = trainers.trainer(kind, out, callbacks, lora(model) if adapter else model, **args)
        trainer.train()
        return trainer

    callback = monitored(tmp_path)
    ours, theirs = train([callback], tmp_path / "with"), train([], tmp_path / "without")
    assert_same_run(ours, theirs)
    assert any("loss" in row for row in runs.log_rows(theirs))
    assert divmon.read_run(tmp_path).steps == [0, 2, 4, 6]
    trains = [(name, p.requires_grad) for name, p in theirs.model.named_parameters()]
    assert [(name, p.requires_grad) for name, p in ours.model.named_parameters()] == trains
    assert_the_price_is_said(capsys.readouterr().out)


def assert_the_price_is_said(printed: str) -> None:
    """Before the first step, after the reference and after the first steps: each time as a share of the training."""
    lines = [line for line in printed.splitlines() if "one measurement" in line]
    begins = ["divmon: one measurement = 8 completions", "divmon: the reference took", "divmon: a training step takes"]
    assert len(lines) == len(begins) and all(map(str.startswith, lines, begins)), printed
    assert "; of the reference, 16: at most" in lines[0]
    assert all("at most" in line and "% of training at this schedule" in line for line in lines), printed
    assert all("likely" in line for line in lines[1:])


def test_a_reward_model_is_left_in_peace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    def train(callbacks: Any, out: Path) -> Any:
        config = LlamaConfig(vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_labels=1)
        config.num_attention_heads = config.num_key_value_heads = 4
        config.pad_token_id = 0
        torch.manual_seed(0)
        trainer = trainers.trainer("reward", out, callbacks, LlamaForSequenceClassification(config))
        trainer.train()
        return trainer

    assert_same_run(train([monitored(tmp_path)], tmp_path / "with"), train([], tmp_path / "without"))
    assert "nothing is measured in this training" in capsys.readouterr().out
    assert not (tmp_path / "_divmon").exists()


@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_the_trainers_own_reference_model_is_the_reference(tmp_path: Path, kind: str) -> None:
    """Here it is another model than the policy starts from, so the first change is not zero."""
    callback = monitored(tmp_path, reference="ref_model", metrics="ead")
    trainer = trainers.trainer(kind, tmp_path, [callback])
    with torch.no_grad():
        for parameter in trainer.ref_model.parameters():
            parameter.mul_(0.5)
    before = copy.deepcopy(trainer.ref_model)
    trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before.parameters(), trainer.ref_model.parameters(), strict=True))
    reference = Store(tmp_path / "_divmon").read(0)
    assert reference.provenance["measured"] == "ref_model"
    alone = divmon.DiversityMonitor(
        runs.PROBES, **{**runs.CHEAP, "output_dir": str(tmp_path / "alone")}, loggers=[], progress=False
    )
    expected = alone.measure(before, tiny.tokenizer(runs.TEXTS), 0)
    assert expected is not None
    assert reference.samples == expected.samples
    assert divmon.read_run(tmp_path).steps == [0, 2, 4, 6]


@pytest.mark.parametrize(("how", "kind"), [("base", "sft"), ("ref_model", "dpo")])
def test_the_model_without_its_adapter_is_the_reference(tmp_path: Path, how: str, kind: str) -> None:
    def train(callbacks: Any, out: Path) -> Any:
        trainer = trainers.trainer(kind, out, callbacks, adapted(runs.model(attention_dropout=0.1)))
        trainer.train()
        return trainer

    callback = monitored(tmp_path, reference=how)
    assert_same_run(train([callback], tmp_path / "with"), train([], tmp_path / "without"))
    reference = Store(tmp_path / "_divmon").read(0)
    assert reference.provenance["measured"] == how
    alone = divmon.DiversityMonitor(
        runs.PROBES, **{**runs.CHEAP, "output_dir": str(tmp_path / "alone")}, loggers=[], progress=False
    )
    # trl copies an adapter that a DPO model comes with: what it compares with is that copy, not the base.
    model = runs.model() if how == "base" else adapted(runs.model())
    expected = alone.measure(model, tiny.tokenizer(runs.TEXTS), 0)
    assert expected is not None
    assert reference.samples == expected.samples


def test_a_reference_that_is_not_there_is_an_error_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no adapter"):
        trainers.trainer("sft", tmp_path, [monitored(tmp_path, reference="base")]).train()
    with pytest.raises(ValueError, match="holds no reference model"):
        trainers.trainer("grpo", tmp_path, [monitored(tmp_path, reference="ref_model")]).train()
    with pytest.raises(FileNotFoundError, match="no divmon run in 'nowhere'"):
        trainers.trainer("sft", tmp_path, [monitored(tmp_path, reference="nowhere")]).train()


def test_an_earlier_runs_reference_is_carried_on(tmp_path: Path) -> None:
    """A lineage: the second stage is compared with where the first began."""
    first = monitored(tmp_path / "one")
    trainer = trainers.trainer("sft", tmp_path / "one", [first])
    trainer.train()
    second = monitored(tmp_path / "two", reference=str(tmp_path / "one"), every=0)
    trainers.trainer("dpo", tmp_path / "two", [second], trainer.model).train()
    theirs, ours = divmon.read_run(tmp_path / "one"), divmon.read_run(tmp_path / "two")
    assert ours.steps == [0, 6]
    assert set(ours.changes.query("metric == 'ead'").reference) == set(
        theirs.changes.query("metric == 'ead'").reference
    )
    unlike = monitored(tmp_path / "three", reference=str(tmp_path / "one"), temperature=1.0)
    with pytest.raises(ValueError, match="same decoding"):
        trainers.trainer("sft", tmp_path / "three", [unlike]).train()
