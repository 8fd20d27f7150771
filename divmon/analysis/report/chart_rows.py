"""The rows that each chart and its table draw, of all tasks and metrics: plain numbers, in the digits one reads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np

from divmon.analysis.comparison.members import Member
from divmon.analysis.comparison.stages import MEAN
from divmon.loggers.decomposition_chart import evenly
from divmon.scoring.figure_registry import Registry
from divmon.types import TERMS

if TYPE_CHECKING:
    import pandas as pd

    from divmon.analysis.comparison.compare import Comparison
    from divmon.scoring.alerts import Alert

Row = dict[str, Any]

AXES = {"step": "training step", "tokens": "tokens trained on", "examples": "examples trained on"}

STEPS = 200
"""Drawn of a run in a chart, evenly spaced: a thousand make the page slow and are not told apart."""
BARS = 60
"""Drawn of its parts."""

DIFFERENT, CHANCE = "different (p ≤ 0.05 for the whole curve)", "no more than chance"
"""What a difference between runs is, in a chart's legend and tooltips."""
PART = ("part", "value", "low", "high", "n", "label")


def rows(comparison: Comparison, alerts: Mapping[str, Sequence[Alert]]) -> dict[str, list[Row]]:
    """What each chart draws, of all tasks and metrics, by the chart's name; of a run with many snapshots some."""
    members = [member for group in comparison.groups.values() for member in group]
    parts = len(comparison.decomposition)
    return {
        "curve": _labelled(thinned(_curves(comparison, alerts), STEPS)),
        "change": _labelled(thinned([row for member in members for row in _changes(comparison, member)], STEPS)),
        "difference": _differences(comparison),
        "parts": thinned(_records(comparison.decomposition, "run", "task", "metric", "step", *PART), BARS)
        if parts
        else [],
        "frontier": thinned(_frontier(comparison), STEPS),
        "stages": _stages(comparison),
    }


def thinned(rows: Sequence[Row], most: int) -> list[Row]:
    """Those of so many steps of each run, evenly spaced, of every alert, and of the best of all."""
    steps: dict[str, set[int]] = {}
    for row in rows:
        steps.setdefault(row["run"], set()).add(row["step"])
    kept = {run: set(evenly(sorted(own), most)) for run, own in steps.items()}
    return [row for row in rows if row["step"] in kept[row["run"]] or row.get("alert") or row.get("best")]


def _labelled(rows: Sequence[Row]) -> list[Row]:
    """With the value beside the only point of a run, which no line or band leads to."""
    alone = Counter((row["run"], row["task"], row["metric"]) for row in rows)
    return [
        {**row, "said": _in_figures(row)} if alone[row["run"], row["task"], row["metric"]] == 1 else row for row in rows
    ]


def _in_figures(row: Row) -> str:
    if row["value"] is None:
        return ""
    if row["low"] is None or row["high"] is None:
        return f"{row['value']:.3f}, no interval of {row['n']} prompt{'' if row['n'] == 1 else 's'}"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def domains(parts: Sequence[Row]) -> dict[str, dict[str, list[float]]]:
    """Task -> metric -> the lowest and highest that the stacked parts of any run reach: one scale for all runs."""
    sums: dict[tuple[Any, ...], float] = {}
    for row in parts:
        if row["part"] in TERMS and row["value"] is not None:
            key = row["task"], row["metric"], row["run"], row["step"], row["value"] > 0
            sums[key] = sums.get(key, 0.0) + row["value"]
    found: dict[str, dict[str, list[float]]] = {}
    for (task, metric, *_), total in sums.items():
        ends = found.setdefault(task, {}).setdefault(metric, [0.0, 0.0])
        ends[:] = [min(ends[0], 1.05 * total), max(ends[1], 1.05 * total)]
    return found


def _curves(c: Comparison, alerts: Mapping[str, Sequence[Alert]]) -> list[Row]:
    """A group's line with its band: its run's, or the mean of its runs, which then have lines of their own, thin."""
    several = {name for name, runs in c.groups.items() if len(runs) > 1}
    own = _shown(c.curves, c.figures)
    of_runs = own.rename(columns={"mean": "value"})
    found = _records(of_runs, "run", "group", "task", "metric", *AXES, "value", "low", "high", "n", "trouble")
    for row in found:
        if row["group"] in several:
            row |= {"low": None, "high": None, "thin": True}
    means = c.levels[c.levels["group"].isin(several) & c.levels["metric"].isin(set(own["metric"]))]
    for row in _records(means, "group", "task", "metric", *AXES, "value", "low", "high", "n", "trouble"):
        found.append({**row, "run": f"{row['group']}, mean of {len(c.groups[row['group']])} runs"})
    fired = _marks(c, alerts)
    for row in found:
        row["alert"] = fired.get((row["run"], row["task"], row["metric"], row["step"]))
    return found


