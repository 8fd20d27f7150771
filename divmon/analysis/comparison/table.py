"""A comparison for the terminal: what failed, who kept more diversity, where they diverge, and at equal accuracy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from divmon.analysis.comparison.cells import accuracies, bar, interval, p_value, place, signed, wrapped
from divmon.analysis.comparison.homogeneity import sentences
from divmon.analysis.comparison.stages import MEAN
from divmon.loggers.console import number
from divmon.loggers.terminal import Block, Table, red
from divmon.storage.problems import count
from divmon.types import TERMS

if TYPE_CHECKING:
    import pandas as pd

    from divmon.analysis.comparison.findings import Findings

MOST_LOOKS, PART_COLUMNS, SOURCES = 4, 3, 6
"""Shown at most: tables by evaluation, columns of decompositions side by side, and sources of a run's data."""


def text(comparison: Findings, figures: Sequence[str] | None = None) -> str:
    """What `divmon compare` prints, without a terminal's width; see `blocks`."""
    return "\n\n".join(map(str, blocks(comparison, figures)))


def blocks(comparison: Findings, figures: Sequence[str] | None = None) -> list[Block]:
    """What `divmon compare` prints: texts and tables, an empty line between them.

    Args:
        figures: shown evaluation by evaluation; the first diversity metric that there is where None.
    """
    c = comparison
    there = set(c.curves["metric"])
    figures = list(figures or c.figures.diversity(there)[:1])
    rivals = [] if c.chain else list(itertools.combinations(c.groups, 2))
    pairs = [(t.name, f, *pair) for t in c.tasks for f in figures for pair in rivals]
    looks = [block for pair in pairs if (block := _looks(c, *pair))]
    blocks: list[Block] = [_problems(c), _left_out(c), *_glance(c, figures)]
    blocks += itertools.chain(*looks) if len(looks) <= MOST_LOOKS else [_too_many(len(looks))]
    blocks += itertools.chain(*(_made_of(c, task.name, figure) for task in c.tasks for figure in figures))
    blocks += [
        "\n".join(map(wrapped, sentences(c.homogeneity))),
        *_stages(c, figures),
        _composition(c),
        wrapped(c.covers) if len(c.groups) > 1 else "",
    ]
    return [block for block in blocks if block]


def _problems(c: Findings) -> str:
    lines = []
    for member in itertools.chain(*c.groups.values()):
        said = member.run.problems.lines()
        lines += [f"{member.name}: {said[0]}", *(f"  {reason}" for reason in said[1:])] if said else []
    return "\n".join(red(line) for text in lines for line in wrapped(text).splitlines())


def _left_out(c: Findings) -> str:
    """What is not compared and why, and what to know before the figures."""
    lines = []
    for row in c.refused.itertuples():
        what = row.task if row.metrics == "all" else f"{row.task}, {row.metrics}"
        lines.append(f"left out: {row.run}, {what}: {row.reason}. {row.remedy}")
    return "\n".join(map(wrapped, [*lines, *(f"note: {note}" for note in c.notes)]))


def _glance(c: Findings, figures: Sequence[str]) -> list[Block]:
    """A line a task and group: what it kept, its accuracy, and where and by how much it differs from the first."""
    first, *others = c.groups
    others = [] if c.chain else others
    head = ["task", "metric", "run", "steps", "start", "end", "end of start", "accuracy"]
    head += [f"diverges from {first}", "at equal accuracy"] if others else []
    rows, no_answer, alone, since = [], [], [], []
    for row in c.summary[c.summary["metric"].isin(list(figures))].to_dict("records"):
        cells = [row["task"], row["metric"], row["group"], f"{row['first_step']} to {row['last_step']}"]
        cells += [number(row["start"]), number(row["end"])]
        cells += [_kept(row)]
        if row["first_step"] == row["last_step"]:
            where = row["task"], row["metric"], row["first_step"]
            changed = [said for member in c.groups[row["group"]] if (said := member.since_earlier_run(*where))]
            since += changed
            alone += [] if changed else [f"{row['group']} (step {row['first_step']})"]
        shares = [accuracies(row[f"{name}_start"], row[f"{name}_end"]) for name in ("accuracy", "no_answer_wrong")]
        cells += shares[:1]
        if shares[1] not in ("-", shares[0]):
            no_answer.append(f"{row['task']}, {row['group']}: {shares[1]}")
        rows.append(cells + ([_parted(c, row), _at_equal_accuracy(c, row)] if row["group"] in others else []))
    lines: list[str] = []
    if no_answer:
        lines.append(
            wrapped(
                f"  Accuracy with completions without an answer counted as wrong: {'; '.join(dict.fromkeys(no_answer))}"
            )
        )
    lines += [wrapped(f"  {said}") for said in since]
    if alone:
        each = ", ".join(dict.fromkeys(alone))
        lines.append(wrapped(f"  Nothing can be said about change yet of one snapshot that can be compared: {each}"))
    return [Table(head, rows, (0, 1, 2, 8, 9), "", lines)] if rows else ["\n".join(lines)]


