"""The top of the page: which run lost its diversity, when, how much of it among correct answers, and what to read.

Its words follow the figures of the comparison by fixed rules, which the page states:

    collapsed       the whole interval of what it kept lies below 50 percent
    lost diversity  the whole interval lies below 100 percent
    gained          the whole interval lies above 100 percent

Degenerate or truncated completions come first: diversity says nothing of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from divmon.analysis.comparison.cells import p_value
from divmon.analysis.comparison.members import Member
from divmon.analysis.report.correct_answers import among_correct
from divmon.analysis.report.unsound import DEGENERATE, kinds_of, unsound
from divmon.analysis.report.wording import interval, listed, number, what
from divmon.storage.problems import count

if TYPE_CHECKING:
    from divmon.analysis.comparison.compare import Comparison
    from divmon.scoring.alerts import Alert

COLLAPSED, LOST = 50, 100
"""Percent kept, below which the whole interval lies."""

RULES = (
    f"“Collapsed” means that the whole 95 % interval of the diversity a run kept lies below {COLLAPSED} %, “lost"
    f" diversity” that it lies below {LOST} %, “gained” that it lies above."
)
ONE_SNAPSHOT = "Nothing can be said about change yet."

Answer = tuple[str, str, str]
"""Question, answer, and the figures behind it."""
Row = dict[str, Any]


@dataclass(frozen=True)
class Headline:
    """Questions and their answers, of the task that lost most."""

    task: str
    metric: str
    answers: list[Answer]
    worst: str
    """The group that kept least; "" where no figure can be compared."""
    other: str
    """The group it is set against; "" where there is none."""


def headline(c: Comparison, alerts: Mapping[str, Sequence[Alert]]) -> Headline:
    """What the page says first."""
    metric = next(iter(c.figures.diversity(c.summary["metric"] if len(c.summary) else ())), "")
    of_metric = c.summary[c.summary["metric"] == metric] if metric else c.summary
    rows = of_metric.dropna(subset=["kept_percent"]) if len(of_metric) else of_metric
    lead = unsound(c, alerts)
    if not len(rows):
        return _without_change(c, metric, of_metric, lead)
    worst = rows.loc[rows["kept_percent"].idxmin()].to_dict()
    others = rows[(rows["task"] == worst["task"]) & (rows["group"] != worst["group"])].to_dict("records")
    best = max(others, key=lambda row: row["kept_percent"], default=None)
    head = Headline(str(worst["task"]), metric, lead, str(worst["group"]), str(best["group"]) if best else "")
    degenerate = {name for name, runs in c.groups.items() if any(kinds_of(alerts, m, DEGENERATE) for m in runs)}
    which = "Which run collapsed?" if len(c.groups) > 1 else "Did it collapse?"
    head.answers.append((which, *_which(c, rows.to_dict("records"), worst, others, degenerate)))
    if _verdict(worst) in (_COLLAPSED, _LOST):
        head.answers.append(("When?", *_when(c, head, alerts)))
    elif head.other:
        head.answers.append(("Do the runs differ?", *_difference(c, head)))
    head.answers.append(among_correct(c, head.task, metric, head.worst, head.other, _at_equal_accuracy(c, head)))
    return head


def _without_change(c: Comparison, metric: str, rows: Any, lead: list[Answer]) -> Headline:
    task = c.tasks[0].name if c.tasks else ""
    which = "Which run collapsed?" if len(c.groups) > 1 else "Did it collapse?"
    found = rows.to_dict("records") if metric else []
    alone = [row for row in found if row["first_step"] == row["last_step"]]
    since = [said for row in alone if (said := _since_earlier_run(c, row))]
    if since:
        head = Headline(alone[0]["task"], metric, [], *list(c.groups)[:2]) if len(c.groups) > 1 else None
        short, why = f"{'; '.join(since)}.", _diverging(c, head) if head else "Paired on the same prompts."
    elif alone:
        short = ONE_SNAPSHOT
        each = ", ".join(dict.fromkeys(f"{row['group']} at step {row['first_step']}" for row in alone))
        why = f"A change needs two snapshots that can be compared, and there is one: {each}."
        if len(c.groups) > 1:
            head = Headline(alone[0]["task"], metric, [], *list(c.groups)[:2])
            why = f"{why} {_diverging(c, head)}"
    elif found:
        short = "It cannot be said."
        why = f"At its first step {metric} is {number(found[0]['start'])}: there is nothing to lose. The completions of"
        why += " a prompt are all the same there."
    else:
        short, why = "It cannot be said.", c.notes[0] if c.notes else "No diversity metric was measured."
    return Headline(task, metric, [*lead, (which, short, why)], "", "")


def _since_earlier_run(c: Comparison, row: Row) -> str:
    """The change of a group with one snapshot each since the reference of an earlier run; "" where there is none."""
    where = row["task"], row["metric"], row["first_step"]
    return "; ".join(said for member in c.groups[row["group"]] if (said := member.since_earlier_run(*where)))


def most(c: Comparison, head: Headline, count: int = 3) -> list[str]:
    """Ids of the prompts that show the difference to the other group most, or the loss where there is one group: by the
    metric's own values at the last step that may be compared."""
    gap = gaps(c, head)
    ids = [id for id, value in sorted(gap.items(), key=lambda pair: pair[1]) if not math.isnan(value)]
    return ids[:count]


