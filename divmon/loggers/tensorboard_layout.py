"""TensorBoard's Custom Scalars: the loss beside the diversity of each task, and its change with its interval."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from divmon.loggers import FIRST, REST
from divmon.types import TERMS

LOSS = r"(?i)^((train|eval|valid|validation)[/_])?loss$"
"""The host's loss, as trainers and loops of one's own name it."""
TITLE = "Output diversity beside the loss (changes: since the reference, with 95 % intervals)"


def layout(tasks: Mapping[str, Mapping[str, str]], others: Mapping[str, str]) -> dict[str, Any]:
    """What `SummaryWriter.add_custom_scalars` takes. TensorBoard opens the first category, and draws all of it: one
    curve a chart, as it writes no names beside them, and those with an interval last.

    Args:
        tasks: task -> its headline metrics with their titles; the first is shown with its change.
        others: name of a figure that is not in the headline -> the name of its change.
    """
    leading: dict[str, Any] = {}
    further: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for task, metrics in tasks.items():
        for place, (metric, title) in enumerate(metrics.items()):
            name = f"{FIRST}/{task}/{metric.replace('/', '_')}"
            (further if place else leading)[f"{task}: {title}"] = ["Multiline", [f"^{re.escape(name)}$"]]
            if not place:
                changes[f"{task}: change of {metric}"] = _band(f"{name}_change")
    first = {"loss": ["Multiline", [LOSS]], **leading, **further, **changes}
    rest = {name.removeprefix(f"{REST}/"): _band(change) for name, change in others.items()}
    made = {TITLE: first, "What the change consists of": _terms(others), "Change of every other figure": rest}
    return {title: own for title, own in made.items() if own}


def _band(change: str) -> list[Any]:
    return ["Margin", [change, f"{change}_low", f"{change}_high"]]


def _terms(others: Mapping[str, str]) -> dict[str, Any]:
    """A chart of each decomposed metric with its terms as lines."""
    ends = f"_{next(iter(TERMS))}"
    whole = [name.removesuffix(ends) for name in others if name.endswith(ends)]
    lines = "|".join(TERMS)
    return {name.removeprefix(f"{REST}/"): ["Multiline", [rf"^{re.escape(name)}_({lines})_change$"]] for name in whole}
