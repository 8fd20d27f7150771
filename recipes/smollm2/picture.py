"""Draws what each stage left of the base model's diversity: python recipes/smollm2/picture.py RUNS OUT.png

RUNS is the folder that train.py wrote to. Whiskers are 95 percent intervals over prompts, each stage by itself; a ring
is a stage that divmon calls not comparable, as too many of its answers are truncated.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from divmon import read_run
from divmon.types import TRUNCATED_LIMIT

STAGES = {
    "base": "before training",
    "sft-one-0": "SFT, one source",
    "sft-mixture-0": "SFT, two sources",
    "dpo-0": "... then DPO",
    "grpo-0": "... then GRPO",
}
PANELS = {
    "sbert": "Distance of two answers (SBERT)",
    "vendi": "Distinct answers of 16 (Vendi)",
    "accuracy": "Correct, percent",
}
COLORS = {"base": "#555555", "sft-one-0": "#D55E00", "sft-mixture-0": "#0072B2"}
OTHER = "#009E73"


def main() -> None:
    runs = {stage: read_run(Path(sys.argv[1]) / stage) for stage in STAGES if (Path(sys.argv[1]) / stage).is_dir()}
    last = {stage: run.scores[run.scores["step"] == run.steps[-1]] for stage, run in runs.items() if run.steps}
    truncated = {stage: _score(scores, "truncated").mean for stage, scores in last.items()}
    figure = Figure(figsize=(11, 0.55 * len(last) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (metric, title) in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS.items(), strict=True):
        for place, (stage, scores) in enumerate(last.items()):
            _whisker(axes, place, stage, metric, scores, filled=truncated[stage] <= TRUNCATED_LIMIT)
        axes.set_title(title, fontsize=11)
        names = [
            f"{STAGES[stage]}{f' ({share:.0%} truncated)' if share > TRUNCATED_LIMIT else ''}"
            for stage, share in truncated.items()
        ]
        axes.set_yticks(range(len(last)), names)
        axes.set_ylim(len(last) - 0.5, -0.7)
        axes.set_xlim(left=0)
        axes.grid(axis="x", color="#dddddd")
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(sys.argv[2], dpi=110)


def _score(scores: Any, metric: str) -> Any:
    return next(scores[scores["metric"] == metric].itertuples())


def _whisker(axes: Any, place: int, stage: str, metric: str, scores: Any, *, filled: bool) -> None:
    score, scale, color = _score(scores, metric), 100 if metric == "accuracy" else 1, COLORS.get(stage, OTHER)
    axes.plot([scale * max(score.low, 0.0), scale * score.high], [place, place], color=color, linewidth=2)
    face = color if filled else "white"
    axes.plot([scale * score.mean], [place], "o", color=color, markerfacecolor=face, markersize=8)
    label = f"{scale * score.mean:.0f}" if metric == "accuracy" else f"{score.mean:.2f}"
    axes.annotate(label, (scale * score.mean, place), (0, 7), textcoords="offset points", ha="center", fontsize=9)


if __name__ == "__main__":
    main()
