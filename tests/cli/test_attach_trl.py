"""`divmon attach` around TRL's own command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from support import runs
from support.attached import place as place
from support.attached import trl

from divmon.storage.reader import read_run

SETTINGS = [
    *(
        "--model_name_or_path",
        "model",
        "--max_steps",
        "10",
        "--logging_steps",
        "5",
        "--save_steps",
        "10",
        "--seed",
        "3",
    ),
    *(
        "--report_to",
        "none",
        "--use_cpu",
        "true",
        "--bf16",
        "false",
        "--disable_tqdm",
        "true",
        "--save_only_model",
        "true",
    ),
    *("--learning_rate", "1e-3", "--per_device_train_batch_size", "4"),
]


SFT = ["-m", "trl.scripts.sft", "--dataset_name", "data", "--max_length", "64", *SETTINGS]


GRPO = [
    *("-m", "trl.scripts.grpo", "--dataset_name", "prompts", "--reward_funcs", "rewards.longer"),
    *("--num_generations", "4", "--max_completion_length", "8", *SETTINGS),
]


def check_same(place: Path, name: str, steps: list[int]) -> None:
    """The same weights and log rows; snapshots beside them; and what was said."""
    without, through = place / f"{name}-without", place / f"{name}-with"
    for file in ("model.safetensors", "checkpoint-10/model.safetensors", "tokenizer.json", "config.json"):
        assert (through / file).read_bytes() == (without / file).read_bytes(), file
    rows = []
    for folder in (without, through):
        history = json.loads((folder / "checkpoint-10/trainer_state.json").read_text())["log_history"]
        rows.append([{k: v for k, v in row.items() if not any(w in k for w in runs.WALL_CLOCK)} for row in history])
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[1] if "loss" in row] == [5, 10]
    assert not (without / "_divmon").exists()
    run = read_run(through)
    assert run.steps == steps
    assert set(run.samples.groupby("step").size()) == {16, 8}
    printed = (place / f"{name}-with.txt").read_text()
    assert printed.count("is watched: a DiversityCallback is attached") == 1
    assert "divmon: paired change since the reference, at step 10" in printed


def test_trl_sft_trains_the_same_and_is_watched(place: Path) -> None:
    trl(place, SFT, "sft")
    check_same(place, "sft", [0, 5, 10])


@pytest.mark.slow
def test_trl_grpo_trains_the_same_and_is_watched(place: Path) -> None:
    trl(place, GRPO, "grpo")
    check_same(place, "grpo", [0, 5, 10])


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_under_a_launcher(place: Path, launcher: str) -> None:
    beside = Path(sys.executable).parent
    words = {
        "torchrun": ["torchrun", "--standalone", "--nproc_per_node", "2"],
        "accelerate": ["accelerate", "launch", "--cpu", "--num_processes", "1", "--num_machines", "1"],
    }[launcher]
    trl(place, SFT, launcher, [str(beside / words[0]), *words[1:]], ACCELERATE_USE_CPU="true")
    check_same(place, launcher, [0, 5, 10])
