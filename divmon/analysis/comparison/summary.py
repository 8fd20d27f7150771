"""Each group in one line: where it began, where it ended, and how much it kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from divmon.analysis.comparison.alignment import Task
from divmon.analysis.comparison.axes import looks
from divmon.analysis.comparison.contrasts import Along, along, estimates
from divmon.analysis.comparison.members import Member


def summary(tasks: Sequence[Task]) -> Iterator[dict[str, Any]]:
    """A row per group, task and figure: at the first and the last step that its runs share and that may be compared,
    and the percent of the first that is there at the last, with its interval (NaN of one snapshot); and at both the
    accuracy, with completions without an answer left out and counted as wrong."""
    for task in tasks:
        for figure, members in task.figures.items():
            for group in dict.fromkeys(m.group for m in members):
                own = [m for m in members if m.group == group]
                shared = looks("step", task, {m: m.steps(task.name, figure, sound=True) for m in own})
                if not len(shared.at_L):
                    continue
                first, last = (int(shared.at_L[i]) for i in (0, -1))
                ends = looks("step", task, {m: [first, last] for m in own})
                levels = along(ends, task, figure, throughout=True)
                kept = estimates(_ratio(levels), own)
                moved = first != last  # of one snapshot there is no change, not even one of nothing
                yield {
                    "task": task.name,
                    "metric": figure,
                    "group": group,
                    "runs": len(own),
                    "first_step": first,
                    "last_step": last,
                    "start": float(np.mean([levels.value[m][0] for m in own])),
                    "end": float(np.mean([levels.value[m][-1] for m in own])),
                    "kept_percent": float(kept.value[0]) if moved else math.nan,
                    "low": float(kept.low[0]) if moved else math.nan,
                    "high": float(kept.high[0]) if moved else math.nan,
                    "n": int(kept.n[0]),
                    "seeds": kept.seeds,
                    "accuracy_start": _accuracy(task, own, first),
                    "accuracy_end": _accuracy(task, own, last),
                    "no_answer_wrong_start": _accuracy(task, own, first, "accuracy_no_answer_wrong"),
                    "no_answer_wrong_end": _accuracy(task, own, last, "accuracy_no_answer_wrong"),
                }


def _accuracy(task: Task, members: Sequence[Member], step: int, figure: str = "accuracy") -> float:
    """The mean over the runs; NaN where one was not graded."""
    tables = [m.curves.tables.get((task.name, figure)) for m in members]
    if any(table is None or step not in table.steps for table in tables):
        return float("nan")
    values = [table.at([step], task.prompts) for table in tables if table is not None]
    return float(np.mean([value[~np.isnan(value)].mean() if not np.isnan(value).all() else np.nan for value in values]))


def _ratio(ends: Along) -> Along:
    """The last evaluation in percent of the first, as one, on the prompts that both have."""
    with np.errstate(invalid="ignore", divide="ignore"):  # of nothing there is no percentage
        value = {m: 100 * value_L[-1:] / value_L[:1] for m, value_L in ends.value.items()}
        rest = {m: 100 * rest_LP[-1:] / rest_LP[:1] for m, rest_LP in ends.rest.items()}
    return Along(value, rest, ends.defined_LP[-1:], ends.units_LP[-1:])
