"""A user's script in a process of its own, and what its run must have left behind.

Only sizes are cut here (steps, prompts, new tokens); a journey that sets any other option hides what users meet.
"""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import divmon
from support import ROOT, forks

HEADLINE = {"sbert", "ead", "vendi_at4"}
"""Figures that every task has, none of which may be undefined."""

FAILED = ("Traceback", "failed, training goes on", "left out of this measurement", "could not log", "FAILED")
"""What a person must not see in a run that went well."""

BEGIN = """
import copy, random
from datasets import Dataset
from divmon import DiversityCallback, DiversityMonitor
from divmon.lineages.miniature import base_model, broad, draw_problem, narrow, solve

model, tokenizer = base_model(0)
"""


LITTLE_BASE = """
from divmon.lineages.miniature.base import BaseConfig, _keep, _place, is_cached, train
if not is_cached():
    _keep(_place(0, BaseConfig()), *train(BaseConfig(steps=40), 0, lambda *_: None))
"""


@pytest.fixture(scope="module")
def little_base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of all workers that holds a twentieth of the base model's training in its place: the whole takes a
    minute."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIVMON_CACHE", str(root / "little-base"))
        made = forks.run(["-c", LITTLE_BASE])
        assert made.returncode == 0, made.stderr
        yield


def run_script(script: str, folder: Path, name: str = "script.py", timeout: float = 280) -> str:
    """Runs it as `python script.py` in that folder; returns what a person sees.

    Raises:
        AssertionError: it did not end well, or said that something failed.
    """
    (folder / name).write_text(BEGIN + textwrap.dedent(script))
    return run_python([name], folder, timeout)


def run_divmon(folder: Path, *arguments: str, timeout: float = 280) -> str:
    """As `run_script`, of a `divmon` command line."""
    return run_python(["-m", "divmon", *arguments], folder, timeout)


def run_python(command: Sequence[str], folder: Path, timeout: float = 280) -> str:
    """As `run_script`, of what stands behind `python` on a command line."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    ended = forks.run(command, cwd=folder, env=environment, timeout=timeout)
    seen = ended.stdout + ended.stderr
    assert ended.returncode == 0, seen[-4000:]
    for bad in FAILED:
        assert bad not in seen, seen[-4000:]
    return seen


def assert_no_debris(seen: str) -> None:
    """In the files that one training's output went to: no bar of ours, no carriage return in a line of ours, and none
    of them twice.

    Raises:
        AssertionError: there is.
    """
    ours = [line for line in seen.split("\n") if "divmon: " in line]
    assert ours and not [line for line in ours if "\r" in line or re.search(r"divmon: step \d+: +\d+%", line)], seen
    assert len(set(ours)) == len(ours), seen


def read_healthy(folder: Path, steps: Sequence[int]) -> Any:
    """The run that lies there, every measurement of which must have come through whole.

    Raises:
        AssertionError: a snapshot is missing, a failure is recorded, or a headline figure is undefined.
    """
    run = divmon.read_run(folder)
    assert not run.manifest.get("failures"), run.manifest["failures"]
    assert run.steps == list(steps)
    left_out = {step: facts["left_out"] for step, facts in run.provenance.items() if facts.get("left_out")}
    assert not left_out
    scores = run.scores
    for task in {probe.name for probe in run.probes}:
        own = scores[(scores.task == task) & scores.metric.isin(HEADLINE)]
        assert len(own) == len(HEADLINE) * len(steps), f"{task} has not every headline figure at every step"
        assert own["mean"].notna().all(), own[own["mean"].isna()]
    changes = run.changes
    later = changes[(changes.step == steps[-1]) & changes.metric.isin(HEADLINE)]
    assert len(steps) == 1 or (len(later) and later["change"].notna().all())
    return run
