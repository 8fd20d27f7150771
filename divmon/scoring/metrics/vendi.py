"""Vendi scores: the effective number of distinct answers."""

from __future__ import annotations

import functools
import math
from itertools import combinations

import torch
from torch import Tensor

from divmon.scoring.embedding_geometry import vendi_order1
from divmon.scoring.metrics import Figure, metric

_ALL_SUBSETS, _DRAWN_SUBSETS = 2000, 256
# float64 numbers computed at once: on a CPU more leave its cache and cost several times as much.
_IN_CACHE, _ON_DEVICE = 200_000, 50_000_000
_SWEEPS = 5  # of Jacobi rotations: four left entropies exact to 1e-13 in the worst case tried, five to rounding


@metric(
    "Effective number of distinct answers (1: identical; K: orthogonal)",
    figures={
        "vendi": Figure(range=(1, "K"), rank=20),
        "vendi_at4": Figure("Effective number of distinct answers among 4", range=(1, 4), rank=30),
        "vendi2_at8": Figure(
            "Effective number of distinct answers among 8, of order 2", range=(1, 8), rank=40, aggregate="harmonic_mean"
        ),
        "vendi_correct": Figure("Effective number of distinct correct answers", range=(1, "K"), graded=True),
        "vendi_at4_correct": Figure(
            "Effective number of distinct answers among 4 correct ones", range=(1, 4), graded=True
        ),
        "vendi2_at8_correct": Figure(
            "Effective number of distinct answers among 8 correct ones, of order 2",
            range=(1, 8),
            aggregate="harmonic_mean",
            graded=True,
        ),
    },
    source="paper, Vendi; Friedman and Dieng 2023",
    all_samples=True,
)
def vendi(
    embeddings_PKD: Tensor,
    mask_PK: Tensor,
    correct_PK: Tensor | None = None,
    num_samples: int | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Effective number of distinct answers.

    Order 1 is exp of the entropy of the eigenvalues of the cosine Gram matrix over n; it grows with n, so it compares
    at equal size only. Order 2 needs no eigenvalues: with C2 the mean squared cosine of pairs, unbiased for every n,
    V2@m = m / (1 + (m - 1) C2). Prompts are averaged through C2, which is the harmonic mean of V2@m.

    Args:
        num_samples: K; the paper's figures take the first K of more samples.

    Returns:
        `vendi` [P]: the paper's, order 1 over the first K. `vendi_at4` [P]: order 1 at size 4, the mean over all
        subsets of 4 (256 seeded ones where there are over 2,000). `vendi2_at8` [P]: order 2 at size 8. Where some were
        graded, the same over correct answers: `vendi_correct` (the paper's, not comparable where the numbers of correct
        answers differ), `vendi_at4_correct` and `vendi2_at8_correct`. NaN below two answers, for size 4 below four.

    >>> e = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    >>> vendi(e, torch.ones(2, 2, dtype=torch.bool))["vendi"]
    tensor([2., 1.], dtype=torch.float64)
    """
    gram_PKK = _gram(embeddings_PKD)
    figures = _figures(gram_PKK, mask_PK, num_samples, seed)
    if correct_PK is not None:
        right = _figures(gram_PKK, mask_PK & correct_PK, num_samples, seed)
        figures |= {f"{name}_correct": value_P for name, value_P in right.items()}
    return figures


def _gram(embeddings_PKD: Tensor) -> Tensor:
    """Cosines of each pair [P, K, K]."""
    # float64 throughout: eigenvalues near 0 carry entropy, and a GPU may do float32 products in TF32.
    doubles = (rows_PKD.double() for rows_PKD in embeddings_PKD.split(_at_once(embeddings_PKD)))
    gram_PKK = torch.cat([double_PKD @ double_PKD.mT for double_PKD in doubles])
    norm_PK = gram_PKK.diagonal(dim1=1, dim2=2).sqrt().clamp(min=1e-12)
    return gram_PKK / (norm_PK[:, :, None] * norm_PK[:, None, :])


def _at_once(values_P: Tensor, numbers: int | None = None) -> int:
    """Prompts to compute at once, each of so many numbers."""
    limit = _IN_CACHE if values_P.is_cpu else _ON_DEVICE
    return max(1, limit // max(1, values_P[:1].numel() if numbers is None else numbers))


def _figures(gram_PKK: Tensor, mask_PK: Tensor, num_samples: int | None, seed: int) -> dict[str, Tensor]:
    return {
        "vendi": vendi_order1(gram_PKK[:, :num_samples, :num_samples], mask_PK[:, :num_samples]),
        "vendi_at4": _order1_at_size(gram_PKK, mask_PK, 4, seed),
        "vendi2_at8": _order2_at_size(gram_PKK, mask_PK, 8),
    }


def _order1_at_size(gram_PKK: Tensor, mask_PK: Tensor, size: int, seed: int) -> Tensor:
    """The mean over each prompt's subsets [P]; the operations are the same whatever the mask, but for chunks."""
    if mask_PK.shape[1] < size:
        return gram_PKK.new_full((len(gram_PKK),), torch.nan)
    table = _subset_table(mask_PK.shape[1], size, seed)
    subsets_TM, first_N, count_N = (part.to(gram_PKK.device) for part in table)
    n_P = mask_PK.sum(1)
    place_PK = (~mask_PK).byte().argsort(dim=1, stable=True)  # the answers that are there come first, in their order
    value_PS = gram_PKK.new_zeros(len(gram_PKK), int(table[2].max()))
    # Only subsets that exist are computed: of few correct answers there are few.
    prompt_B, subset_B = (
        (torch.arange(value_PS.shape[1], device=n_P.device) < count_N[n_P][:, None]).nonzero().unbind(1)
    )
    for p, s in zip(*(index_B.split(_at_once(gram_PKK, size * size)) for index_B in (prompt_B, subset_B)), strict=True):
        place_BM = place_PK[p[:, None], subsets_TM[first_N[n_P[p]] + s]]
        value_PS[p, s] = _order1_of_sets(gram_PKK[p[:, None, None], place_BM[:, :, None], place_BM[:, None, :]])
    return (value_PS.sum(1) / count_N[n_P]).where(n_P >= size, torch.nan)


def _order1_of_sets(gram_BMM: Tensor) -> Tensor:
    """Order 1 of each small set [B].

    The eigenvalues of all sets at once, by Jacobi rotations: solvers take such small matrices one by one.
    """
    size = gram_BMM.shape[-1]
    a = {(i, j): gram_BMM[:, i, j] / size for i in range(size) for j in range(i, size)}  # by their place: [B] each
    for _ in range(_SWEEPS):
        for p, q in combinations(range(size), 2):
            off, gap = a[p, q], a[q, q] - a[p, p]
            tangent = 2 * off / (gap.abs() + (gap * gap + 4 * off * off).sqrt() + 1e-300).copysign(gap)
            cosine = (1 + tangent * tangent).rsqrt()
            sine = tangent * cosine
            a[p, p], a[q, q], a[p, q] = a[p, p] - tangent * off, a[q, q] + tangent * off, torch.zeros_like(off)
            for r in set(range(size)) - {p, q}:
                rp, rq = (min(r, p), max(r, p)), (min(r, q), max(r, q))
                a[rp], a[rq] = cosine * a[rp] - sine * a[rq], sine * a[rp] + cosine * a[rq]
    return torch.stack([torch.special.entr(a[i, i].clamp(min=0)) for i in range(size)]).sum(0).exp()


@functools.lru_cache(maxsize=16)
def _subset_table(most: int, size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """The subsets of every number of answers n up to `most`, one under the other [T, size]; and by n, where its own
    begin and how many they are [most + 1]."""
    by_n = [_subsets(n, size, seed) if n >= size else torch.empty(0, size, dtype=torch.long) for n in range(most + 1)]
    count_N = torch.tensor([len(subsets) for subsets in by_n])
    return torch.cat(by_n), count_N.cumsum(0) - count_N, count_N


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
