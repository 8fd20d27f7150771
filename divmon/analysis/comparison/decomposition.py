"""The decomposition of a difference between two runs, or of a stage of a lineage.

Pair distances are not stored, so this is for runs that were scored again (`rescore`). The decomposition of a run's own
change since its reference is stored with it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from divmon.analysis.comparison.alignment import Task, against_the_first
from divmon.analysis.comparison.members import Member
from divmon.analysis.comparison.rescoring import Rescored
from divmon.analysis.comparison.stages import CHAIN, Lineages
from divmon.scoring.decomposition import decompose
from divmon.storage.reader import Run
from divmon.types import TERMS

Side = tuple[str, Run, int]
"""Name, run and step."""


def between(tasks: Sequence[Task], groups: Mapping[str, Sequence[Member]], lines: Lineages) -> Iterator[dict[str, Any]]:
    """A row per part of: the first run of each group minus the first of all, at the last step that both may be compared
    at; and the end of each stage minus the end of the one before."""
    for task in tasks:
        for first, other, step in against_the_first(task, groups):
            yield from _rows(task, (first.name, first.run, step), (other.name, other.run, step))
        for lineage, ends in lines:
            named = "" if lineage == CHAIN else f"{lineage} "  # its stages are called by their runs alone
            sides = [(f"{named}{end.stage}", end.curves.run, end.step) for end in ends]
            for before, after in itertools.pairwise(sides):
                yield from _rows(task, before, after)


def _rows(task: Task, first: Side, second: Side) -> Iterator[dict[str, Any]]:
    """Nothing where a side was not scored again or ungraded."""
    found = []
    for _, run, step in (first, second):
        if not isinstance(run, Rescored) or task.name not in run.measured[step].correct:
            return
        place = {p.id: i for probe in run.probes if probe.name == task.name for i, p in enumerate(probe.prompts)}
        found.append((run.measured[step], [place[id] for id in task.prompts]))
    metrics = [metric for name, metric in found[0][0].distances if name == task.name]
    for metric in (metric for metric in metrics if (task.name, metric) in found[1][0].distances):
        distances = [measured.distances[task.name, metric][kept] for measured, kept in found]
        verdicts = [[measured.correct[task.name][p] for p in kept] for measured, kept in found]
        parts = decompose(*distances, *verdicts)
        for part in ("change", *TERMS, "correct_pair_change"):
            stratum = part.removeprefix("narrowing_")
            yield {
                "task": task.name,
                "metric": metric,
                "first": first[0],
                "second": second[0],
                "step_first": first[2],
                "step_second": second[2],
                "part": part,
                "value": getattr(parts, part),
                "low": parts.ci95[part][0],
                "high": parts.ci95[part][1],
                "support": parts.support.get(stratum),
                "label": parts.labels.get(stratum),
                "n": parts.n,
            }
