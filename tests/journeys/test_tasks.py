"""Every task of the package, by its name from a file, measured twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.journey import read_healthy, run_script
from support.task_rows import ROWS

from divmon.prompts import tasks

SCRIPT = """
for name in {names}:
    source = name if name in {packaged} else f"{{name}}@{{name}}.jsonl"
    monitor = DiversityMonitor(source, num_prompts=2, max_new_tokens=12, output_dir=f"runs/{{name}}/_divmon")
    for step in (0, 1):
        monitor.measure(model, tokenizer, step)
    monitor.close()
"""
pytestmark = pytest.mark.usefixtures("little_base")
PACKAGED = ("starter", "stories", "word_problems")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("half", [0, 1])
def test_every_task_by_name(half: int, tmp_path: Path, shared: Path | None) -> None:
    names = sorted(tasks.available())[half::2]
    for name in set(names) - set(PACKAGED):
        real = shared / "data" / "probes" / f"{name}.jsonl" if shared else None
        rows = real.read_text(encoding="utf-8").splitlines()[:4] if real and real.exists() else []
        rows = rows or [json.dumps(ROWS[name][0])]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    seen = run_script(SCRIPT.format(names=names, packaged=PACKAGED), tmp_path)
    for name in names:
        run = read_healthy(tmp_path / "runs" / name, [0, 1])
        assert {probe.name for probe in run.probes} == {name}
        assert f"divmon: step 1: {name} " in seen
