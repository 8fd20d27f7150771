"""A comparison for the terminal: who kept more diversity, from where on they part, and at equal accuracy."""

from __future__ import annotations

import itertools
import math
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from divmon.analysis.comparison.stages import MEAN
from divmon.types import TERMS

if TYPE_CHECKING:
    import pandas as pd

    from divmon.analysis.comparison.findings import Findings

BAR, WIDTH = 10, 118
"""Characters of a full bar, and of a line of words."""
MOST_LOOKS, PART_COLUMNS, SOURCES = 4, 3, 6
"""Shown at most: tables look by look, columns of parts side by side, and sources of a run's data."""


def text(comparison: Findings, figures: Sequence[str] | None = None) -> str:
    """What `divmon compare` prints.

    Args:
        figures: shown look by look; the first diversity metric that there is where None.
    """
    c = comparison
    there = set(c.curves["metric"])
    figures = list(figures or c.figures.diversity(there)[:1])
    rivals = [] if c.chain else list(itertools.combinations(c.groups, 2))
    pairs = [(t.name, f, *pair) for t in c.tasks for f in figures for pair in rivals]
    looks = [block for pair in pairs if (block := _looks(c, *pair))]
    blocks = [_left_out(c), _glance(c, figures)]
    blocks += looks if len(looks) <= MOST_LOOKS else [_too_many(len(looks))]
    blocks += [_made_of(c, task.name, figure) for task in c.tasks for figure in figures]
    blocks += [_stages(c, figures), _composition(c), _wrapped(c.covers) if len(c.groups) > 1 else ""]
    return "\n\n".join(block for block in blocks if block)


def _left_out(c: Findings) -> str:
    """What is not compared and why, and what to know before the figures."""
    lines = []
    for row in c.refused.itertuples():
        what = row.task if row.metrics == "all" else f"{row.task}, {row.metrics}"
        lines.append(f"left out: {row.run}, {what}: {row.reason}. {row.remedy}")
    return "\n".join(map(_wrapped, [*lines, *(f"note: {note}" for note in c.notes)]))


def _glance(c: Findings, figures: Sequence[str]) -> str:
    """A line a task and group: what it kept, its accuracy, and where and by how much it differs from the first."""
    first, *others = c.groups
    others = [] if c.chain else others
    head = ["task", "metric", "run", "steps", "start", "end", "kept", "right answers"]
    head += [f"parted from {first}", "at equal accuracy"] if others else []
    rows, cut_off = [], []
    for row in c.summary[c.summary["metric"].isin(list(figures))].to_dict("records"):
        cells = [row["task"], row["metric"], row["group"], f"{row['first_step']} to {row['last_step']}"]
        cells += [_number(row["start"]), _number(row["end"])]
        cells += [f"{row['kept_percent']:.0f} % {_interval(row['low'], row['high'], '.0f')}"]
        accuracies = [_accuracies(row[f"{name}_start"], row[f"{name}_end"]) for name in ("accuracy", "cut_off_wrong")]
        cells += accuracies[:1]
        if accuracies[1] not in ("-", accuracies[0]):
            cut_off.append(f"{row['task']}, {row['group']}: {accuracies[1]}")
        rows.append(cells + ([_parted(c, row), _at_equal_accuracy(c, row)] if row["group"] in others else []))
    lines = [_table(head, rows, left=(0, 1, 2, 8, 9))] if rows else []
    if cut_off:
        lines.append(
            _wrapped(f"  Right answers, completions cut off counted as wrong: {'; '.join(dict.fromkeys(cut_off))}")
        )
    return "\n".join(lines)


def _parted(c: Findings, row: dict[str, Any]) -> str:
    first = next(iter(c.groups))
    found = _of(c.parting, task=row["task"], metric=row["metric"], by=c.by, first=first, second=row["group"])
    if found.empty or math.isnan(found.iloc[0]["p"]):
        return f"no {c.by} comparable"
    verdict = found.iloc[0]
    where = "not parted" if math.isnan(verdict["parted_at"]) else _place(c.by, verdict["parted_at"])
    return f"{where}, {_p(verdict['p'])}"


