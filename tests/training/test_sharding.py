"""Parameters really sharded over two processes (FSDP1, FSDP2, gloo): each forward is everyone's, the run the same."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from support import SUPPORT, forks, ranks_sharded, runs, tiny

from divmon import DiversityMonitor
from divmon.storage.writer import Store

FSDP = ["fsdp1", "fsdp2"]
# DS_ACCELERATOR=cpu pip install --no-build-isolation deepspeed (from source, without its compiled parts)
ZERO = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("zero2", "zero3")]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("sharded"), *FSDP)


@pytest.fixture(scope="module")
def ran_zero(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(tmp_path_factory.mktemp("zero"), "zero2", "zero3")


def run(out: Path, *kinds: str) -> Path:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}
    done = forks.run(["ranks_sharded.py", str(out), *kinds], cwd=SUPPORT, env=env, ranks=2)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return out


@pytest.fixture
def folder(request: pytest.FixtureRequest, kind: str) -> Path:
    return request.getfixturevalue("ran" if kind in FSDP else "ran_zero") / kind


@pytest.mark.parametrize("kind", FSDP)
def test_parameters_are_gathered_once_and_not_at_every_token(folder: Path) -> None:
    without, live, generate, in_step = (
        json.loads((folder / name / "gathers.json").read_text()) for name in ("without", "live", "generate", "in_step")
    )
    assert live["decoding"] == generate["decoding"] == 0
    assert in_step["decoding"] > 100, "where there is no room each layer gathers its own"
    assert without["training"] == live["training"] == in_step["training"] > 0, "training gathers as before"


@pytest.mark.parametrize("kind", FSDP)
def test_in_bf16_weights_are_put_together_and_cast_once(folder: Path, kind: str) -> None:
    """The logits are those of the sharded forward, bit by bit, and so is the training after it."""
    found = json.loads((folder / "in_bf16.json").read_text())
    assert found["apart"] and found["logits"] and found["weights"] and found["samples"] == 2
    assert "at every token" not in found["reason"]
    assert ("weights cast to bfloat16 once" in found["reason"]) == (kind == "fsdp2"), "FSDP1 has cast them itself"


@pytest.mark.parametrize("kind", [*FSDP, *ZERO])
@pytest.mark.parametrize("sampler", ["live", "generate", "in_step"])
def test_training_is_the_same_run(folder: Path, kind: str, sampler: str) -> None:
    expected = torch.load(folder / "without" / "weights.pt")
    found = torch.load(folder / sampler / "weights.pt")
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("kind", [*FSDP, *ZERO])
@pytest.mark.parametrize("sampler", ["live", "generate", "in_step"])
def test_samples_are_those_of_the_whole_model(folder: Path, tmp_path: Path, kind: str, sampler: str) -> None:
    how = sampler.replace("in_step", "live")
    monitor = DiversityMonitor(ranks_sharded.PROMPTS, **ranks_sharded.options(tmp_path, how), loggers=[])
    alone = monitor.measure(runs.model(), tiny.tokenizer(runs.TEXTS), 0)
    store = Store(folder / sampler / "_divmon")
    assert store.steps() == list(ranks_sharded.STEPS)
    assert alone is not None
    assert store.read(0).samples == alone.samples
    assert not store.read(0).missing
    last = store.read(ranks_sharded.STEPS[2])
    assert last.provenance["sampler"] == how
    assert [s.text for s in last.samples] != [s.text for s in store.read(ranks_sharded.STEPS[1]).samples]
