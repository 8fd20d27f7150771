"""What alerts test at every look: each kind's null hypothesis and statistic.

All are one-sided t tests over prompts: x_p is what prompt p shows against the null, and its mean over prompts like
these is at most 0 where the null holds. Two limits say what still counts as healthy: DELTA, a share of the reference's
diversity that may be lost, and SHARE, by which a share of completions (or of words) may rise.

The rate holds as far as t is t. Where nearly all answers of a prompt are the same and nothing grades them, x is skewed,
and of runs that lose exactly DELTA 2.5 percent alarm in place of 1 (tests/results/alerts.txt); unchanged ones do not.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

from divmon.scoring.figure_registry import Registry
from divmon.scoring.intervals import Array, Interval, mean_interval
from divmon.types import TRUNCATED_LIMIT, Score, Snapshot

DELTA = 0.05
"""Of the reference: a smaller loss is healthy."""

SHARE = TRUNCATED_LIMIT
"""Of completions, or of words: a smaller rise is healthy."""

LEAST_PROMPTS = 3
"""With fewer there is no test."""


class Figures:
    """What one snapshot holds of one task."""

    def __init__(self, snapshot: Snapshot, task: str) -> None:
        self.scores: dict[str, Score] = {s.metric: s for s in snapshot.scores if s.task == task}
        self.decomposition = snapshot.decomposition.get(task, {})
        self.registry = Registry(snapshot.figures)
        self.earlier: Sequence[tuple[Array, Array]] = ()
        """`course` of every look since the reference, in their order."""

    @property
    def course(self) -> tuple[Array, Array]:
        """By prompt [P], accuracy and the tested figure of correct answers: what `saturation` compares over looks."""
        return self.values("accuracy"), self.values(f"{self.tested_figure}_correct")

    def values(self, metric: str) -> Array:
        """A figure by prompt [P], NaN where undefined; one NaN, for all prompts, where there is no such figure."""
        return np.array(self.scores[metric].values if metric in self.scores else [math.nan], dtype=np.float64)

    def within(self, metric: str, term: str) -> Array:
        """A term of `divmon.scoring.within_strata` by prompt [P], in the same way."""
        per_prompt = self.decomposition.get(metric, {}).get("per_prompt", {})
        return np.array(per_prompt.get(term, [math.nan]), dtype=np.float64)  # None becomes NaN

    @cached_property
    def tested_figure(self) -> str | None:
        """The mean over pairs that is tested: the first that is measured."""
        return next(iter(self.registry.pairwise(self.scores)), None)

    @property
    def tested(self) -> str | None:
        """The metric that gives it, under whose name its decomposition stands."""
        return None if self.tested_figure is None else self.registry[self.tested_figure].metric


@dataclass(frozen=True)
class Finding:
    """What one test found at one look."""

    t: float
    df: int
    n: int
    """Prompts behind it."""
    change: Interval
    """Of the figure since the reference."""
    reference: float
    """The figure then, on these prompts."""
    worst: tuple[int, ...] = ()
    """The prompts that show most against the null, three at most."""
    gain: Interval | None = None
    """Of accuracy, where the test is about that too."""
    looks: int = 0
    """Those that the change is taken over, where that is not since the reference."""


Test = Callable[[Figures, Figures, float], Finding | None]
"""The reference's figures, those now, DELTA -> what was found; None with fewer than 3 prompts."""


def paired(x_P: ArrayLike, change_P: ArrayLike, reference_P: ArrayLike) -> Finding | None:
    """The t test over the prompts on which x is defined.

    >>> found = paired([0.1, 0.2, 0.3, float("nan")], [-0.1, -0.2, -0.3, 0.0], [1.0, 1.0, 1.0, 1.0])
    >>> round(found.t, 3), found.n, found.worst
    (3.464, 3, (2, 1, 0))
    """
    x, change, reference = (np.asarray(v, dtype=np.float64) for v in np.broadcast_arrays(x_P, change_P, reference_P))
    here = np.flatnonzero(~np.isnan(x))
    n = len(here)
    if n < LEAST_PROMPTS:
        return None
    order = here[np.argsort(-x[here], kind="stable")]
    return Finding(
        t=t_of(float(x[here].mean()), float(x[here].std(ddof=1)) / math.sqrt(n)),
        df=n - 1,
        n=n,
        change=mean_interval(change[here]),
        reference=float(reference[here].mean()),
        worst=tuple(order[x[order] > 0][:3].tolist()),
    )


