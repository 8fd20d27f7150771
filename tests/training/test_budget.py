"""max_overhead: `every` is thinned to every x 2^k and back, on runs whose steps become ten times slower or faster."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import runs

import divmon
from divmon import DiversityCallback
from divmon.training.budget import Budget


class Run:
    """Steps of these lengths on a clock of its own, and a measurement of `cost` seconds where the budget allows."""

    def __init__(
        self, seconds: list[float], every: int, max_overhead: float, cost: float, reference: float = 0.0
    ) -> None:
        budget = Budget(max_overhead, every)
        self.elapsed, self.measuring, self.measured = reference, reference, []
        self.shares = []
        for step, one in enumerate(seconds, start=1):
            self.elapsed += one
            if step % every:
                continue
            if budget.allows(step, elapsed=self.elapsed, measuring=self.measuring, cost=cost):
                self.measured.append(step)
                self.elapsed += cost
                self.measuring += cost
                self.shares.append(self.measuring / self.elapsed)


@given(
    seconds=st.lists(st.floats(0.01, 10.0), min_size=1, max_size=60),
    every=st.integers(1, 4),
    share=st.floats(0.01, 0.5),
    cost=st.floats(0.01, 30.0),
    reference=st.floats(0.0, 100.0),
)
def test_never_over_the_share_whatever_the_steps_take(
    seconds: list[float], every: int, share: float, cost: float, reference: float
) -> None:
    run = Run(seconds, every, share, cost, reference)
    assert all(found <= share + 1e-9 for found in run.shares)
    assert all(step % every == 0 for step in run.measured)


def test_steps_ten_times_slower_bring_the_measurements_back() -> None:
    run = Run([0.1] * 400 + [1.0] * 400, every=10, max_overhead=0.05, cost=1.0)
    fast = [step for step in run.measured if step <= 400]
    slow = [step for step in run.measured if step > 400]
    assert all(step % 320 == 0 for step in fast), "1 s against 5 % wants 190 steps of 0.1 s: 160 are too few"
    assert slow == [step for step in range(410, 801) if step % 20 == 0], "1 s wants 19 steps of 1 s"


def test_steps_ten_times_faster_thin_them() -> None:
    run = Run([1.0] * 400 + [0.1] * 1600, every=10, max_overhead=0.05, cost=1.0)
    assert [step for step in run.measured if step <= 400][-3:] == [360, 380, 400]
    assert all(step % 320 == 0 for step in run.measured if step > 420)
    assert run.measured[-1] == 1920


def test_two_runs_thinned_differently_share_the_coarser_ones_steps() -> None:
    coarse = Run([0.1] * 3000, every=10, max_overhead=0.05, cost=2.0)
    fine = Run([0.1] * 3000, every=10, max_overhead=0.05, cost=0.3)
    assert len(fine.measured) > len(coarse.measured) > 3
    assert set(coarse.measured) < set(fine.measured)


def test_no_budget_measures_as_asked() -> None:
    assert Budget(None, 5).allows(5, elapsed=1.0, measuring=100.0, cost=50.0)


def test_a_real_run_keeps_to_its_budget_and_says_what_it_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps take 10 ms at first and 100 ms after: listed steps, the start and the end stay, whatever they cost.

    All that training waits for before its first step is counted.
    """
    from transformers import TrainerCallback

    at: list[float] = []

    class Pace(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            at.append(time.perf_counter())

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            at.append(time.perf_counter())
            time.sleep(0.01 if state.global_step < 60 else 0.1)

    monitor = DiversityCallback(
        runs.PROBES, **{**runs.CHEAP, "every": 2, "max_overhead": 0.3}, at=[7], progress=False, on_error="raise"
    )
    runs.sft(tmp_path, [Pace(), monitor], max_steps=120, logging_steps=60).train()
    run = divmon.read_run(tmp_path)
    assert {0, 7, 120} <= set(run.steps)
    by_every = [step for step in run.steps if step not in (0, 7, 120)]
    assert 1 <= len(by_every) < 59
    spent = run.manifest["seconds"]
    last = run.provenance[120]["total_seconds"] - run.provenance[by_every[-1]]["total_seconds"]
    unthinned = run.provenance[7]["total_seconds"] + last
    assert (spent["monitor"] - unthinned) / spent["run"] <= 0.3
    assert run.provenance[0]["total_seconds"] > 0.6 * (at[1] - at[0])
    changes = run.manifest["thinned"]
    assert changes and all(change["every"] % 2 == 0 for change in changes)
    assert f"measuring every {changes[0]['every']} steps (asked for: 2)" in capsys.readouterr().out
