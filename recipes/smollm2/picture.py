"""Draws what each stage left of the base model's diversity: python recipes/smollm2/picture.py RUNS OUT.png

RUNS is the folder that train.py wrote to. Whiskers are 95 percent intervals over prompts, each stage by itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from divmon import read_run

STAGES = {
    "base": "before training",
    "sft-one-0": "SFT, one source",
    "sft-mixture-0": "SFT, two sources",
    "dpo-0": "... then DPO",
    "grpo-0": "... then GRPO",
}
PANELS = {
    "sbert": "Mean SBERT distance of two answers",
    "vendi": "Effective number of answers (Vendi, of 16)",
    "accuracy": "Correct answers, percent",
}
COLORS = {"base": "#555555", "sft-one-0": "#D55E00", "sft-mixture-0": "#0072B2"}


def main() -> None:
    runs, out = Path(sys.argv[1]), sys.argv[2]
    stages = [stage for stage in STAGES if (runs / stage).is_dir()]
    figure = Figure(figsize=(11, 0.5 * len(stages) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (metric, title) in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS.items(), strict=True):
        scale = 100 if metric == "accuracy" else 1
        for place, stage in enumerate(stages):
            scores = read_run(runs / stage).scores
            last = scores[scores["metric"] == metric].sort_values("step").iloc[-1]
            low, mean, high = (scale * float(last[name]) for name in ("low", "mean", "high"))
            color = COLORS.get(stage, "#009E73")
            axes.plot([max(low, 0.0), high], [place, place], color=color, linewidth=2)
            axes.plot([mean], [place], "o", color=color, markersize=8)
            axes.annotate(
                f"{mean:.2f}" if scale == 1 else f"{mean:.0f}",
                (mean, place),
                (0, 8),
                textcoords="offset points",
                ha="center",
            )
        axes.set_title(title, fontsize=11)
        axes.set_yticks(range(len(stages)), [STAGES[stage] for stage in stages])
        axes.set_ylim(len(stages) - 0.5, -0.7)
        axes.set_xlim(left=0)
        axes.grid(axis="x", color="#dddddd")
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(out, dpi=150)


if __name__ == "__main__":
    main()
