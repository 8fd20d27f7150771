"""Rows of completions -> verdicts: those the rows bring, else those of their task's verifier; and quality from them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from divmon.grading import grader
from divmon.prompts import tasks
from divmon.prompts.rows.completions import Row
from divmon.types import Prompt, Score, Verdict

MOST_VOTES = 64
"""Largest majority vote that is computed: exact votes of 128 samples take over a second a prompt."""

UNASKED = Verdict(None, "the row has no 'correct', and no 'gold' or 'row' of a task that is graded")

_PARTICULARS = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"|\d+(?:\.\d+)?")
"""What differs between reasons of one kind: quoted text and numbers."""


def judged_tasks() -> list[str]:
    """Names of the tasks that have a verifier."""
    return [name for name in tasks.available() if tasks.load(name).verifier]


def task_of(row: Row, task: str | None) -> str | None:
    """The task of divmon's that a row names, else the one given for all rows."""
    return row.task if row.task in tasks.available() else task


def judge_rows(
    rows: Sequence[Row], task: str | None = None, *, allow_unsandboxed_code: bool = False
) -> list[list[Verdict]] | None:
    """The verdicts on each row's outputs, or None where no row asks for any.

    A row asks by `correct`, which is taken as it is, or, where its task has a verifier, by `gold` or `row`. With `task`
    all rows ask. What is ungradable is None with its reason.

    Args:
        task: of the rows that name none of divmon's.
        allow_unsandboxed_code: as `grader.judge`.
    """
    found: list[list[Verdict] | None] = [None] * len(rows)
    waiting: dict[str, dict[int, Prompt]] = {}
    for p, row in enumerate(rows):
        name = task_of(row, task)
        if row.correct is not None:
            found[p] = [Verdict(correct, "" if correct is not None else "null in 'correct'") for correct in row.correct]
        elif name is not None and (task or row.gold is not None or row.row is not None):
            prompt = _prompt(row, tasks.load(name))
            if isinstance(prompt, Prompt):
                waiting.setdefault(name, {})[p] = prompt
            else:
                found[p] = [Verdict(None, prompt)] * len(row.outputs)
    if not waiting and all(verdicts is None for verdicts in found):
        return None
    for name, prompts in waiting.items():
        texts = [text for p in prompts for text in rows[p].outputs]
        each = [prompt for p, prompt in prompts.items() for _ in rows[p].outputs]
        verifier = tasks.load(name).verifier or ""
        verdicts = iter(grader.judge(verifier, texts, each, allow_unsandboxed_code=allow_unsandboxed_code))
        for p in prompts:
            found[p] = [next(verdicts) for _ in rows[p].outputs]
    return [
        [UNASKED] * len(row.outputs) if verdicts is None else verdicts
        for row, verdicts in zip(rows, found, strict=True)
    ]


def _prompt(row: Row, task: tasks.Task) -> Prompt | str:
    """What the task's verifier is given, or the reason why the row is ungradable."""
    if task.verifier is None:
        return f"nothing grades the task '{task.name}'"
    if row.row is None:
        if row.gold is not None and (isinstance(row.gold, bool) or not isinstance(row.gold, str | int | float)):
            return "'gold' is neither text nor a number"
        content = row.prompt if isinstance(row.prompt, str) else tuple(row.prompt)
        return Prompt(str(row.id), content, None if row.gold is None else str(row.gold), category=task.category)
    if not isinstance(row.row, dict):
        return "'row' is no object, expected the row of the task's data set"
    # The verifier reads neither, so that a row cut down to what it reads will do; the line of the file has both.
    known = {"prompt": row.prompt} | ({task.id_field: row.id} if task.id_field else {})
    try:
        return task.read(known | row.row, 0, "'row'")
    except Exception as error:  # a field of another type than the data set's trips a task's reader anywhere
        return str(error) if isinstance(error, ValueError) else f"'row': {type(error).__name__}: {error}"


def corrects(verdicts: Sequence[Sequence[Verdict]]) -> list[list[bool | None]]:
    return [[verdict.correct for verdict in row] for row in verdicts]


def any_judged(verdicts: Sequence[Sequence[Verdict]] | None) -> bool:
    return any(verdict.correct is not None for row in verdicts or () for verdict in row)


def summary(verdicts: Sequence[Sequence[Verdict]]) -> dict[str, Any]:
    """How many outputs were graded, found correct, and ungraded, with the reasons."""
    flat = [verdict for row in verdicts for verdict in row]
    graded = [verdict for verdict in flat if verdict.correct is not None]
    return {
        "graded": len(graded),
        "correct": sum(bool(verdict.correct) for verdict in graded),
        "ungraded": len(flat) - len(graded),
        "reasons": reasons(flat),
    }


def reasons(verdicts: Iterable[Verdict]) -> dict[str, int]:
    """Why outputs are ungraded, with their number, the commonest first.

    Reasons that differ in quoted text and numbers only are one kind, shown by its first.

    >>> reasons([Verdict(None, "no 'a'"), Verdict(None, "no 'b'"), Verdict(True), Verdict(None, "late")])
    {"no 'a'": 2, 'late': 1}
    """
    kinds = [(_PARTICULARS.sub("*", v.reason), v.reason) for v in verdicts if v.correct is None]
    first = dict(reversed(kinds))
    return {first[kind]: count for kind, count in Counter(kind for kind, _ in kinds).most_common()}


def quality_scores(
    task: str, rows: Sequence[Row], verdicts: Sequence[Sequence[Verdict]], num_samples: int
) -> list[Score]:
    """Accuracy, pass@k and the like. Votes and distinct answers are of rows that were graded here: `correct` in a row
    says nothing of the answers.

    Args:
        num_samples: K, the largest size k; of votes it is `MOST_VOTES` at most.
    """
    from divmon.scoring import quality

    right = corrects(verdicts)
    no_answer = [
        [text is None and verdict is not UNASKED for text, verdict in zip(row.outputs, judged, strict=True)]
        for row, judged in zip(rows, verdicts, strict=True)
    ]
    figures = quality.quality(right, num_samples, no_answer=no_answer)
    ours = [row.correct is None for row in rows]
    answers = [[v.answer for v in row] if here else [] for row, here in zip(verdicts, ours, strict=True)]
    if any(answer is not None for row in answers for answer in row):
        judged_here = [row if here else [] for row, here in zip(right, ours, strict=True)]
        votes = quality.quality(judged_here, min(num_samples, MOST_VOTES), answers=answers)
        figures |= {name: value_P for name, value_P in votes.items() if name not in figures}
    return quality.scores(task, figures)
