"""Prompt by prompt, what was gained or lost inside the strata of correctness: what alerts test.

    within(pairs before, pairs now) -> {"reference", "seen", "reference_correct", "seen_correct"}, each [P]

The decomposition gives means over prompts; a paired test needs the prompts. Its terms are the sums here, before any
share is taken for what was not seen.
"""

from __future__ import annotations

import numpy as np

from divmon.scoring.decomposition import Array, Pairs, seen_within


def within(reference: Pairs, now: Pairs) -> dict[str, Array]:
    """The changes seen inside the strata of each prompt, beside the level that they are changes of.

    Args:
        reference, now: the pairs of the same prompts; leading dimensions before the prompts are kept.

    Returns:
        `reference` [P]: mean distance of the graded pairs then. `seen` [P]: the change inside all strata, each at the
        mean of its shares; NaN for both where a side has no graded pair. `reference_correct`, `seen_correct` [P]: the
        same of pairs of correct answers, at their mean share; NaN where a side has no such pair.

    >>> from divmon.scoring.decomposition import pairs
    >>> graded = [[True, True]]
    >>> within(pairs(np.full((1, 2, 2), 0.5), graded), pairs(np.full((1, 2, 2), 0.4), graded))["seen"].round(3)
    array([-0.1])
    """
    seen_PS = seen_within(reference, now)
    seen_P = seen_PS.sum(-1)  # NaN, as its shares are, where a side has no graded pair
    share_P = (reference.weight_PS[..., 0] + now.weight_PS[..., 0]) / 2
    level_P = reference.distance_PS[..., 0] * share_P
    both_P = ~np.isnan(level_P + now.distance_PS[..., 0])
    return {
        "reference": np.where(np.isnan(seen_P), np.nan, reference.distance_P),
        "seen": seen_P,
        "reference_correct": np.where(both_P, level_P, np.nan),
        "seen_correct": np.where(both_P, seen_PS[..., 0], np.nan),
    }
