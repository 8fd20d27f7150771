"""What the loggers' tests share: handmade snapshots, and a real Trainer that takes four steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

from divmon.scoring.figure_registry import Registry
from divmon.types import Change, Probe, Prompt, Sample, Score, Snapshot, Verdict

PROBE = Probe("gsm8k", tuple(Prompt(f"q{i}", f"How many is {i} | <b>twice</b>?\nThink.") for i in range(4)))


def snapshot(step: int, *, changed: bool = True, **provenance: Any) -> Snapshot:
    samples = [
        Sample("gsm8k", p.id, k, f"answer {k} | of *{p.id}*\n<i>", "eos", 5, verdict=Verdict(True if k else None))
        for p in PROBE.prompts
        for k in range(2)
    ]
    return Snapshot(
        step,
        samples,
        [
            Score("gsm8k", "sbert", 0.5 - step / 100, n=3, values=(0.25, 0.5, float("nan"), 0.75 - step / 100)),
            Score("gsm8k", "ead", float("nan")),
            Score("gsm8k", "truncated", 0.0, n=4),
        ],
        [Change("gsm8k", "sbert", 0.5, 0.5 - step / 100, -step / 100, -0.2, 0.1, 4)] if changed else [],
        provenance=provenance,
        figures=Registry().of(("sbert", "ead", "truncated")),
    )


class Measures(TrainerCallback):
    """Logs a snapshot before the first step and after steps 2 and 4, as the real callback does."""

    def __init__(self, make: Callable[..., Any], *, at: tuple[int, ...] = (0, 2, 4), late: int | None = None) -> None:
        self.make, self.at, self.late = make, at, late
        self.trainer: Any = None
        self.logger: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self.logger = self.make(self.trainer.callback_handler.callbacks, args, state, control, model)
        self._log(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._log(state, control)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.late is not None:
            self.logger.log(snapshot(self.late), [PROBE])
        self.logger.close()

    def _log(self, state: Any, control: Any) -> None:
        if state.global_step in self.at:
            before = (vars(control).copy(), list(state.log_history), state.global_step)
            self.logger.log(snapshot(state.global_step, changed=state.global_step > 0), [PROBE])
            assert (vars(control), state.log_history, state.global_step) == before


class Listens(TrainerCallback):
    """A user's own callback: it must hear of the host's rows only."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.heard.append(dict(logs))


def train(folder: Path, report_to: list[str], callbacks: list[Any], **options: Any) -> Trainer:
    """Four steps of a tiny GPT-2 on random tokens, the same each time; the loss is logged at every step."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 64, "n_positions": 16, "n_embd": 16, "n_layer": 1, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0, pad_token_id=0))
    rows = [{"input_ids": (ids := torch.randint(0, 64, (8,))), "labels": ids} for _ in range(16)]
    args = TrainingArguments(
        str(folder),
        report_to=report_to,
        max_steps=4,
        logging_steps=1,
        per_device_train_batch_size=4,
        use_cpu=True,
        save_strategy="no",
        **{"disable_tqdm": True, **options},
    )
    trainer = Trainer(model, args, train_dataset=rows, callbacks=callbacks)
    for callback in callbacks:
        if isinstance(callback, Measures):
            callback.trainer = trainer
    trainer.train()
    return trainer
