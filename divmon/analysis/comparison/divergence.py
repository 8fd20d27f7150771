"""Where two curves diverge, and whether that is more than chance over the whole curve.

A curve is evaluated many times, so that some evaluation differs by chance alone. Both tests here give each evaluation
a p-value for the family of all: the chance that, were there no difference, any of the curve stood out that much.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

FLIPS, BLOCK = 10_000, 1000
"""Flips tried, and how many at a time."""
LEVEL = 0.05
"""Two curves are called different where the family-wise p-value is at most this."""


def sign_flips(difference_LP: ArrayLike, flips: int = FLIPS, seed: int = 0) -> Array:
    """Family-wise p-values [L] of paired differences over looks: a max-t test by permutation.

    The null: on each prompt the two runs could be swapped, so that its differences, at all looks together, are as
    likely with the opposite sign. A look's statistic is z = sum x / sqrt(sum x^2) over its prompts, which with as many
    prompts at every look orders looks and flips just as Student's t does; its null is the largest |z| over looks under
    the same flips. Step-down (Westfall and Young 1993, algorithm 2.8): looks that stand out do not hide others. Exact
    where all signs are tried, which is done up to `flips`.

    Args:
        difference_LP: one less the other, NaN where undefined.
        flips: tried at random where there are more sign patterns; the observed one is counted among them.

    >>> sign_flips([[1.0, 2.0, 3.0], [0.1, -0.2, 0.1]]).tolist()
    [0.5, 1.0]
    """
    difference = np.atleast_2d(np.asarray(difference_LP, dtype=np.float64))
    difference = np.nan_to_num(difference[:, ~np.isnan(difference).all(0)])
    scale_L = np.sqrt(np.square(difference).sum(1))
    scaled_PL = (difference / np.where(scale_L > 0, scale_L, 1.0)[:, None]).T
    seen_L = np.abs(scaled_PL.sum(0))
    rising = np.argsort(seen_L, kind="stable")
    signs_BP, sure = _signs(scaled_PL.shape[0], flips, seed)
    reached_L = np.zeros(len(rising))
    for start in range(0, len(signs_BP), BLOCK):
        null_BL = np.abs(signs_BP[start : start + BLOCK] @ scaled_PL[:, rising])
        largest_BL = np.maximum.accumulate(null_BL, axis=1)  # of this look and those that stand out less
        reached_L += (largest_BL >= seen_L[rising] - 1e-9).sum(0)  # closer is rounding: |z| is of the order of 1
    p_L = reached_L / len(signs_BP) if sure else (reached_L + 1) / (len(signs_BP) + 1)
    result = np.empty(len(rising))
    result[rising] = np.maximum.accumulate(p_L[::-1])[::-1]
    return result


@functools.lru_cache(maxsize=2)
def _signs(prompts: int, flips: int, seed: int) -> tuple[Array, bool]:
    """Signs [B, P], and whether these are all: |z| is the same for all flipped, so the first prompt keeps its sign."""
    if prompts <= 1 or 2 ** (prompts - 1) <= flips:
        patterns_B1 = np.arange(2 ** max(prompts - 1, 0))[:, None]
        flipped_BP = (patterns_B1 >> np.arange(prompts) & 1)[:, ::-1]
    else:
        flipped_BP = np.random.default_rng(seed).integers(0, 2, (flips, prompts))
    return np.where(flipped_BP, -1.0, 1.0), len(flipped_BP) == 2 ** max(prompts - 1, 0)


def holm(p_L: ArrayLike) -> Array:
    """Family-wise p-values from those of single looks, whatever their dependence (Holm 1979); NaN stays NaN."""
    p = np.asarray(p_L, dtype=np.float64)
    order = np.argsort(p)
    count = int((~np.isnan(p)).sum())
    factor = np.maximum(count - np.arange(len(p)), 1)
    result = np.empty(len(p))
    result[order] = np.minimum(np.maximum.accumulate(p[order] * factor), 1.0)
    return result
