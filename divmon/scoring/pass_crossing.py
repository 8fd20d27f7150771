"""Where pass@k crosses the reference's: does training find new solutions, or only find the old ones sooner?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from divmon.scoring.intervals import FEWEST, Interval, from_replicates
from divmon.scoring.quality import pass_at

Array = NDArray[np.float64]
Verdicts = Sequence[Sequence[bool | None]]


def pass_crossing(now: Verdicts, reference: Verdicts) -> Interval:
    """The k from which pass@k of the reference is at least that of the model now (the question of Yue et al. 2025,
    arXiv:2504.13837).

    Both curves are means over the prompts with the most graded samples that both sides have, at every k up to that
    number. Between two k the crossing is interpolated in log k.

    Returns:
        1 where the reference is ahead from the start; NaN where the model now is ahead up to the largest k, or fewer
        than two prompts compare. The 95 percent interval is the jackknife's over prompts, in log k, within 1 and the
        largest k; a largest k in it says that they may not cross at all.

    >>> few, many = [[True, True, False, False]] * 3, [[True, False, False, False]] * 3
    >>> pass_crossing([*few, [False] * 4], [*many, [True, False, False, False]]).value > 1
    True
    """
    graded_2P = np.array([[sum(v is not None for v in row) for row in side] for side in (now, reference)])
    right_2P = np.array([[sum(bool(v) for v in row) for row in side] for side in (now, reference)])
    if graded_2P.size == 0:
        return Interval(np.nan, np.nan, np.nan, 0)
    most = int(graded_2P.max(1).min())
    there_P = (graded_2P >= most).all(0)
    n = int(there_P.sum())
    if n < 2 or most < 1:
        return Interval(np.nan, np.nan, np.nan, n)
    ahead_KP = np.stack(
        [
            pass_at(k, graded_2P[0, there_P], right_2P[0, there_P])
            - pass_at(k, graded_2P[1, there_P], right_2P[1, there_P])
            for k in range(1, most + 1)
        ]
    )
    value = _log_crossing(ahead_KP.mean(1))
    if np.isnan(value) or n < FEWEST:
        return Interval(float(np.exp(value)), np.nan, np.nan, n)
    rest_PK = ((ahead_KP.sum(1, keepdims=True) - ahead_KP) / (n - 1)).T
    # Without a prompt the curves may not cross: then at the largest k, or beyond.
    left_out = np.nan_to_num(np.array([_log_crossing(rest_K) for rest_K in rest_PK]), nan=np.log(most))
    found = from_replicates(value, left_out)
    low, high = np.exp(max(found.low, 0.0)), np.exp(min(found.high, np.log(most)))
    return Interval(float(np.exp(value)), float(low), float(high), n)


def _log_crossing(ahead_K: Array) -> float:
    """log k of the first place where the model now is no longer ahead; NaN where there is none."""
    behind = np.flatnonzero(ahead_K <= 1e-12)
    if not len(behind):
        return float("nan")
    k = int(behind[0]) + 1
    if k == 1:
        return 0.0
    before, after = ahead_K[k - 2], ahead_K[k - 1]
    share = before / (before - after)
    return float(np.log(k - 1) + share * (np.log(k) - np.log(k - 1)))
