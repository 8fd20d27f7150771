"""Compressibility."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor

from divmon.scoring.metrics import Figure, metric


@metric(
    "zlib bytes over plain bytes of a prompt's texts",
    figures={"compression": Figure(range=(0, "about 1"))},
    source="Shaib et al. 2024",
)
def compression(texts_PK: list[list[str | None]]) -> Tensor:
    """zlib bytes over plain bytes of a prompt's texts.

    The texts are joined by newlines. Low means repetition, within texts or between them; zlib sees 32 KiB back. It
    falls with more and longer texts, so it compares at equal K and similar length only; short texts can exceed 1.

    Returns:
        [P], NaN with fewer than two texts, or where all are empty.

    >>> compression([["the same words again"] * 16, ["only one"]]).round(decimals=2)
    tensor([0.1000,    nan], dtype=torch.float64)
    """
    return torch.tensor([_ratio([t for t in texts if t is not None]) for texts in texts_PK], dtype=torch.float64)


def _ratio(texts: list[str]) -> float:
    if len(texts) < 2 or not any(texts):
        return torch.nan
    plain = "\n".join(texts).encode("utf-8", errors="replace")
    return len(zlib.compress(plain, 9)) / len(plain)
