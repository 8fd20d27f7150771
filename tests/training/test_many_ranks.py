"""What many processes cost: sockets counted for real at 32; shares at 256 are in test_shares."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import SUPPORT


@pytest.mark.slow
def test_a_process_opens_one_socket_for_each_other(tmp_path: Path) -> None:
    count = 32
    command = [sys.executable, "many_ranks.py", str(tmp_path), str(count)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=SUPPORT, env=environment, capture_output=True, text=True, timeout=280)
    assert ran.returncode == 0, ran.stderr[-3000:]
    opened = [int(line) for line in ran.stdout.split()]
    assert len(opened) == count
    assert max(opened) <= count + 4, "three groups took three sockets for each"
