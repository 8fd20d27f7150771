"""How good the samples are, per prompt: accuracy, pass@k, majority vote, and how a prompt's samples agree.

Undefined is NaN, never 0: an ungraded or ungradable sample is left out, and a prompt with too few for a figure is left
out of its mean. Figures at a size k are exact means over all subsets of k samples, so that a prompt with more samples
gives the same in expectation, only more precisely. Names follow `vendi_at4`: `pass_at4` is pass@4.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from divmon.scoring.intervals import mean_interval
from divmon.types import Score

Array = NDArray[np.float64]


def quality(
    verdicts: Sequence[Sequence[bool | None]],
    num_samples: int,
    *,
    no_answer: Sequence[Sequence[bool]] | None = None,
    answers: Sequence[Sequence[str | None]] | None = None,
) -> dict[str, Array]:
    """All figures of quality, by name [P].

    Args:
        verdicts: for each prompt its True, False, or None for ungraded or ungradable; their numbers may differ.
        num_samples: K, the largest size k.
        no_answer: parallel to `verdicts`, whether the sample ended before its answer.
        answers: parallel to `verdicts`, the extracted final answer, equal where answers are the same; None where there
            is none.

    Returns:
        `accuracy`: correct of the graded. `accuracy_no_answer_wrong`: with ungraded samples that gave no answer counted
        as wrong (where `no_answer` is given). `pass_at<k>` for k = 1 to K, and 2K, 4K, ... where some prompt has so
        many: chance that one of k graded samples is correct; NaN where fewer than k are graded. `cover_at<n>` for n =
        1, 2, 4, ... and K: chance that at least n of K graded samples are correct (see `cover_at`). `coverage`,
        `solve_all`, `solve_none`, `mixed`: chance that of K graded samples (of all, where fewer are graded) some, all,
        none, or some but not all are correct; NaN with fewer than two.
        Where answers are given: `majority_at<k>`: accuracy of the vote of k graded samples (see `majority_at`).
        `majority_gain`: the vote of K minus the accuracy. `distinct_answers_at<k>`: expected number of different
        answers among k samples that have one, graded or not.

    Raises:
        ValueError: K is below 1, or what is parallel is not.

    >>> figures = quality([[True, True, False, None]], 2, answers=[["4", "4", "5", None]])
    >>> [(name, round(float(value[0]), 3)) for name, value in figures.items() if name.endswith("at2")]
    [('pass_at2', 1.0), ('cover_at2', 0.333), ('majority_at2', 0.667), ('distinct_answers_at2', 1.667)]
    """
    if num_samples < 1:
        raise ValueError(f"expected num_samples of 1 or more, got {num_samples}")
    _check_parallel(verdicts, no_answer=no_answer, answers=answers)
    graded_P = np.array([sum(v is not None for v in row) for row in verdicts])
    right_P = np.array([sum(bool(v) for v in row) for row in verdicts])
    sizes = range(1, num_samples + 1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: undefined
        figures = {"accuracy": right_P / graded_P}
        if no_answer is not None:
            lost = [
                sum(v is None and none for v, none in zip(*rows, strict=True))
                for rows in zip(verdicts, no_answer, strict=True)
            ]
            figures["accuracy_no_answer_wrong"] = right_P / (graded_P + lost)
    beyond = [num_samples << i for i in range(1, 64) if num_samples << i <= graded_P.max(initial=0)]
    figures |= {f"pass_at{k}": pass_at(k, graded_P, right_P) for k in [*sizes, *beyond]}
    figures |= {
        f"cover_at{n}": cover_at(n, num_samples, graded_P, right_P)
        for n in sizes
        if n.bit_count() == 1 or n == num_samples
    }
    figures |= _shares(graded_P, right_P, num_samples)
    if answers is not None:
        vote_PK = np.array([majority_at(num_samples, *rows) for rows in zip(verdicts, answers, strict=True)])
        kinds_P = [Counter(a for a in row if a is not None) for row in answers]
        figures |= {f"majority_at{k}": vote_PK.reshape(-1, num_samples)[:, k - 1] for k in sizes}
        figures["majority_gain"] = figures[f"majority_at{num_samples}"] - figures["accuracy"]
        figures |= {f"distinct_answers_at{k}": np.array([distinct_at(k, c) for c in kinds_P]) for k in sizes}
    return figures


def scores(task: str, figures: Mapping[str, Array]) -> list[Score]:
    """Means over the prompts where a figure is defined, with jackknife intervals."""
    found = []
    for name, value_P in figures.items():
        mean = mean_interval(value_P)
        found.append(Score(task, name, mean.value, mean.low, mean.high, mean.n, tuple(value_P.tolist())))
    return found


def pass_at(k: int, graded_P: NDArray[np.int64], right_P: NDArray[np.int64]) -> Array:
    """Unbiased pass@k [P], 1 - C(n - c, k) / C(n, k), of n graded samples with c correct; NaN where n < k.

    Source: Chen et al. 2021, equation 1.
    """
    return np.where(graded_P >= k, 1 - _none_of(k, graded_P, right_P), np.nan)


def cover_at(n: int, num_samples: int, graded_P: NDArray[np.int64], right_P: NDArray[np.int64]) -> Array:
    """Chance [P] that at least n of K graded samples are correct; NaN where fewer than K are graded.

    n = 1 is pass@K, n = K that all are correct: from breadth to depth. The share n / K is the tau of Cover@tau.

    Source: Dragoi et al. 2025 (arXiv:2510.08325), here unbiased for more than K samples.
    """
    pairs = zip(graded_P.tolist(), right_P.tolist(), strict=True)
    return np.array([_at_least(n, num_samples, graded, right) for graded, right in pairs], dtype=np.float64)


def _at_least(n: int, draws: int, graded: int, right: int) -> float:
    if graded < draws:
        return math.nan
    ways = sum(math.comb(right, hits) * math.comb(graded - right, draws - hits) for hits in range(n, draws + 1))
    return ways / math.comb(graded, draws)


def majority_at(num_samples: int, verdicts: Sequence[bool | None], answers: Sequence[str | None]) -> list[float]:
    """Expected accuracy of the majority vote of k graded samples of one prompt, for k = 1 to K; NaN where fewer are.

    The mean over all subsets of k graded samples, exactly. The answer with most votes wins, ties are broken at random.
    A sample without an answer has no vote, and where none of the k has one the vote is wrong. An answer is right as
    often as its samples were graded correct, which is always or never where the verifier goes by the answer.

    How: with m the votes of the winner, the subsets in which an answer wins with t others tied are counted by a product
    of polynomials, one an answer, in x (samples taken) and y (tied answers); 1 / (1 + t) is the integral of y^t from 0
    to 1, by Gauss quadrature of a degree that makes it exact.
    """
    graded = [(v, a) for v, a in zip(verdicts, answers, strict=True) if v is not None]
    size = Counter(a for _, a in graded)
    right = Counter(a for v, a in graded if v)
    silent = size.pop(None, 0)
    node_Y, weight_Y = np.polynomial.legendre.leggauss((num_samples + 1) // 2)
    node_Y, weight_Y = (node_Y + 1) / 2, weight_Y / 2
    most_M = np.arange(1, num_samples + 1)
    lost_MYX = np.zeros((num_samples, len(node_Y), num_samples + 1))  # ways without a winner yet, by samples taken
    lost_MYX[..., : silent + 1] = [math.comb(silent, x) for x in range(min(silent, num_samples) + 1)]
    won_MYX = np.zeros_like(lost_MYX)  # ways with one, each times the chance that it is right
    for answer, n in size.items():
        ways = [math.comb(n, x) for x in range(min(n, num_samples) + 1)]
        before_MYX, won_before_MYX = lost_MYX, won_MYX
        lost_MYX, won_MYX = np.zeros_like(lost_MYX), np.zeros_like(won_MYX)
        for taken, way in enumerate(ways):
            end = num_samples + 1 - taken
            factor_MY = way * ((most_M > taken)[:, None] + (most_M == taken)[:, None] * node_Y)
            lost_MYX[..., taken:] += factor_MY[..., None] * before_MYX[..., :end]
            won_MYX[..., taken:] += factor_MY[..., None] * won_before_MYX[..., :end]
            if taken:
                won_MYX[taken - 1, :, taken:] += way * right[answer] / n * before_MYX[taken - 1, :, :end]
    won_X = np.einsum("y,myx->x", weight_Y, won_MYX)
    return [won_X[k] / math.comb(len(graded), k) if k <= len(graded) else math.nan for k in most_M.tolist()]


def distinct_at(k: int, size: Mapping[str, int]) -> float:
    """Expected number of different answers among k, given how many samples gave each; NaN where fewer gave one."""
    n = sum(size.values())
    if n < k:
        return math.nan
    return sum(1 - math.comb(n - one, k) / math.comb(n, k) for one in size.values())


def _shares(graded_P: NDArray[np.int64], right_P: NDArray[np.int64], num_samples: int) -> dict[str, Array]:
    size_P = np.minimum(graded_P, num_samples)
    none_P, all_P = (_none_of(size_P, graded_P, hits_P) for hits_P in (right_P, graded_P - right_P))
    shares = {"coverage": 1 - none_P, "solve_all": all_P, "solve_none": none_P, "mixed": 1 - none_P - all_P}
    return {name: np.where(graded_P >= 2, share_P, np.nan) for name, share_P in shares.items()}


def _none_of(k: int | NDArray[np.int64], n_P: NDArray[np.int64], hits_P: NDArray[np.int64]) -> Array:
    """Chance that k of n samples hold none of the hits, C(n - hits, k) / C(n, k)."""
    pairs = zip(np.broadcast_to(k, n_P.shape).tolist(), n_P.tolist(), hits_P.tolist(), strict=True)
    return np.array([math.comb(n - hits, k) / max(math.comb(n, k), 1) for k, n, hits in pairs], dtype=np.float64)


def _check_parallel(verdicts: Sequence[Sequence[bool | None]], **others: Sequence[Sequence] | None) -> None:
    shape = [len(row) for row in verdicts]
    for name, rows in others.items():
        if rows is not None and [len(row) for row in rows] != shape:
            raise ValueError(f"'{name}' must have one entry for each verdict")
