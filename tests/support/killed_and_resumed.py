"""A training with the monitor that is killed at a chosen moment, or goes on after: killed_and_resumed.py OUT HOW"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from divmon import DiversityCallback
from divmon.sampling.engines import live
from divmon.storage import writer as store
from divmon.training import likelihood_looks
from support import runs


def die(*args: Any, **kwargs: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


class Kill(TrainerCallback):
    def __init__(self, how: str) -> None:
        self.how = how

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        step = state.global_step + 1
        if step == 8 and self.how == "sampling":  # half way through the completions of step 8
            forwards, forward = iter(range(5)), live._Forward.__call__
            live._Forward.__call__ = lambda *a: forward(*a) if next(forwards, None) is not None else die()  # type: ignore
        if step == 8 and self.how == "writing":  # its samples are on the disk, its scores are not
            write = store.write_whole
            store.write_whole = lambda path, data: write(path, data) if "samples" in path.name else die()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 10 and self.how == "training":
            die()


def train(out: Path, how: str) -> None:
    """`how`: "through", "without" the monitor for six steps, "resume", or where to be killed."""
    alone = how == "without"
    options = {**runs.CHEAP, "every": 4, "metrics": "ead,length,token_entropy,cross_entropy", "likelihood_every": 2}
    monitor = DiversityCallback(runs.PROBES, progress=False, on_error="raise", **options)
    callbacks = [Kill(how)] if alone else [Kill(how), monitor]
    steps = {"max_steps": 6, "lr_scheduler_type": "constant"} if alone else {"max_steps": 20}
    trainer = runs.sft(out, callbacks, save_strategy="steps", save_steps=6, **steps)
    with pytest.MonkeyPatch.context() as patch:  # between measurements at every step that is due
        patch.setattr(likelihood_looks, "SHARE", 0.999)
        trainer.train(resume_from_checkpoint=how == "resume")


if __name__ == "__main__":
    torch.set_num_threads(1)
    train(Path(sys.argv[1]), sys.argv[2])
