"""Run by test_rollouts_processes in two processes: GRPO on two gloo processes that share every group."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from divmon.training.rollouts import Rollouts
from support import rl_runs, runs

torch.set_num_threads(1)


def train(out: Path, watched: bool) -> tuple[Any, list[Any], list[Any], Rollouts]:
    rollouts, taken, asked = Rollouts(metrics="ead", threshold=0.5, min_groups=1), [], []

    def parity(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        asked.append(list(zip(prompts, completions, strict=True)))
        return rl_runs.parity(completions)

    callbacks = [rl_runs.tap(rollouts, out / "rollouts", taken)] if watched else []
    sizes = {"per_device_train_batch_size": 2, "num_generations": 4, "logging_steps": 2, "max_steps": 4}
    trainer = rl_runs.trainer("grpo", out, callbacks, rewards=parity, **sizes)
    assert trainer.args.world_size == 2
    trainer.train()
    return trainer, taken, asked, rollouts


if __name__ == "__main__":
    folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])
    trainer, taken, asked, rollouts = train(folder / "with", True)
    plain = train(folder / "without", False)[0]
    ours, theirs = runs.weights(trainer), runs.weights(plain)
    facts = {
        "taken": taken,
        "asked": asked,
        "failures": rollouts.failures,
        "rows": runs.log_rows(trainer),
        "same_rows": runs.log_rows(trainer) == runs.log_rows(plain),
        "same_weights": all(torch.equal(ours[name], theirs[name]) for name in theirs),
    }
    torch.save(facts, folder / f"rank{rank}.pt")
