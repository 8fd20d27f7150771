"""SIGKILL at random moments: what is stored stays whole, and a resumed run holds what one never killed holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import SUPPORT

KILLS = int(os.environ.get("DIVMON_KILLS", "50"))
"""Of each kind: 200 in all."""


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("kind", ["sft", "grpo"])
def test_kills_lose_nothing(tmp_path: Path, kind: str, processes: int) -> None:
    script = [sys.executable, str(SUPPORT / "kills.py"), str(tmp_path), kind, str(processes), str(KILLS)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=7000)
    assert done.returncode == 0, done.stderr[-3000:]
    print(done.stdout.splitlines()[-1])  # for tests/results/kills.txt
