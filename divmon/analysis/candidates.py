"""The evaluations of a run among which one may be chosen, for `divmon select`, `divmon sweep` and the report."""

from __future__ import annotations

from collections.abc import Collection

from divmon.analysis.curves import Curves
from divmon.scoring.best_point import NoChoice, Point, point_of
from divmon.storage.reader import Run


def candidates(
    run: Run, metric: str | None = None, tasks: Collection[str] | None = None, curves: Curves | None = None
) -> tuple[list[Point], dict[int, str]]:
    """The evaluations of a run that may be compared, and why others may not, by step.

    Raises:
        NoChoice: nothing was measured by which to choose, or a task is unknown.
    """
    asked = {probe.name for probe in run.probes}
    if unknown := set(tasks or ()) - asked:
        raise NoChoice(
            f"no task named {', '.join(sorted(unknown))} in {run.folder}; there are"
            f" {', '.join(sorted(asked)) or 'none'}"
        )
    points, left_out = [], {}
    troubles = (curves or Curves(run)).troubles
    for step in run.steps:
        why = [reason for (at, task), reason in troubles.items() if at == step and (tasks is None or task in tasks)]
        if why:
            left_out[step] = why[0]
            continue
        point = point_of(run.read(step, samples=False), metric, tasks)
        metric = point.figure
        points.append(point)
    return points, left_out
