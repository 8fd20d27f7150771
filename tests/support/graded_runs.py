"""Runs whose completions are graded by a verifier of the user's, for tests."""

from __future__ import annotations

import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from divmon.types import Prompt, Verdict
from support import runs

GOLD = [{"id": f"p{i}", "prompt": row["prompt"], "gold": str(i)} for i, row in enumerate(runs.ROWS[::16])]


def noisy(text: str, prompt: Prompt) -> Verdict:
    """A verifier of the user's that draws from every global generator; about half are right, whatever the texts."""
    random.random(), np.random.rand(), torch.rand(1)
    # With an answer: a wrong one that the token limit ended without would count as cut off, not as wrong.
    return Verdict(zlib.crc32(text.encode()) % 2 == 0, answer=text)


def options(tmp_path: Path, **own: Any) -> dict[str, Any]:
    return {
        **runs.CHEAP,
        "num_samples": 4,
        "progress": False,
        "on_error": "raise",
        "verifier": noisy,
        "metrics": "ead,sbert,vendi",
        "output_dir": str(tmp_path / "divmon"),
        **own,
    }
