"""What each stage of a lineage takes of the base model's diversity, as the paper's table 1 has it.

A run that carries a lineage names the stage of each snapshot (the option `stage`); or the runs of a comparison are the
stages themselves, in their order (`chain`). The base is the reference of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from divmon.analysis.comparison.alignment import Task
from divmon.analysis.comparison.members import Member
from divmon.analysis.curves import Curves, left_out
from divmon.scoring.figure_registry import Registry
from divmon.scoring.intervals import FEWEST
from divmon.storage.reader import read_run

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

MEAN = "mean"
"""Stands for the task where a row is the mean over tasks."""

CHAIN = "chain"
"""Name of the lineage whose stages are the runs of a comparison."""

COLUMNS = ["lineage", "stage", "run", "step", "metric", "task", "change_percent", "change_low", "change_high"]
COLUMNS += ["kept_percent", "kept_low", "kept_high", "n", "tasks"]


@dataclass(frozen=True)
class End:
    """The snapshot that ends a stage; the first of a lineage is the base."""

    stage: str
    run: str
    curves: Curves
    step: int


Lineages = Sequence[tuple[str, list[End]]]
"""Name and ends of each."""


def lineages(members: Sequence[Member], chain: bool = False) -> Lineages:
    """The lineages of these runs.

    Args:
        chain: the runs are the stages of one, by the names of their groups; else each run may carry one of its own.
    """
    if chain:
        return [(CHAIN, _chained(members))]
    return [line for member in members for line in _lines(member) if line[1]]


def stages(tasks: Sequence[Task], lines: Lineages) -> pd.DataFrame:
    """One row a lineage, stage, diversity metric and task, and one for the mean over tasks.

    Percent of the base, task by task, is taken first and then averaged over tasks, as the paper's figures are; a
    stage's change is the percent kept after it minus that before it. Intervals: leave-one-prompt-out jackknife in each
    task, whose variances add up, with t at Satterthwaite's degrees of freedom; the tasks are taken as they are, not as
    drawn from others.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for lineage, ends in lines:
        figures = Registry.merged(end.curves.figures for end in ends)
        for figure in figures.diversity(dict.fromkeys(name for task in tasks for name in task.figures)):
            kept = {task.name: found for task in tasks if (found := _kept(ends, task, figure)) is not None}
            rows += ({"lineage": lineage, "metric": figure, **row} for row in _rows(ends, kept))
    return pd.DataFrame(rows, columns=COLUMNS)


def _chained(chain: Sequence[Member]) -> list[End]:
    """Each run's last snapshot, after the first one's first."""
    steps = [sorted(member.run.provenance) for member in chain]
    base = End("base", chain[0].name, chain[0].curves, steps[0][0])
    ends = [End(m.group, m.name, m.curves, own[-1]) for m, own in zip(chain, steps, strict=True)]
    return [base, *(end for end in ends if (end.curves, end.step) != (base.curves, base.step))]


def _lines(member: Member) -> Lineages:
    """Of a run that names lineages beside stages, each from the start they share, which names none; else the run."""
    last: dict[str | None, dict[str, int]] = {}
    for step, facts in sorted(member.run.provenance.items()):
        if facts.get("stage"):
            last.setdefault(facts.get("lineage"), {})[str(facts["stage"])] = step
    start = last.pop(None, {})
    if not last:
        return [(member.name, _named(member))]
    return [
        (f"{member.name} {lineage}", [End(n, member.name, member.curves, at) for n, at in (start | stages).items()])
        for lineage, stages in last.items()
        if start  # without it there is nothing to be a percentage of
    ]


def _named(member: Member) -> list[End]:
    """The last snapshot of each stage that a run names, after its base; nothing where it names none."""
    run, stage = member.run, member.curves.positions["stage"].dropna()
    if stage.empty:
        return []
    elsewhere = run.manifest.get("options", {}).get("reference")
    base, step = member.curves, int(run.manifest.get("reference_step", min(run.provenance)))
    if elsewhere and elsewhere not in ("first", "ref_model", "base"):
        try:
            base = Curves(read_run(elsewhere))
        except (FileNotFoundError, ValueError):
            return []
        step = int(base.run.manifest.get("reference_step", min(base.run.provenance)))
    last = {str(name): int(at) for at, name in stage.items()}  # by step, so that the last one stays
    ends = [
        End(name, member.name, member.curves, at) for name, at in last.items() if base is not member.curves or at > step
    ]
    return [End("base", member.name, base, step), *ends]


def _kept(ends: Sequence[End], task: Task, figure: str) -> tuple[Array, Array] | None:
    """Percent of the base after each stage [E], and with each prompt left out [E, N]; None where some end lacks it."""
    tables = [end.curves.tables.get((task.name, figure)) for end in ends]
    values = [
        table.at([end.step], task.prompts)[0]
        for end, table in zip(ends, tables, strict=True)
        if table is not None and end.step in table.steps and set(task.prompts) <= set(table.prompts)
    ]
    if len(values) < len(ends):
        return None
    value_EP = np.stack(values)
    value_EN = value_EP[:, ~np.isnan(value_EP).any(0)]
    if value_EN.shape[1] < 2:
        return None
    whole_E, rest_EN = left_out(value_EN, ends[0].curves.figures[figure].aggregate)
    with np.errstate(invalid="ignore", divide="ignore"):  # of nothing there is no percentage
        return 100 * whole_E / whole_E[0], 100 * rest_EN / rest_EN[0]


def _rows(ends: Sequence[End], kept: dict[str, tuple[Array, Array]]) -> Iterator[dict[str, Any]]:
    groups = {name: [name] for name in kept} | ({MEAN: list(kept)} if kept else {})
    for e, end in enumerate(ends):
        for task, names in groups.items():
            now = [(whole[e], rest[e]) for whole, rest in map(kept.__getitem__, names)]
            before = [(whole[max(e - 1, 0)], rest[max(e - 1, 0)]) for whole, rest in map(kept.__getitem__, names)]
            change = [(a - b, c - d) for (a, c), (b, d) in zip(now, before, strict=True)]
            yield {
                "stage": end.stage,
                "run": end.run,
                "step": end.step,
                "task": task,
                **dict(zip(("change_percent", "change_low", "change_high"), _mean(change), strict=True)),
                **dict(zip(("kept_percent", "kept_low", "kept_high"), _mean(now), strict=True)),
                "n": sum(len(rest) for _, rest in now),
                "tasks": len(names),
            }


def _mean(parts: Sequence[tuple[float, Array]]) -> tuple[float, float, float]:
    """The mean over tasks with its interval, from each task's value and leave-one-out values."""
    value = float(np.mean([whole for whole, _ in parts]))
    count_T = np.array([len(rest) for _, rest in parts])
    squares_T = np.array([np.square(rest - rest.mean()).sum() for _, rest in parts])
    variance_T = (count_T - 1) / count_T * squares_T / len(parts) ** 2
    total = float(variance_T.sum())
    if count_T.sum() < FEWEST:
        return value, float("nan"), float("nan")
    if not total > 0:  # no spread, as in the base itself; or undefined
        return value, value + 0 * total, value + 0 * total
    df = total**2 / float((variance_T**2 / (count_T - 1)).sum())
    reach = float(stdtrit(df, 0.975)) * total**0.5
    return value, value - reach, value + reach
