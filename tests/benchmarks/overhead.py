"""What measuring costs a training run: SFT on the miniature model with and without a budget, one thread.

    python tests/benchmarks/overhead.py [steps]

One run each; the share is the monitor's own seconds over the run's, both of the same run, so that a busy machine slows
both. `measured` counts snapshots by `every`; the start, the end and listed steps are never thinned.
"""

from __future__ import annotations

import copy
import sys
import tempfile
import warnings
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

from divmon import DiversityCallback, read_run
from divmon.miniature import base_model, broad, probe

EVERY = 20
BUDGETS = (None, 0.2, 0.05)


def run(folder: Path, steps: int, budget: float | None) -> tuple[float, float, int, float]:
    model, tokenizer = base_model()
    monitor = DiversityCallback(
        probe(16), every=EVERY, max_overhead=budget, embedder="minilm", progress=False, alerts=None, on_error="raise"
    )
    trainer = SFTTrainer(
        copy.deepcopy(model),
        args=SFTConfig(
            str(folder), max_steps=steps, per_device_train_batch_size=16, learning_rate=1e-4, use_cpu=True, bf16=False,
            report_to="none", save_strategy="no", disable_tqdm=True, gradient_checkpointing=False,
        ),
        train_dataset=Dataset.from_list(broad(16 * 100)),
        processing_class=tokenizer,
        callbacks=[monitor],
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    stored = read_run(folder)
    spent = stored.manifest["seconds"]
    reference = stored.provenance[0]["total_seconds"]
    return spent["monitor"] / spent["run"], reference / spent["run"], len(stored.steps), spent["run"]


def main(steps: int = 600) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    rows = []
    for budget in BUDGETS:
        with tempfile.TemporaryDirectory() as folder:
            rows.append((budget, *run(Path(folder), steps, budget)))
    print(f"\ntorch {torch.__version__}, {steps} steps, every {EVERY}, 16 prompts x 16 (reference 64), MiniLM")
    print(f"{'max_overhead':>12} {'share':>7} {'of it the reference':>20} {'snapshots':>10} {'run, s':>8}")
    for budget, share, reference, snapshots, seconds in rows:
        print(f"{budget or 'none':>12} {share:7.1%} {reference:20.1%} {snapshots:10} {seconds:8.1f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
