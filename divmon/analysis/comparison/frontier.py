"""Diversity against quality: which runs and steps no other beats in both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from divmon.scoring.best_point import unbeaten
from divmon.scoring.figure_registry import Registry

if TYPE_CHECKING:
    import pandas as pd


def frontier(curves: pd.DataFrame, figures: Registry) -> pd.DataFrame:
    """Accuracy and diversity of every run and step that may be compared.

    Returns:
        One row a run, step, task and figure of diversity, with intervals over prompts. `best`: no other point of its
        task and figure has as much of both and more of one. That is by the estimates; intervals may overlap.
    """
    sound = curves[curves["trouble"] == ""].drop(columns="accuracy")
    key = ["run", "step", "task"]
    bounds = {"mean": "accuracy", "low": "accuracy_low", "high": "accuracy_high"}
    accuracy = sound[sound["metric"] == "accuracy"].rename(columns=bounds)[[*key, *bounds.values()]]
    points = sound[sound["metric"].isin(figures.diversity(sound["metric"].unique()))].merge(accuracy, on=key)
    points = points.rename(columns={"mean": "value"}).dropna(subset=["accuracy", "value"])
    points["best"] = False
    for _, own in points.groupby(["task", "metric"], sort=False):
        points.loc[own.index, "best"] = unbeaten(own[["accuracy", "value"]].to_numpy())
    first = ["run", "group", "stage", "step", "task", "metric"]
    return points[[*first, *bounds.values(), "value", "low", "high", "n", "best"]].reset_index(drop=True)