def _at_equal_accuracy(c: Findings, row: dict[str, Any]) -> str:
    """At the highest level that both meet once."""
    first = next(iter(c.groups))
    found = _of(c.differences, task=row["task"], metric=row["metric"], by="accuracy", first=first, second=row["group"])
    found = _of(found, passes=1)
    if found.empty:
        return "-" if math.isnan(row["accuracy_end"]) else "no accuracy that both pass"
    last = found.iloc[-1]
    return f"{_difference(last)} at {_place('accuracy', last['at'])}"


def _looks(c: Findings, task: str, figure: str, first: str, second: str) -> str:
    """Two groups at every look, along the axis and at equal accuracy."""
    blocks = []
    for axis in dict.fromkeys((c.by, "accuracy")):
        pair = {"task": task, "metric": figure, "by": axis, "first": first, "second": second}
        rows, verdict = _of(c.differences, **pair), _of(c.parting, **pair)
        if rows.empty:
            continue
        most = rows[["value_first", "value_second"]].max().max()
        named = axis != "step"
        cells = []
        for row in rows.to_dict("records"):
            cells.append([_place(axis, row["at"], short=True)])
            for side in ("first", "second"):
                cells[-1] += [f"{_number(row[f'value_{side}'])} {_bar(row[f'value_{side}'], most)}"]
                cells[-1] += [_between(c, row, side)] if named else []
            cells[-1] += [_difference(row), str(row["n"]), *_remark(row)]
        each = [[name, "step"] if named else [name] for name in (first, second)]
        head = [axis, *itertools.chain(*each), f"{second} less {first}", "n", "family-wise", ""]
        left = [i for i, name in enumerate(head) if i and name in (first, second, "")]
        title = f"{task}: {figure} {'at equal accuracy' if axis == 'accuracy' else f'by {axis}'}"
        blocks.append(f"{title}\n{_table(head, cells, left)}\n{_sentence(axis, verdict.iloc[0])}")
    return "\n\n".join(blocks)


def _between(c: Findings, row: dict[str, Any], side: str) -> str:
    """The measured steps around where a group is: "15", or "15-30" where it lies between the two."""
    measured = _of(c.levels, task=row["task"], metric=row["metric"], group=row[side])["step"]
    before, after = (
        f(s)
        for f, s in ((max, measured[measured <= row[f"step_{side}"]]), (min, measured[measured >= row[f"step_{side}"]]))
    )
    return str(before) if before == after else f"{before}-{after}"


def _remark(row: dict[str, Any]) -> list[str]:
    """The look's p-value, and what to say of it."""
    if row["trouble"]:
        return ["", "NOT COMPARABLE"]
    if row["passes"] > 1:
        return ["", f"met {row['passes']} times; not tested"]
    if row["low"] == row["high"] == 0:
        return ["", "the same"]
    return ["" if math.isnan(row["p"]) else _p(row["p"]), "apart" if row["apart"] else ""]


def _sentence(axis: str, verdict: pd.Series) -> str:
    """What the whole curve says. Of one run a group no more than that they differ on these prompts."""
    where = "beyond prompts and training seeds" if verdict["seeds"] else "on these prompts"
    how = f"{_p(verdict['p'])} for the whole curve of {verdict['looks']} looks: {verdict['test']}"
    if math.isnan(verdict["p"]):
        return "  Nothing can be said: no look is comparable."
    if math.isnan(verdict["parted_at"]):
        return _wrapped(f"  No difference {where} that is more than chance ({how}).")
    since = f"from {_place(axis, verdict['parted_at'])} on, at {verdict['apart']} of {verdict['looks']} looks"
    return _wrapped(f"  They differ {where} {since} ({how}).")


def _made_of(c: Findings, task: str, figure: str) -> str:
    """What each run's change since its reference is made of, at the end of each stage that it names or of the run; and
    where it was computed, what the difference of two is."""
    blocks = []
    own = _of(c.decomposition, task=task, metric=figure)
    if len(own):
        last = own.groupby(["run", own["stage"].fillna("")], sort=False)["step"].transform("max") == own["step"]
        columns = {
            f"{run}{f' {stage}' if isinstance(stage, str) else ''}, step {step}": parts
            for (run, stage, step), parts in own[last].groupby(["run", "stage", "step"], sort=False, dropna=False)
        }
        blocks.append(_parts(f"{task}: what the change of {figure} since each run's reference is made of", columns))
    both = _of(c.between, task=task, metric=figure)
    if len(both):
        columns = {
            f"{second} less {first}": parts for (first, second), parts in both.groupby(["first", "second"], sort=False)
        }
        blocks.append(_parts(f"{task}: what the difference of {figure} is made of, now against now", columns))
    return "\n\n".join(blocks)


