"""Which metrics are measured: by name, from a file, or all that fit ("auto"), with the models they need."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from divmon.scoring import metrics as registry
from divmon.scoring.figure_registry import of_metrics
from divmon.scoring.metrics import EXPENSIVE, Metric
from divmon.scoring.model_loading import Unavailable
from divmon.scoring.resources import Resources

logger = logging.getLogger("divmon")


def select(names: str | Iterable[Any], resources: Resources, has_code: bool = False) -> list[Metric]:
    """The metrics of these names, with the models they need loaded.

    Args:
        names: "ead,sbert", a list, "file.py:name", a function itself; "auto" among them stands for all that are cheap
            or need only the text encoder, where some prompt asks for code those of programs, and where a judge is named
            its own.
        has_code: some prompt asks for code.

    Raises:
        ValueError: a name is unknown, there is none, or two give a figure of the same name.
        Unavailable: a metric asked for by name, or a model chosen by name, cannot be had. What "auto" cannot have is
            left out, and one line says so.
    """
    several = asked(names)
    if not several:
        raise ValueError(f"no metric is named; there are {', '.join(registry.available())}, or 'auto'")
    chosen = _auto(resources, has_code) if "auto" in several else {}
    for name in several:
        if name != "auto" and name not in chosen:
            chosen[name] = registry.load(name)
            try:
                resources.load(chosen[name].cost)
            except Unavailable as error:
                raise Unavailable(f"metric {name!r} was asked for by name, but {error}") from error
    of_metrics(chosen.values())
    return list(chosen.values())


def asked(names: str | Iterable[Any]) -> list[Any]:
    """Names, and functions as they are."""
    listed = names.split(",") if isinstance(names, str) else names
    stripped = [name.strip() if isinstance(name, str) else name for name in listed]
    return [name for name in stripped if name]


def _auto(resources: Resources, has_code: bool) -> dict[str, Metric]:
    everything = [registry.load(name) for name in registry.available()]
    judge = "judge" if resources.is_chosen("judge") else ""
    wanted = [m for m in everything if m.cost != EXPENSIVE and (not m.on_request or m.cost == judge)]
    fitting = [m for m in wanted if has_code or not m.reads_programs]
    for cost in sorted({metric.cost for metric in fitting}):
        try:
            resources.load(cost)
        except Unavailable as error:
            if resources.is_chosen(cost):
                raise
            without = ", ".join(metric.name for metric in fitting if metric.cost == cost)
            logger.warning("metrics left out: %s; %s", without, str(error).replace("\n", " "))
            fitting = [metric for metric in fitting if metric.cost != cost]
    return {metric.name: metric for metric in fitting}
