"""Changes between two sets of different prompts, as rollouts are: no prompt has its own reference to be compared with.

The interval is the value +- t times the standard error of a jackknife over the groups of both sides, with Welch's
degrees of freedom; for a difference of plain means that is Welch's interval. It holds the spread between prompts, which
pairing takes out, so it is wider than a probe's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from divmon.scoring.decomposition import STRATA, Decomposition, Pairs
from divmon.scoring.intervals import FEWEST, Interval, leave_one_out, mean_interval
from divmon.types import TERMS

Array = NDArray[np.float64]


def two_sample_interval(value: float, now: ArrayLike, reference: ArrayLike) -> Interval:
    """The interval of a value that two independent sets of groups went into.

    Args:
        now, reference: its values with each group of the one and of the other side left out; below `FEWEST` on a
            side the bounds are NaN.

    Returns:
        `n` is the smaller number of groups.
    """
    sides = [np.asarray(values, dtype=np.float64) for values in (now, reference)]
    groups = np.array([len(values) for values in sides])
    n = int(groups.min())
    if n < FEWEST:
        return Interval(float(value), math.nan, math.nan, n)
    spread = np.array([np.square(values - values.mean()).sum() for values in sides])
    variance = (groups - 1) / groups * spread
    total = variance.sum()
    freedom = np.square(total) / (np.square(variance) / (groups - 1)).sum() if total > 0 else groups.sum() - 2
    reach = float(stdtrit(freedom, 0.975) * np.sqrt(total))
    return Interval(float(value), float(value) - reach, float(value) + reach, n)


@dataclass(frozen=True)
class UnpairedChange:
    """Now minus reference, each over its own groups; `n` is the smaller number of them."""

    reference: float
    now: float
    change: float
    low: float
    high: float
    n: int


def unpaired_change(now: ArrayLike, reference: ArrayLike, aggregate: str = "mean") -> UnpairedChange:
    """The change of an aggregate between groups of different prompts.

    Args:
        now, reference: a value for each group, NaN where undefined; their numbers may differ.
        aggregate: "mean" or "harmonic_mean".

    >>> change = unpaired_change([1.0, 2.0, 3.0], [2.0, 4.0, float("nan")])
    >>> change.reference, change.now, change.change, change.n
    (3.0, 2.0, -1.0, 2)
    """
    sides = [np.asarray(values, dtype=np.float64) for values in (now, reference)]
    (value, left_out), (before, left_out_before) = (leave_one_out(aggregate, s[~np.isnan(s)]) for s in sides)
    found = two_sample_interval(value - before, left_out - before, value - left_out_before)
    n = int(min((~np.isnan(side)).sum() for side in sides))
    return UnpairedChange(before, value, found.value, found.low, found.high, n)


def decompose_unpaired(reference: Pairs, now: Pairs) -> Decomposition:
    """Splits a change of mean pairwise distance between different prompts into quality control and narrowing.

    Strata are taken over all groups of a side: with w the mean share of a stratum in a group's pairs and D its mean
    distance (groups weighted by that share), a side's diversity is the sum of w_s D_s, and

        narrowing_s     = (D_s now - D_s then) (w_s now + w_s then) / 2, zero where s is missing on a side
        quality_control = change - sum of narrowing_s

    (Kitagawa's split with symmetric weights; the parts add up to the change exactly.) Unlike `decompose`, it cannot
    tell answers that grew alike from prompts that are easier or narrower than those before: as a model learns, pairs of
    correct answers come from other prompts. `support` is 1 where both sides have a stratum, 0 where one has.

    Args:
        reference, now: of `decomposition.pairs`; groups without a judged pair are left out.
    """
    before, after = (_Side.of(side.take(side.count_P > 0)) for side in (reference, now))
    there_S = np.stack([side.groups_S > 0 for side in (before, after)])
    support_S = np.where(there_S.all(0), 1.0, np.where(there_S.any(0), 0.0, np.nan))
    means = {name: mean_interval(side.distance_P) for name, side in (("reference", before), ("now", after))}
    parts = _split(before, after, "symmetric")
    for s, stratum in enumerate(STRATA):
        if support_S[s] != 1:  # nothing was seen: a term of 0, which nobody knows to lie within [0, 0]
            term = parts[f"narrowing_{stratum}"]
            parts[f"narrowing_{stratum}"] = Interval(term.value, math.nan, math.nan, term.n)
    intervals = means | parts
    variants = {f"{weights}_weights": _split(before, after, weights) for weights in ("reference", "present")}
    return Decomposition(
        **{name: interval.value for name, interval in intervals.items()},
        seen={stratum: parts[f"narrowing_{stratum}"].value for stratum in STRATA},
        support=dict(zip(STRATA, support_S.tolist(), strict=True)),
        bracket={name: {term: variant[term].value for term in TERMS} for name, variant in variants.items()},
        ci95={name: (interval.low, interval.high) for name, interval in intervals.items()},
        n=min(len(before.distance_P), len(after.distance_P)),
        n_supported=dict(zip(STRATA, np.minimum(before.groups_S, after.groups_S).tolist(), strict=True)),
    )


@dataclass(frozen=True)
class _Side:
    """One side's strata over all its groups, and with each group left out (the arrays that end in _PS)."""

    distance_P: Array
    groups_S: NDArray[np.int64]
    """Groups that have a pair of the stratum."""
    weight_S: Array
    distance_S: Array
    """NaN where the side has no such pair."""
    weight_PS: Array
    distance_PS: Array

    @classmethod
    def of(cls, side: Pairs) -> _Side:
        part_PS = np.nan_to_num(side.weight_PS * side.distance_PS)
        there_PS = ~np.isnan(side.distance_PS)
        n, groups_S = len(part_PS), there_PS.sum(0)
        weight_S, part_S = side.weight_PS.sum(0), part_PS.sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 is NaN: undefined
            distance_S = np.where(groups_S > 0, part_S / weight_S, np.nan)
            rest_PS = weight_S - side.weight_PS
            without_PS = np.where(groups_S - there_PS > 0, (part_S - part_PS) / rest_PS, np.nan)
            return cls(side.distance_P, groups_S, weight_S / n, distance_S, rest_PS / (n - 1), without_PS)


def _split(before: _Side, after: _Side, weights: str) -> dict[str, Interval]:
    """The change, its four parts and the change of a pair of correct answers, with their intervals."""
    value = _terms(before.weight_S, before.distance_S, after.weight_S, after.distance_S, weights)
    without_now = _terms(before.weight_S, before.distance_S, after.weight_PS, after.distance_PS, weights)
    without_then = _terms(before.weight_PS, before.distance_PS, after.weight_S, after.distance_S, weights)
    return {name: two_sample_interval(float(value[name]), without_now[name], without_then[name]) for name in value}


def _terms(weight_then: Array, then: Array, weight_now: Array, now: Array, weights: str) -> dict[str, Array]:
    """The parts from shares and distances [S] or [P, S] of both sides."""
    by = {"symmetric": (weight_then + weight_now) / 2, "reference": weight_then, "present": weight_now}[weights]
    change = (weight_now * np.nan_to_num(now)).sum(-1) - (weight_then * np.nan_to_num(then)).sum(-1)
    narrowing = np.nan_to_num(now - then) * by
    terms = {"change": change, "quality_control": change - narrowing.sum(-1)}
    terms |= {f"narrowing_{stratum}": narrowing[..., s] for s, stratum in enumerate(STRATA)}
    return terms | {"correct_pair_change": (now - then)[..., 0]}
