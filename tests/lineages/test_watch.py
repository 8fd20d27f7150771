"""`divmon watch` beside real training: checkpoints as they come, half-written, deleted, in pieces, written anew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.watching import drawn, watch
from support.watching import run as run
from support.watching import trained as trained

from divmon.storage.reader import read_run


def test_it_sees_what_the_callback_saw(trained: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(trained, run, "--once", "--reference", str(trained / "base")) == 0
    seen, saw = read_run(run), read_run(trained / "run")
    assert seen.folder.name == "_divmon_watch"
    assert seen.steps == saw.steps == [0, 10, 20, 30]
    mine, theirs = drawn(seen), drawn(saw)
    assert repr(mine) == repr(theirs), "to the last token and digit"
    for fact in ("epoch", "tokens", "max_steps"):
        assert seen.provenance[20][fact] == saw.provenance[20][fact], fact
    assert seen.provenance[20]["checkpoint"] == str(run / "checkpoint-20")
    printed = capsys.readouterr().out
    assert "divmon: paired change since the reference, at step 30" in printed
    assert (run / "runs/divmon").is_dir(), "curves beside the host's"
    assert watch(trained, run, "--once") == 0, "nothing is left to do"
    assert repr(drawn(read_run(run))) == repr(mine)


def test_several_at_once_are_measured_in_order(trained: Path, run: Path) -> None:
    (run / "checkpoint-30").rename(run / "checkpoint-100")
    assert watch(trained, run, "--once") == 0
    seen = read_run(run)
    times = [seen.provenance[step]["total_seconds"] for step in (10, 20, 100)]
    assert times == sorted(times)
    assert seen.manifest["reference_step"] == 10
    assert set(seen.samples.groupby("step").size()) == {16, 8}, "the first one is the reference, with more samples"


TRAIN = """
import sys, time
import runs, tiny, transformers
class Slow(transformers.TrainerCallback):
    def on_step_end(self, *_, **__):
        time.sleep(0.25)
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[2])
runs.sft(sys.argv[1], [Slow()], model, save_strategy="steps", save_steps=10).train()
"""


@pytest.mark.slow
def test_beside_a_training_run_killed_and_started_again(trained: Path, tmp_path: Path) -> None:
    here = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **here}
    output_dir = tmp_path / "run"
    training = subprocess.Popen(
        [sys.executable, "-c", TRAIN, str(output_dir), str(trained / "base")],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    command = [sys.executable, "-m", "divmon", "watch", str(output_dir), "--config", str(trained / "divmon.yaml")]
    command += ["--device", "cpu", "--poll", "0.2", "--until-end", "--reference", str(trained / "base")]
    first = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    for line in first.stdout:
        if "divmon: step 10" in line:  # it goes on to the next, or waits for it
            break
    first.kill()
    first.wait()
    assert read_run(output_dir).steps[:2] == [0, 10]
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert second.returncode == 0, second.stderr[-3000:]
    assert training.wait() == 0
    assert repr(drawn(read_run(output_dir))) == repr(drawn(read_run(trained / "run")))
    assert not (output_dir / "_divmon_watch/superseded").exists()
