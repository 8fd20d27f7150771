"""Which of several measured points to keep: the least diversity lost at an accuracy that is as good as the best.

    chosen = choose([point_of(snapshot) for snapshot in snapshots], Rule())
    chosen.point.step, chosen.why

A point is a step of a run (`divmon select`, `keep_best`) or a mixture of two models (`divmon sweep`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from divmon.scoring.figure_registry import Registry
from divmon.scoring.intervals import FEWEST, Array, Interval, mean_interval, within_bounds
from divmon.types import TRUNCATED_LIMIT, Snapshot

HEALTHY = 0.95
"""Share of the reference's diversity above which nothing counts as lost; alerts take the same."""


class NoChoice(ValueError):
    """No point fulfils the rule; the message says what there is."""


@dataclass(frozen=True)
class Rule:
    """What is chosen. Without numbers: of the points whose accuracy is within its 95 percent interval of the most
    accurate one's, the one with most diversity; where nothing is graded, the last that kept `HEALTHY`.

    Raises:
        ValueError: both numbers are given, or one is no share.
    """

    min_accuracy: float | None = None
    """The most diverse point at this accuracy or above."""
    keep: float | None = None
    """The most accurate point that keeps this share of the reference's diversity; the last where nothing is graded."""

    def __post_init__(self) -> None:
        if self.min_accuracy is not None and self.keep is not None:
            raise ValueError("min_accuracy and keep are two rules; expected one of them")
        for name, value in {"min_accuracy": self.min_accuracy, "keep": self.keep}.items():
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name}: expected a share from 0 to 1, got {value:g}")


@dataclass(frozen=True, eq=False)
class Point:
    """One measurement, as far as a choice depends on it."""

    step: int
    figure: str
    """The figure of diversity."""
    accuracy_P: Array
    """By prompt, of all tasks one after another; NaN where ungraded."""
    diversity_P: Array
    kept: float
    """Share of the reference's diversity, on the prompts defined on both sides; 1 of the reference itself."""

    @property
    def graded(self) -> bool:
        return not bool(np.isnan(self.accuracy_P).all())

    @property
    def accuracy(self) -> Interval:
        i = mean_interval(self.accuracy_P)
        return Interval(i.value, *within_bounds(i.value, i.low, i.high, (0.0, 1.0)), i.n)

    @property
    def diversity(self) -> Interval:
        return mean_interval(self.diversity_P)

    def __str__(self) -> str:
        accuracy = f"accuracy {_shown(self.accuracy, 2)}, " if self.graded else ""
        share = "" if np.isnan(self.kept) else f" ({100 * self.kept:.0f} % of the reference's)"
        return f"step {self.step}: {accuracy}{self.figure} {_shown(self.diversity, 3)}{share}"


@dataclass(frozen=True)
class Choice:
    """The chosen point, and why in one sentence."""

    point: Point
    why: str


def figure_of(snapshot: Snapshot) -> str:
    """The figure of diversity that a choice is made by: of pairs of correct answers where some are graded, since what
    wrong answers take away when they go is no loss; else of all pairs.

    Raises:
        NoChoice: no metric over pairs was measured.
    """
    there = {score.metric for score in snapshot.scores if score.n}
    registry = Registry(snapshot.figures)
    for pairwise in registry.pairwise(there):
        return f"{pairwise}_correct" if f"{pairwise}_correct" in there else pairwise
    raise NoChoice(f"no mean over pairs was measured at step {snapshot.step}, only {', '.join(sorted(there))}")


def point_of(snapshot: Snapshot, figure: str | None = None, tasks: Collection[str] | None = None) -> Point:
    """What a snapshot says of the choice.

    Args:
        figure: of diversity; that of `figure_of` where None.
        tasks: those that count; all that have the figure where None.

    Raises:
        NoChoice: the snapshot has no such figure.
    """
    figure = figure or figure_of(snapshot)
    scores = {(s.task, s.metric): s for s in snapshot.scores}
    own = [task for task, metric in scores if metric == figure and (tasks is None or task in tasks)]
    own = [task for task in own if not task.endswith("-full")] or own
    if not own:
        there = ", ".join(sorted({metric for _, metric in scores}))
        raise NoChoice(f"{figure} was not measured at step {snapshot.step}; there are {there}")
    accuracy, diversity = [], []
    for task in own:
        values = np.asarray(scores[task, figure].values, dtype=np.float64)
        graded = scores.get((task, "accuracy"))
        diversity.append(values)
        accuracy.append(np.full(len(values), np.nan) if graded is None else np.asarray(graded.values, dtype=np.float64))
    changes = [c for c in snapshot.changes if c.task in own and c.metric == figure and c.n]
    before = sum(c.n * c.reference for c in changes)
    kept = sum(c.n * c.now for c in changes) / before if before > 0 else np.nan if changes else 1.0
    return Point(snapshot.step, figure, np.concatenate(accuracy), np.concatenate(diversity), float(kept))


