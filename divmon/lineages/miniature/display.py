"""What the demo shows at its end: both curves as bars and as a picture, samples side by side, where it all lies."""

from __future__ import annotations

import itertools
import math
import shlex
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from divmon.analysis.comparison.cells import block
from divmon.types import TERMS

if TYPE_CHECKING:
    from divmon.storage.reader import Run
    from divmon.types import Probe

COLOURS = {"narrow": "#D55E00", "broad": "#0072B2"}
"""Of Okabe and Ito: told apart by colour-blind readers too."""
MARKERS = {"narrow": "o", "broad": "s"}
TITLES = {"narrow": "narrow data (one style)", "broad": "broad data (six styles)"}
BAR = 16
"""Characters of a full bar."""
COLUMN = 38


class Curve(NamedTuple):
    """One figure of one run at each step; low and high bound its 95 percent interval over prompts."""

    steps: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def curve(run: Run, metric: str, scale: float = 1.0) -> Curve:
    """A metric of the run's only task, times `scale`."""
    frame = run.scores[run.scores["metric"] == metric].sort_values("step")
    mean, low, high = ([float(x) * scale for x in frame[name]] for name in ("mean", "low", "high"))
    return Curve([int(step) for step in frame["step"]], mean, low, high)


def distinct(run: Run, num_samples: int) -> Curve:
    """Distinct completions among the first `num_samples` of a prompt."""
    return curve(run, "distinct_share", num_samples)


def summary(runs: dict[str, Run], probe: Probe, num_samples: int) -> str:
    """The terminal's part: both curves as bars, and samples of one prompt from both final models."""
    last = max(next(iter(runs.values())).steps)
    return "\n".join(
        [
            "",
            f"What happened, on {len(probe.prompts)} questions that no training data asks (95 percent intervals over"
            " questions)",
            "",
            *_bars(
                f"distinct completions among {num_samples} of a question",
                {name: distinct(run, num_samples) for name, run in runs.items()},
                num_samples,
                ".1f",
            ),
            "",
            *_bars(
                "SBERT: mean cosine distance of two completions, 0 = the same",
                {name: curve(run, "sbert") for name, run in runs.items()},
                None,
                ".3f",
            ),
            "",
            *_bars(
                "right answers, percent", {name: curve(run, "accuracy", 100) for name, run in runs.items()}, 100, ".0f"
            ),
            "",
            *_parts(runs, last),
            "",
            *_side_by_side(runs, probe, last, num_samples),
        ]
    )


def where(out: Path, picture: Path, seconds: float) -> str:
    """Where the results lie and how to open them."""
    folder = shlex.quote(str(out))
    return "\n".join(
        [
            "",
            f"Done in {seconds:.0f} s.",
            f"  picture      {picture}",
            f"  TensorBoard  tensorboard --logdir {folder}",
            f"  data frames  python -c \"from divmon import read_run; print(read_run('{out / 'narrow'}').scores)\"",
        ]
    )


def _bars(title: str, curves: dict[str, Curve], full: float | None, form: str) -> list[str]:
    """A line a step and a column a run: bar, mean, interval."""
    full = full or max(itertools.chain(*(c.mean for c in curves.values()))) or 1.0
    lines = [title, f"  {'step':>5}  " + "  ".join(f"{TITLES[name]:{COLUMN}}" for name in curves).rstrip()]
    for i, step in enumerate(next(iter(curves.values())).steps):
        cells = []
        for c in curves.values():
            bar = block() * round(BAR * min(max(c.mean[i] / full, 0.0), 1.0))
            interval = "" if math.isnan(c.low[i]) else f" [{c.low[i]:{form}}, {c.high[i]:{form}}]"
            cells.append(f"{bar:{BAR}} {c.mean[i]:{form}}{interval}")
        lines.append(f"  {step:5}  " + "  ".join(f"{cell:{COLUMN}}" for cell in cells).rstrip())
    return lines


def _parts(runs: dict[str, Run], step: int) -> list[str]:
    """The exact parts of the change in SBERT: wrong answers removed, narrowing among correct ones, the rest."""
    lines = [
        f"SBERT: the change by step {step} (minus: diversity lost) is the sum of",
        "  " + "  ".join(f"{TITLES[name]:26}" for name in runs).rstrip(),
    ]
    terms = {f"sbert/{term}": words for term, words in TERMS.items()}
    for metric, words in {**terms, "sbert": "the whole change"}.items():
        cells = []
        for run in runs.values():
            changes = run.changes
            row = changes[(changes["step"] == step) & (changes["metric"] == metric)].iloc[0]
            cells.append(f"{row['change']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]")
        lines.append("  " + "  ".join(f"{cell:26}" for cell in cells) + f"  {words}")
    return lines


def _side_by_side(runs: dict[str, Run], probe: Probe, step: int, num_samples: int, few: int = 3) -> list[str]:
    """The first samples of the first prompt, as they came."""
    prompt = probe.prompts[0]
    texts = {}
    for name, run in runs.items():
        of_prompt = run.samples.query("step == @step and prompt_id == @prompt.id").sort_values("index")
        texts[name] = list(of_prompt["text"])[:num_samples]
    lines = [f"Samples after step {step}.  {str(prompt.content).strip()}  (gold: {prompt.gold})", ""]
    heads = [f"{TITLES[name]}: {len(set(drawn))} distinct of {len(drawn)}" for name, drawn in texts.items()]
    lines.append("  " + "  ".join(f"{head:{COLUMN + 6}}" for head in heads).rstrip())
    for i in range(min(few, num_samples)):
        lines.append("")
        columns = [_wrapped(drawn[i], COLUMN + 4) for drawn in texts.values()]
        for row in itertools.zip_longest(*columns, fillvalue=""):
            lines.append("  " + "  ".join(f"{cell:{COLUMN + 6}}" for cell in row).rstrip())
    return lines


def _wrapped(text: str, width: int) -> list[str]:
    return [piece for line in text.splitlines() for piece in textwrap.wrap(line, width)]


def draw(runs: dict[str, Run], path: Path, num_prompts: int, num_samples: int) -> None:
    """The picture: both runs, distinct completions on the left, mean distance on the right, with 95 percent bands."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # Without pyplot: no window system is asked for, and no setting of the user's is changed.
    figure = Figure(figsize=(9.5, 4.2), layout=ConstrainedLayoutEngine(wspace=0.06))
    FigureCanvasAgg(figure)
    panels = [
        (
            f"Distinct completions among {num_samples}",
            "distinct completions per question",
            lambda r: distinct(r, num_samples),
        ),
        ("Mean SBERT distance of two completions", "cosine distance (0 = the same)", lambda r: curve(r, "sbert")),
    ]
    for axes, (title, unit, values) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for name, run in runs.items():
            c: Curve = values(run)
            axes.fill_between(c.steps, c.low, c.high, color=COLOURS[name], alpha=0.18, linewidth=0)
            axes.plot(c.steps, c.mean, color=COLOURS[name], marker=MARKERS[name], linewidth=2, label=TITLES[name])
        axes.set_title(title, loc="left", fontsize=12)
        axes.set_xlabel("fine-tuning step")
        axes.set_ylabel(unit)
        axes.set_xticks(c.steps)
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
    figure.axes[0].legend(frameon=False, loc="center right")
    figure.supxlabel(
        f"n = {num_prompts} questions x {num_samples} samples; bands: 95 percent intervals over questions", fontsize=9
    )
    figure.savefig(path, dpi=150)
