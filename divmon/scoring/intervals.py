"""Intervals and paired changes over prompts.

The unit is the prompt. An interval is the value +- t(N - 1, 0.975) times the leave-one-prompt-out jackknife standard
error; for a plain mean that is the t interval. It is deterministic, and at 64 prompts it covers better than percentile
or BCa bootstraps. NaN marks a prompt where the value is undefined: it is left out, and n says how many were in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

FEWEST = 5
"""Prompts that an interval takes: the spread of fewer says next to nothing of that of all prompts."""

Array = NDArray[np.float64]
Statistic = Callable[[Array], float]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 percent interval over `n` prompts; the bounds are NaN below `FEWEST`."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class PairedChange:
    """Now minus reference on the `n` prompts defined on both sides."""

    reference: float
    now: float
    change: float
    low: float
    high: float
    n: int


def mean_interval(values: ArrayLike) -> Interval:
    """The mean over the prompts where it is defined, with its t interval.

    >>> interval = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0, float("nan")])
    >>> round(interval.low, 3), interval.value, round(interval.high, 3), interval.n
    (1.037, 3.0, 4.963, 5)
    """
    return jackknife("mean", values)


def jackknife(statistic: str | Statistic, values_P: ArrayLike) -> Interval:
    """A statistic over prompts with its jackknife interval.

    Args:
        statistic: "mean" or "harmonic_mean", which leave NaN out and have closed forms; or a function of [P, ...],
            recomputed with each prompt left out, which deals with NaN itself.
        values_P: what it is taken of, prompts first.

    Raises:
        ValueError: the statistic's name is unknown.
    """
    values = np.asarray(values_P, dtype=np.float64)
    if callable(statistic):
        replicates = [statistic(np.delete(values, p, axis=0)) for p in range(len(values))] if len(values) > 1 else []
        return from_replicates(statistic(values) if len(values) else np.nan, replicates, n=len(values))
    defined = values[~np.isnan(values)]
    value, replicates_P = leave_one_out(statistic, defined)
    return from_replicates(value, replicates_P, n=len(defined))


def from_replicates(value: float, replicates: ArrayLike, n: int | None = None) -> Interval:
    """The interval of a value from its leave-one-out replicates, of prompts or of equal groups of prompts.

    Args:
        n: prompts behind the value, where that is not the number of replicates.
    """
    left_out = np.asarray(replicates, dtype=np.float64)
    groups = len(left_out)
    n = groups if n is None else n
    if groups < FEWEST:
        return Interval(float(value), np.nan, np.nan, n)
    error = np.sqrt((groups - 1) / groups * np.square(left_out - left_out.mean()).sum())
    reach = float(stdtrit(groups - 1, 0.975) * error)
    return Interval(float(value), float(value) - reach, float(value) + reach, n)


def within_bounds(value: float, low: float, high: float, bounds: tuple[float, float]) -> tuple[float, float]:
    """An interval no further out than its value can be; never short of the value itself, since some bounds, such as
    EAD's, are those of an expectation. NaN stays.

    >>> within_bounds(0.25, -0.1, 0.6, (0.0, 1.0))
    (0.0, 0.6)
    """
    least, most = bounds
    return (
        low if math.isnan(low) else min(value, max(low, least)),
        high if math.isnan(high) else max(value, min(high, most)),
    )


def paired_change(now: ArrayLike, reference: ArrayLike, aggregate: str = "mean") -> PairedChange:
    """The change of an aggregate over prompts, on those defined on both sides.

    Args:
        now, reference: [P] values of the same prompts in the same order, NaN where undefined.
        aggregate: "mean", where the interval is the paired t interval, or "harmonic_mean".

    Raises:
        ValueError: the two differ in length.

    >>> paired_change([1.0, 2.0, 2.0], [2.0, 4.0, float("nan")]).change
    -1.5
    """
    now_P, reference_P = np.asarray(now, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if now_P.shape != reference_P.shape:
        raise ValueError(
            f"a paired change needs the same prompts on both sides; got {now_P.shape} and {reference_P.shape}"
        )
    both = ~np.isnan(now_P) & ~np.isnan(reference_P)
    value_now, replicates_now = leave_one_out(aggregate, now_P[both])
    value_reference, replicates_reference = leave_one_out(aggregate, reference_P[both])
    change = from_replicates(value_now - value_reference, replicates_now - replicates_reference)
    return PairedChange(value_reference, value_now, change.value, change.low, change.high, int(both.sum()))


def leave_one_out(aggregate: str, values_P: Array) -> tuple[float, Array]:
    """The aggregate, and its value with each prompt left out (none of them where one prompt or none is there)."""
    n = len(values_P)
    if aggregate not in ("mean", "harmonic_mean"):
        raise ValueError(f"no aggregate named {aggregate!r}; there are mean, harmonic_mean, or give a function")
    if not n:
        return float("nan"), values_P
    terms_P = values_P if aggregate == "mean" else 1 / values_P
    means_P = np.array([]) if n == 1 else (terms_P.sum() - terms_P) / (n - 1)
    if aggregate == "mean":
        return float(terms_P.mean()), means_P
    return float(1 / terms_P.mean()), 1 / means_P