RISEN = {"templating": "traced", "repetition": "repetition", "truncation": "no_answer"}
"""The figure that an alert of a kind is about; narrowing is about the pairwise metric that is tested."""


def _marks(c: Comparison, alerts: Mapping[str, Sequence[Alert]]) -> dict[tuple[str, str, str, int], str]:
    """(run, task, metric, step) -> the kind of alert that would have fired there: on its own metric only."""
    found = {}
    for member in (member for group in c.groups.values() for member in group):
        for a in alerts.get(member.name, ()):
            tested = c.figures.pairwise(name for task, name in member.curves.tables if task == a.task)[:1]
            of_length = ["empty", "clipped_ratio"] if a.kind == "length" else tested
            if a.kind == "saturation":
                of_length = [f"{name}_correct" for name in tested]
            for metric in [RISEN[a.kind]] if a.kind in RISEN else of_length:
                if a.new:
                    found[member.name, a.task, metric, a.step] = a.kind
    return found


def _changes(c: Comparison, member: Member) -> list[Row]:
    """The paired change since the run's own reference, which itself has none: 0."""
    frame = _shown(member.run.changes, c.figures)
    frame = frame[frame["task"].isin([task.name for task in c.tasks])]
    frame = frame.rename(columns={"change": "value"})
    measured = _records(frame, "task", "metric", "step", "reference", "now", "value", "low", "high", "n")
    start = min(member.run.provenance)
    nothing = {"step": start, "value": 0.0, "low": 0.0, "high": 0.0}
    first = {(row["task"], row["metric"]): {**row, "now": row["reference"], **nothing} for row in reversed(measured)}
    if not any(row["step"] == start for row in measured):
        measured = [*first.values(), *measured]
    places = member.curves.positions[["tokens", "examples"]].to_dict("index")
    named = {"run": member.name, "group": member.group, "thin": len(c.groups[member.group]) > 1}
    # Between evaluations likelihoods alone are measured; how many tokens had been trained on is not kept there.
    nowhere = {"tokens": math.nan, "examples": math.nan}
    return [row | named | {a: _clean(at) for a, at in places.get(row["step"], nowhere).items()} for row in measured]


def _differences(c: Comparison) -> list[Row]:
    if not len(c.differences):
        return []
    columns = ("task", "metric", "by", "first", "second", "at", "value_first", "value_second")
    names = (*columns, "difference", "low", "high", "p", "n", "passes", "apart", "trouble")
    found = _records(_shown(c.differences, c.figures), *names)
    for row in found:
        row["pair"] = f"{row['second']} - {row['first']}"
        row["told"] = DIFFERENT if row["apart"] else CHANCE
    return found


def _frontier(c: Comparison) -> list[Row]:
    names = ("run", "group", "task", "metric", "step", "accuracy", "accuracy_low", "accuracy_high")
    found = _records(c.frontier, *names, "value", "low", "high", "n", "best") if len(c.frontier) else []
    last = {(row["run"], row["task"], row["metric"]): row["step"] for row in found}
    first = {(row["run"], row["task"], row["metric"]): row["step"] for row in reversed(found)}
    for row in found:
        key = row["run"], row["task"], row["metric"]
        row["label"] = f"step {row['step']}" if row["step"] in (first[key], last[key]) else ""
    return found


def _stages(c: Comparison) -> list[Row]:
    """What each stage leaves, the mean over tasks; the base is the whole."""
    means = c.stages[c.stages["task"] == MEAN] if len(c.stages) else c.stages
    found = _records(means, "lineage", "stage", "step", "metric", "task", "kept_percent", "kept_low", "kept_high")
    return [row | {"group": row["lineage"]} for row in found]


def ordered(stages: Sequence[Row]) -> list[str]:
    """Stages of all lineages such that each comes after those that precede it in some lineage, where that can be."""
    after: dict[str, set[str]] = {}
    for lineage in dict.fromkeys(row["lineage"] for row in stages):
        line = [row["stage"] for row in stages if row["lineage"] == lineage]
        for i, name in enumerate(line):
            after.setdefault(name, set()).update(line[:i])
    try:
        return list(TopologicalSorter(after).static_order())
    except CycleError:
        return list(after)


def _shown(frame: pd.DataFrame, figures: Registry) -> pd.DataFrame:
    """Of pass@k and the like the powers of two."""
    return frame[np.array([figures.shown(name) for name in frame["metric"]], dtype=bool)]


def _records(frame: pd.DataFrame, *names: str) -> list[Row]:
    return [{name: _clean(value) for name, value in row.items()} for row in frame[list(names)].to_dict("records")]


def _clean(value: Any) -> Any:
    """JSON's own, and no more digits than a chart or a table shows."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if value == value and abs(value) != float("inf") else None
    return value.item() if hasattr(value, "item") else value
