"""What a comparison of runs found, as data frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from divmon.analysis.comparison.alignment import Task
from divmon.analysis.comparison.members import Member
from divmon.scoring.figure_registry import Registry
from divmon.types import plain

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Findings:
    """Runs side by side. A frame's docstring says what a row is; NaN is undefined, intervals are 95 percent."""

    by: str
    """The axis: step, tokens, examples or accuracy."""
    chain: bool
    """The runs are the stages of one lineage, and no rivals."""
    groups: dict[str, list[Member]]
    """By name, in the order given; the others are set against the first where a table has room for one only."""
    tasks: list[Task]
    notes: list[str]
    """What to know before the figures."""
    refused: pd.DataFrame
    """A run left out of a task, or of some of its metrics: the reason, and what to do."""
    problems: pd.DataFrame
    """What went wrong in a run: its kind, what is missing, the reason, the steps and how often; empty where all is
    well."""
    runs: pd.DataFrame
    """A run: group, folder, model, first and last step, snapshots, segments (one more for each resume)."""
    summary: pd.DataFrame
    """A group, task and metric: at its first and last step that may be compared, and the percent kept."""
    parting: pd.DataFrame
    """A pair of groups, task, metric and axis: `p` of the whole curve, `parted_at` (NaN where they do not diverge), how
    many of its `looks` are `apart`, and by which `test`."""
    differences: pd.DataFrame
    """A pair of groups, task, metric, axis (`by`: the one asked for, and accuracy) and place on it (`at`): second minus
    first on the same prompts. [low, high] is pointwise; `p` is family-wise over the curve, `apart` where it is at most
    0.05. `step_first` and `step_second`: where the groups are there. `passes` above 1: some run meets that accuracy
    more than once, the first time is taken, and it is not tested; nor is one with `trouble`: not comparable."""
    levels: pd.DataFrame
    """A group, step, task and metric: the mean of its runs at the steps they share. `seeds`: the interval covers
    training seeds."""
    curves: pd.DataFrame
    """A run, step, task and metric, as `Curves.frame` gives it: its place on every axis, mean, interval, n, trouble."""
    frontier: pd.DataFrame
    """A run, step, task and diversity metric: accuracy and diversity with intervals; `best` where no other has as much
    of both."""
    stages: pd.DataFrame
    """A lineage, stage, diversity metric and task ("mean" over tasks): percent of the base model's diversity that the
    stage took, and that is kept after it, as in the paper's table 1."""
    decomposition: pd.DataFrame
    """A run, step, task, pairwise metric and part of the change since the run's reference."""
    between: pd.DataFrame
    """Two runs, or two stages, and a task, pairwise metric and part of their difference: second minus first.
    Only of runs that were scored again, since pair distances are not stored."""
    homogeneity: pd.DataFrame
    """A task and two runs at one step: `overlap`, how alike their answers are between the runs over within a run (1:
    the runs say the same; 0: nothing in common), its interval, and how many of `n` prompts go `by_answer`, by final
    answers, the others by words."""
    composition: pd.DataFrame
    """A run and source of its training data: exact shares of rows and tokens, and the source's own diversity."""

    @cached_property
    def figures(self) -> Registry:
        """What the runs' figures are."""
        return Registry.merged(member.curves.figures for runs in self.groups.values() for member in runs)

    @property
    def seeds(self) -> bool:
        """Whether every difference covers training seeds: both of its groups had several runs that may be compared."""
        return bool(len(self.differences)) and bool(self.differences["seeds"].all())

    @property
    def covers(self) -> str:
        """What the intervals cover, in words that belong beside every difference."""
        each = "Intervals (95 %, each evaluation by itself) cover prompts and sampling"
        if self.seeds:
            return f"{each}, and training seeds."
        some = " where a group has one run" if len(self.differences) and self.differences["seeds"].any() else ""
        return (
            f"{each}, not training seeds{some}: with one run per group a difference is one between these runs on these"
            " prompts, and other seeds may not show it."
        )

    def frames(self) -> dict[str, pd.DataFrame]:
        """Every frame by name."""
        import pandas as pd

        return {name: frame for name, frame in vars(self).items() if isinstance(frame, pd.DataFrame)}

    def as_dict(self) -> dict[str, Any]:
        """Plain data, ready for JSON: a frame is a list of rows, undefined is None."""
        return {
            "by": self.by,
            "groups": {name: [member.name for member in runs] for name, runs in self.groups.items()},
            "covers": self.covers,
            "notes": self.notes,
            **{name: plain(frame.to_dict("records")) for name, frame in self.frames().items()},
        }
