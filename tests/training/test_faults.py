"""The fault matrix: whatever goes wrong, training takes its steps, and what is lost is named where a run is read."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support import runs, tiny
from support.faults import MATRIX, Fault

import divmon
from divmon.analysis.report import write
from divmon.training.config import given_options
from divmon.training.loop_state import Host, Moment
from divmon.training.training_run import TrainingRun

OPTIONS = {**runs.CHEAP, "probes": ["what is one plus two?", "what is two?"], "metrics": "ead", "max_new_tokens": 2}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.tokenizer(runs.TEXTS)


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a fault takes away is given back after it."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    monkeypatch.setattr(time, "perf_counter", time.perf_counter)
    monkeypatch.chdir(os.getcwd())


@pytest.mark.parametrize("fault", MATRIX, ids=lambda fault: fault.name)
def test_training_goes_on_and_what_is_lost_is_named(tmp_path: Path, tokenizer: Any, fault: Fault) -> None:
    folder, model = tmp_path / "_divmon", runs.model("llama", num_hidden_layers=1)
    options = given_options(None, {**OPTIONS, "every": 2, "progress": False, **fault.options})
    run = TrainingRun(options, Host(str(folder), max_steps=4, loggers=list(fault.loggers)), model)
    run.begin(Moment(0, model), tokenizer)
    rng = torch.get_rng_state()
    taken = 0
    for step in range(1, 5):
        fault.at(step, run, folder)
        taken += 1
        run.step_end(Moment(step, model, last=step == 4))
    run.end(Moment(4, model))
    assert taken == 4 and torch.equal(rng, torch.get_rng_state())
    read = divmon.read_run(folder)
    assert tuple(read.steps) == fault.steps
    lines = read.problems.lines()
    assert fault.said in "\n".join(lines) and (bool(lines) or not fault.said), lines
    if fault.name == "a metric exits":
        assert fault.said in write(divmon.compare([folder]), tmp_path / "page.html").read_text(), "the report says it"
