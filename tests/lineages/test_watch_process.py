"""Memory, signals, wrong usage, one watcher at a time."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from support import runs
from support.watching import CHEAP, watch, watcher
from support.watching import run as run
from support.watching import trained as trained

from divmon import DiversityCallback
from divmon.lineages.watch.checkpoints import Checkpoint, Loader
from divmon.storage.reader import read_run


def test_one_model_at_a_time_and_none_mapped_from_its_file(trained: Path, run: Path) -> None:
    alive: list[weakref.ref[Any]] = []

    class Counting(Loader):
        def model(self, name: str | Path) -> Any:
            assert not any(reference() for reference in alive), "the one before is gone when the next is loaded"
            made = super().model(name)
            alive.append(weakref.ref(made))
            maps = Path("/proc/self/maps")
            assert not maps.exists() or f"{run}/" not in maps.read_text(), "its file may be deleted or written anew"
            return made

    gc.collect()
    assert watcher(trained, run, Counting("cpu"), until="measured", reference=str(trained / "base")).run() == 0
    assert len(alive) == 4
    assert not any(reference() for reference in alive)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_gives_up_what_is_under_way_and_nothing_else(
    trained: Path,
    run: Path,
    number: signal.Signals,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = signal.getsignal(number)

    def interrupted(self: Loader, name: str | Path, load: Any = Loader.model) -> Any:
        made = load(self, name)
        if Path(name).name == "checkpoint-20":
            made.register_forward_pre_hook(lambda *_: os.kill(os.getpid(), number))  # while it samples
        return made

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "model", interrupted)
        assert watch(trained, run, "--until-end") == 128 + number
    assert signal.getsignal(number) is before
    assert f"stopped by {number.name}; started again it continues" in capsys.readouterr().err
    assert read_run(run).steps == [10]
    assert watch(trained, run, "--until-end") == 0, "the lock is free, and it goes on"
    assert read_run(run).steps == [10, 20, 30]
    assert not (run / "_divmon_watch/superseded").exists()


@pytest.mark.parametrize(("stopped", "over"), [(False, False), (True, True)])
def test_training_is_over_at_its_last_step_or_where_it_was_stopped(run: Path, stopped: bool, over: bool) -> None:
    last = Checkpoint(30, run / "checkpoint-30")
    assert last.ends_training
    assert not Checkpoint(20, run / "checkpoint-20").ends_training
    state = {**last.state, "max_steps": 99}
    state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"] = stopped
    (last.path / "trainer_state.json").write_text(json.dumps(state))
    assert last.ends_training == over


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--divmon_num_samples", "1"], "the diversity of a single completion is undefined"),
        (["--device", "cuda:99"], "device: cannot use 'cuda:99'"),
        (["--dtype", "int3"], "dtype: expected one of auto, float32"),
        (["--poll", "0"], "--poll: expected seconds above 0"),
        (["--divmon_reference", "ref_model"], "--reference MODEL names one here"),
        (["--serve", "vllm serve"], "lacks {checkpoint} and {port}"),
        (["--reference", "org/gone"], "--reference org/gone: OSError"),
        (["--divmon_verifier", "no.py:such"], "no.py"),
    ],
)
def test_wrong_usage(
    trained: Path, run: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert watch(trained, run, "--once", *words) == 2
    assert message in capsys.readouterr().err
    assert not (run / "_divmon_watch/manifest.json").exists()


def test_a_folder_that_is_not_there(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(trained, tmp_path / "none", "--once") == 2
    assert "there is no folder" in capsys.readouterr().err


HOLDS = """
import fcntl, os, sys, time

lock = open(sys.argv[1] + "/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print(os.getpid(), file=lock, flush=True)
print("held", flush=True)
time.sleep(100)
"""


def test_only_one_watches_and_the_reference_stays(trained: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(trained, run, "--once") == 0
    assert watch(trained, run, "--once", "--reference", str(trained / "base")) == 2
    assert "has another reference, step 10" in capsys.readouterr().err
    shutil.copytree(run / "checkpoint-30", run / "checkpoint-40")
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(run / "_divmon_watch")], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    assert watch(trained, run, "--once") == 2
    assert f"process {other.pid} is writing to" in capsys.readouterr().err
    other.kill()
    other.wait()
    assert watch(trained, run, "--once") == 0


def test_the_callback_never_finds_its_directory_taken(trained: Path, run: Path) -> None:
    assert watch(trained, run, "--once") == 0
    callback = DiversityCallback(str(trained / "probes.jsonl"), **CHEAP)
    runs.plain_trainer(run, [callback], max_steps=10).train()
    assert read_run(run).folder.name == "_divmon"
    assert read_run(run / "_divmon_watch").steps == [10, 20, 30]
    assert torch.get_num_threads() == 1
