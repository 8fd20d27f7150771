"""Run by test_processes in two processes: real runs on two gloo processes, one after another, some of them unlucky."""

from __future__ import annotations

import inspect
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from divmon import DiversityCallback
from divmon.pipeline import Pipeline
from divmon.sampling.engines import live as live_module
from divmon.sampling.sampler import Sampler
from divmon.scoring.alerts import Alert
from divmon.storage.writer import Store
from divmon.training import distributed as processes
from divmon.training import likelihood_looks, results
from divmon.training.alert_actions import Alarms
from divmon.training.training_run import TrainingRun
from support import runs

torch.set_num_threads(1)
RANK = int(os.environ["RANK"])
PROMPTS = [{"id": f"p{i}", "prompt": row["prompt"]} for i, row in enumerate(runs.ROWS)]
Patch = Callable[[Any, str, Any], None]


def unlucky(patch: Patch) -> None:
    """Something else fails at each evaluation but the last two: what one leaves behind would meet the next."""
    failing_or_slow(patch)
    scoring(patch)
    deciding(patch)


def failing_or_slow(patch: Patch) -> None:
    """Process 1 cannot draw at steps 0 and 2; at step 4 it draws, but not in time."""
    draw, forward, now = Sampler.draw, live_module._Forward.__call__, [0]

    def fail(self: Any, requests: Any, **how: Any) -> Any:
        now[0] = how["step"]
        if 0 <= now[0] <= 2:
            raise RuntimeError("no luck here")
        return draw(self, requests, **how)

    def crawl(self: Any, *args: Any) -> Any:
        time.sleep(1.0 if now[0] == 4 else 0)
        return forward(self, *args)

    if RANK == 1:
        patch(Sampler, "draw", fail)
        patch(live_module._Forward, "__call__", crawl)


def scoring(patch: Patch) -> None:
    """The main process fails at step 6, after all have drawn."""
    scored = Pipeline.scored

    def fail(*args: Any, **how: Any) -> Any:
        measured = scored(*args, **how)
        if measured.snapshot.step == 6:
            raise RuntimeError("scoring failed")
        return measured

    patch(Pipeline, "scored", fail)


def deciding(patch: Patch) -> None:
    """The main process fails at step 8, before it has said whether to measure."""
    steps = Store.steps

    def fail(self: Any) -> Any:
        if any(frame.function == "wanted" for frame in inspect.stack()) and next(looks, None) == 4:
            raise OSError("the disk is gone")
        return steps(self)

    looks = iter(range(9))
    patch(Store, "steps", fail)


def hanging(patch: Patch) -> None:
    """Process 1 is stuck at step 6, for longer than anyone waits."""
    draw = Sampler.draw

    def hang(self: Any, requests: Any, **how: Any) -> Any:
        if how["step"] == 6:
            time.sleep(6)
        return draw(self, requests, **how)

    patch(processes, "SLACK", 1.0)
    if RANK == 1:
        patch(Sampler, "draw", hang)


def later(patch: Patch) -> None:
    """Scored in a thread, as on a GPU: what is measured at step 6, a collapse, is scored once step 7 was taken."""
    scored, step_end, next_step = Pipeline.scored, TrainingRun.step_end, threading.Event()

    def wait(self: Any, probes: Any, sampled: Any, *args: Any, **how: Any) -> Any:
        assert sampled.step != 6 or next_step.wait(60), "training waits for the scores"
        return scored(self, probes, sampled, *args, **how)

    def take_step(self: Any, moment: Any) -> None:
        if moment.step == 7:
            next_step.set()
        step_end(self, moment)

    def look(self: Any, snapshot: Any) -> None:
        if snapshot.step == 6:
            self.standing = [Alert("narrowing", "prompts", 6, 6, "lost", -1.0, -1.0, -1.0, 3, (), -9.0, -2.0)]

    patch(results, "leaves_cores", lambda model: True)
    patch(Pipeline, "scored", wait)
    patch(TrainingRun, "step_end", take_step)
    patch(Alarms, "look", look)


def unlike(patch: Patch) -> None:
    """Process 1 alone finds an option wrong."""


def left_alone(patch: Patch) -> None:
    """Only the main process has the callback."""
    patch(processes, "MEETING", timedelta(seconds=2))


def nothing(patch: Patch) -> None:
    """All goes well."""


def between(patch: Patch) -> None:
    """The likelihood of stored completions is measured at every other step, whatever it costs."""
    patch(likelihood_looks, "SHARE", 0.9)


LIKELIHOOD = {"metrics": "ead,length,token_entropy,cross_entropy", "likelihood_every": 2}
RUNS: dict[str, tuple[Callable[[Patch], None], int, dict[str, Any]]] = {
    "without": (nothing, 0, {}),
    "three": (between, 3, LIKELIHOOD),
    "one": (nothing, 1, {}),
    "main_alone": (nothing, 3, {"processes": "main"}),
    "unlucky": (unlucky, 3, {"timeout": 3.0, "every": 2}),
    "later": (later, 3, {"alerts": "save"}),
    "hanging": (hanging, 3, {"timeout": 1.5}),
    "unlike": (unlike, 3, {}),
}


@contextmanager
def patched(way: Callable[[Patch], None]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        way(patch.setattr)
        yield


def run(name: str, out: Path) -> None:
    way, prompts, options = RUNS[name]
    out.mkdir(parents=True, exist_ok=True)
    schedule = {"every": 6, "output_dir": str(out / "_divmon"), "progress": False}
    options = {**runs.CHEAP, "metrics": "ead,length", **schedule, **options}
    if name == "unlike" and RANK == 1:
        options["chat"] = True  # its tokenizer has no template
    callback = DiversityCallback(PROMPTS[:prompts], **options) if prompts else None
    with patched(way):
        trainer = runs.sft(out, [callback] if callback else [], max_steps=12)
        assert trainer.args.world_size == 2
        try:
            trainer.train()
        except (RuntimeError, ValueError) as error:
            (out / f"error{RANK}.txt").write_text(f"{type(error).__name__}: {error}")
            return
    if RANK == 0:
        torch.save(runs.weights(trainer), out / "weights.pt")
        (out / "rows.json").write_text(json.dumps(runs.log_rows(trainer)))
    (out / f"failures{RANK}.json").write_text(json.dumps(callback.failures if callback else []))


def meet_nobody(out: Path) -> None:
    if RANK == 0:
        with patched(left_alone):
            try:
                processes.Processes()
            except RuntimeError as error:
                (out / "alone.txt").write_text(str(error))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name in sys.argv[2:] or RUNS:
        run(name, folder / name)
        print(f"rank {RANK}: {name} done", flush=True)
    dist.barrier()
    meet_nobody(folder)
