"""Groups of runs against one another at every evaluation, and where they diverge."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from divmon.analysis.comparison.alignment import Task
from divmon.analysis.comparison.axes import Looks, looks
from divmon.analysis.comparison.contrasts import Estimates, along, estimates, pulls
from divmon.analysis.comparison.divergence import LEVEL, holm, sign_flips
from divmon.analysis.comparison.members import Member
from divmon.scoring.intervals import within_bounds

Row = dict[str, Any]


def levels(tasks: Sequence[Task]) -> Iterator[Row]:
    """The mean of each group's runs at the steps that they share."""
    for task in tasks:
        places = {m: m.curves.positions[["tokens", "examples"]].T.to_dict("list") for m in task.members}
        for figure, members in task.figures.items():
            for group in dict.fromkeys(m.group for m in members):
                own = [m for m in members if m.group == group]
                shared = looks("step", task, {m: m.steps(task.name, figure) for m in own})
                found = estimates(along(shared, task, figure), own)
                for look, step in enumerate(shared.at_L.astype(int).tolist()):
                    tokens, examples = np.mean([places[m][step] for m in own], axis=0).tolist()
                    yield {
                        "group": group,
                        "task": task.name,
                        "metric": figure,
                        "step": step,
                        "tokens": tokens,
                        "examples": examples,
                        **_row(found, look, "value", own[0].curves.figures[figure].bounds),
                        "runs": len(own),
                        "trouble": _trouble(own, shared, task, look),
                    }


def differences(tasks: Sequence[Task], groups: Sequence[str], by: str) -> tuple[list[Row], list[Row]]:
    """Every pair of groups, by the axis and by accuracy: a row per evaluation, and one for what the whole curve says.
    Raises ValueError: a run does not record the axis."""
    rows: list[Row] = []
    verdicts: list[Row] = []
    for task in tasks:
        places: dict[Any, Looks] = {}
        for first, second in itertools.combinations(groups, 2):
            for figure, members in task.figures.items():
                sides = [[m for m in members if m.group == group] for group in (first, second)]
                if not all(sides):
                    continue
                for axis in dict.fromkeys((by, "accuracy")):
                    if axis == figure == "accuracy":  # at equal accuracy there is nothing to tell
                        continue
                    steps = {m: m.steps(task.name, figure, sound=axis == "accuracy") for m in itertools.chain(*sides)}
                    key = axis, str([(m.name, own) for m, own in steps.items()])
                    if key not in places:
                        places[key] = looks(axis, task, steps)
                    found, verdict = _pair(places[key], task, figure, sides)
                    named = {"task": task.name, "metric": figure, "by": axis, "first": first, "second": second}
                    rows += [named | row for row in found]
                    verdicts += [named | verdict] if found else []
    return rows, verdicts


def _pair(places: Looks, task: Task, figure: str, sides: Sequence[Sequence[Member]]) -> tuple[list[Row], Row]:
    seen = along(places, task, figure)
    first, second = sides
    bounds = first[0].curves.figures[figure].change_bounds
    found = estimates(seen, first, second)
    levels = [np.mean([seen.value[m] for m in side], axis=0).tolist() for side in sides]
    steps = [np.mean([places.step(m) for m in side], axis=0).tolist() for side in sides]
    rows = []
    for look, at in enumerate(places.at_L.tolist()):
        rows.append(
            {
                "at": at,
                "step_first": steps[0][look],
                "step_second": steps[1][look],
                "value_first": levels[0][look],
                "value_second": levels[1][look],
                **_row(found, look, "difference", bounds),
                "passes": int(places.passes_L[look]),
                "trouble": _trouble([*first, *second], places, task, look),
            }
        )
    tested = [i for i, row in enumerate(rows) if not row["trouble"] and row["passes"] == 1 and row["n"] > 1]
    p_L = np.full(len(rows), np.nan)
    if tested:
        p_L[tested] = holm(found.p[tested]) if found.seeds else sign_flips(pulls(seen, first, second)[tested])
    for row, p in zip(rows, p_L.tolist(), strict=True):
        row |= {"p": p, "apart": p <= LEVEL}
    apart = [row["at"] for row in rows if row["apart"]]
    return rows, {
        "p": float(np.nanmin(p_L)) if tested else np.nan,
        "parted_at": apart[0] if apart else np.nan,
        "apart": len(apart),
        "looks": len(tested),
        "test": "t over seeds and prompts, Holm over evaluations"
        if found.seeds
        else "sign flips over prompts, max over evaluations",
        "seeds": found.seeds,
    }


def _row(e: Estimates, look: int, name: str, bounds: tuple[float, float]) -> Row:
    value, low, high, n = (side[look].item() for side in (e.value, e.low, e.high, e.n))
    low, high = within_bounds(value, low, high, bounds)
    return {name: value, "low": low, "high": high, "n": n, "seeds": e.seeds}


def _trouble(members: Sequence[Member], places: Looks, task: Task, look: int) -> str:
    """Why this evaluation must not be compared; "" where it may."""
    found = [
        f"{m.name} at step {step}: {m.curves.troubles[step, task.name]}"
        for m in members
        for step in places.between(m, look)
        if (step, task.name) in m.curves.troubles
    ]
    return "; ".join(found)