def _kept(row: dict[str, Any]) -> str:
    if math.isnan(row["kept_percent"]):
        return "-"
    return f"{row['kept_percent']:.0f} % {interval(row['low'], row['high'], '.0f')}"


def _parted(c: Findings, row: dict[str, Any]) -> str:
    first = next(iter(c.groups))
    found = _of(c.parting, task=row["task"], metric=row["metric"], by=c.by, first=first, second=row["group"])
    if found.empty or math.isnan(found.iloc[0]["p"]):
        return f"no {c.by} comparable"
    verdict = found.iloc[0]
    where = "no divergence" if math.isnan(verdict["parted_at"]) else place(c.by, verdict["parted_at"])
    return f"{where}, {p_value(verdict['p'])}"


def _at_equal_accuracy(c: Findings, row: dict[str, Any]) -> str:
    """At the highest level that both meet once."""
    first = next(iter(c.groups))
    found = _of(c.differences, task=row["task"], metric=row["metric"], by="accuracy", first=first, second=row["group"])
    found = _of(found, passes=1)
    if found.empty:
        return "-" if math.isnan(row["accuracy_end"]) else "no accuracy that both pass"
    last = found.iloc[-1]
    return f"{_difference(last)} at {place('accuracy', last['at'])}"


def _looks(c: Findings, task: str, figure: str, first: str, second: str) -> list[Block]:
    blocks: list[Block] = []
    for axis in dict.fromkeys((c.by, "accuracy")):
        pair = {"task": task, "metric": figure, "by": axis, "first": first, "second": second}
        rows, verdict = _of(c.differences, **pair), _of(c.parting, **pair)
        if rows.empty:
            continue
        most = rows[["value_first", "value_second"]].max().max()
        named = axis != "step"
        cells = []
        for row in rows.to_dict("records"):
            cells.append([place(axis, row["at"], short=True)])
            for side in ("first", "second"):
                cells[-1] += [f"{number(row[f'value_{side}'])} {bar(row[f'value_{side}'], most)}"]
                cells[-1] += [_between(c, row, side)] if named else []
            cells[-1] += [_difference(row), str(row["n"]), *_remark(row)]
        each = [[name, "step"] if named else [name] for name in (first, second)]
        head = [axis, *itertools.chain(*each), f"{second} - {first}", "n", "family-wise", ""]
        left = [i for i, name in enumerate(head) if i and name in (first, second, "")]
        title = f"{task}: {figure} {'at equal accuracy' if axis == 'accuracy' else f'by {axis}'}"
        blocks.append(Table(head, cells, left, title, [_sentence(axis, verdict.iloc[0])]))
    return blocks


def _between(c: Findings, row: dict[str, Any], side: str) -> str:
    """The measured steps around where a group is: "15", or "15-30" where it lies between the two."""
    measured = _of(c.levels, task=row["task"], metric=row["metric"], group=row[side])["step"]
    before, after = (
        f(s)
        for f, s in ((max, measured[measured <= row[f"step_{side}"]]), (min, measured[measured >= row[f"step_{side}"]]))
    )
    return str(before) if before == after else f"{before}-{after}"


def _remark(row: dict[str, Any]) -> list[str]:
    if row["trouble"]:
        return ["", "NOT COMPARABLE"]
    if row["passes"] > 1:
        return ["", f"met {row['passes']} times; not tested"]
    if row["low"] == row["high"] == 0:
        return ["", "the same"]
    return ["" if math.isnan(row["p"]) else p_value(row["p"]), "different" if row["apart"] else ""]


def _sentence(axis: str, verdict: pd.Series) -> str:
    """What the whole curve says. Of one run a group no more than that they differ on these prompts."""
    where = "beyond prompts and training seeds" if verdict["seeds"] else "on these prompts"
    how = f"{p_value(verdict['p'])} for the whole curve of {count(verdict['looks'], 'evaluation')}: {verdict['test']}"
    if math.isnan(verdict["p"]):
        return "  Nothing can be said: no evaluation is comparable."
    if math.isnan(verdict["parted_at"]):
        return wrapped(f"  No difference {where} that is more than chance ({how}).")
    since = f"from {place(axis, verdict['parted_at'])} on, at {verdict['apart']}"
    return wrapped(f"  They differ {where} {since} of {count(verdict['looks'], 'evaluation')} ({how}).")


