"""A run with checkpoints, and `divmon watch` on it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers

from divmon import DiversityCallback, DiversityMonitor
from divmon.cli import watch as watch_command
from divmon.lineages.watch import Watch
from divmon.lineages.watch.checkpoints import Loader, found
from divmon.storage.reader import Run
from support import runs, tiny

CHEAP = {**runs.CHEAP, "progress": False}
SAVING = {"save_strategy": "steps", "save_steps": 10}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """base/, probes.jsonl, divmon.yaml, and run/ with checkpoints 10, 20, 30 and what the callback saw of them."""
    folder = tmp_path_factory.mktemp("trained")
    runs.model().save_pretrained(folder / "base")
    tiny.tokenizer(runs.TEXTS).save_pretrained(folder / "base")
    (folder / "probes.jsonl").write_text("\n".join(json.dumps(row) for row in runs.PROBES))
    (folder / "divmon.yaml").write_text(json.dumps({"probes": str(folder / "probes.jsonl"), **CHEAP}))
    callback = DiversityCallback(str(folder / "probes.jsonl"), **CHEAP)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
    runs.sft(folder / "run", [callback], model, **SAVING).train()
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run's checkpoints, to be spoilt."""
    for checkpoint in found(trained / "run"):
        shutil.copytree(checkpoint.path, tmp_path / "run" / checkpoint.path.name)
    return tmp_path / "run"


def watch(trained: Path, output_dir: Path, *words: str) -> int:
    """The command, in this process."""
    return watch_command.main(
        [str(output_dir), "--config", str(trained / "divmon.yaml"), "--device", "cpu", "--poll", "0.05", *words]
    )


def watcher(trained: Path, output_dir: Path, loader: Loader | None = None, **options: Any) -> Watch:
    def monitor() -> DiversityMonitor:
        return DiversityMonitor(str(trained / "probes.jsonl"), **CHEAP)

    return Watch(output_dir, monitor, loader or Loader("cpu"), poll=0.05, **options)


def drawn(run: Run) -> dict[int, list[tuple[Any, ...]]]:
    """What was sampled and scored, by step."""
    return {
        step: [
            [(s.prompt_id, s.index, s.text, s.n_tokens, s.finish) for s in snapshot.samples],
            [(s.metric, s.mean, s.n) for s in snapshot.scores],
            [(c.metric, c.change, c.low, c.high) for c in snapshot.changes],
        ]
        for step in run.steps
        for snapshot in [run.read(step)]
    }
