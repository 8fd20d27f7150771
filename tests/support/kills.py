"""Trainings that are killed at random moments and resumed until they end: kills.py OUT sft|grpo PROCESSES KILLS

One process imports everything and forks each training, so that a kill costs seconds. After each kill the run directory
must be sound, and a run that came to its end must hold what one that was never killed holds. Prints a line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from trl import GRPOTrainer, SFTTrainer  # noqa: F401  so that the forks have them

from divmon import DiversityCallback, read_run
from divmon.storage.reader import Run
from support import rl_runs, runs

torch.set_num_threads(1)
STEPS, EVERY = 8, 2


def train(out: Path, kind: str) -> None:
    """One training from where it stopped; `out` holds its checkpoints."""
    for checkpoint in out.glob("checkpoint-*"):
        try:
            json.loads((checkpoint / "trainer_state.json").read_bytes())
        except (OSError, ValueError):  # the trainer itself was killed while it wrote it
            shutil.rmtree(checkpoint, ignore_errors=True)
    # Resumed from its very end, a trainer may take a step too many: not what is tried here.
    shutil.rmtree(out / f"checkpoint-{STEPS}", ignore_errors=True)
    monitor = DiversityCallback(runs.PROBES, progress=False, on_error="raise", **{**runs.CHEAP, "every": EVERY})
    saved = {"save_strategy": "steps", "save_steps": 2, "save_total_limit": 2, "max_steps": STEPS}
    model = runs.model("llama", num_hidden_layers=1, attention_dropout=0.1)
    if kind == "sft":
        trainer = runs.sft(out, [monitor], model, **saved)
    else:
        trainer = rl_runs.trainer("grpo", out, [monitor], model=model, **saved)
    trainer.train(resume_from_checkpoint=any(out.glob("checkpoint-*")))


def forked(out: Path, kind: str, processes: int) -> list[int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        child = os.fork()
        if child:
            children.append(child)
            continue
        code = 1
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(os.open(out.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            if processes > 1:
                ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_PORT": port}
                os.environ.update({name: str(value) for name, value in ranks.items()})
                os.environ.update(MASTER_ADDR="127.0.0.1", ACCELERATE_USE_CPU="true")
            train(out, kind)
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return children


def ended(children: list[int], seconds: float, between: float = 0.0) -> list[int]:
    """Exit codes of those that end in time; all are killed after it.

    Args:
        between: seconds from one kill to the next, in which the others notice.
    """
    codes: dict[int, int] = {}
    until = time.monotonic() + seconds
    while len(codes) < len(children) and time.monotonic() < until:
        for child in children:
            if child not in codes and (found := os.waitpid(child, os.WNOHANG))[0]:
                codes[child] = os.waitstatus_to_exitcode(found[1])
        time.sleep(0.005)
    for child in children:
        if child not in codes:
            os.kill(child, signal.SIGKILL)
            codes[child] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            time.sleep(between)
    return list(codes.values())


def sound(out: Path) -> None:
    """What is there is whole: every snapshot that is listed can be read, its samples too."""
    if (out / "_divmon" / "manifest.json").exists():
        run = read_run(out)
        for step in run.steps:
            assert run.read(step).samples
        assert not [p for p in run.problems.found if p.kind in ("samples", "manifest") or "damaged" in p.reason]


def texts(run: Run) -> Any:
    return run.samples[["step", "task", "prompt_id", "index", "text", "finish"]]


def main(root: Path, kind: str, processes: int, kills: int) -> dict[str, Any]:
    began = time.monotonic()
    assert ended(forked(root / "whole", kind, processes), 300) == [0] * processes, "the run that is not killed"
    takes = time.monotonic() - began
    whole, done, killed, resumed, rng = read_run(root / "whole"), 0, 0, 0, random.Random(f"{kind}{processes}")
    out = root / "run0"
    while killed < kills:
        children = forked(out, kind, processes)
        rng.shuffle(children)
        codes = ended(children, rng.uniform(0.05, takes), rng.choice([0.0, 0.3, 1.0]) if processes > 1 else 0.0)
        if -signal.SIGKILL in codes:
            killed += 1
            resumed += any(out.glob("checkpoint-*/trainer_state.json"))
            sound(out)
            continue
        assert codes == [0] * processes, out.with_suffix(".log").read_text()[-3000:]
        run = read_run(out)
        assert run.steps == whole.steps and texts(run).equals(texts(whole)) and run.changes.equals(whole.changes)
        assert not list((out / "_divmon").rglob("*.tmp"))
        done += 1
        out = root / f"run{done}"
    facts = {"kind": kind, "processes": processes, "kills": killed, "of them resumed from a checkpoint": resumed}
    return facts | {"runs that came to their end": done, "seconds": round(time.monotonic() - began)}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))
