"""Are one run's answers the same as another's? Two runs may each be diverse, or each narrow, and say the same."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from divmon.analysis.comparison.alignment import Task, against_the_first
from divmon.analysis.comparison.cells import interval
from divmon.analysis.comparison.members import Member
from divmon.scoring.intervals import from_replicates
from divmon.scoring.segmentation import words
from divmon.types import Sample

if TYPE_CHECKING:
    import pandas as pd

SAMPLES = 16
"""Of a prompt, the first: comparing takes as many times as many pairs."""


def homogeneity(tasks: Sequence[Task], groups: Mapping[str, Sequence[Member]]) -> Iterator[dict[str, Any]]:
    """A row per task and the first run of each other group against the first of all, at the last step that both may be
    compared at."""
    for task in tasks:
        for first, other, step in against_the_first(task, groups):
            with contextlib.suppress(ValueError):  # damaged samples are among the run's problems
                sides = [_by_prompt(m.run.read(step).samples, task) for m in (first, other)]
                found = overlap(*sides)
                yield {"task": task.name, "first": first.name, "second": other.name, "step": step, **found}


def overlap(first: Sequence[Sequence[Sample]], second: Sequence[Sequence[Sample]]) -> dict[str, Any]:
    """How alike the answers of two runs are, over how alike they are within a run: 2 S_12 / (S_11 + S_22).

    S is the mean similarity of a pair of samples of one prompt, between the runs or within one (without pairs of a
    sample with itself, so it is unbiased): 1 or 0 by whether the final answers are the same where both runs have two
    or more, else the Jaccard similarity of words. With final answers this is Morisita's index of overlap (1959).

    Args:
        first, second: the samples of each prompt, prompts in the same order.

    Returns:
        `overlap`: 1 where the runs are as one, 0 where they have nothing in common; above 1 by chance only. `low`,
        `high`: its jackknife interval over prompts. `n`: prompts; `by_answer`: how many by final answers.
    """
    terms, by_answer = [], 0
    for one, other in zip(first, second, strict=True):
        one, other = one[:SAMPLES], other[:SAMPLES]
        answers = [[s.final_answer for s in side if s.final_answer is not None] for side in (one, other)]
        named = min(map(len, answers)) >= 2
        sides: Any = answers if named else [[frozenset(words(s.text.lower())) for s in side] for side in (one, other)]
        if min(map(len, sides)) < 2:
            continue
        alike = (lambda a, b: float(a == b)) if named else _jaccard
        between = float(np.mean([alike(a, b) for a in sides[0] for b in sides[1]]))
        within = sum(float(np.mean([alike(a, b) for a, b in itertools.combinations(side, 2)])) for side in sides)
        terms.append((2 * between, within))
        by_answer += named
    sums = np.array(terms, dtype=np.float64).reshape(-1, 2)
    with np.errstate(invalid="ignore", divide="ignore"):  # of answers that are never alike there is no share
        value = sums[:, 0].sum() / sums[:, 1].sum()
        rest = sums.sum(0) - sums
        found = from_replicates(value, rest[:, 0] / rest[:, 1], n=len(sums))
    low = max(found.low, 0.0) if found.low == found.low else found.low
    return {"overlap": found.value, "low": low, "high": found.high, "n": len(sums), "by_answer": by_answer}


def sentences(found: pd.DataFrame) -> Iterator[str]:
    """Whether two runs say the same, a line per row of `homogeneity` whose overlap is defined."""
    for row in found.dropna(subset="overlap").itertuples():
        how = "final answers" if row.by_answer == row.n else "words" if not row.by_answer else "answers and words"
        said = f"{row.overlap:.2f} {interval(row.low, row.high, '.2f')}".strip()
        yield (
            f"{row.task}: answers of {row.second} overlap with those of {row.first} by {said} at step {row.step}"
            f" (1: as alike as within a run; 0: nothing in common; by {how}, {row.n} prompts)"
        )


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    either = len(one | other)
    return len(one & other) / either if either else 1.0


def _by_prompt(samples: Sequence[Sample], task: Task) -> list[list[Sample]]:
    """The answers to each of the task's prompts, in their order."""
    drawn: dict[str, list[Sample]] = {id: [] for id in task.prompts}
    for sample in samples:
        if sample.task == task.name and sample.answered and sample.prompt_id in drawn:
            drawn[sample.prompt_id].append(sample)
    return list(drawn.values())
