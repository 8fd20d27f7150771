"""The main job: the miniature model on real human-written text, read back with TensorBoard's own reader."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from divmon import DiversityCallback
from divmon.storage.writer import read_run

OWN = [
    {
        "prompt": f"Ada has {a} boxes with {b} pens each. How many pens does she have?",
        "completion": f"Each of the {a} boxes holds {b} pens.\nThat is {a} * {b} = {a * b} pens.\n#### {a * b}",
    }
    for a in range(2, 14)
    for b in range(2, 14)
]


def rows_and_probe(shared: Path | None, tmp_path: Path) -> tuple[Path, Path]:
    if shared is not None:
        return shared / "data/sft/gsm8k_direct.jsonl", shared / "data/probes/gsm8k.jsonl"
    rows, probe = tmp_path / "rows.jsonl", tmp_path / "probe.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in OWN))
    upstream = [{"question": row["prompt"], "answer": row["completion"]} for row in OWN[::7]]
    probe.write_text("".join(json.dumps(row) + "\n" for row in upstream))
    return rows, probe


def trainer(kind: str, rows: Path, out: Path, callback: DiversityCallback, steps: int) -> Any:
    from datasets import load_dataset
    from trl import SFTConfig, SFTTrainer

    from divmon.lineages.miniature.base import base_model

    model, tokenizer = base_model()
    data = load_dataset("json", data_files=str(rows), split="train", cache_dir=str(out / "cache"))
    args: dict[str, Any] = {
        "output_dir": str(out),
        "report_to": "tensorboard",
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "logging_steps": 5,
        "learning_rate": 1e-3,
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    if kind == "sft":
        config = SFTConfig(max_length=1024, **args)
        return SFTTrainer(model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[callback])
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    def tokenized(row: dict[str, str]) -> Any:
        text = f"{row['prompt']}\n{row['completion']}{tokenizer.eos_token}"
        return tokenizer(text, truncation=True, max_length=1024)

    return Trainer(
        model,
        args=TrainingArguments(**args),
        train_dataset=data.map(tokenized, remove_columns=data.column_names),
        processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        callbacks=[callback],
    )


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["sft", "trainer"])
def test_curves_on_real_text(kind: str, shared: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    rows, probe = rows_and_probe(shared, tmp_path)
    callback = DiversityCallback(f"gsm8k@{probe}", num_prompts=16, every=20)
    run = trainer(kind, rows, tmp_path / "run", callback, steps=40)
    run.train()
    assert not callback.failures
    files = list((tmp_path / "run" / "runs").rglob("events.out.tfevents*"))
    assert len(files) == 1
    events = EventAccumulator(str(files[0])).Reload()
    for metric in ("ead", "sbert", "accuracy"):
        assert [e.step for e in events.Scalars(f"Diversity/gsm8k/{metric}")] == [0, 20, 40], metric
    assert [e.step for e in events.Scalars("Diversity/gsm8k/sbert_change")] == [0, 20, 40]
    assert [e.step for e in events.Scalars("train/loss")] == [5, 10, 15, 20, 25, 30, 35, 40]
    stored = read_run(tmp_path / "run")
    assert set(stored.samples.groupby(["step", "prompt_id"]).size()) == {64, 16}
    print(stored.changes[stored.changes.step == 40].to_string())
    print("share of the run spent measuring:", callback.monitor.seconds, "s of", stored.manifest["seconds"]["run"], "s")
