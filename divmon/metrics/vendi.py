"""Vendi scores: the effective number of distinct answers."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

USES_ALL_SAMPLES = True
COST = "encoder"
AGGREGATE = {"vendi2_at8": "harmonic_mean", "vendi2_at8_correct": "harmonic_mean"}

_ALL_SUBSETS, _DRAWN_SUBSETS = 2000, 256


def vendi(
    embeddings_PKD: Tensor,
    mask_PK: Tensor,
    correct_PK: Tensor | None = None,
    num_samples: int | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Effective number of distinct answers | 1 identical to K orthogonal | paper, Vendi; Friedman and Dieng 2023

    Order 1 is exp of the entropy of the eigenvalues of the cosine Gram matrix over n; it grows with n, so it compares
    at equal size only. Order 2 needs no eigenvalues: with C2 the mean squared cosine of pairs, unbiased for every n,
    V2@m = m / (1 + (m - 1) C2). Prompts are averaged through C2, which is the harmonic mean of V2@m.

    Args:
        num_samples: K; the paper's figures take the first K of more samples.

    Returns:
        `vendi` [P]: the paper's, order 1 over the first K. `vendi_at4` [P]: order 1 at size 4, the mean over all
        subsets of 4 (256 seeded ones where there are over 2,000). `vendi2_at8` [P]: order 2 at size 8. Where verdicts
        exist, the same over correct answers: `vendi_correct` (the paper's, not comparable where the numbers of correct
        answers differ), `vendi_at4_correct` and `vendi2_at8_correct`. NaN below two answers, for size 4 below four.

    >>> e = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    >>> vendi(e, torch.ones(2, 2, dtype=torch.bool))["vendi"]
    tensor([2., 1.], dtype=torch.float64)
    """
    # float64 throughout: eigenvalues near 0 carry entropy, and a GPU may do float32 products in TF32.
    unit_PKD = normalize(embeddings_PKD.double(), dim=-1)
    gram_PKK = unit_PKD @ unit_PKD.mT
    figures = _figures(gram_PKK, mask_PK, num_samples, seed)
    if correct_PK is not None:
        right = _figures(gram_PKK, mask_PK & correct_PK, num_samples, seed)
        figures |= {f"{name}_correct": value_P for name, value_P in right.items()}
    return figures


def _figures(gram_PKK: Tensor, mask_PK: Tensor, num_samples: int | None, seed: int) -> dict[str, Tensor]:
    return {
        "vendi": _order1(gram_PKK[:, :num_samples, :num_samples], mask_PK[:, :num_samples]),
        "vendi_at4": _order1_at_size(gram_PKK, mask_PK, 4, seed),
        "vendi2_at8": _order2_at_size(gram_PKK, mask_PK, 8),
    }


def _order1(gram_PKK: Tensor, mask_PK: Tensor) -> Tensor:
    n_P = mask_PK.sum(1)
    present_PKK = mask_PK[:, :, None] & mask_PK[:, None, :]
    eigenvalues_PK = torch.linalg.eigvalsh(gram_PKK * present_PKK / n_P.clamp(min=1)[:, None, None])
    # Rounding leaves eigenvalues of -1e-17; a masked row adds a zero one, which has no entropy.
    entropy_P = torch.special.entr(eigenvalues_PK.clamp(min=0)).sum(-1)
    return entropy_P.exp().where(n_P >= 2, torch.nan)


def _order1_at_size(gram_PKK: Tensor, mask_PK: Tensor, size: int, seed: int) -> Tensor:
    values = []
    for gram_KK, mask_K in zip(gram_PKK, mask_PK, strict=True):
        there = mask_K.nonzero().squeeze(1)
        if len(there) < size:
            values.append(gram_KK.new_tensor(torch.nan))
            continue
        subsets_SM = there[_subsets(len(there), size, seed).to(there.device)]
        gram_SMM = gram_KK[subsets_SM[:, :, None], subsets_SM[:, None, :]]
        values.append(_order1(gram_SMM, torch.ones_like(subsets_SM, dtype=torch.bool)).mean())
    return torch.stack(values)


@functools.lru_cache(maxsize=64)
def _subsets(n: int, size: int, seed: int) -> Tensor:
    """[S, size] indices below n: all subsets, or seeded ones drawn with replacement."""
    if math.comb(n, size) <= _ALL_SUBSETS:
        return torch.combinations(torch.arange(n), size)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(_DRAWN_SUBSETS, n, generator=generator).argsort(1)[:, :size]


def _order2_at_size(gram_PKK: Tensor, mask_PK: Tensor, size: int) -> Tensor:
    present_PKK = mask_PK[:, :, None] & mask_PK[:, None, :]
    n_P = mask_PK.sum(1).double()
    squares_P = (gram_PKK.square() * present_PKK).sum((1, 2))
    c2_P = ((squares_P - n_P) / (n_P * (n_P - 1))).clamp(0, 1)
    return (size / (1 + (size - 1) * c2_P)).where(n_P >= 2, torch.nan)
