"""Small real GRPO and RLOO runs, for tests."""

from __future__ import annotations

import random
import zlib
from pathlib import Path
from typing import Any

from support import runs, tiny

PROMPTS = [{"prompt": row["prompt"], "answer": str(i)} for i, row in enumerate(runs.ROWS)]


def parity(completions: list[Any], **_: Any) -> list[float]:
    """A reward of 0 or 1, about half each, that the text alone decides."""
    return [float(zlib.crc32(str(completion).encode()) % 2) for completion in completions]


def drawn(completions: list[Any], **_: Any) -> list[float]:
    """A reward that draws from Python's generator, as judges that call a sampler do."""
    return [random.random() for _ in completions]


def trainer(
    kind: str,
    output_dir: Path,
    callbacks: Any = (),
    rewards: Any = parity,
    rows: Any = PROMPTS,
    ends: bool = True,
    model: Any = None,
    chat_template: str | None = None,
    **args: Any,
) -> Any:
    """A GRPOTrainer or RLOOTrainer on the tiny model: 8 completions of 8 tokens at most a batch, in groups of 4.

    Args:
        kind: "grpo" or "rloo".
        ends: a quarter of all tokens end a completion, as an untrained model would hardly ever.
    """
    import trl
    from datasets import Dataset

    model = model or runs.model(attention_dropout=0.1)
    model.generation_config.eos_token_id = list(range(2, 100)) if ends else [2]
    args = {
        "per_device_train_batch_size": 8,
        "per_device_eval_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 8,
        "max_steps": 8,
        "logging_steps": 2,
        "report_to": "none",
        "learning_rate": 1e-3,
        "beta": 0.0,
        "save_strategy": "no",
        "gradient_checkpointing": False,
        **args,
    }
    config_class, trainer_class = {
        "grpo": (trl.GRPOConfig, trl.GRPOTrainer),
        "rloo": (trl.RLOOConfig, trl.RLOOTrainer),
    }[kind]
    config = config_class(output_dir=str(output_dir), use_cpu=True, bf16=False, disable_tqdm=True, **args)
    return trainer_class(
        model,
        reward_funcs=rewards,
        args=config,
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(rows[:4]),
        processing_class=tiny.tokenizer(runs.TEXTS, chat_template),
        callbacks=list(callbacks),
    )


def tap(rollouts: Any, folder: Path | None = None, taken: list[Any] | None = None) -> Any:
    """A callback that drives a `Rollouts` as `DiversityCallback` does; snapshots go into `taken`."""
    from transformers import TrainerCallback

    class Tap(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            from divmon.training.trainer_access import find_trainer

            rollouts.attach(find_trainer(self), folder, resume_step=state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if control.should_log:
                snapshot = rollouts.take(state.global_step)
                if taken is not None and snapshot is not None:
                    taken.append(snapshot)

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            rollouts.detach()

    return Tap()