def unsound(snapshot: Snapshot) -> str:
    """Why a snapshot's figures must not be compared (contracts 3 and 5); "" where they may."""
    if snapshot.provenance.get("suspicion"):
        return f"the sampler may be at fault: {snapshot.provenance['suspicion']}"
    for score in snapshot.scores:
        if score.metric == "no_answer" and score.mean > TRUNCATED_LIMIT:
            return f"{100 * score.mean:.0f} % of the completions of {score.task} have no answer"
    return ""


def choose(points: Sequence[Point], rule: Rule | None = None) -> Choice:
    """The point that the rule names.

    Points that another beats in both accuracy and diversity, by the estimates, are never chosen.

    Raises:
        NoChoice: there is no point, or none fulfils the rule.
    """
    rule = rule or Rule()
    if not points:
        raise NoChoice("there is nothing to choose from")
    graded = all(point.graded for point in points)
    if rule.min_accuracy is not None:
        return _at_least(points, rule.min_accuracy, graded)
    if rule.keep is not None or not graded:
        return _keeping(points, HEALTHY if rule.keep is None else rule.keep, graded)
    edge = [p for p, best in zip(points, unbeaten([place(p) for p in points]), strict=True) if best]
    best = max(edge, key=lambda point: point.accuracy.value)
    good = [point for point in edge if point is best or _as_good(point, best)]
    chosen = _most_diverse(good)
    if chosen is best:
        why = f"the most accurate, and of the {len(good)} as accurate (95 percent, paired) the most diverse"
        return Choice(best, why if len(good) > 1 else "the most accurate; no other is as accurate (95 percent, paired)")
    less = mean_interval(chosen.accuracy_P - best.accuracy_P)
    return Choice(
        chosen,
        f"the most diverse of {len(good)} that are as accurate as step {best.step}, the best at"
        f" {best.accuracy.value:.2f}: the difference {_shown(less, 2, '+')} includes 0",
    )


def _at_least(points: Sequence[Point], accuracy: float, graded: bool) -> Choice:
    if not graded:
        raise NoChoice("min_accuracy: nothing is graded, so there is no accuracy to go by; use the share to keep")
    good = [point for point in points if point.accuracy.value >= accuracy]
    if not good:
        best = max(points, key=lambda point: point.accuracy.value)
        raise NoChoice(f"min_accuracy: none reaches {accuracy:g}; the most accurate is {best}")
    return Choice(_most_diverse(good), f"the most diverse of {len(good)} with an accuracy of {accuracy:g} or more")


def _keeping(points: Sequence[Point], share: float, graded: bool) -> Choice:
    good = [point for point in points if point.kept >= share]
    if not good:
        most = max(points, key=lambda point: -1.0 if np.isnan(point.kept) else point.kept)
        raise NoChoice(f"none keeps {100 * share:g} % of the reference's diversity; the most is kept by {most}")
    words = f"that keep {100 * share:g} % or more of the reference's diversity"
    if graded:
        return Choice(max(good, key=lambda point: point.accuracy.value), f"the most accurate of {len(good)} {words}")
    return Choice(max(good, key=lambda point: point.step), f"nothing is graded: the last of {len(good)} {words}")


def _as_good(point: Point, best: Point) -> bool:
    """Whether the paired 95 percent interval of the difference in accuracy includes 0; too few prompts have none."""
    return bool(mean_interval(point.accuracy_P - best.accuracy_P).high >= 0)


def _most_diverse(points: Sequence[Point]) -> Point:
    """On the prompts that all have, where those are enough for an interval: else easy prompts decide."""
    value_NP = np.stack([point.diversity_P for point in points])
    common_P = ~np.isnan(value_NP).any(0)
    value_NP = value_NP[:, common_P] if common_P.sum() >= FEWEST else value_NP
    order = [(float(np.nanmean(row)), point.accuracy.value) for row, point in zip(value_NP, points, strict=True)]
    return points[max(range(len(points)), key=lambda i: order[i])]


def place(point: Point) -> tuple[float, float]:
    """(accuracy, diversity); what is not graded counts as 0, and so does what no prompt has two correct answers of."""
    accuracy, diversity = point.accuracy.value, point.diversity.value
    return 0.0 if np.isnan(accuracy) else accuracy, 0.0 if np.isnan(diversity) else diversity


def _shown(interval: Interval, digits: int, sign: str = "") -> str:
    text = f"{interval.value:{sign}.{digits}f}"
    if np.isnan(interval.low):
        return text
    return f"{text} [{interval.low:{sign}.{digits}f}, {interval.high:{sign}.{digits}f}]"


def unbeaten(point_ND: ArrayLike) -> NDArray[np.bool_]:
    """The Pareto set [N]: points than which none is at least as high in every dimension and higher in one.

    >>> unbeaten([[0.5, 0.3], [0.6, 0.2], [0.5, 0.2]]).tolist()
    [True, True, False]
    """
    point = np.asarray(point_ND, dtype=np.float64)
    no_less_NN = (point[:, None] >= point[None]).all(-1)
    more_NN = (point[:, None] > point[None]).any(-1)
    return np.asarray(~(no_less_NN & more_NN).any(0))