def gaps(c: Comparison, head: Headline) -> dict[str, float]:
    """Prompt id -> the worst group's value minus the other's at the last shared step, or minus its own at the reference
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


_COLLAPSED, _LOST, _GAINED = "collapsed", "lost diversity", "gained diversity"
_KEPT, _UNKNOWN = "kept its diversity, as far as these prompts tell", "cannot be told, for want of prompts"


def _verdict(row: Row) -> str:
    if math.isnan(row["high"]):
        return _UNKNOWN
    if row["high"] < COLLAPSED:
        return _COLLAPSED
    if row["high"] < LOST:
        return _LOST
    return _GAINED if row["low"] > LOST else _KEPT


def _which(
    c: Comparison, rows: Sequence[Row], worst: Row, others: Sequence[Row], degenerate: set[str]
) -> tuple[str, str]:
    """Which groups collapsed, on any task; the figures are those of the task that lost most."""

    def named(verdict: str) -> str:
        found: dict[str, str] = {}
        for row in sorted(rows, key=lambda row: float(row["kept_percent"])):
            if _verdict(row) == verdict and row["group"] not in found:
                found[row["group"]] = f" (on {row['task']})" if row["task"] != worst["task"] else ""
        return listed([f"{group}{on}" for group, on in found.items()])

    collapsed, lost = named(_COLLAPSED), named(_LOST)
    if collapsed:
        short = f"{collapsed} collapsed."
    elif not others:
        short = f"{worst['group']} {_of_measured(c, worst, degenerate)}."
        short = f"No: {short}" if _verdict(worst) == _GAINED else short
    else:
        short = f"None collapsed; {lost} lost diversity." if lost else "None collapsed."
    said = [
        _figures(c, worst),
        *(f"{row['group']} {_of_measured(c, row, degenerate)}: {_kept(row, 'up by')}." for row in others),
    ]
    if others and not collapsed:
        said.insert(0, f"{worst['group']} {_of_measured(c, worst, degenerate)}.")
    missing = [group for group in c.groups if group not in {row["group"] for row in [worst, *others]}]
    if missing:
        said.append(f"Nothing can be said of the change of {listed(missing)} on this task.")
    if len({row["task"] for row in rows}) > 1:
        said.append("This is the task that lost most; all are in the table below.")
    return short, " ".join(said)


def _of_measured(c: Comparison, row: Row, degenerate: set[str]) -> str:
    """The verdict; of a run with failed measurements, that it is one of the others only."""
    verdict = _verdict(row)
    if row["group"] in degenerate and verdict in (_KEPT, _GAINED):
        return "shows no loss of diversity, which degenerate text can hide"
    problems = [m.run.problems for m in c.groups[row["group"]]]
    taken, failed = sum(p.measurements for p in problems), sum(len(p.failed) for p in problems)
    if failed and verdict in (_KEPT, _GAINED):
        return f"{verdict.partition(',')[0]} at the {taken - failed} of {taken} measurements that did not fail"
    return verdict


def _figures(c: Comparison, row: Row) -> str:
    meaning = what(row["metric"], c.figures)[0]
    about = f" ({meaning[:1].lower()}{meaning[1:]})" if meaning else ""
    return (
        f"On {row['task']}, {row['group']} {_kept(row)} of its {row['metric']}{about}: {number(row['start'])} at step"
        f" {row['first_step']}, {number(row['end'])} at step {row['last_step']} (n = {count(row['n'], 'prompt')})."
    )


def _kept(row: Row, rise: str = "gained") -> str:
    """`kept 34 % (95 % interval 30 to 38 %)`, or by how much it rose: nothing keeps more than it had."""
    rose = round(row["kept_percent"]) > 100
    by = 100 if rose else 0
    said = f"{rise if rose else 'kept'} {number(row['kept_percent'] - by, '.0f')} %"
    if math.isnan(row["low"]):
        return said
    low, high = (number(row[name] - by, ".0f") for name in ("low", "high"))
    return f"{said} (95 % interval {low} to {high} %)"


def _when(c: Comparison, head: Headline, alerts: Mapping[str, Sequence[Alert]]) -> tuple[str, str]:
    runs = c.groups[head.worst]
    since = [step for m in runs if (step := _below(m, head.task, head.metric)) is not None]
    some = "" if len(runs) == 1 else f" in {len(since)} of {len(runs)} runs"
    if since:
        short = f"From step {min(since)} on{some}."
        said = [f"From there on the whole 95 % interval of {head.worst}'s change since its reference is below zero."]
    else:
        short = "At no step for good."
        said = [f"{head.worst}'s {head.metric} does not stay below its own reference (whole 95 % interval)."]
    if head.other:
        said.append(_diverging(c, head))
    fired = [a.step for m in runs for a in alerts.get(m.name, ()) if a.task == head.task and a.new]
    if any(m.name in alerts for m in runs):
        said.append(f"An alert would have fired at step {min(fired)}." if fired else "No alert would have fired.")
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


def _test_of(c: Comparison, head: Headline) -> Row | None:
    """The test of the whole curves of the two groups; None where nothing may be compared."""
    own = c.parting[(c.parting["task"] == head.task) & (c.parting["metric"] == head.metric) & (c.parting["by"] == c.by)]
    pairs = {frozenset((row["first"], row["second"])): row for row in own.to_dict("records")}
    found = pairs.get(frozenset((head.worst, head.other)))
    return None if found is None or math.isnan(found["p"]) else found


def _difference(c: Comparison, head: Headline) -> tuple[str, str]:
    test = _test_of(c, head)
    if test is None:
        return "It cannot be said.", _diverging(c, head)
    if math.isnan(test["parted_at"]):
        return "No more than chance.", _diverging(c, head)
    return f"Yes, from {c.by} {test['parted_at']:,.0f} on.", _diverging(c, head)


def _diverging(c: Comparison, head: Headline) -> str:
    test = _test_of(c, head)
    if test is None:
        return f"Whether {head.worst} differs from {head.other} cannot be said: no {c.by} may be compared."
    where = "beyond prompts and training seeds" if test["seeds"] else "on these prompts"
    how = f"{p_value(test['p'])} for the whole curve of {count(test['looks'], 'evaluation')}; {test['test']}"
    if math.isnan(test["parted_at"]):
        return f"{head.worst} and {head.other} do not differ {where} by more than chance ({how})."
    return f"{head.worst} and {head.other} differ {where} from {c.by} {test['parted_at']:,.0f} on ({how})."


def _at_equal_accuracy(c: Comparison, head: Headline) -> str:
    """At the highest accuracy that both pass once; "" where there is none."""
    if not head.other or not len(c.differences):
        return ""
    pair = [head.worst, head.other]
    own = c.differences
    own = own[(own["task"] == head.task) & (own["metric"] == head.metric) & (own["by"] == "accuracy")]
    own = own[(own["passes"] == 1) & own["first"].isin(pair) & own["second"].isin(pair)]
    if not len(own):
        return ""
    row = own.iloc[-1]
    sign = 1 if row["second"] == head.worst else -1
    low, high = sorted((sign * row["low"], sign * row["high"]))
    return (
        f"At equal accuracy ({100 * row['at']:.0f} %), {head.worst} minus {head.other} is"
        f" {number(sign * row['difference'], '+.3f')} {interval(low, high, '+.3f')}."
    )
