"""Code of the user's own that hangs, ends or spoils things costs itself, and never the training."""

from __future__ import annotations

import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support import runs, tiny

import divmon
from divmon.grading.users_code import Ended, TimedOut, limited, within
from divmon.training.config import given_options
from divmon.training.loop_state import Host, Moment
from divmon.training.training_run import TrainingRun


def train(folder: Path, loggers: Any = (), **options: Any) -> TrainingRun:
    model, tokenizer = runs.model("llama", num_hidden_layers=1), tiny.tokenizer(runs.TEXTS)
    given = {"probes": runs.PROBES, **runs.CHEAP, "every": 2, "progress": False, "user_timeout": 0.5, **options}
    run = TrainingRun(given_options(None, given), Host(str(folder), max_steps=4, loggers=list(loggers)), model)
    run.begin(Moment(0, model), tokenizer)
    for step in range(1, 5):
        run.step_end(Moment(step, model, last=step == 4))
    run.end(Moment(4, model))
    return run


def forever(*_: Any, **__: Any) -> Any:
    while True:
        time.sleep(0.05)


class Recording:
    """A logger that opens its connection when it is first used, as those of data bases do."""

    def __init__(self) -> None:
        self.logged: list[int] = []
        self.connection: Any = None
        self.closed = 0

    def log(self, snapshot: Any, probes: Any) -> None:
        self.connection = self.connection or sqlite3.connect(":memory:")
        self.connection.execute("select 1")
        self.logged.append(snapshot.step)

    def close(self) -> None:
        self.closed += 1


class Hanging(Recording):
    def log(self, snapshot: Any, probes: Any) -> None:
        forever()


def test_whatever_hangs_is_named_and_left_out_and_the_rest_goes_on(tmp_path: Path) -> None:
    def hangs(lengths_PK: torch.Tensor) -> torch.Tensor:
        return forever()

    def grader(text: str, prompt: Any) -> bool:
        return forever()

    def ends(lengths_PK: torch.Tensor) -> torch.Tensor:
        raise SystemExit(3)

    good = Recording()
    began = time.monotonic()
    run = train(tmp_path, [Hanging(), good], metrics=["ead", "length", hangs, ends], verifier=grader)
    assert time.monotonic() - began < 60
    stored = divmon.read_run(tmp_path)
    assert stored.steps == good.logged == [0, 2, 4] and run.failures == []
    assert "ead" in set(stored.scores.metric) and set(stored.samples.reason) <= {
        r for r in stored.samples.reason if "left out" in r
    }
    said = "\n".join(stored.problems.lines())
    assert "hangs did not return in 0.5 s and is left out from now on" in said, said
    assert "Ended: SystemExit: 3" in said and "logging to Hanging failed" in said
    assert sum("logging to" in f["what"] for f in stored.manifest["failures"]) == 2, "once when it hung, once left out"


def test_an_alert_function_that_hangs_or_ends(tmp_path: Path) -> None:
    def alarm(alert: Any) -> None:
        raise SystemExit(1)

    from divmon.scoring.alerts import Alert, act

    nan = float("nan")
    alert = Alert("collapse", "a", 1, 1, "text", nan, nan, nan, 0, (), nan, nan)
    with pytest.raises(Ended, match="SystemExit: 1"):
        act([alert], [alarm], None, print)
    with limited(0.1), pytest.raises(TimedOut, match="forever did not return"):
        act([alert], [forever], None, print)


def test_each_function_has_one_thread_and_the_settings_of_the_caller() -> None:
    seen = []

    def call() -> None:
        seen.append((threading.get_ident(), torch.is_grad_enabled()))

    with torch.no_grad():
        within(call, call)
    within(call, call)
    (first, without), (second, with_grad) = seen
    assert first == second != threading.get_ident() and not without and with_grad
    with limited(None):
        within(call, call)
    assert seen[-1][0] == threading.get_ident(), "None is no thread"


def test_what_a_thread_served_is_let_go() -> None:
    def function() -> int:
        return 1

    assert within(function, function) == 1
    (thread,) = [one for one in threading.enumerate() if "test_what_a_thread_served" in one.name]
    del function
    thread.join(5)
    assert not thread.is_alive()


def test_loggers_that_are_given_serve_every_training_and_are_closed_with_the_callback(tmp_path: Path) -> None:
    logger = Recording()
    callback = divmon.DiversityCallback(runs.PROBES, **{**runs.CHEAP, "every": 2, "progress": False}, loggers=[logger])
    for name in ("a", "b"):
        runs.sft(tmp_path / name, [callback], max_steps=2).train()
    assert logger.logged == [0, 2, 0, 2] and logger.closed == 0 and callback.failures == []
    other = divmon.DiversityCallback(runs.PROBES, loggers=[logger])
    del other
    assert logger.closed == 1


def test_where_nothing_can_be_sampled_the_measurement_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(model: Any, batch: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("divmon.sampling.sampler.live", full)
    monkeypatch.setattr("time.perf_counter", lambda: 5.0)  # a clock that stands divides by nothing
    run = train(tmp_path, sampler="live")
    failed = [reason for _, reason in run.failures if "no prompt could be sampled" in reason]
    assert len(failed) == 3 and "out of memory" in failed[0]
    problems = divmon.read_run(tmp_path).problems
    assert "out of memory" in "\n".join(problems.lines())
