"""Rows with golden values: the paper's own where the reference folder is at hand, else rows of our own, by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.metric_helpers import read
from torch import Tensor


@pytest.fixture(scope="session")
def solutions(shared: Path | None) -> list[dict[str, Any]]:
    """Rows with `outputs` and `correct`, four texts each."""
    if shared is not None:
        return read(shared / "data" / "outputs" / "gsm8k_model_solutions.jsonl", 40)
    return [
        {"outputs": ["2 + 2 is 4. A: 4", "Two and two make 4.", "It is 5.", "4"], "correct": [True, True, False, True]},
        {"outputs": ["No.", "No.", "No.", "Yes, and the sun is hot."], "correct": [False, False, False, True]},
    ]


@pytest.fixture(scope="session")
def golden(shared: Path | None) -> dict[str, list[float]] | None:
    """Values that the paper's own code gives for `solutions`, NaN for null."""
    if shared is None:
        return None
    rows = json.loads((shared / "reference" / "golden_text.json").read_text())["per_prompt"]
    return {
        name: [float("nan") if row[name] is None else row[name] for row in rows] for name in rows[0] if name != "id"
    }


@pytest.fixture(scope="session")
def embedded(solutions: list[dict[str, Any]]) -> tuple[Tensor, Tensor, Tensor]:
    """Embeddings of `solutions` [P, 4, D], their mask and what is correct."""
    from divmon.scoring.encoders import TextEncoder

    texts = [text for row in solutions for text in row["outputs"]]
    embeddings_PKD = TextEncoder("minilm", device="cpu").encode(texts).reshape(len(solutions), 4, -1)
    correct_PK = torch.tensor([row["correct"] for row in solutions])
    return embeddings_PKD, torch.ones_like(correct_PK), correct_PK
