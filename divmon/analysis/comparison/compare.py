"""divmon.compare: runs side by side as data frames, on the same prompts.

comparison = divmon.compare(["runs/narrow", "runs/broad"])
comparison = divmon.compare({"narrow": ["runs/n1", "runs/n2"], "broad": ["runs/b1", "runs/b2"]}, by="tokens")
print(comparison)                                                        # what `divmon compare` prints
comparison.differences.query("metric == 'sbert' and by == 'accuracy'")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from divmon.analysis.comparability import settings
from divmon.analysis.comparison.alignment import Task, align
from divmon.analysis.comparison.compositions import COLUMNS, compositions
from divmon.analysis.comparison.differences import differences, levels
from divmon.analysis.comparison.findings import Findings
from divmon.analysis.comparison.frontier import frontier
from divmon.analysis.comparison.homogeneity import homogeneity
from divmon.analysis.comparison.members import Member, Runs, members
from divmon.analysis.comparison.stages import lineages, stages
from divmon.analysis.comparison.summary import summary
from divmon.analysis.comparison.table import text
from divmon.analysis.curves import AXES
from divmon.scoring.figure_registry import Registry
from divmon.storage.problems import Problem

if TYPE_CHECKING:
    import pandas as pd


class Comparison(Findings):
    """Runs side by side: `Findings`, which print as `divmon compare` prints them."""

    def __str__(self) -> str:
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
        runs: run directories, each a group of its own; or name -> one or several, seeds of one recipe.
        by: the axis that runs are matched on besides accuracy: "step", "tokens", "examples" or "accuracy".
        metrics: names, "sbert,ead"; all with values by prompt where None.
        tasks: names; all where None.
        chain: the runs are the stages of one lineage, in their order, for the stage table.
        rescore: score the stored samples of all runs again, alike: with the first run's encoder or the one named, its
            verifiers, and the fewest samples that all have.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: an argument is wrong, or nothing can be compared; the message has the reasons and what to do.
    """
    if by not in AXES:
        raise ValueError(f"by: expected one of {', '.join(AXES)}, got {by!r}")
    read = _read(runs, chain, rescore)
    groups = {name: [m for m in read if m.group == name] for name in dict.fromkeys(m.group for m in read)}
    names = metrics.split(",") if isinstance(metrics, str) else metrics
    aligned, refused, notes = align(read, names and [name.strip() for name in names], tasks)
    if max((len({m.group for m in task.members}) for task in aligned), default=0) < min(len(groups), 2):
        raise ValueError("nothing can be compared:\n" + "\n".join(f"  {refusal}" for refusal in refused))
    notes += _notes(read, aligned)
    left_out = _frame(map(asdict, refused), "run", "task", "metrics", "reason", "remedy")
    frames = _frames(read, aligned, groups, by, chain, bool(rescore))
    return Comparison(by, chain, groups, aligned, notes, left_out, **frames)


def _read(runs: Runs, chain: bool, rescore: bool | str) -> list[Member]:
    """The runs, scored again where that is asked for. Raises ValueError: a lineage of groups of several."""
    read = members(runs)
    if chain and len({m.group for m in read}) < len(read):
        raise ValueError("chain: expected one run for each stage of the lineage, got groups of several")
    if not rescore:
        return read
    from divmon.analysis.comparison.rescoring import rescored  # torch and an encoder, which nothing else here needs

    return rescored(read, rescore if isinstance(rescore, str) else None)


def _frames(
    read: Sequence[Member],
    aligned: Sequence[Task],
    groups: Mapping[str, Sequence[Member]],
    by: str,
    chain: bool,
    rescored: bool,
) -> dict[str, pd.DataFrame]:
    rows, tests = differences(aligned, list(groups), by)
    lines = lineages([m for m in read if any(m in task.members for task in aligned)], chain)
    rivals = {} if chain else groups
    parts: Iterable[dict[str, Any]] = []
    if rescored:
        from divmon.analysis.comparison.decomposition import between

        parts = between(aligned, rivals, lines)
    curves = _of_each(aligned, lambda m, prompts: m.curves.frame(prompts=prompts))
    return {
        "problems": _frame(_problems(read), "run", *Problem.__dataclass_fields__),
        "runs": _frame(member.row() for member in read),
        "summary": _frame(summary(aligned), "task", "metric", "group"),
        "parting": _frame(tests, "task", "metric", "by", "first", "second", "p", "parted_at"),
        "differences": _frame(rows, "task", "metric", "by", "first", "second", "at", "difference"),
        "levels": _frame(levels(aligned), "group", "task", "metric", "step"),
        "curves": curves,
        "frontier": frontier(curves, Registry.merged(m.curves.figures for m in read)),
        "stages": stages(aligned, lines),
        "decomposition": _of_each(aligned, _parts),
        "between": _frame(parts, "task", "metric", "first", "second", "part", "value"),
        "homogeneity": _frame(
            homogeneity(aligned, rivals),
            *("task", "first", "second", "step", "overlap", "low", "high", "n", "by_answer"),
        ),
        "composition": _frame((row for member in read for row in compositions(member)), *COLUMNS),
    }


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
    """A frame of every run, one below the other, with the run's name and group in front."""
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


def _problems(read: Sequence[Member]) -> Iterator[dict[str, Any]]:
    for member in read:
        for problem in member.run.problems.found:
            yield {"run": member.name, **vars(problem)}


def _notes(read: Sequence[Member], tasks: Sequence[Task]) -> Iterator[str]:
    """What differs between the runs without barring a comparison, and what troubles a task."""
    first = read[0]
    for member in read:
        for name, what in _NOTED.items():
            if first.run.manifest.get(name) != member.run.manifest.get(name):
                yield f"{first.name} and {member.name} {what}; they are compared all the same"
        steps = [str(entry["step"]) for entry in member.run.manifest.get("resumed", ())]
        sweep = member.run.manifest.get("sweep")
        if sweep and not all(m.run.manifest.get("sweep") for m in read):
            yield f"{member.name} is a sweep: its steps are 1000 alpha and no training steps; compare it by accuracy"
        if steps and not sweep and member.curves.positions["stage"].isna().all():
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
