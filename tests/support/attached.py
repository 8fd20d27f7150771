"""`divmon attach` as a command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support import forks, runs, tiny

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(command: list[Any], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command], cwd=folder, text=True, capture_output=True, env={**ENVIRONMENT, **environment}
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, rows to train on, probes and divmon.yaml."""
    folder = tmp_path_factory.mktemp("trl")
    runs.model().save_pretrained(folder / "model")
    tiny.tokenizer(runs.TEXTS).save_pretrained(folder / "model")
    for name, rows in {"data/train": runs.ROWS, "prompts/train": runs.ROWS, "probes": runs.PROBES}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        kept = [{"prompt": row["prompt"]} for row in rows] if name == "prompts/train" else rows
        (folder / f"{name}.jsonl").write_text("\n".join(json.dumps(row) for row in kept))
    (folder / "rewards.py").write_text(
        "def longer(completions, **_):\n    return [len(set(text)) / 10 for text in completions]\n"
    )
    cheap = "metrics: ead,length\nnum_samples: 2\nreference_samples: 4\nmax_new_tokens: 8\nprogress: false\n"
    (folder / "divmon.yaml").write_text(f"probes: {folder / 'probes.jsonl'}\n{cheap}every: 1000\n")
    return folder


def trl(place: Path, program: list[str], name: str, launcher: Sequence[str] = (), **environment: str) -> None:
    """Trains without and with attach, at once, into <name>-without and <name>-with; both must end well.

    Attach begins in an interpreter of its own, where no library is imported yet.
    """
    ours = ["divmon", "attach", "--config", "divmon.yaml", "--divmon_every", "5", "--", *program]
    python = [sys.executable] if not launcher else []
    settings = {**ENVIRONMENT, **environment, "HF_DATASETS_CACHE": str(place / f"cache-{name}")}
    begun: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for which, words in {"with": ["-m", *ours], "without": program}.items():
            command = [*python, *launcher, *words, "--output_dir", f"{name}-{which}"]
            if which == "without" and not launcher:
                done = forks.run(command[1:], cwd=place, env=settings)
                assert done.returncode == 0, done.stderr[-3000:]
                continue
            with (place / f"{name}-{which}.txt").open("w") as out:
                begun[which] = subprocess.Popen(command, cwd=place, env=settings, stdout=out, stderr=out)
        for which, process in begun.items():
            assert process.wait(timeout=280) == 0, (place / f"{name}-{which}.txt").read_text()[-3000:]
    finally:
        for process in begun.values():
            process.terminate()  # a launcher takes its workers with it
            process.wait()
