"""The paper's own view of a run (its table 14), so that published numbers compare."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from divmon.scoring.decomposition import Array, Verdicts, as_distances, plain, sides
from divmon.scoring.intervals import mean_interval


@dataclass(frozen=True)
class PaperView:
    """Quality-filtered diversity as the paper reports it, so that published numbers compare. Not an estimate of
    narrowing: D_c and V_c are of whichever prompts have two correct answers, and that set moves with accuracy (survivor
    bias); V_c also grows with the number of correct answers.

    Each entry holds `reference`, `now`, `n_reference` and `n_now`, the prompts behind the means.
    """

    d_all: dict[str, float]
    """D_a: mean distance of all answers."""
    d_correct: dict[str, float]
    """D_c: of correct answers, prompts with two or more."""
    v_all: dict[str, float]
    """V_a: Vendi score of all answers."""
    v_correct: dict[str, float]
    residual_share: float
    """Loss of D_c over loss of D_a, which the paper reads as the share that is narrowing; NaN where D_a is equal."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON; undefined is None."""
        return plain(vars(self))


def paper_view(
    reference_PNN: Any,
    now_PNN: Any,
    reference_verdicts: Verdicts,
    now_verdicts: Verdicts,
    num_samples: int | None = None,
) -> PaperView:
    """The paper's own quality-filtered figures (its table 14) on both sides.

    Args:
        reference_PNN, now_PNN: cosine distances [P, N, N], so that 1 minus them is the Gram matrix of Vendi.
        num_samples: K; the first K samples are taken, since the prompts behind D_c depend on their number. All where
            None.

    Raises:
        ValueError: the shapes do not fit one another.
    """
    figures: dict[str, dict[str, float]] = {name: {} for name in ("d_all", "d_correct", "v_all", "v_correct")}
    for side, given, verdicts in (("reference", reference_PNN, reference_verdicts), ("now", now_PNN, now_verdicts)):
        distances = as_distances(given)
        right_PN, _ = sides(verdicts, distances.shape)
        for suffix, kept_PN in (("all", np.ones(right_PN.shape, dtype=bool)), ("correct", right_PN)):
            first = distances[:, :num_samples, :num_samples], kept_PN[:, :num_samples]
            for letter, value_P in zip("dv", _distance_and_vendi(*first), strict=True):
                mean = mean_interval(value_P)
                figures[f"{letter}_{suffix}"] |= {side: mean.value, f"n_{side}": mean.n}
    loss = {name: value["reference"] - value["now"] for name, value in figures.items()}
    share = loss["d_correct"] / loss["d_all"] if loss["d_all"] else math.nan
    return PaperView(**figures, residual_share=share)


def _distance_and_vendi(distance_PNN: Array, kept_PN: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Mean pairwise distance and Vendi score of order 1 of the kept samples [P], NaN below two."""
    off_diagonal_NN = ~np.eye(distance_PNN.shape[1], dtype=bool)
    pair_PNN = np.isfinite(distance_PNN) & kept_PN[:, :, None] & kept_PN[:, None, :] & off_diagonal_NN
    count_P, there_PN = pair_PNN.sum((1, 2)), pair_PNN.sum(2) > 0
    n_P = there_PN.sum(1)
    gram_PNN = np.where(pair_PNN, 1 - distance_PNN, 0.0) + there_PN[:, :, None] * ~off_diagonal_NN
    value_PN = np.linalg.eigvalsh(gram_PNN / np.maximum(n_P, 1)[:, None, None]).clip(min=0)
    entropy_P = -(value_PN * np.log(value_PN, where=value_PN > 0, out=np.zeros_like(value_PN))).sum(1)
    with np.errstate(invalid="ignore"):
        mean_P = np.where(pair_PNN, distance_PNN, 0.0).sum((1, 2)) / count_P
    # With a pair undefined between two samples there is no Gram matrix.
    return mean_P, np.where((n_P >= 2) & (count_P == n_P * (n_P - 1)), np.exp(entropy_P), np.nan)
