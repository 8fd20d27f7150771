"""Killed and resumed: the schedule, the reference and the curves go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from divmon.store import Store, read_run

RESUMED = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import runs
from divmon import DiversityCallback, store
from divmon.samplers import live
from transformers import TrainerCallback

out, how = Path(sys.argv[1]), sys.argv[2]
state = {"step": 0}

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

class Kill(TrainerCallback):
    def on_step_begin(self, args, trainer_state, control, **kwargs):
        step = trainer_state.global_step + 1
        if step == 8 and how == "sampling":  # half way through the completions of step 8
            forwards = iter(range(5))
            live._Forward.__call__, forward = (
                lambda *a: forward(*a) if next(forwards, None) is not None else die(), live._Forward.__call__
            )
        if step == 8 and how == "writing":  # its samples are on the disk, its scores are not
            write = store._write_whole
            store._write_whole = lambda path, data: write(path, data) if "samples" in path.name else die()

    def on_step_end(self, args, trainer_state, control, **kwargs):
        if trainer_state.global_step == 10 and how == "training":
            die()

alone = how == "without"
monitor = DiversityCallback(runs.PROBES, progress=False, on_error="raise", **{**runs.CHEAP, "every": 4})
callbacks = [Kill()] if alone else [Kill(), monitor]
steps = {"max_steps": 6, "lr_scheduler_type": "constant"} if alone else {"max_steps": 20}
trainer = runs.sft(out, callbacks, save_strategy="steps", save_steps=6, **steps)
trainer.train(resume_from_checkpoint=how == "resume")
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Runs RESUMED in a folder of this name."""
    root = tmp_path_factory.mktemp("resumed")

    def run(folder: str, how: str) -> Path:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "HF_HUB_OFFLINE": "1"}
        arguments = [sys.executable, "-c", RESUMED, str(root / folder), how]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=240)
        killed = how in ("sampling", "writing", "training")
        assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr[-3000:]
        return root / folder

    run("whole", "through")
    return run


@pytest.mark.parametrize(("how", "stored"), [("sampling", [0, 4]), ("writing", [0, 4]), ("training", [0, 4, 8])])
def test_a_killed_run_resumes_without_gaps_or_doubles(
    process: Callable[[str, str], Path], how: str, stored: list[int]
) -> None:
    """SIGKILL while step 8 is measured, or at step 10 after it was; resumed from the checkpoint of step 6."""
    folder = process(how, how)
    assert Store(folder / "_divmon").steps() == stored
    process(how, "resume")
    killed, whole = read_run(folder), read_run(folder.parent / "whole")
    assert killed.steps == whole.steps == [0, 4, 8, 12, 16, 20]
    columns = ["step", "task", "prompt_id", "index", "text", "finish"]
    assert killed.samples[columns].equals(whole.samples[columns])
    assert killed.changes.equals(whole.changes)
    aside = [f.name for f in (folder / "_divmon" / "superseded").rglob("*") if f.is_file()]
    assert bool(aside) == (8 in stored), "the snapshot of a future that was lost is kept aside"
    assert not list((folder / "_divmon").rglob("*.tmp"))


def test_a_checkpoint_made_without_the_monitor_is_resumed_with_it(process: Callable[[str, str], Path]) -> None:
    folder = process("added", "without")
    assert not (folder / "_divmon").exists()
    process("added", "resume")
    run = read_run(folder)
    assert run.steps == [6, 8, 12, 16, 20], "the first look is the reference"
    assert set(run.changes.step) == {8, 12, 16, 20}
