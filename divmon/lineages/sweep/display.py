"""What a sweep has found, as a table, as a data frame, and as a picture of accuracy against diversity."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from divmon.lineages.sweep import Frontier
from divmon.loggers.terminal import Table

if TYPE_CHECKING:
    import pandas as pd

FACTS = ("accuracy", "accuracy_low", "accuracy_high", "figure", "diversity", "low", "high", "n")
ALPHA, HEAT, CHOSEN = "#1f77b4", "#d62728", "#2ca02c"


def frame(found: Frontier) -> pd.DataFrame:
    """One row a point: `alpha` or `temperature`, accuracy and diversity, with 95 percent intervals over prompts."""
    import pandas as pd

    rows = [{"alpha": alpha, "temperature": None, **_facts(point)} for alpha, point in sorted(found.points.items())]
    rows += [{"alpha": 1.0, "temperature": t, **_facts(point)} for t, point in sorted(found.temperatures.items())]
    names = ["alpha", "temperature", *FACTS]
    made = pd.DataFrame(rows, columns=names).astype({"temperature": "float64"})
    return made.assign(chosen=(made["alpha"] == found.alpha) & made["temperature"].isna())


def table(found: Frontier) -> Table:
    """For a person."""
    rows = []
    base = found.points.get(0.0)
    for row in frame(found).itertuples(index=False):
        kept = "" if base is None else f"{100 * row.diversity / max(base.diversity.value, 1e-12):.0f} %"
        rows.append(
            [
                f"alpha {row.alpha:g}" if math.isnan(row.temperature) else f"temperature {row.temperature:g}",
                _interval(row.accuracy, row.accuracy_low, row.accuracy_high, 2),
                _interval(row.diversity, row.low, row.high, 3),
                kept,
                "chosen" if row.chosen else "",
            ]
        )
    head = ["", "accuracy", _figure(found), "of the base's", ""]
    left = [f"alpha {alpha:g} is left out: {why}" for alpha, why in found.left_out.items()]
    return Table(head, rows, left=(0, 4), after=left)


def draw(found: Frontier, path: Path) -> None:
    """The picture: alphas joined in their order, temperatures of the tuned model beside them, bars of 95 percent.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots()
    rows = frame(found)
    series = [
        (rows[rows["temperature"].isna()], "alpha", ALPHA, "o", "weights between base (0) and tuned (1)"),
        (rows[rows["temperature"].notna()], "temperature", HEAT, "s", "tuned, other temperatures (T)"),
    ]
    for own, name, color, marker, label in series:
        if not len(own):
            continue
        x, y = own["accuracy"], own["diversity"]
        bars = {"xerr": [x - own["accuracy_low"], own["accuracy_high"] - x], "yerr": [y - own["low"], own["high"] - y]}
        axes.errorbar(x, y, **bars, fmt="none", ecolor=color, alpha=0.3, linewidth=1)
        axes.plot(x, y, color=color, marker=marker, linewidth=1.5, label=label, clip_on=False)
        for value, at_x, at_y in zip(own[name], x, y, strict=True):
            text = f"{value:g}" if name == "alpha" else f"T {value:g}"
            axes.annotate(text, (at_x, at_y), textcoords="offset points", xytext=(6, 6), fontsize=8, color=color)
    chosen = rows[rows["chosen"]]
    axes.scatter(
        chosen["accuracy"], chosen["diversity"], s=160, facecolors="none", edgecolors=CHOSEN, linewidths=2,
        label="chosen", zorder=5, clip_on=False,
    )  # fmt: skip
    axes.set_xlabel("accuracy")
    axes.set_ylabel(_figure(found))
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    axes.set_title("Accuracy and diversity between base and tuned model, 95 percent intervals", loc="left", fontsize=10)
    figure.savefig(path, dpi=150)


def _facts(point: Any) -> dict[str, Any]:
    accuracy, diversity = point.accuracy, point.diversity
    low = max(diversity.low, 0.0)
    values = (accuracy.value, accuracy.low, accuracy.high, point.figure, diversity.value, low, diversity.high)
    return dict(zip(FACTS, (*values, diversity.n), strict=True))


def _figure(found: Frontier) -> str:
    return next((point.figure for point in found.points.values()), "diversity")


def _interval(value: float, low: float, high: float, digits: int) -> str:
    if math.isnan(value):
        return ""
    return f"{value:.{digits}f}" + ("" if math.isnan(low) else f" [{low:.{digits}f}, {high:.{digits}f}]")
