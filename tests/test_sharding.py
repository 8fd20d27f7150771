"""Parameters really sharded over two processes (FSDP1, FSDP2, gloo): each forward is everyone's, the run the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import ranks_sharded
import runs
import tiny
import torch

from divmon import DiversityMonitor
from divmon.store import Store

HERE = Path(__file__).parent
pytestmark = pytest.mark.xdist_group("sharded")  # one process, which starts the two others once


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sharded")
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "ranks_sharded.py",
    ]
    done = subprocess.run([*command, str(out)], cwd=HERE, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return out


@pytest.mark.parametrize("kind", ["fsdp1", "fsdp2"])
@pytest.mark.parametrize("sampler", ["live", "generate"])
def test_training_is_the_same_run(ran: Path, kind: str, sampler: str) -> None:
    expected = torch.load(ran / kind / "without" / "weights.pt")
    found = torch.load(ran / kind / sampler / "weights.pt")
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", ["fsdp1", "fsdp2"])
@pytest.mark.parametrize("sampler", ["live", "generate"])
def test_samples_are_those_of_the_whole_model(ran: Path, tmp_path: Path, kind: str, sampler: str) -> None:
    monitor = DiversityMonitor(ranks_sharded.PROMPTS, **ranks_sharded.options(tmp_path, sampler), loggers=[])
    alone = monitor.measure(runs.model(), tiny.tokenizer(runs.TEXTS), 0)
    store = Store(ran / kind / sampler / "_divmon")
    assert store.steps() == list(ranks_sharded.STEPS)
    assert alone is not None
    assert store.read(0).samples == alone.samples
    assert not store.read(0).missing
    last = store.read(6)
    assert last.provenance["sampler"] == sampler
    assert [s.text for s in last.samples] != [s.text for s in store.read(3).samples]
