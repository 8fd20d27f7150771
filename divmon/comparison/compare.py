"""divmon.compare: runs side by side as data frames, on the same prompts, now against now.

comparison = divmon.compare(["runs/narrow", "runs/broad"])
comparison = divmon.compare({"narrow": ["runs/n1", "runs/n2"], "broad": ["runs/b1", "runs/b2"]}, by="tokens")
print(comparison)                                                        # what `divmon compare` prints
comparison.differences.query("metric == 'sbert' and by == 'accuracy'")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from divmon.comparison.alignment import Task, align
from divmon.comparison.compositions import COLUMNS, compositions
from divmon.comparison.differences import differences, levels
from divmon.comparison.frontier import frontier
from divmon.comparison.members import Member, Runs, members
from divmon.comparison.settings import settings
from divmon.comparison.stages import lineages, stages
from divmon.comparison.summary import summary
from divmon.curves import AXES
from divmon.plain import plain

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Comparison:
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
    runs: pd.DataFrame
    """A run: group, folder, model, first and last step, snapshots, segments (one more for each resume)."""
    summary: pd.DataFrame
    """A group, task and metric: at its first and last step that may be compared, and the percent kept."""
    parting: pd.DataFrame
    """A pair of groups, task, metric and axis: `p` of the whole curve, `parted_at` (NaN where they do not part), how
    many of its `looks` are `apart`, and by which `test`."""
    differences: pd.DataFrame
    """A pair of groups, task, metric, axis (`by`: the one asked for, and accuracy) and place on it (`at`): second less
    first on the same prompts. [low, high] is pointwise; `p` is family-wise over the curve, `apart` where it is at most
    0.05. `step_first` and `step_second`: where the groups are there. `passes` above 1: some run meets that accuracy
    more than once, the first time is taken, and it is not tested; nor is a look with `trouble`: not comparable."""
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
    """Two runs, or two stages, and a task, pairwise metric and part of their difference: second less first, each now.
    Only of runs that were scored again, since pair distances are not stored."""
    composition: pd.DataFrame
    """A run and source of its training data: exact shares of rows and tokens, and the source's own diversity."""

    @property
    def seeds(self) -> bool:
        """Whether every difference covers training seeds: both of its groups had several runs that may be compared."""
        return bool(len(self.differences)) and bool(self.differences["seeds"].all())

    @property
    def covers(self) -> str:
        """What the intervals cover, in words that belong beside every difference."""
        each = "Intervals (95 %, each look by itself) cover prompts and sampling"
        if self.seeds:
            return f"{each}, and training seeds."
        some = " where a group has one run" if len(self.differences) and self.differences["seeds"].any() else ""
        return (
            f"{each}, not training seeds{some}: with one run a group a difference is one between these runs on these"
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

    def __str__(self) -> str:
        from divmon.comparison.table import text

        return text(self)


def compare(
    runs: Runs,
    by: str = "step",
    metrics: str | Sequence[str] | None = None,
    *,
    tasks: Sequence[str] | None = None,
    chain: bool = False,
    rescore: bool | str = False,
) -> Comparison:
    """Compares runs on the prompts they share.

    Args:
        runs: run directories, each a group of its own; or name -> one or several, where several are seeds of one
            recipe.
        by: the axis that runs are matched on besides accuracy: "step", "tokens", "examples" or "accuracy".
        metrics: names, "sbert,ead"; all with values by prompt where None.
        tasks: names; all where None.
        chain: the runs are the stages of one lineage, in their order, for the stage table.
        rescore: score the stored samples of all runs again, alike: with the encoder of the first run, or with the one
            named; by the fewest samples that all have; judged by the first run's verifiers where theirs differ.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: an argument is wrong, or nothing can be compared; the message has the reasons and what to do.
    """
    if by not in AXES:
        raise ValueError(f"by: expected one of {', '.join(AXES)}, got {by!r}")
    read = members(runs)
    groups = {name: [m for m in read if m.group == name] for name in dict.fromkeys(m.group for m in read)}
    if chain and len(groups) < len(read):
        raise ValueError("chain: expected one run for each stage of the lineage, got groups of several")
    if rescore:  # loads torch and an encoder, which nothing else here needs
        from divmon.comparison.rescoring import rescored

        read = rescored(read, rescore if isinstance(rescore, str) else None)
        groups = {name: [m for m in read if m.group == name] for name in groups}
    names = metrics.split(",") if isinstance(metrics, str) else metrics
    aligned, refused, notes = align(read, names and [name.strip() for name in names], tasks)
    if max((len({m.group for m in task.members}) for task in aligned), default=0) < min(len(groups), 2):
        raise ValueError("nothing can be compared:\n" + "\n".join(f"  {refusal}" for refusal in refused))
    rows, verdicts = differences(aligned, list(groups), by)
    lines = lineages([m for m in read if any(m in task.members for task in aligned)], chain)
    parts: Iterable[dict[str, Any]] = []
    if rescore:
        from divmon.comparison.parts import between

        parts = between(aligned, {} if chain else groups, lines)
    curves = _of_each(aligned, lambda m, prompts: m.curves.frame(prompts=prompts))
    return Comparison(
        by=by,
        chain=chain,
        groups=groups,
        tasks=aligned,
        notes=[*notes, *_notes(read, aligned)],
        refused=_frame(map(asdict, refused), "run", "task", "metrics", "reason", "remedy"),
        runs=_frame(member.row() for member in read),
        summary=_frame(summary(aligned), "task", "metric", "group"),
        parting=_frame(verdicts, "task", "metric", "by", "first", "second", "p", "parted_at"),
        differences=_frame(rows, "task", "metric", "by", "first", "second", "at", "difference"),
        levels=_frame(levels(aligned), "group", "task", "metric", "step"),
        curves=curves,
        frontier=frontier(curves),
        stages=stages(aligned, lines),
        decomposition=_of_each(aligned, _parts),
        between=_frame(parts, "task", "metric", "first", "second", "part", "value"),
        composition=_frame((row for member in read for row in compositions(member)), *COLUMNS),
    )


_NOTED = {
    "rendered_prompt": "see their prompts rendered differently (chat template, system prompt or reasoning)",
    "divmon": "were measured by different versions of divmon",
}
"""What of a manifest does not bar a comparison but is worth knowing where it differs."""


def _frame(rows: Iterable[dict[str, Any]], *columns: str) -> pd.DataFrame:
    """The rows as a frame; `columns` are there even where no row is."""
    import pandas as pd

    found = list(rows)
    return pd.DataFrame(found) if found else pd.DataFrame(columns=list(columns))


def _of_each(tasks: Sequence[Task], part: Callable[[Member, dict[str, list[str]]], pd.DataFrame]) -> pd.DataFrame:
    """A frame of every run, one below the other, with the run's name and group in front.

    Args:
        part: of a run and the prompts of the tasks that it is compared in.
    """
    import pandas as pd

    frames = []
    for member in dict.fromkeys(m for task in tasks for m in task.members):
        frame = part(member, {task.name: task.prompts for task in tasks if member in task.members})
        frame.insert(0, "group", member.group)
        frame.insert(0, "run", member.name)
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def _parts(member: Member, prompts: dict[str, list[str]]) -> pd.DataFrame:
    frame = member.run.decomposition
    frame = frame[frame["task"].isin(list(prompts))].copy()
    frame.insert(0, "stage", frame["step"].map(member.curves.positions["stage"]))
    return frame


def _notes(read: Sequence[Member], tasks: Sequence[Task]) -> Iterator[str]:
    """What differs between the runs without barring a comparison, and what troubles a task."""
    first = read[0]
    for member in read:
        for name, what in _NOTED.items():
            if first.run.manifest.get(name) != member.run.manifest.get(name):
                yield f"{first.name} and {member.name} {what}; they are compared all the same"
        steps = [str(entry["step"]) for entry in member.run.manifest.get("resumed", ())]
        if steps and member.curves.positions["stage"].isna().all():
            yield f"{member.name} was resumed, from step {', '.join(steps)}"
    for task in tasks:
        rooms = {m.name: settings(m.run, m.last_step(task.name), task.name).reasoning_tokens for m in task.members}
        if len(set(rooms.values())) > 1:
            each = ", ".join(f"{name} {room:,}" for name, room in rooms.items())
            yield f"{task.name}: tokens to reason with, which are not scored, differ: {each}"
        for member in task.members:
            for (step, name), why in member.curves.troubles.items():
                if name == task.name:
                    yield f"{task.name}: {member.name} at step {step} is NOT COMPARABLE: {why}"
