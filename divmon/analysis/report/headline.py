"""The top of the page: which run lost its diversity, when, how much of it was real narrowing, and what to read.

Its words follow the figures of the comparison by fixed rules, which the page states:

    collapsed       the whole interval of what it kept lies below 50 percent
    lost diversity  the whole interval lies below 100 percent
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from divmon.analysis.comparison.members import Member
from divmon.analysis.report.made_of import parts_of
from divmon.analysis.report.words import chance, interval, number, what

if TYPE_CHECKING:
    from divmon.analysis.comparison.compare import Comparison
    from divmon.scoring.alerts import Alert

COLLAPSED, LOST = 50, 100
"""Percent kept, below which the whole interval lies."""

RULES = (
    f"“Collapsed” means that the whole 95 % interval of the diversity a run kept lies below {COLLAPSED} %, “lost"
    f" diversity” that it lies below {LOST} %."
)


@dataclass(frozen=True)
class Headline:
    """Three questions and their answers, of the task that lost most."""

    task: str
    metric: str
    answers: list[tuple[str, str, str]]
    """Question, answer, and the figures behind it."""
    worst: str
    """The group that kept least; "" where no figure can be compared."""
    other: str
    """The group it is set against; "" where there is none."""


def headline(c: Comparison, alerts: Mapping[str, Sequence[Alert]]) -> Headline:
    """What the page says first."""
    metric = next(iter(c.figures.diversity(c.summary["metric"] if len(c.summary) else ())), "")
    rows = c.summary[c.summary["metric"] == metric] if metric else c.summary
    rows = rows.dropna(subset=["kept_percent"]) if len(rows) else rows
    if not len(rows):
        why = c.notes[0] if c.notes else "No diversity metric was measured."
        task = c.tasks[0].name if c.tasks else ""
        return Headline(task, metric, [("Which collapsed?", "It cannot be said.", why)], "", "")
    worst = rows.loc[rows["kept_percent"].idxmin()].to_dict()
    others = rows[(rows["task"] == worst["task"]) & (rows["group"] != worst["group"])].to_dict("records")
    best = max(others, key=lambda row: row["kept_percent"], default=None)
    other = str(best["group"]) if best else ""
    one = Headline(str(worst["task"]), metric, [], str(worst["group"]), other)
    which = "Which mixture collapsed?" if others else "Did it collapse?"
    answers = [
        (which, *_which(c, worst, others)),
        ("When?", *_when(c, one, alerts)),
        ("How much of it was real narrowing?", *_real(c, one)),
    ]
    return Headline(one.task, metric, answers, one.worst, other)


def most(c: Comparison, head: Headline, count: int = 3) -> list[str]:
    """Ids of the prompts that show the difference to the other group most, or the loss where there is one group: by the
    metric's own values at the last step that may be compared."""
    gap = gaps(c, head)
    ids = [id for id, value in sorted(gap.items(), key=lambda pair: pair[1]) if not math.isnan(value)]
    return ids[:count]


def gaps(c: Comparison, head: Headline) -> dict[str, float]:
    """Prompt id -> the worst group's value less the other's at the last shared step, or less its own at the reference
    where there is one group; NaN where undefined."""
    task = next((task for task in c.tasks if task.name == head.task), None)
    if task is None or not head.worst or head.metric not in task.figures:
        return {}
    members = task.figures[head.metric]
    now = [m for m in members if m.group == head.worst]
    against = [m for m in members if m.group == head.other] if head.other else now
    steps = set.intersection(*(set(m.steps(task.name, head.metric, sound=True)) for m in {*now, *against}))
    if not steps:
        return {}
    before = max(steps) if head.other else min(steps)
    values = [_mean(side, task, head.metric, step) for side, step in ((now, max(steps)), (against, before))]
    return dict(zip(task.prompts, (values[0] - values[1]).tolist(), strict=True))


def _mean(members: Sequence[Member], task: Any, metric: str, step: int) -> Any:
    tables = [m.curves.tables[task.name, metric] for m in members]
    return np.mean([table.at([step], task.prompts)[0] for table in tables], axis=0)


def _which(c: Comparison, worst: dict[str, Any], others: Sequence[dict[str, Any]]) -> tuple[str, str]:
    meaning = what(worst["metric"], c.figures)[0]
    about = f" ({meaning[:1].lower()}{meaning[1:]})" if meaning else ""
    said = [
        f"On {worst['task']}, {worst['group']} kept {_kept(worst)} of its {worst['metric']}{about}:"
        f" {number(worst['start'])} at step {worst['first_step']}, {number(worst['end'])} at step {worst['last_step']}"
        f" (n = {worst['n']} prompts)."
    ]
    said += [f"{row['group']} {_verdict(row)}: {_kept(row)} at step {row['last_step']}." for row in others]
    if c.summary["task"].nunique() > 1:
        said.append("This is the task that lost most; all are in the table below.")
    return f"{worst['group']} {_verdict(worst)}.", " ".join(said)


