"""Killed and resumed: the schedule, the reference and the curves go on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from support import forks, killed_and_resumed

from divmon.storage.writer import Store, read_run


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Trains in a folder of this name: in a process of its own where that will be killed, else in this one."""
    root = tmp_path_factory.mktemp("resumed")

    def run(folder: str, how: str) -> Path:
        if how not in ("sampling", "writing", "training"):
            killed_and_resumed.train(root / folder, how)
            return root / folder
        done = forks.run([killed_and_resumed.__file__, str(root / folder), how])
        assert done.returncode == -signal.SIGKILL, done.stderr[-3000:]
        return root / folder

    run("whole", "through")
    return run


@pytest.mark.parametrize(
    ("how", "stored"),
    [
        pytest.param("sampling", [0, 4], marks=pytest.mark.slow),
        ("writing", [0, 4]),
        pytest.param("training", [0, 4, 8], marks=pytest.mark.slow),
    ],
)
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
    assert set(whole.changes.step) == set(range(2, 21, 2)), "and stored completions are scored between"
    aside = [f.name for f in (folder / "_divmon" / "superseded").rglob("*") if f.is_file()]
    assert bool(aside) == (8 in stored), "the snapshot of a future that was lost is kept aside"
    assert not list((folder / "_divmon").rglob("*.tmp"))


def test_a_checkpoint_made_without_the_monitor_is_resumed_with_it(process: Callable[[str, str], Path]) -> None:
    folder = process("added", "without")
    assert not (folder / "_divmon").exists()
    process("added", "resume")
    run = read_run(folder)
    assert run.steps == [6, 8, 12, 16, 20], "the first look is the reference"
    assert set(run.changes.step) == {8, 10, 12, 14, 16, 18, 20}, "stored completions are scored between"
