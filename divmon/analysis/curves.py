"""Snapshots -> a figure against step, tokens, examples or accuracy.

Curves(divmon.read_run("runs/a")).frame()      one row a step, task and figure, with its place on every axis
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from divmon.analysis.comparability import obstacles, settings
from divmon.loggers.console import unanswered
from divmon.scoring.figure_registry import Registry
from divmon.scoring.intervals import jackknife, within_bounds
from divmon.storage.reader import Run
from divmon.types import TRUNCATED_LIMIT

if TYPE_CHECKING:
    import pandas as pd

Array = NDArray[np.float64]

AXES = ("step", "tokens", "examples", "accuracy")
"""What a curve may run over; accuracy is that of the same task."""


@dataclass(frozen=True)
class Table:
    """A figure of one task by step and prompt."""

    steps: list[int]
    prompts: list[str]
    value_SP: Array
    """NaN where undefined."""

    def at(self, steps: Sequence[int], prompts: Sequence[str]) -> Array:
        """The values [S, P] of these steps and prompts, all of which it has."""
        rows = np.searchsorted(self.steps, steps)
        value_SP = self.value_SP if len(rows) == len(self.steps) else self.value_SP[rows]
        if list(prompts) == self.prompts:
            return value_SP
        column = {id: p for p, id in enumerate(self.prompts)}
        return value_SP[:, [column[id] for id in prompts]]


class Curves:
    """The curves of one run, each part read when first asked for."""

    def __init__(self, run: Run) -> None:
        self.run = run

    @cached_property
    def figures(self) -> Registry:
        """What the run's figures are."""
        return Registry(self.run.figures)

    @cached_property
    def positions(self) -> pd.DataFrame:
        """By step: `stage` (None where unnamed), `epoch`, `tokens` and `examples`, NaN where not recorded.

        Tokens and examples are counted over all stages of a lineage; before the first step both are 0.
        """
        import pandas as pd

        counted = ("epoch", "tokens", "examples")
        rows = {
            step: [facts.get("stage"), *map(facts.get, counted)] for step, facts in sorted(self.run.provenance.items())
        }
        frame = pd.DataFrame.from_dict(rows, orient="index", columns=["stage", *counted]).rename_axis("step")
        frame = frame.astype(dict.fromkeys(counted, "float64"))
        for name in ("tokens", "examples"):
            if 0 in frame.index and frame[name].notna().any():
                frame.loc[0, name] = 0.0
            frame[name] += _before_stage(frame["stage"].tolist(), frame[name].to_numpy())
        return frame

    @cached_property
    def tables(self) -> Mapping[tuple[str, str], Table]:
        """(task, figure) -> its values; only of figures that have values by prompt, and of tasks with fixed prompts."""
        prompts = {probe.name: [prompt.id for prompt in probe.prompts] for probe in self.run.probes}
        found = {}
        for (task, figure), values in self.run.values.items():
            ids = prompts.get(task) or prompts.get(task.removesuffix("-full"))
            if ids:
                found[task, figure] = Table(list(values), ids, np.array(list(values.values()), dtype=np.float64))
        return found

    @cached_property
    def troubles(self) -> dict[tuple[int, str], str]:
        """(step, task) -> why its figures must not be compared: measured with other settings than the run's last
        snapshot, too many completions without an answer (contract 3), or a suspicious sampler (contract 5)."""
        scores, found = self.run.scores, self._other_settings()
        at_limit, repeated = (
            scores[scores["metric"] == name].set_index(["step", "task"])["mean"].to_dict()
            for name in ("clipped_ratio", "repetition")
        )
        for step, task, share in scores.loc[scores["metric"] == "no_answer", ["step", "task", "mean"]].itertuples(
            index=False
        ):
            if share > TRUNCATED_LIMIT:
                limit = self.run.provenance[step].get("decoding", {}).get(task, {}).get("max_new_tokens")
                reached, loops = (shares.get((step, task), math.nan) for shares in (at_limit, repeated))
                found[step, task] = unanswered(share, reached, limit, repeated=loops)
        for step, facts in self.run.provenance.items():
            if facts.get("suspicion"):
                tasks = scores.loc[scores["step"] == step, "task"].unique()
                found |= {(step, task): f"the sampler may be at fault: {facts['suspicion']}" for task in tasks}
        return found

    def _other_settings(self) -> dict[tuple[int, str], str]:
        """A run that was resumed may have gone on with other options."""
        steps: dict[str, set[int]] = {}
        for (task, _), table in self.tables.items():
            steps.setdefault(task, set()).update(table.steps)
        found = {}
        for task, those in steps.items():
            last = settings(self.run, max(those), task)
            for step in sorted(those):
                if differ := list(obstacles(last, settings(self.run, step, task))):
                    found[step, task] = f"measured with other settings than step {max(those)}: {differ[0]}"
        return found

    def frame(self, figures: Collection[str] | None = None, prompts: Mapping[str, Sequence[str]] | None = None) -> Any:
        """Every figure at every step, with its 95 percent interval over prompts.

        Args:
            figures: all where None.
            prompts: by task, the prompts to take and no others; tasks that are not named are left out. All where None.

        Returns:
            A data frame with `stage`, `step`, `epoch`, `tokens`, `examples`, `accuracy` (of the task at that step, NaN
            where ungraded), `task`, `metric`, `mean`, `low`, `high`, `n` (prompts), `trouble` (why it must not be
            compared, "" where it may).
        """
        scores = self.run.scores.loc[:, ["step", "task", "metric", "mean", "low", "high", "n"]]
        if figures is not None:
            scores = scores[scores["metric"].isin([*figures, "accuracy"])]
        if prompts is not None:
            scores = self._on(scores[scores["task"].isin(list(prompts))], prompts)
        accuracy = scores[scores["metric"] == "accuracy"].rename(columns={"mean": "accuracy"})
        frame = scores.merge(accuracy[["step", "task", "accuracy"]], how="left", on=["step", "task"])
        if figures is not None:
            frame = frame[frame["metric"].isin(list(figures))]
        frame = frame.merge(self.positions.reset_index(), how="left", on="step")
        frame["trouble"] = [self.troubles.get(key, "") for key in zip(frame["step"], frame["task"], strict=True)]
        first = ["stage", "step", "epoch", "tokens", "examples", "accuracy"]
        return frame[[*first, "task", "metric", "mean", "low", "high", "n", "trouble"]].reset_index(drop=True)

    def _on(self, scores: pd.DataFrame, prompts: Mapping[str, Sequence[str]]) -> pd.DataFrame:
        """The scores of some prompts alone. A figure of all prompts together is left out where that is not all."""
        import pandas as pd

        kept = []
        asked = {probe.name: {prompt.id for prompt in probe.prompts} for probe in self.run.probes}
        whole = {task for task, ids in prompts.items() if asked.get(task, set()) <= set(ids)}
        for row in scores.itertuples(index=False):
            table = self.tables.get((row.task, row.metric))
            if row.task in whole:
                kept.append(tuple(row))
            elif table is not None:
                i = jackknife(self.figures[row.metric].aggregate, table.at([row.step], prompts[row.task])[0])
                low, high = within_bounds(i.value, i.low, i.high, self.figures[row.metric].bounds)
                kept.append((row.step, row.task, row.metric, i.value, low, high, i.n))
        return pd.DataFrame(kept, columns=list(scores.columns)).astype(dict(scores.dtypes))


def left_out(values: Array, how: str = "mean") -> tuple[Array, Array]:
    """The aggregate over prompts [...], and with each prompt left out [..., P]; both leave out what is NaN, so without
    such a prompt it is the same.

    Args:
        values: [..., P].
        how: "mean" or "harmonic_mean", as `Figure.aggregate` says.
    """
    terms = 1 / values if how == "harmonic_mean" else values
    there = ~np.isnan(terms)
    count, terms = there.sum(-1, keepdims=True), np.where(there, terms, 0.0)
    total = terms.sum(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):  # the mean of nothing is NaN
        whole, rest = total / count, (total - terms) / (count - there)
        if how == "harmonic_mean":
            whole, rest = 1 / whole, 1 / rest
    return whole[..., 0], rest


def _before_stage(stage_S: Sequence[Any], count_S: Array) -> Array:
    """What earlier stages had counted: a trainer begins each at 0 again."""
    offset_S = np.zeros(len(count_S))
    for s in range(1, len(count_S)):
        ends = stage_S[s] != stage_S[s - 1]
        offset_S[s] = offset_S[s - 1] + (count_S[s - 1] if ends else 0.0)
    return offset_S
