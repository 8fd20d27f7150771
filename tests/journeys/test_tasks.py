"""Every task of the package, by its name from a file, measured twice in one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.journey import read_healthy, run_script
from support.task_rows import ROWS

from divmon.prompts import tasks

SCRIPT = """
monitor = DiversityMonitor({spec!r}, num_prompts=2, max_new_tokens=12, output_dir="runs/all/_divmon")
for step in (0, 1):
    monitor.measure(model, tokenizer, step)
monitor.close()
"""
pytestmark = pytest.mark.usefixtures("little_base")
PACKAGED = ("starter", "stories", "word_problems")


@pytest.mark.timeout(300)
def test_every_task_by_name(tmp_path: Path, shared: Path | None) -> None:
    names = sorted(tasks.available())
    for name in set(names) - set(PACKAGED):
        real = shared / "data" / "probes" / f"{name}.jsonl" if shared else None
        rows = real.read_text(encoding="utf-8").splitlines()[:4] if real and real.exists() else []
        rows = rows or [json.dumps(ROWS[name][0])]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    spec = ",".join(name if name in PACKAGED else f"{name}@{name}.jsonl" for name in names)
    seen = run_script(SCRIPT.format(spec=spec), tmp_path)
    run = read_healthy(tmp_path / "runs/all", [0, 1])
    assert {probe.name for probe in run.probes} == set(names)
    assert set(run.changes.query("step == 1 and metric == 'sbert'").task) == set(names)
    (line,) = [line for line in seen.splitlines() if line.startswith("divmon: step 1: ")]
    assert {part.split()[0] for part in line.removeprefix("divmon: step 1: ").split("; ")} == set(names)
