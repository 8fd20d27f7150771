"""Two processes that share every group of GRPO: the main one scores whole groups, and the run is the same run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from support import SUPPORT, forks


def test_two_processes_hold_groups_together(tmp_path: Path) -> None:
    """Each process holds half of every group; the main one scores whole groups, and the run is the same run."""
    env = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = forks.run(["rl_ranks.py", str(tmp_path)], cwd=SUPPORT, env=env, ranks=2)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    facts = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=False) for rank in (0, 1)]
    assert facts[1]["taken"] == [] and len(facts[0]["taken"]) == 2 and not facts[0]["failures"]
    asked = [batch for rank in facts for batch in rank["asked"]]
    for snapshot in facts[0]["taken"]:
        for id, prompt in snapshot.provenance["prompts"].items():
            group = sorted(sample.text for sample in snapshot.samples if sample.prompt_id == id)
            whole = [
                sorted(t for p, t in a + b if p == prompt) for a, b in zip(*(r["asked"] for r in facts), strict=True)
            ]
            assert len(group) == 4 and group in whole, "half of it from each process"
        known = [sample for sample in snapshot.samples if sample.finish != "unknown"]
        assert len(known) == len(snapshot.samples) / 2 and all(s.n_tokens is not None for s in known)
        logged = next(row for row in facts[0]["rows"] if row["step"] == snapshot.step)
        assert snapshot.score("rollouts", "reward").mean == pytest.approx(logged["reward"], abs=1e-6)
    assert sum(map(len, asked)) == sum(len(snapshot.samples) for snapshot in facts[0]["taken"])
    assert facts[0]["same_weights"] and facts[0]["same_rows"]