def _made_of(c: Findings, task: str, figure: str) -> list[Block]:
    """Of what each run's change since its reference consists, at the end of each stage that it names or of the run; and
    where it was computed, that of the difference of two."""
    blocks: list[Block] = []
    own = _of(c.decomposition, task=task, metric=figure)
    if len(own):
        last = own.groupby(["run", own["stage"].fillna("")], sort=False)["step"].transform("max") == own["step"]
        columns = {
            f"{run}{f' {stage}' if isinstance(stage, str) else ''}, step {step}": parts
            for (run, stage, step), parts in own[last].groupby(["run", "stage", "step"], sort=False, dropna=False)
        }
        blocks += _parts(f"{task}: decomposition of the change of {figure} since each run's reference", columns)
    both = _of(c.between, task=task, metric=figure)
    if len(both):
        columns = {
            f"{second} - {first}": parts for (first, second), parts in both.groupby(["first", "second"], sort=False)
        }
        blocks += _parts(f"{task}: decomposition of the difference of {figure} between runs", columns)
    return blocks


def _parts(title: str, columns: dict[str, pd.DataFrame]) -> list[Block]:
    """The parts one below the other, the columns as many as a line holds."""
    tables: list[Block] = []
    for first in range(0, len(columns), PART_COLUMNS):
        shown = dict(list(columns.items())[first : first + PART_COLUMNS])
        rows: list[list[str]] = []
        for part, words in {"change": "the whole", **TERMS}.items():
            rows.append([f"{'= ' if len(rows) == 1 else '+ ' if rows else ''}{words}"])
            for parts in shown.values():
                row = parts[parts["part"] == part].iloc[0]
                label = f" {row['label']}" if isinstance(row["label"], str) else ""
                rows[-1].append(f"{signed(row['value'])} {interval(row['low'], row['high'], '+.3f')}{label}")
        tables.append(Table(["", *shown], rows, (0,), "" if first else f"{title} (minus: lost)"))
    return tables


def _stages(c: Findings, figures: Sequence[str]) -> list[Block]:
    """The paper's table 1: percent of the base, the mean over tasks."""
    rows = [
        [
            row["lineage"],
            row["stage"],
            f"{row['change_percent']:+.0f} {interval(row['change_low'], row['change_high'], '+.0f')}",
            f"{row['kept_percent']:.0f} {interval(row['kept_low'], row['kept_high'], '.0f')}",
            str(row["tasks"]),
            str(row["n"]),
        ]
        for figure in figures
        for _, line in _of(c.stages, metric=figure, task=MEAN).groupby("lineage", sort=False)
        for row in line.to_dict("records")[1:]  # the first is the base itself
    ]
    title = f"What each stage takes of the base model's {', '.join(figures)}, percent of the base (mean over tasks)"
    head = ["lineage", "stage", "change", "kept after it", "tasks", "prompts"]
    return [Table(head, rows, (0, 1), title)] if rows else []


def _composition(c: Findings) -> str:
    """What each run was trained on, the largest sources first."""
    lines = []
    for (run, step), data in c.composition.groupby(["run", "from_step"], sort=False):
        sources = []
        for row in data.sort_values("token_share", ascending=False).to_dict("records")[:SOURCES]:
            apart = "" if row["sbert"] is None or math.isnan(row["sbert"]) else f" (sbert {row['sbert']:.3f})"
            sources.append(f"{100 * row['token_share']:.0f} % {row['source']}{apart}")
        more = f" and {len(data) - SOURCES} more" if len(data) > SOURCES else ""
        since = f" from step {step}" if step else ""
        lines.append(f"  {run}{since}: {', '.join(sources)}{more}, of {data['tokens'].sum():,} {data['unit'].iloc[0]}")
        lines += [f"    {data['warning'].iloc[0]}"] if data["warning"].iloc[0] else []
    return "\n".join(["trained on", *map(wrapped, lines)]) if lines else ""


def _too_many(count: int) -> str:
    return f"{count} tables by evaluation are not shown: --task and --metric choose, --csv and --json have them all."


def _of(frame: pd.DataFrame, **values: Any) -> pd.DataFrame:
    for name, value in values.items():
        if name in frame:
            frame = frame[frame[name] == value]
    return frame


def _difference(row: Any) -> str:
    return f"{signed(row['difference'])} {interval(row['low'], row['high'], '+.3f')}".strip()
