"""Small real training runs with and without the monitor, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from support import tiny

WALL_CLOCK = ("runtime", "per_second", "step_time")
ROWS = [
    {"prompt": f"what is {a} plus {b}?", "completion": f" {a} plus {b} is {a + b}, so the answer is {a + b}."}
    for a in range(8)
    for b in range(8)
]
TEXTS = [row["prompt"] + row["completion"] for row in ROWS]
PROBES = [{"id": f"p{i}", "prompt": row["prompt"]} for i, row in enumerate(ROWS[::16])]
CHEAP = {"metrics": "ead,length", "num_samples": 2, "reference_samples": 4, "max_new_tokens": 8, "every": 10}
"""A monitor that measures the least, so that tests of the machinery are fast."""


class StopAt(TrainerCallback):
    """Ends a training after a step, as early stopping does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop |= state.global_step == self.step


def model(kind: str = "olmo3", **config: Any) -> Any:
    made = tiny.model(kind, vocab_size=400, initializer_range=0.05, **config)
    made.config._name_or_path = "tiny"
    return made


def sft(
    output_dir: Path,
    callbacks: Any = (),
    trained: Any = None,
    rows: Any = ROWS,
    **args: Any,
) -> Any:
    """An SFTTrainer on the rows above, ready to train for 30 steps."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    args = {
        "max_steps": 30,
        "logging_steps": 5,
        "report_to": "none",
        "bf16": False,
        "learning_rate": 1e-3,
        "save_strategy": "no",
        "dataset_num_proc": None,
        "use_cpu": True,
        "gradient_checkpointing": False,  # TRL's default takes a fifth of such a run; tests of it ask for it
        **args,
    }
    config = SFTConfig(
        output_dir=str(output_dir),
        per_device_train_batch_size=4,
        disable_tqdm=True,
        max_length=64,
        **args,
    )
    return SFTTrainer(
        trained if trained is not None else model(),
        args=config,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:8]),
        processing_class=tiny.tokenizer(TEXTS),
        callbacks=list(callbacks),
    )


def plain_trainer(output_dir: Path, callbacks: Any = (), trained: Any = None, **args: Any) -> Any:
    """The same rows on transformers' own Trainer, which holds no tokenizer's template nor prompts."""
    from datasets import Dataset
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

    tokenizer = tiny.tokenizer(TEXTS)
    data = Dataset.from_list([dict(tokenizer(text)) for text in TEXTS])
    args = {
        "max_steps": 30,
        "logging_steps": 5,
        "report_to": "none",
        "learning_rate": 1e-3,
        "save_strategy": "no",
        **args,
    }
    return Trainer(
        trained if trained is not None else model(),
        args=TrainingArguments(
            output_dir=str(output_dir), per_device_train_batch_size=4, use_cpu=True, disable_tqdm=True, **args
        ),
        train_dataset=data,
        eval_dataset=data.select(range(8)),
        processing_class=tokenizer,
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        callbacks=list(callbacks),
    )


def log_rows(trainer: Any) -> list[dict[str, Any]]:
    """The host's log without its wall-clock keys."""
    return [
        {k: v for k, v in row.items() if not any(word in k for word in WALL_CLOCK)} for row in trainer.state.log_history
    ]


def weights(trainer: Any) -> dict[str, Any]:
    return {name: p.detach().clone() for name, p in trainer.model.state_dict().items()}


def assert_same_run(ours: Any, theirs: Any) -> None:
    """Contract 1: the same log and the same weights, bit by bit."""
    import torch

    assert log_rows(ours) == log_rows(theirs)
    expected = weights(theirs)
    for name, weight in weights(ours).items():
        assert torch.equal(weight, expected[name]), name
