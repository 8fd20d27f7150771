"""How much of a group's change lies among correct answers, in words; or why that cannot be said."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from divmon.analysis.comparison.members import Member
from divmon.analysis.report.wording import interval, listed, number
from divmon.types import TERMS

if TYPE_CHECKING:
    import pandas as pd

    from divmon.analysis.comparison.compare import Comparison

CANNOT = "It cannot be said."


def among_correct(
    c: Comparison, task: str, metric: str, group: str, other: str, at_equal_accuracy: str
) -> tuple[str, str, str]:
    """Question, answer and figures for a group, beside another where there is one ("" where not)."""
    parts = parts_of(c, group, task, metric)
    if parts is None:
        return "How much of it was narrowing among correct answers?", CANNOT, _why_not(c, task, metric, group)
    question = (
        "How much of it was narrowing among correct answers?"
        if parts.value["change"] < 0
        else "How much of the change was among correct answers?"
    )
    said = [parts.sentence()]
    if other and (others := parts_of(c, other, task, metric)):
        said.append(others.brief())
    return question, parts.answer(), " ".join(filter(None, [*said, at_equal_accuracy]))


def parts_of(c: Comparison, group: str, task: str, metric: str) -> Parts | None:
    """Of each run of a group at its last step that may be compared; None where nothing was decomposed."""
    found = []
    for member in c.groups[group]:
        own = c.decomposition
        own = own[(own["run"] == member.name) & (own["task"] == task) & (own["metric"] == metric)]
        sound = [step for step in own["step"].unique() if (step, task) not in member.curves.troubles]
        if sound:
            found.append(own[own["step"] == max(sound)].set_index("part"))
    return Parts(group, found) if found else None


def _why_not(c: Comparison, task: str, metric: str, group: str) -> str:
    """What is said of a task is what happened to it: failed, graded at some steps only, ungradable, or never graded."""
    name = f"{task}/{metric}/decomposition"
    for member in c.groups[group]:
        for step in sorted(member.run.provenance, reverse=True):
            if reason := member.run.problems.reason_of(name, step):
                return f"Its decomposition failed at step {step}: {reason}"
    graded, ungraded = _graded(c.groups[group], task)
    if graded and ungraded:
        steps = f"graded at step {', '.join(map(str, graded))} and not at step {', '.join(map(str, ungraded))}"
        return f"Answers of {group} to {task} are {steps}: a decomposition needs correctness on both sides."
    if graded:
        return (
            f"Answers are graded, but {metric} is not a mean over pairs of completions, so that its change has no"
            " decomposition; sbert has one."
        )
    verifier = c.groups[group][0].run.manifest.get("verifiers", {}).get(task)
    if verifier not in (None, "None"):
        return f"The verifier ({verifier}) could not grade any answer of {group} to {task}: see their reasons."
    return f"Answers to {task} are ungraded. Reference answers in its prompts (gold) and a verifier would grade them."


def _graded(members: Sequence[Member], task: str) -> tuple[list[int], list[int]]:
    """Steps at which a run's answers have an accuracy, and steps at which they have none."""
    graded, steps = set(), set()
    for member in members:
        scores = member.run.scores[member.run.scores["task"] == task]
        own = scores[(scores["metric"] == "accuracy") & scores["mean"].notna()]
        graded |= {int(step) for step in own["step"]}
        steps |= {int(step) for step in scores["step"]}
    return sorted(graded), sorted(steps - graded)


class Parts:
    """The parts of a change, by run; of several runs the means are told, without intervals."""

    def __init__(self, group: str, runs: Sequence[pd.DataFrame]) -> None:
        self.group, self.runs = group, runs
        self.value = {part: float(np.mean([run.loc[part, "value"] for run in runs])) for part in ("change", *TERMS)}
        labels = {run.loc["narrowing_correct", "label"] for run in runs}
        self.unseen = labels <= {"no such pairs", "not identifiable"}
        """No prompt has pairs of correct answers on both sides."""

    @property
    def correct(self) -> float:
        return self.value["narrowing_correct"]

    @property
    def bounds(self) -> str:
        if len(self.runs) > 1:
            return f" (mean of {len(self.runs)} runs)"
        row = self.runs[0].loc["narrowing_correct"]
        label = f" ({row['label']})" if isinstance(row["label"], str) else ""
        return f" {interval(row['low'], row['high'], '+.3f')}{label}".rstrip()

    def answer(self) -> str:
        """A percentage only where all parts have one sign and the interval of the change excludes 0."""
        if math.isnan(self.correct) or self.unseen:
            return CANNOT
        change = self.runs[0].loc["change"]
        signs = {self.value[part] > 0 for part in ("change", *TERMS)}
        if len(self.runs) == 1 and change["low"] * change["high"] > 0 and len(signs) == 1:
            percent = round(100 * self.correct / self.value["change"])
            return f"{percent} % of it." if percent else "None of it."
        return f"{number(self.correct, '+.3f')} of {number(self.value['change'], '+.3f')}."

    def sentence(self) -> str:
        """Of what the change consists."""
        if self.unseen:
            return (
                f"No prompt has two correct answers of {self.group} both at the reference and now, so that nothing is"
                f" known of them. Its change is {number(self.value['change'], '+.3f')}."
            )
        wrong = self.value["narrowing_wrong"] + self.value["narrowing_cross"]
        parts = [
            f"{number(self.correct, '+.3f')}{self.bounds} among correct answers{self._became()}",
            f"{number(self.value['quality_control'], '+.3f')} quality control, as wrong answers were removed or added",
            f"{number(wrong, '+.3f')} change among wrong answers",
        ]
        return f"{self.group}'s change of {number(self.value['change'], '+.3f')} consists of {listed(parts, ';')}."

    def _became(self) -> str:
        if abs(self.correct) < 0.0005:
            return ""
        return ", which became more diverse" if self.correct > 0 else ", which became alike"

    def brief(self) -> str:
        """The same of another group."""
        if self.unseen:
            return f"{self.group}: no pairs of correct answers on both sides."
        return f"{self.group}: {number(self.correct, '+.3f')}{self.bounds} among correct answers."
