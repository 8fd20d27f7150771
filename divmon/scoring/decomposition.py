"""Loss of diversity = quality control + narrowing, exactly.

    decompose(distances before, distances now, correctness before, correctness now) -> Decomposition

Diversity falls when wrong answers go, and when answers grow alike. Pairs of a prompt's graded samples are split into
strata: both correct, one, none. What changes inside a stratum is narrowing; what changes because the strata's shares
move is quality control (Kitagawa's split with symmetric weights). Any pairwise distance will do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from divmon.scoring.intervals import Interval, from_replicates, mean_interval
from divmon.types import TERMS

Array = NDArray[np.float64]
Verdicts = Sequence[Sequence[bool | None]]

STRATA = ("correct", "wrong", "cross")
"""Pairs of two correct samples, of two wrong ones, of one and one."""

LEAST_SUPPORT = 0.5
"""What was seen is never more than doubled: the support is taken as at least this."""


@dataclass(frozen=True)
class Pairs:
    """The pairs of graded samples of each prompt by stratum, on one side."""

    count_P: Array
    """Pairs whose distance is defined."""
    distance_P: Array
    """Their mean distance, NaN where there is none."""
    weight_PS: Array
    """Share of each stratum in them, NaN where there is none."""
    distance_PS: Array
    """Mean distance in each stratum, NaN where it has no pair."""

    def take(self, prompts: NDArray[np.bool_]) -> Pairs:
        return Pairs(*(value[prompts] for value in (self.count_P, self.distance_P, self.weight_PS, self.distance_PS)))


def pairs(distance_PNN: Any, verdicts: Verdicts) -> Pairs:
    """Splits the pairs of graded samples into strata.

    Args:
        distance_PNN: array or tensor [P, N, N] of a metric's `pairwise`; each pair is read once, above the diagonal. A
            pair that is not finite is undefined and counts as no pair.
        verdicts: for each prompt up to N of True, False, or None for ungraded or ungradable; samples beyond a shorter
            row are ungraded.

    Raises:
        ValueError: the shapes do not fit one another.
    """
    distances = as_distances(distance_PNN)
    right_PN, wrong_PN = sides(verdicts, distances.shape)
    defined_PNN = np.isfinite(distances) & np.triu(np.ones(distances.shape[1:], dtype=bool), 1)
    right_or_wrong_P2N = np.stack([right_PN, wrong_PN], 1).astype(np.float64)

    def by_stratum(value_PNN: Array) -> Array:
        sum_P22 = right_or_wrong_P2N @ value_PNN @ right_or_wrong_P2N.transpose(0, 2, 1)
        return np.stack([sum_P22[:, 0, 0], sum_P22[:, 1, 1], sum_P22[:, 0, 1] + sum_P22[:, 1, 0]], 1)

    count_PS = by_stratum(defined_PNN.astype(np.float64))
    sum_PS = by_stratum(np.where(defined_PNN, distances, 0.0))
    count_P = count_PS.sum(1)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: undefined
        return Pairs(count_P, sum_PS.sum(1) / count_P, count_PS / count_P[:, None], sum_PS / count_PS)


def seen_within(reference: Pairs, now: Pairs, weight_PS: Array | None = None) -> Array:
    """Weighted change of mean distance inside each stratum, per prompt [P, S]; 0 where a side has no such pair, NaN
    where it has no pair at all.

    Args:
        weight_PS: symmetric where None, the mean of both sides' shares.
    """
    weight_PS = (reference.weight_PS + now.weight_PS) / 2 if weight_PS is None else weight_PS
    return np.nan_to_num(now.distance_PS - reference.distance_PS) * weight_PS


@dataclass(frozen=True)
class Decomposition:
    """A change of mean pairwise distance and its parts, signed: negative is a loss.

    `quality_control` and the three narrowing terms add up to `change` exactly. Undefined is NaN.
    """

    reference: float
    now: float
    change: float
    quality_control: float
    narrowing_correct: float
    """Narrowing among correct answers: what their pairs lost."""
    narrowing_wrong: float
    narrowing_cross: float
    seen: dict[str, float]
    """By stratum, the part of its narrowing seen on prompts that have such pairs on both sides."""
    support: dict[str, float]
    """By stratum, the share of its pair weight on those prompts; NaN where neither side has such a pair."""
    correct_pair_change: float
    """Change of the distance of a pair of correct answers where both sides have one: pairs weigh as in the terms, but
    nothing is assumed of the others."""
    bracket: dict[str, dict[str, float]]
    """The four parts with the reference's weights, and with the present ones."""
    ci95: dict[str, tuple[float, float]]
    """Jackknife intervals over prompts, NaN with fewer than two or where the term is not identifiable. Where it is
    mostly unseen they do not cover what was not seen: at a support of 0.4 some 80 percent of them held the truth."""
    n: int
    """Prompts with a pair of graded samples on both sides."""
    n_supported: dict[str, int]
    """By stratum, prompts that have such pairs on both sides."""

    @property
    def terms(self) -> dict[str, float]:
        """The four parts by name, in the order of `TERMS`."""
        return {name: getattr(self, name) for name in TERMS}

    @property
    def labels(self) -> dict[str, str]:
        """By stratum, how far its narrowing may be trusted; only strata with something to say."""
        found = {}
        for stratum, support in self.support.items():
            if math.isnan(support):
                found[stratum] = "no such pairs"
            elif support < LEAST_SUPPORT:
                found[stratum] = "mostly unseen" if support > 0 else "not identifiable"
        return found

    @property
    def share_percent(self) -> dict[str, float] | None:
        """Each part in percent of the change; None where parts of both signs, or a change that may be 0, make that
        meaningless."""
        low, high = self.ci95["change"]
        if not (low > 0 or high < 0):
            return None
        shares = {name: 100 * value / self.change + 0.0 for name, value in self.terms.items()}  # + 0.0: no minus zero
        return None if min(shares.values()) < -1e-9 else shares  # less is rounding

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON; undefined is None."""
        return plain({**vars(self), "labels": self.labels, "share_percent": self.share_percent})


def decompose(reference_PNN: Any, now_PNN: Any, reference_verdicts: Verdicts, now_verdicts: Verdicts) -> Decomposition:
    """Splits the change of mean pairwise distance since the reference into quality control and narrowing.

    Per stratum s, averaged over the prompts with a pair of graded samples on both sides, with w the share of pairs:

        seen_s      = mean of (D_s now - D_s then) (w_s now + w_s then) / 2, zero where s is missing on a side
        support_s   = the share of that weight on prompts with s on both sides
        narrowing_s = seen_s / max(support_s, 1/2)
        quality_control = change - sum of narrowing_s

    so pairs seen on one side only are taken to have narrowed as much per pair as those seen on both, and what was seen
    is at most doubled. Intervals: leave-one-prompt-out jackknife with all terms and ratios recomputed.

    Args:
        reference_PNN, now_PNN: arrays or tensors [P, N, N] of pairwise distances, NaN where undefined, the same prompts
            in the same order; the numbers of samples may differ.
        reference_verdicts, now_verdicts: for each prompt its True, False, or None for ungraded or ungradable.

    Raises:
        ValueError: the shapes do not fit one another.

    >>> same, apart = np.zeros((2, 2, 2)), np.ones((2, 2, 2))
    >>> parts = decompose(apart, same, [[True, True]] * 2, [[True, True]] * 2)
    >>> parts.change, parts.narrowing_correct, parts.quality_control
    (-1.0, -1.0, 0.0)
    """
    before, after = pairs(reference_PNN, reference_verdicts), pairs(now_PNN, now_verdicts)
    if len(before.count_P) != len(after.count_P):
        raise ValueError(
            "a decomposition needs the same prompts on both sides; got"
            f" {len(before.count_P)} and {len(after.count_P)} prompts"
        )
    there_P = (before.count_P > 0) & (after.count_P > 0)
    before, after = before.take(there_P), after.take(there_P)
    n = int(there_P.sum())
    supported_PS = ~np.isnan(before.distance_PS) & ~np.isnan(after.distance_PS)
    parts, seen_S, support_S = _split(before, after, (before.weight_PS + after.weight_PS) / 2)
    for s, stratum in enumerate(STRATA):
        if not supported_PS[:, s].any():  # nothing was seen: a term of 0, which nobody knows to lie within [0, 0]
            name = f"narrowing_{stratum}"
            parts[name] = Interval(parts[name].value, math.nan, math.nan, n)
    intervals = {"reference": mean_interval(before.distance_P), "now": mean_interval(after.distance_P)} | parts
    intervals["correct_pair_change"] = _pair_change(before, after, supported_PS[:, 0])
    weights = {"reference_weights": before.weight_PS, "present_weights": after.weight_PS}
    variants = {name: _split(before, after, weight_PS)[0] for name, weight_PS in weights.items()}
    return Decomposition(
        **{name: interval.value for name, interval in intervals.items()},
        seen=dict(zip(STRATA, seen_S.tolist(), strict=True)),
        support=dict(zip(STRATA, support_S.tolist(), strict=True)),
        bracket={name: {term: variant[term].value for term in TERMS} for name, variant in variants.items()},
        ci95={name: (interval.low, interval.high) for name, interval in intervals.items()},
        n=n,
        n_supported=dict(zip(STRATA, supported_PS.sum(0).tolist(), strict=True)),
    )


def _split(before: Pairs, after: Pairs, weight_PS: Array) -> tuple[dict[str, Interval], Array, Array]:
    """The change and its parts with their intervals, seen and support [S]."""
    seen_PS = seen_within(before, after, weight_PS)
    supported_PS = weight_PS * ~np.isnan(before.distance_PS + after.distance_PS)
    change_P = after.distance_P - before.distance_P
    sums = (change_P.sum(), seen_PS.sum(0), supported_PS.sum(0), weight_PS.sum(0))
    # All but one: the sums less each prompt's own part, so the jackknife costs no more than the estimate.
    rest = (sums[0] - change_P, sums[1] - seen_PS, sums[2] - supported_PS, sums[3] - weight_PS)
    n = len(change_P)
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN: undefined
        values, seen_S, support_S = _estimate(*sums, n)
        left_out, _, _ = _estimate(*rest, n - 1)
    return {name: from_replicates(value, left_out[name]) for name, value in values.items()}, seen_S, support_S


def _estimate(
    change: Any, seen_S: Array, supported_S: Array, weight_S: Array, n: int
) -> tuple[dict[str, Any], Array, Array]:
    """The terms, seen and support from sums over n prompts; leading dimensions are kept."""
    support_S = np.minimum(supported_S / weight_S, 1)
    narrowing_S = seen_S / n / np.fmax(support_S, LEAST_SUPPORT)
    change = change / n
    terms = {"change": change, "quality_control": change - narrowing_S.sum(-1)}
    terms |= {f"narrowing_{stratum}": narrowing_S[..., s] for s, stratum in enumerate(STRATA)}
    return terms, seen_S / n, support_S


def _pair_change(before: Pairs, after: Pairs, both_P: NDArray[np.bool_]) -> Interval:
    """Change of distance per correct pair: the ratio of what was seen to its weight, on supported prompts alone."""
    seen_P = seen_within(before, after)[both_P, 0]
    weight_P = (before.weight_PS + after.weight_PS)[both_P, 0] / 2
    if not len(seen_P):
        return Interval(math.nan, math.nan, math.nan, 0)
    left_out_P = (seen_P.sum() - seen_P) / (weight_P.sum() - weight_P) if len(seen_P) > 1 else seen_P[:0]
    return from_replicates(seen_P.sum() / weight_P.sum(), left_out_P)


def as_distances(distance_PNN: Any) -> Array:
    """A pairwise array or tensor as float64 on the CPU.

    Raises:
        ValueError: it is not [P, N, N].
    """
    if hasattr(distance_PNN, "detach"):  # a tensor, wherever it lies and in whatever precision
        distance_PNN = distance_PNN.detach().cpu().double().numpy()
    distances = np.asarray(distance_PNN, dtype=np.float64)
    if distances.ndim != 3 or distances.shape[1] != distances.shape[2]:
        raise ValueError(f"expected pairwise distances of the shape [prompts, samples, samples], got {distances.shape}")
    return distances


def sides(verdicts: Verdicts, shape: tuple[int, ...]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which samples are correct, and which are wrong [P, N]; ungraded and ungradable ones are neither.

    Raises:
        ValueError: more samples are graded than there are, or not those of every prompt.
    """
    prompts, samples = shape[:2]
    longest = max((len(row) for row in verdicts), default=0)
    if len(verdicts) != prompts or longest > samples:
        raise ValueError(
            f"distances are of {prompts} prompts with up to {samples} samples, verdicts of {len(verdicts)} prompts with"
            f" up to {longest}; expected one verdict for each sample"
        )
    right_PN, wrong_PN = np.zeros((2, prompts, samples), dtype=bool)
    for p, row in enumerate(verdicts):
        for k, verdict in enumerate(row):
            if verdict is not None:
                right_PN[p, k], wrong_PN[p, k] = verdict, not verdict
    return right_PN, wrong_PN


def plain(value: Any) -> Any:
    """Ready for JSON: tuples as lists, what is not finite as None."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