def t_of(mean: float, error: float) -> float:
    """The mean over its standard error; where nothing varies the sign alone speaks."""
    return mean / error if error > 0 else math.copysign(math.inf, mean) if mean else 0.0


def narrowing(before: Figures, now: Figures, delta: float) -> Finding | None:
    """Null: over prompts like these, diversity of equal quality fell by at most delta of the reference on average.

    Where a prompt is graded, x_p = -(sum of the changes seen inside the strata of correctness) - delta D_r: what wrong
    answers take away when they go does not count, and what is seen on one side only counts as no change. Where no
    sample of the prompt is graded on either side, x_p = (1 - delta) D_r - D_t. A prompt graded on one side only is left
    out.
    """
    metric, figure = before.tested, before.tested_figure
    if metric is None or figure is None:
        return None
    level_P = before.values(figure)
    change_P = now.values(figure) - level_P
    graded_P = ~np.isnan(before.values("accuracy")) | ~np.isnan(now.values("accuracy"))
    change_P = np.where(graded_P, now.within(metric, "seen"), change_P)
    level_P = np.where(graded_P, now.within(metric, "reference"), level_P)
    return paired(-change_P - delta * level_P, change_P, level_P)


def narrowing_correct(before: Figures, now: Figures, delta: float) -> Finding | None:
    """Null: pairs of correct answers lost at most delta of their distance, on average over prompts that have such pairs
    on both sides, each weighing as much as their share.

    x_p = -(change seen among pairs of correct answers) - delta (their distance then), both times their mean share.
    """
    metric = before.tested or ""
    change_P, level_P = now.within(metric, "seen_correct"), now.within(metric, "reference_correct")
    return paired(-change_P - delta * level_P, change_P, level_P)


def templating(before: Figures, now: Figures, delta: float) -> Finding | None:
    """Null: the share of answers that are nearest to their own prompt's answers fell by at most delta of itself.

    t = ((1 - delta) traced_r - traced_t) / its standard error, from the jackknife errors over prompts that `traced`
    comes with on both sides. They are added as if independent; that the prompts are the same makes the test cautious.
    """
    sides = [figures.scores.get("traced") for figures in (before, now)]
    errors, least = [], math.inf
    for score in sides:
        if score is None or math.isnan(score.low) or score.n < LEAST_PROMPTS:
            return None
        reach = max(score.high - score.mean, score.mean - score.low)  # one of the two may end at what can be
        errors.append(reach / float(stdtrit(score.n - 1, 0.975)))
        least = min(least, score.n)
    then, today = (score.mean for score in sides if score is not None)
    df = int(least) - 1
    reach = float(stdtrit(df, 0.975)) * math.hypot(*errors)
    return Finding(
        t=t_of((1 - delta) * then - today, math.hypot((1 - delta) * errors[0], errors[1])),
        df=df,
        n=int(least),
        change=Interval(today - then, today - then - reach, today - then + reach, int(least)),
        reference=then,
    )


def repetition(before: Figures, now: Figures, delta: float) -> Finding | None:
    """Null: the share of a text that repeats itself rose by at most SHARE. x_p = now - then - SHARE."""
    return _risen(before.values("repetition"), now.values("repetition"))


def length(before: Figures, now: Figures, delta: float) -> Finding | None:
    """Null: the share of completions without content or clipped rose by at most SHARE. x_p = now - then - SHARE.

    Without content: empty. Clipped: stopped by the token limit after their answer; those stopped before it are of
    the kind `truncation`. Longer or shorter answers are no fault in themselves.
    """

    def share_P(figures: Figures) -> Array:
        return figures.values("empty") + figures.values("clipped_ratio") - figures.values("truncated")

    return _risen(share_P(before), share_P(now))


