"""What a group's change is made of, in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from divmon.analysis.report.words import interval, number
from divmon.types import TERMS

if TYPE_CHECKING:
    import pandas as pd

    from divmon.analysis.comparison.compare import Comparison


def parts_of(c: Comparison, group: str, task: str, metric: str) -> Parts | None:
    """Of each run of a group at its last step that may be compared; None where nothing was taken apart."""
    found = []
    for member in c.groups[group]:
        own = c.decomposition
        own = own[(own["run"] == member.name) & (own["task"] == task) & (own["metric"] == metric)]
        sound = [step for step in own["step"].unique() if (step, task) not in member.curves.troubles]
        if sound:
            found.append(own[own["step"] == max(sound)].set_index("part"))
    return Parts(group, found) if found else None


class Parts:
    """The parts of a change, by run; of several runs the means are told, without intervals."""

    def __init__(self, group: str, runs: Sequence[pd.DataFrame]) -> None:
        self.group, self.runs = group, runs
        self.value = {part: float(np.mean([run.loc[part, "value"] for run in runs])) for part in ("change", *TERMS)}

    @property
    def real(self) -> float:
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
        if math.isnan(self.real):
            return "It cannot be said."
        change = self.runs[0].loc["change"]
        signs = {self.value[part] > 0 for part in ("change", *TERMS)}
        if len(self.runs) == 1 and change["low"] * change["high"] > 0 and len(signs) == 1:
            return f"{100 * self.real / self.value['change']:.0f} % of it."
        return f"{number(self.real, '+.3f')} of {number(self.value['change'], '+.3f')}."

    def sentence(self) -> str:
        wrong = self.value["narrowing_wrong"] + self.value["narrowing_cross"]
        became = "more diverse" if self.real > 0 else "alike"
        return (
            f"{self.group}'s change of {number(self.value['change'], '+.3f')} is made of {number(self.real, '+.3f')}"
            f"{self.bounds} among right answers, which became {became} (what is lost there is real narrowing);"
            f" {number(self.value['quality_control'], '+.3f')} quality control, as wrong answers went or came; and"
            f" {number(wrong, '+.3f')} change among wrong answers."
        )

    def brief(self) -> str:
        return f"{self.group}: {number(self.real, '+.3f')}{self.bounds} among right answers."
