"""Figures of a partition: how many classes a prompt's answers fall into, and how evenly."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable


def effective_number(classes: Iterable[Hashable], size: int = 8) -> float:
    """Effective number of classes among `size` answers, of order 2: with C the share of pairs in one class, which is
    unbiased for every number of answers, size / (1 + (size - 1) C) (Simpson 1949).

    Args:
        classes: of each answer the class; None is no answer.

    Returns:
        1 where all are in one class, `size` where no two are; NaN below two answers.

    >>> effective_number(["a", "b", None]), effective_number(["a", "a"])
    (8.0, 1.0)
    """
    count = Counter(one for one in classes if one is not None)
    n = count.total()
    if n < 2:
        return math.nan
    same = sum(of_one * (of_one - 1) for of_one in count.values()) / (n * (n - 1))
    return size / (1 + (size - 1) * same)


def entropy(classes: Iterable[Hashable]) -> float:
    """Entropy of the classes' shares in nats, at most log n of n answers; NaN below two answers.

    >>> round(entropy(["a", "b"]), 3), entropy(["a", "a"])
    (0.693, 0.0)
    """
    count = Counter(one for one in classes if one is not None)
    n = count.total()
    if n < 2:
        return math.nan
    return max(0.0, -sum(of_one / n * math.log(of_one / n) for of_one in count.values()))