def truncation(before: Figures, now: Figures, delta: float) -> Finding | None:
    """Null: the share of completions without an answer is at most TRUNCATED_LIMIT, or has not risen.

    The smaller t of x_p = now - TRUNCATED_LIMIT and x_p = now - then: both must speak.
    """
    then_P, now_P = before.values("no_answer"), now.values("no_answer")
    change_P = now_P - then_P
    above, risen = paired(now_P - TRUNCATED_LIMIT + 0 * then_P, change_P, then_P), paired(change_P, change_P, then_P)
    return None if above is None or risen is None else min(above, risen, key=lambda tested: tested.t)


def saturation(before: Figures, now: Figures, delta: float) -> Finding | None:
    """Null: accuracy still rises by delta (0.05: 5 points) or more, or correct answers lost at most delta of the
    reference's distance, from the third to the last quarter of the looks since the reference, on average over prompts
    like these.

    The smaller t of x_p = delta - (rise of accuracy) and x_p = (distance lost) - delta D_r, on the prompts that have
    both: an intersection-union test, of the level of either, since both halves of the null must be rejected
    (Berger, Technometrics 1982). From 4 looks on.
    """
    looks = [*now.earlier, now.course]
    size = len(looks) // 4
    if not size:
        return None
    level_P = before.values(f"{before.tested_figure}_correct")

    def mean(values: Sequence[Array]) -> Array:
        every = np.stack([np.broadcast_to(one, level_P.shape) for one in values])  # a look may lack the figure
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a prompt without two correct answers at any look
            return np.asarray(np.nanmean(every, axis=0))

    (early_P, wide_P), (late_P, left_P) = (
        tuple(mean(side) for side in zip(*part, strict=True)) for part in (looks[-2 * size : -size], looks[-size:])
    )
    gain_P, change_P = late_P - early_P, left_P - wide_P
    there_P = np.where(np.isnan(gain_P + change_P + level_P), np.nan, 0.0)
    flat = paired(delta - gain_P + there_P, change_P, level_P)
    narrower = paired(-change_P - delta * level_P + there_P, change_P, level_P)
    if flat is None or narrower is None:
        return None
    return replace(narrower, t=min(flat.t, narrower.t), gain=mean_interval(gain_P + there_P), looks=2 * size)


def _risen(then_P: Array, now_P: Array) -> Finding | None:
    change_P = now_P - then_P
    return paired(change_P - SHARE, change_P, then_P)


TESTS: dict[str, tuple[Test, Sequence[str]]] = {
    "narrowing": (narrowing, ()),
    "narrowing_correct": (narrowing_correct, ("accuracy",)),
    "templating": (templating, ("traced",)),
    "repetition": (repetition, ("repetition",)),
    "length": (length, ("empty", "clipped_ratio", "truncated")),
    "truncation": (truncation, ("no_answer",)),
    "saturation": (saturation, ("accuracy",)),
}
"""By kind, the test and the figures that it needs beside the diversity of pairs."""


def possible(kind: str, before: Figures) -> str | None:
    """Why a kind cannot be tested against this reference; None where it can."""
    needed = list(TESTS[kind][1])
    if kind.startswith("narrowing") or kind == "saturation":
        if before.tested_figure is None:
            there = dict.fromkeys(before.registry[name].metric for name in before.registry.pairwise())
            return f"none of the pairwise metrics {', '.join(there)} is measured"
        needed.append(before.tested_figure + ("_correct" if kind == "saturation" else ""))
    for name in needed:
        if name not in before.scores:
            return f"there is no {name}"
        n = before.scores[name].n
        if n < LEAST_PROMPTS:
            return f"{name} is defined on {n} prompts, and a test over prompts needs {LEAST_PROMPTS}"
    return None
