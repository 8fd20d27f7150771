"""Replaying a lineage with real trainers: one line, its reference, resuming, several processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import lineage

from divmon.cli import replay
from divmon.lineages.replay.stage import last_checkpoint
from divmon.storage.writer import read_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lineage.make(tmp_path_factory.mktemp("lineage"))


@pytest.fixture(scope="module")
def done(made: Path) -> Path:
    """A replay of all three stages."""
    out = made.parent / "replays"
    assert replay.main([str(made), "--out", str(out)]) == 0
    return out


def test_three_stages_are_one_line_with_one_reference(done: Path) -> None:
    run = read_run(done / "small")
    assert run.steps == [0, 2, 4, 5, 6, 7, 8], "each stage has a middle"
    assert [run.provenance[s]["stage"] for s in run.steps] == ["sft"] * 3 + ["dpo"] * 2 + ["rl"] * 2
    base = run.scores.query("step == 0 and metric == 'ead'")["mean"].item()
    assert run.changes.query("metric == 'ead'")["reference"].tolist() == pytest.approx([base] * 6)
    records = json.loads((done / "small" / "replay.json").read_text())["stages"]
    assert {name: (r["first_step"], r["steps"], r["finished"]) for name, r in records.items()} == {
        "sft": (0, 4, True),
        "dpo": (4, 2, True),
        "rl": (6, 2, True),
    }


def test_a_stage_starts_where_the_one_before_ended(done: Path) -> None:
    from safetensors.torch import load_file

    def weights(stage: str) -> dict:
        return load_file(done / "small" / stage / "final" / "model.safetensors")

    sft, dpo = weights("sft"), weights("dpo")
    assert any((sft[name] != dpo[name]).any() for name in sft)
    assert max((sft[name] - dpo[name]).abs().max().item() for name in sft) < 0.05, "two steps away from it"


def test_what_is_done_is_not_done_again(done: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (done / "small" / "sft" / "final" / "model.safetensors").stat().st_mtime_ns
    assert replay.main([str(made), "--out", str(done)]) == 0
    assert capsys.readouterr().out.count("is done, in") == 3
    assert (done / "small" / "sft" / "final" / "model.safetensors").stat().st_mtime_ns == before


def test_another_lineage_goes_on_from_a_stage_of_this_one(done: Path, made: Path) -> None:
    assert replay.main([str(made.with_name("other.yaml")), "--out", str(done)]) == 0
    run = read_run(done / "other")
    assert run.steps == [0, 4, 5, 6]
    assert [run.provenance[step]["stage"] for step in run.steps] == ["base", "small-sft", "dpo", "dpo"]
    ours, theirs = (
        r.scores.query("step == 0 and metric == 'ead'")["mean"].item() for r in (run, read_run(done / "small"))
    )
    assert ours == theirs, "the same base, the same prompts, the same seed"


@pytest.mark.slow
def test_a_killed_replay_goes_on_at_its_last_checkpoint(done: Path, made: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of the first stage; the same command ends with the weights of a run never stopped."""
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "divmon", "replay", str(made), "--out", str(out), "--stage", "sft"]
    quiet = {"env": {**os.environ, "OMP_NUM_THREADS": "1"}, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen(command, start_new_session=True, **quiet)
    until = time.monotonic() + 120
    while last_checkpoint(out / "small" / "sft") is None and process.poll() is None and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (out / "small" / "sft" / "final").exists(), "killed too late to show anything"
    half = out / "small" / "sft" / "checkpoint-99"  # as a kill while a checkpoint is written leaves it
    half.mkdir()
    again = subprocess.run(command, text=True, **quiet)
    assert again.returncode == 0, again.stdout[-2000:]
    assert "goes on at checkpoint-2" in again.stdout
    assert read_run(out / "small").steps == [0, 2, 4]
    ours, theirs = ((folder / "small" / "sft" / "final" / "model.safetensors").read_bytes() for folder in (out, done))
    assert ours == theirs


def test_a_stage_begun_with_other_settings_is_not_gone_on_with(
    done: Path, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    shutil.rmtree(out / "small" / "sft" / "final")
    command = [str(made), "--out", str(out), "--stage", "sft", "--set", "sft.args.learning_rate=0.5"]
    assert replay.main(command) == 1
    assert "was begun with learning_rate = 0.001, now it is 0.5; give another --out" in capsys.readouterr().err


def test_a_stage_whose_start_is_missing_says_what_to_do(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay.main([str(made), "--out", str(tmp_path), "--stage", "dpo"]) == 1
    assert "stage 'dpo' starts where 'sft' ends, which is not in" in capsys.readouterr().err


def test_data_that_cannot_be_had_say_what_to_do(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(made), "--out", str(tmp_path), "--stage", "sft", "--set", "sft.data.path=allenai/Dolci-Think-SFT-7B"]
    assert replay.main(command) == 1
    said = capsys.readouterr().err
    assert "'allenai/Dolci-Think-SFT-7B', cannot be had" in said and "--set sft.data.path=FILE.jsonl" in said


def test_a_dry_run_prints_everything_and_touches_nothing(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay.main([str(made), "--out", str(tmp_path / "out"), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "sft         sft" in said and "batch      4 = 1 processes x 2 per device x 2 accumulation steps" in said
    assert "reward_weights = [10.0, 1.0]   (derived)" in said
    assert not (tmp_path / "out").exists()


def test_a_stage_on_several_machines_says_how_to_start_it(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "two.yaml"
    config.write_text("num_machines: 2\nnum_processes: 2\n")
    command = [str(made), "--out", str(tmp_path / "out"), "--stage", "sft", "--set", f"sft.accelerate={config}"]
    assert replay.main(command) == 1
    assert "runs on 2 machines" in capsys.readouterr().err
    assert replay.main([*command, "--dry-run"]) == 0
    assert "--machine_rank I" in capsys.readouterr().out


def launched(made: Path, tmp_path: Path, kind: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    """`divmon replay` of a stage whose accelerate config asks for two processes."""
    config, out = tmp_path / "two.yaml", tmp_path / "out"
    config.write_text(
        f"compute_environment: LOCAL_MACHINE\ndistributed_type: {kind}\nuse_cpu: {str(kind == 'MULTI_CPU').lower()}\n"
        "num_machines: 1\nnum_processes: 2\nmachine_rank: 0\nrdzv_backend: c10d\nmain_process_port: 0\n"
    )
    command = [str(made), "--out", str(out), "--stage", "sft", "--set", f"sft.accelerate={config}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", "divmon", "replay", *command]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=250), out


def test_a_miniature_trains_the_stage_it_reuses_where_it_is_not_there(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    shutil.copytree(made.parent, folder, ignore=shutil.ignore_patterns("replays"))
    for name in ("small.yaml", "other.yaml"):
        (folder / name).write_text((folder / name).read_text() + "miniature: mini.yaml\n")
    (folder / "mini.yaml").write_text("sft:\n  args: {max_steps: 1}\n")
    command = [str(folder / "other.yaml"), "--scale", "miniature", "--stage", "small-sft", "--seed", "3"]
    assert replay.main([*command, "--out", str(tmp_path / "out")]) == 0
    assert read_run(tmp_path / "out" / "small").steps == [0, 1], "trained there, with the miniature's steps"
    assert read_run(tmp_path / "out" / "other").steps == [0, 1], "and measured here"
    record = json.loads((tmp_path / "out" / "small" / "replay.json").read_text())["stages"]["sft"]
    assert (record["settings"]["seed"], record["settings"]["max_steps"]) == (3, 1)


@pytest.mark.parametrize("lost,measured_anew", [("dpo", 4), ("dpo/final", 2)], ids=["no checkpoint", "checkpoint"])
def test_a_later_stage_that_was_stopped_goes_on(
    done: Path, made: Path, tmp_path: Path, lost: str, measured_anew: int
) -> None:
    """Before its first checkpoint, or after its last: what was measured since is set aside, and nothing is doubled."""
    out = tmp_path / "moved"
    shutil.copytree(done, out)
    for folder in (lost, "rl"):
        shutil.rmtree(out / "small" / folder)
    records = json.loads((out / "small" / "replay.json").read_text())
    records["stages"]["dpo"]["finished"] = records["stages"]["rl"]["finished"] = False
    (out / "small" / "replay.json").write_text(json.dumps(records))
    assert replay.main([str(made), "--out", str(out)]) == 0
    run, before = read_run(out / "small"), read_run(done / "small")
    assert run.steps == before.steps
    assert len(list((out / "small" / "_divmon" / "superseded").rglob("*.json"))) == measured_anew
    assert run.scores.equals(before.scores), "the same weights, prompts and seeds"


def test_each_stage_records_what_it_was_trained_on(done: Path) -> None:
    data = read_run(done / "small").manifest["data"]
    assert {stage: record["from_step"] for stage, record in data.items()} == {"sft": 0, "dpo": 4, "rl": 6}
    assert list(data) == ["sft", "dpo", "rl"]
    assert {s["name"]: s["rows"] for s in data["sft"]["sources"]} == {"one": 12, "other": 4}
    assert data["rl"]["sources"][0]["samples"] == 0, "prompts have no completions to score"


@pytest.mark.slow
def test_a_stage_is_launched_with_its_accelerate_config(made: Path, tmp_path: Path) -> None:
    """Two real processes of accelerate's own launcher (gloo where there is no GPU); the batch stays the recipe's."""
    ran, out = launched(made, tmp_path, "MULTI_GPU")
    assert ran.returncode == 0, ran.stderr[-3000:]
    record = json.loads((out / "small" / "replay.json").read_text())["stages"]["sft"]
    assert record["settings"]["gradient_accumulation_steps"] == 1, "4 = 2 processes x 2"
    assert record["finished"] and read_run(out / "small").steps == [0, 2, 4]


@pytest.mark.slow
def test_a_launcher_that_starts_one_process_ends_with_an_error(made: Path, tmp_path: Path) -> None:
    """On CPUs accelerate starts one process whatever its config says; it must not launch again, and again."""
    ran, _ = launched(made, tmp_path, "MULTI_CPU")
    assert ran.returncode == 1
    assert "accelerate started one process and not those of" in ran.stderr
    assert ran.stdout.count("divmon replay: accelerate launch") == 1
