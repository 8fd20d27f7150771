"""A user's script type-checks against the options, and one with a wrong keyword or value does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
from pathlib import Path
from divmon import DiversityCallback, DiversityMonitor

DiversityCallback("gsm8k", at=(1, 2), output_dir=Path("runs/a"), sampler="live", metrics=["ead"], every=None)
DiversityMonitor("gsm8k", num_samples=8, chat="auto")
DiversityCallback(num_sample=8)
DiversityCallback(timeout="10")
DiversityMonitor(sampler="lvie")
"""

SETTINGS = """
[mypy]
ignore_missing_imports = true
follow_imports = silent
[mypy-torch.*,transformers.*,trl.*,datasets.*,numpy.*,pandas.*,scipy.*]
follow_imports = skip
[mypy-divmon.analysis.*,divmon.grading.*,divmon.sampling.*,divmon.scoring.*,divmon.storage.*,divmon.training.*]
follow_imports = skip
[mypy-divmon.training.config]
follow_imports = silent
"""
"""Without what no option is defined in: the large libraries take a minute, the rooms of divmon a quarter of one."""


def test_a_wrong_keyword_or_value_is_found_by_a_type_checker(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "mypy.ini").write_text(SETTINGS)
    command = ["-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", os.devnull, "script.py"]
    env = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert [line.partition(": ")[0].rpartition(":")[2] for line in found] == ["7", "8", "9"], done.stdout
    assert 'Unexpected keyword argument "num_sample"' in found[0] and 'expected "float"' in found[1]
    assert all(name in found[2] for name in ("'auto'", "'live'", "'generate'", "'vllm'"))
