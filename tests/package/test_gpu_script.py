"""The script for a machine with a GPU runs here from end to end, on tiny shapes."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support import ROOT


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_part_of_the_table_is_made() -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run([ROOT / "tests/gpu/run", "--cpu"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    for part in (
        "tests marked gpu",
        "contract 1",
        "default cadence",
        "decode Olmo3",
        "unlike lengths",
        "float32 under",
        "sbert",
        "reserved",
    ):
        assert part in done.stdout
    assert "bit-equal" in done.stdout and "weights cast to bfloat16 once" in done.stdout
