"""The decomposition over time as a picture: the parts of a change, stacked around zero."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from divmon.types import TERMS

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

COLOURS = {
    "quality_control": "#0072B2",
    "narrowing_correct": "#D55E00",
    "narrowing_wrong": "#CCCCCC",
    "narrowing_cross": "#888888",
}
"""Of Okabe and Ito, and greys for what is neither: told apart by colour-blind readers too."""

MOST = 24
"""Steps drawn: a picture of a thousand takes seconds, and is made anew after each measurement."""


def evenly(steps: Sequence[int], most: int) -> list[int]:
    """At most so many of them, evenly spaced, with the first and the last.

    >>> evenly([0, 1, 2, 3, 4, 5, 6], 3)
    [0, 3, 6]
    """
    if len(steps) <= most:
        return list(steps)
    return [steps[round(i * (len(steps) - 1) / max(most - 1, 1))] for i in range(most)]


def available() -> bool:
    """Whether there is matplotlib to draw with; it comes with the extra `demo`."""
    return importlib.util.find_spec("matplotlib") is not None


def stacked(parts: Mapping[int, Mapping[str, Any]], metric: str, task: str) -> Figure:
    """Bars of the terms at each step, losses below zero and gains above, and the whole change as a line.

    Of more than `MOST` steps so many are drawn, evenly spaced.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)  # not pyplot, whose figures are the program's
    axes = figure.subplots()
    steps = evenly(sorted(parts), MOST)
    places = range(len(steps))
    below, above = [0.0] * len(steps), [0.0] * len(steps)
    for term, what in TERMS.items():
        values = [parts[step][term] or 0.0 for step in steps]
        bottoms = [low if value < 0 else high for value, low, high in zip(values, below, above, strict=True)]
        axes.bar(places, values, bottom=bottoms, color=COLOURS[term], label=what, width=0.7)
        below = [low + min(value, 0.0) for low, value in zip(below, values, strict=True)]
        above = [high + max(value, 0.0) for high, value in zip(above, values, strict=True)]
    changes = [float("nan") if parts[step]["change"] is None else parts[step]["change"] for step in steps]
    axes.plot(places, changes, color="black", marker="o", linewidth=1, label="change")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(list(places), [str(step) for step in steps], rotation=45 if len(steps) > 12 else 0)
    axes.set_xlabel("step")
    axes.set_ylabel(f"change of {metric} since the reference")
    some = "" if len(steps) == len(parts) else f"; {len(steps)} of {len(parts)} steps"
    axes.set_title(f"{task}: decomposition of the change (n = {parts[steps[-1]]['n']} prompts{some})", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def pixels(figure: Figure) -> np.ndarray:
    """A figure as uint8 [height, width, 3]."""
    import numpy as np

    canvas: Any = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