def _parts(title: str, columns: dict[str, pd.DataFrame]) -> str:
    """The parts one below the other, the columns as many as a line holds."""
    tables = [f"{title} (minus: lost)"]
    for first in range(0, len(columns), PART_COLUMNS):
        shown = dict(list(columns.items())[first : first + PART_COLUMNS])
        rows: list[list[str]] = []
        for part, words in {"change": "the whole", **TERMS}.items():
            rows.append([f"{'= ' if len(rows) == 1 else '+ ' if rows else ''}{words}"])
            for parts in shown.values():
                row = parts[parts["part"] == part].iloc[0]
                label = f" {row['label']}" if isinstance(row["label"], str) else ""
                rows[-1].append(f"{_signed(row['value'])} {_interval(row['low'], row['high'], '+.3f')}{label}")
        tables.append(_table(["", *shown], rows, left=(0,)))
    return "\n".join(tables)


def _stages(c: Findings, figures: Sequence[str]) -> str:
    """The paper's table 1: percent of the base, the mean over tasks."""
    rows = [
        [
            row["lineage"],
            row["stage"],
            f"{row['change_percent']:+.0f} {_interval(row['change_low'], row['change_high'], '+.0f')}",
            f"{row['kept_percent']:.0f} {_interval(row['kept_low'], row['kept_high'], '.0f')}",
            str(row["tasks"]),
            str(row["n"]),
        ]
        for figure in figures
        for _, line in _of(c.stages, metric=figure, task=MEAN).groupby("lineage", sort=False)
        for row in line.to_dict("records")[1:]  # the first is the base itself
    ]
    title = f"What each stage takes of the base model's {', '.join(figures)}, percent of the base (mean over tasks)"
    head = ["lineage", "stage", "change", "kept after it", "tasks", "prompts"]
    return f"{title}\n{_table(head, rows, left=(0, 1))}" if rows else ""


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
    return "\n".join(["trained on", *map(_wrapped, lines)]) if lines else ""


def _too_many(count: int) -> str:
    return f"{count} tables look by look are not shown: --task and --metric choose, --csv and --json have them all."


def _of(frame: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """The rows with these values."""
    for name, value in values.items():
        if name in frame:
            frame = frame[frame[name] == value]
    return frame


def _difference(row: Any) -> str:
    return f"{_signed(row['difference'])} {_interval(row['low'], row['high'], '+.3f')}".strip()


def _place(axis: str, at: float, short: bool = False) -> str:
    if axis == "accuracy":
        return f"{100 * at:.0f} %"
    return f"{at:,.0f}" if short else f"step {at:.0f}" if axis == "step" else f"{at:,.0f} {axis}"


def _accuracies(start: float, end: float) -> str:
    return "-" if math.isnan(end) else f"{100 * start:.0f} to {100 * end:.0f} %"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.3f}"


def _interval(low: float, high: float, form: str) -> str:
    return "" if math.isnan(low) or math.isnan(high) else f"[{low:{form}}, {high:{form}}]"


def _bar(value: float, most: float) -> str:
    if not most > 0 or math.isnan(value):
        return " " * BAR
    return (_block() * round(BAR * min(max(value / most, 0.0), 1.0))).ljust(BAR)


def _block() -> str:
    try:
        "█".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return "#"
    return "█"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int]) -> str:
    """Aligned columns; those named to the left, the others to the right."""
    filled = [[*row, *[""] * (len(head) - len(row))] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*filled, strict=True)]
    lines = []
    for row in filled:
        cells = (c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines)


def _wrapped(line: str) -> str:
    indent = " " * (len(line) - len(line.lstrip()))
    return textwrap.fill(line, WIDTH, subsequent_indent=f"{indent}  ", break_long_words=False, break_on_hyphens=False)
