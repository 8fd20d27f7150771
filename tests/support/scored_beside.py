"""A training whose measurement is being scored when the program ends: killed, or by an error."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

from divmon.pipeline import Pipeline
from divmon.training import results
from divmon.training.config import given_options
from divmon.training.loop_state import Host, Moment
from divmon.training.training_run import TrainingRun
from support import runs, tiny

folder, end = sys.argv[1:]
results.leaves_cores = lambda model: True
scored, goes_on = Pipeline.scored, threading.Event()


def slow(self: Any, probes: Any, sampled: Any, *args: Any, **how: Any) -> Any:
    if sampled.step == 2:
        goes_on.wait(30)
        time.sleep(0.2)  # the program is at its end by then
    return scored(self, probes, sampled, *args, **how)


Pipeline.scored = slow  # type: ignore[method-assign]
model = runs.model("llama", num_hidden_layers=1)
options = given_options(None, {**runs.CHEAP, "probes": runs.PROBES[:2], "every": 2, "progress": False})
run = TrainingRun(options, Host(folder, max_steps=4, loggers=[]), model)
run.begin(Moment(0, model), tiny.tokenizer(runs.TEXTS))
for step in range(1, 4):
    run.step_end(Moment(step, model))
assert run.live.pending == 2
goes_on.set()
if end == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
raise RuntimeError("training failed")
