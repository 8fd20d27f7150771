"""What the tests of several metrics share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read(path: Path, limit: int) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line, _ in zip(lines, range(limit), strict=False)]


def random_units(seed: int, *shape: int) -> Tensor:
    """Unit vectors in random directions, the last axis theirs."""
    return torch.nn.functional.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def close(values: Tensor, expected: list[float], tolerance: float) -> bool:
    """Equal per prompt within the tolerance, NaN with NaN."""
    wanted = torch.tensor(expected, dtype=torch.float64)
    return torch.equal(values.isnan(), wanted.isnan()) and bool(
        ((values - wanted).abs().nan_to_num(0) < tolerance).all()
    )