def _verdict(row: dict[str, Any]) -> str:
    if math.isnan(row["high"]):
        return "cannot be judged, for want of prompts"
    if row["high"] < COLLAPSED:
        return "collapsed"
    if row["high"] < LOST:
        return "lost diversity"
    return "gained diversity" if row["low"] > LOST else "kept its diversity, as far as these prompts tell"


def _kept(row: dict[str, Any]) -> str:
    kept = f"{number(row['kept_percent'], '.0f')} %"
    if math.isnan(row["low"]):
        return kept
    return f"{kept} (95 % interval {number(row['low'], '.0f')} to {number(row['high'], '.0f')} %)"


def _when(c: Comparison, head: Headline, alerts: Mapping[str, Sequence[Alert]]) -> tuple[str, str]:
    runs = c.groups[head.worst]
    since = [step for m in runs if (step := _below(m, head.task, head.metric)) is not None]
    some = "" if len(runs) == 1 else f" in {len(since)} of {len(runs)} runs"
    said = []
    if since:
        short = f"From step {min(since)} on{some}."
        said.append(
            f"From there on the whole 95 % interval of {head.worst}'s change since its own reference is below zero."
        )
    else:
        short = "At no step for good."
        said.append(f"{head.worst}'s {head.metric} does not stay below its own reference (whole 95 % interval).")
    if head.other:
        said.append(_parting(c, head))
    fired = [a.step for m in runs for a in alerts.get(m.name, ()) if a.task == head.task and a.new]
    said.append(f"A warning would have fired at step {min(fired)}." if fired else "No warning would have fired.")
    return short, " ".join(said)


def _below(member: Member, task: str, metric: str) -> int | None:
    """The first step of the unbroken last series at which the change's whole interval is below zero."""
    frame = member.run.changes
    own = frame[(frame["task"] == task) & (frame["metric"] == metric)].sort_values("step", ascending=False)
    found = None
    for step, high in own[["step", "high"]].itertuples(index=False):
        if not high < 0:
            break
        found = int(step)
    return found


def _parting(c: Comparison, head: Headline) -> str:
    own = c.parting[(c.parting["task"] == head.task) & (c.parting["metric"] == head.metric) & (c.parting["by"] == c.by)]
    pairs = {frozenset((row["first"], row["second"])): row for row in own.to_dict("records")}
    verdict = pairs.get(frozenset((head.worst, head.other)))
    if verdict is None or math.isnan(verdict["p"]):
        return f"Whether it differs from {head.other} cannot be said: no {c.by} may be compared."
    where = "beyond prompts and training seeds" if verdict["seeds"] else "on these prompts"
    how = f"{chance(verdict['p'])} for the whole curve of {verdict['looks']} looks; {verdict['test']}"
    if math.isnan(verdict["parted_at"]):
        return f"{head.worst} and {head.other} do not differ {where} by more than chance ({how})."
    return f"{head.worst} and {head.other} differ {where} from {c.by} {verdict['parted_at']:,.0f} on ({how})."


def _at_equal_accuracy(c: Comparison, head: Headline) -> list[str]:
    """At the highest accuracy that both pass once."""
    if not head.other or not len(c.differences):
        return []
    pair = [head.worst, head.other]
    own = c.differences
    own = own[(own["task"] == head.task) & (own["metric"] == head.metric) & (own["by"] == "accuracy")]
    own = own[(own["passes"] == 1) & own["first"].isin(pair) & own["second"].isin(pair)]
    if not len(own):
        return []
    row = own.iloc[-1]
    sign = 1 if row["second"] == head.worst else -1
    low, high = sorted((sign * row["low"], sign * row["high"]))
    return [
        f"At equal accuracy ({100 * row['at']:.0f} %), {head.worst} less {head.other} is"
        f" {number(sign * row['difference'], '+.3f')} {interval(low, high, '+.3f')}."
    ]


def _real(c: Comparison, head: Headline) -> tuple[str, str]:
    own = parts_of(c, head.worst, head.task, head.metric)
    if not own:
        why = f"No answers of {head.worst} to {head.task} were judged, or {head.metric} is no mean over pairs."
        return "It cannot be said.", why
    said = [own.sentence()]
    if head.other and (others := parts_of(c, head.other, head.task, head.metric)):
        said.append(others.brief())
    return own.answer(), " ".join([*said, *_at_equal_accuracy(c, head)])
