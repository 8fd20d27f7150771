"""What watching rollouts costs: GRPO on the miniature model, 32 completions a step in groups of 8, one thread.

    python tests/benchmarks/rollouts.py

Watched means tapped, scored, compared, stored and written to TensorBoard; CPU seconds, ratios within one run.
Without an encoder every other block of 20 steps is watched: `alternating` is the median watched block over the median
other one, less 1 (noisy, but nothing hides from it). With one all are, as the encoder's share of the time decides which
windows ask it. `accounted` is what was measured inside of our code over the rest of the watched blocks, in sum.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from divmon.lineages.miniature.base import base_model
from divmon.lineages.miniature.problems import draw_problem
from divmon.loggers.tensorboard import tensorboard
from divmon.training.rollouts import TAPPED, Rollouts

CHEAP = "compression,distinct_n,duplicates,ead,length,repetition"
STEPS, BLOCK = 240, 20
KINDS: dict[str, dict[str, Any]] = {
    "no encoder": {"metrics": CHEAP},
    "MiniLM": {"metrics": "auto", "embedder": "minilm"},
}


def right(completions: list[str], answer: list[int], **_: Any) -> list[float]:
    return [float(text.split()[-1:] == [str(gold)]) for text, gold in zip(completions, answer, strict=True)]


class Timed(Rollouts):
    """Knows the CPU seconds that the tap takes."""

    seconds = 0.0

    def _settle(self) -> None:
        began = time.process_time()
        super()._settle()
        self.seconds += time.process_time() - began

    def _note(self, *seen: Any) -> None:
        began = time.process_time()
        super()._note(*seen)
        self.seconds += time.process_time() - began


class Watch(TrainerCallback):
    """Watches every block of steps, or every other one."""

    def __init__(self, rollouts: Timed, trainer: Any, folder: Path, every_other: bool) -> None:
        self.rollouts, self.trainer, self.every_other = rollouts, trainer, every_other
        self.logger = tensorboard(folder, say=lambda line: None)
        rollouts.attach(trainer, folder / "rollouts")
        self.tap = vars(trainer)[TAPPED]
        self.blocks: dict[bool, list[float]] = {True: [], False: []}
        self.windows = self.encoded = 0
        self.seconds, self.began = 0.0, time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        watched = TAPPED in vars(self.trainer)
        if control.should_log and watched:
            began = time.process_time()
            snapshot = self.rollouts.take(state.global_step)
            if snapshot is not None:
                self.logger.log(snapshot.replace(decomposition={}), self.rollouts.probes)
                self.windows += 1
                self.encoded += bool(snapshot.provenance["with_encoder"])
            self.seconds += time.process_time() - began
        if state.global_step % BLOCK == 0:
            self.blocks[watched].append(time.process_time() - self.began)
            if self.every_other and watched:
                vars(self.trainer).pop(TAPPED)
            else:
                setattr(self.trainer, TAPPED, self.tap)
            self.began = time.process_time()


def measured(kind: str, logging_steps: int) -> str:
    """A row of the table."""
    model, tokenizer = base_model(0)
    problems = [draw_problem(random.Random(i)) for i in range(2000)]
    rows = [{"prompt": problem.prompt, "answer": problem.answer} for problem in problems]
    with tempfile.TemporaryDirectory() as out:
        config = GRPOConfig(
            out, per_device_train_batch_size=32, num_generations=8, max_completion_length=64, learning_rate=1e-4,
            max_steps=STEPS, logging_steps=logging_steps, report_to="none", save_strategy="no",
            use_cpu=True, bf16=False, disable_tqdm=True,
        )  # fmt: skip
        data = Dataset.from_list(rows)
        trainer = GRPOTrainer(model, reward_funcs=right, args=config, train_dataset=data, processing_class=tokenizer)
        trainer.remove_callback(PrinterCallback)
        rollouts = Timed(**KINDS[kind], say=lambda line: None)
        callback = Watch(rollouts, trainer, Path(out), every_other=kind == "no encoder")
        trainer.add_callback(callback)
        trainer.train()
        rollouts.detach()
    assert not rollouts.failures, rollouts.failures
    on, off = callback.blocks[True], callback.blocks[False]
    ours = rollouts.seconds + callback.seconds
    share = f"{100 * ours / (sum(on) - ours):.2f} %"
    alternating = f"{100 * (statistics.median(on) / statistics.median(off) - 1):+.1f} %" if off else "-"
    step, tap = statistics.median(off or on) / BLOCK, 1e6 * rollouts.seconds / (len(on) * BLOCK)
    encoded = f"{callback.encoded} of {callback.windows}"
    return f"| {kind} | {logging_steps} | {step:.3f} s | {alternating} | {share} | {tap:.0f} us | {encoded} |"


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    print("| metrics | logging_steps | step | alternating | accounted | tap a step | windows with encoder |")
    print("|--|--|--|--|--|--|--|")
    for kind in KINDS:
        for logging_steps in (10, 1):
            print(measured(kind, logging_steps), flush=True)


if __name__ == "__main__":
    main()
