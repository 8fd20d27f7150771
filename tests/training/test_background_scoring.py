"""Scoring beside training: what it may run, that training goes on meanwhile, and what becomes of it at every end."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import SUPPORT, forks, runs, tiny

import divmon
from divmon.pipeline import Pipeline
from divmon.scoring import metrics as registry
from divmon.training import results
from divmon.training.background_scoring import is_safe, leaves_cores
from divmon.training.config import given_options
from divmon.training.loop_state import Host, Moment
from divmon.training.training_run import TrainingRun

OPTIONS = {**runs.CHEAP, "probes": runs.PROBES[:2], "metrics": "ead,sbert,vendi,length", "embedder": "minilm"}


def trained(folder: Path, steps: int = 4, **options: Any) -> TrainingRun:
    """A training of four steps, measured at 0, 2 and 4."""
    tokenizer, model = tiny.tokenizer(runs.TEXTS), runs.model("llama", num_hidden_layers=1)
    given = given_options(None, {**OPTIONS, "every": 2, "progress": False, **options})
    run = TrainingRun(given, Host(str(folder), max_steps=4, loggers=[]), model)
    run.begin(Moment(0, model), tokenizer)
    for step in range(1, steps + 1):
        run.step_end(Moment(step, model, last=step == 4))
    if steps == 4:
        run.end(Moment(4, model))
    return run


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU."""
    monkeypatch.setattr(results, "leaves_cores", lambda model: True)


def test_training_goes_on_while_it_scores_and_the_figures_are_the_same(
    tmp_path: Path, beside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    third_step, threads, scored, step_end = threading.Event(), [], Pipeline.scored, TrainingRun.step_end

    def after_the_next_step(self: Any, probes: Any, sampled: Any, *args: Any, **how: Any) -> Any:
        if sampled.step == 2:
            assert third_step.wait(60), "training waits for the scores"
            states = [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]
        threads.append(threading.current_thread() is threading.main_thread())
        measured = scored(self, probes, sampled, *args, **how)
        if sampled.step == 2:
            assert [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()] == states
        return measured

    def steps(self: Any, moment: Moment) -> None:
        if moment.step == 3:
            assert self.live.pending == 2
            third_step.set()
        step_end(self, moment)

    with monkeypatch.context() as patch:
        patch.setattr(Pipeline, "scored", after_the_next_step)
        patch.setattr(TrainingRun, "step_end", steps)
        run = trained(tmp_path / "beside", verifier="value_match")
    assert threads == [True, False, True] and not run.failures
    monkeypatch.setattr(results, "leaves_cores", leaves_cores)
    trained(tmp_path / "in_line", verifier="value_match")
    ours, expected = (divmon.read_run(tmp_path / name) for name in ("beside", "in_line"))
    for step in (0, 2, 4):
        now, then = ours.read(step), expected.read(step)
        assert now.provenance.get("scored_while_training", False) == (step == 2)
        assert now.samples == then.samples and str(now.changes) == str(then.changes)
        assert str(now.scores) == str(then.scores) and now.scores


def test_an_error_of_the_thread_is_that_measurements_failure(
    tmp_path: Path, beside: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = Pipeline.scored

    def failing(self: Any, probes: Any, sampled: Any, *args: Any, **how: Any) -> Any:
        if sampled.step == 2:
            raise SystemExit("no luck here")
        return scored(self, probes, sampled, *args, **how)

    monkeypatch.setattr(Pipeline, "scored", failing)
    run = trained(tmp_path)
    assert run.failures == [(2, "RuntimeError: SystemExit: no luck here")]
    read = divmon.read_run(tmp_path)
    assert read.steps == [0, 4] and "no luck here" in "\n".join(read.problems.lines())


@pytest.mark.parametrize("early", [True, False])
def test_a_training_that_stops_early_or_is_broken_off_loses_no_measurement(
    tmp_path: Path, beside: None, early: bool
) -> None:
    run = trained(tmp_path, steps=2, metrics="ead")
    assert run.live.pending == 2
    if early:
        run.stopped(Moment(2, None, last=True))
        assert run.live.store is not None, "loggers are still open"
    else:
        run.abandon()
    assert run.live.pending is None and divmon.read_run(tmp_path).steps == [0, 2]


@pytest.mark.parametrize(("end", "steps"), [("killed", [0]), ("raises", [0, 2])])
def test_however_the_program_ends_the_run_can_be_read(tmp_path: Path, end: str, steps: list[int]) -> None:
    done = forks.run(["scored_beside.py", str(tmp_path / "_divmon"), end], cwd=SUPPORT)
    assert done.returncode == {"killed": -9, "raises": 1}[end], done.stderr
    read = divmon.read_run(tmp_path / "_divmon")
    assert read.steps == steps and all(read.read(step).scores for step in steps)


def own(texts_PK: Any) -> torch.Tensor:
    return torch.zeros(len(texts_PK))


def test_only_what_leaves_training_alone_runs_in_a_thread(tmp_path: Path) -> None:
    cheap = [registry.load(name) for name in ("ead", "vendi", "length")]
    assert is_safe(cheap, [None, "math_answer", "python_tests"])
    (tmp_path / "own.py").write_text("def rule(text, prompt): return True")
    assert is_safe(cheap, [f"{tmp_path}/own.py:rule"]), "a child process of its own runs it"
    assert not is_safe(cheap, [lambda text, prompt: True])
    assert not is_safe([*cheap, registry.Metric("own", own)], [])
    assert not is_safe([*cheap, registry.load("nli")], []), "it asks a classifier"
    assert not leaves_cores(runs.model("llama", num_hidden_layers=1)) and not leaves_cores(None)
