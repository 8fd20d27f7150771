"""What README.md says is to be done with the results: prints a table, and writes a picture.

python recipes/composition/analyze.py               # results.jsonl, picture.png
python recipes/composition/analyze.py --round 2     # both rounds' results, picture2.png
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

HERE = Path(__file__).parent
NULL = "teachers"
PREDICTORS = (NULL, "teacher_entropy", "opening_overlap", "within_source", "same_prompt", "conditional")
CORRECTED = "form_decoded"
"""What the second round is about; `form` is the same without the temperature."""
OUTCOMES = ("sbert_correct", "sbert", "ead")
RESAMPLES, EARNED = 4000, 0.7

Column = NDArray[np.float64]


def read(results: Path, predictors: Sequence[str] = PREDICTORS) -> tuple[list[str], dict[str, Column]]:
    """Names of the mixtures that have a training, and each figure [mixtures], a mean over their seeds."""
    lines = [json.loads(line) for line in results.read_text().splitlines() if line.endswith("}")]
    names = list(dict.fromkeys(line["mixture"] for line in lines))
    columns: dict[str, Column] = {}
    for part, wanted in (("predictors", predictors), ("after", OUTCOMES)):
        for figure in wanted:
            values = [[_number(r[part].get(figure)) for r in lines if r["mixture"] == n and r[part]] for n in names]
            columns[figure] = np.array([np.mean(own) for own in values])
    columns["seeds"] = np.array([sum(r["mixture"] == name for r in lines) for name in names])
    return names, columns


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def halves(names: Sequence[str]) -> tuple[list[int], list[int]]:
    """Places of the mixtures to fit on, and to judge on: the same for each mixture, however many are there."""
    from run import mixtures

    order = [mixture.name for mixture in mixtures()]
    random.Random(0).shuffle(order)
    first = set(order[: len(order) // 2])
    return ([i for i, n in enumerate(names) if n in first], [i for i, n in enumerate(names) if n not in first])


def rank(x_RN: Column, y_RN: Column) -> Column:
    """Spearman's rank correlation of each row [R]; NaN where one side does not vary."""
    x, y = (rankdata(side, axis=-1) for side in np.broadcast_arrays(x_RN, y_RN))
    x, y = x - x.mean(-1, keepdims=True), y - y.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (x * y).sum(-1) / np.sqrt((x**2).sum(-1) * (y**2).sum(-1))


def interval(values: Sequence[float]) -> tuple[float, float]:
    return tuple(np.nanpercentile(values, [2.5, 97.5])) if np.isfinite(values).any() else (np.nan, np.nan)


def analyze(
    columns: dict[str, Column], fit: list[int], judge: list[int], outcome: str, predictors: Sequence[str] = PREDICTORS
) -> tuple[str, list[dict[str, Any]]]:
    """The candidate of the first half, and of each predictor what the second half says, on mixtures that have it."""

    def there(name: str, half: list[int]) -> list[int]:
        return [i for i in half if not np.isnan(columns[name][i])]

    def fitted(name: str) -> float:
        own = there(name, fit)
        return float(rank(columns[name][own], columns[outcome][own])) if len(own) > 2 else float("nan")

    signs = {name: fitted(name) for name in predictors}
    candidate = max((n for n in predictors if n != NULL), key=lambda n: np.nan_to_num(abs(signs[n]), nan=-1))
    found = []
    for name in predictors:
        own = there(name, judge)
        x, null = (np.sign(signs[n]) * columns[n][own] for n in (name, NULL))
        y = columns[outcome][own]
        draws = np.random.default_rng(0).integers(len(own), size=(RESAMPLES, len(own)))
        rho, by_null = rank(x[draws], y[draws]), rank(null[draws], y[draws])
        row = {"predictor": name, "n": len(own), "fitted": signs[name], "rho": float(rank(x, y))}
        row |= {"interval": interval(rho), "over_null": float(rank(x, y) - rank(null, y))}
        found.append(row | {"over_interval": interval(rho - by_null)})
    return candidate, found


def predicted(x: Column, y: Column, new: Column) -> tuple[Column, float]:
    """What a rising step function (isotonic regression) fitted to (x, y) says of `new`, and the half-width of its 90
    percent interval: that quantile of the errors of fits that leave one mixture out."""
    from sklearn.isotonic import IsotonicRegression

    def fitted(keep: Any, at: Column) -> Column:
        return IsotonicRegression(out_of_bounds="clip").fit(x[keep], y[keep]).predict(at)

    every = np.arange(len(x))
    errors = [abs(float(fitted(every != i, x[[i]])[0] - y[i])) for i in every]
    return fitted(every, new), float(np.quantile(errors, 0.9))


def draw(columns: dict[str, Column], candidate: str, outcome: str, judge: list[int], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    judged = np.isin(np.arange(len(columns[outcome])), judge)
    for axes, name in zip(figure.subplots(1, 2, sharey=True), dict.fromkeys((NULL, candidate)), strict=False):
        for side, marker, label in ((~judged, "o", "fitted on"), (judged, "s", "judged on")):
            axes.scatter(columns[name][side], columns[outcome][side], marker=marker, alpha=0.8, label=label)
        axes.set_xlabel(name)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.axes[0].set_ylabel(f"{outcome} after training")
    figure.axes[0].legend(frameon=False)
    seeds = columns["seeds"]
    figure.suptitle(f"{len(seeds)} mixtures, {int(seeds.sum())} trainings: number of teachers, and {candidate}", x=0.3)
    figure.savefig(path, dpi=150)


def table(outcome: str, candidate: str, found: list[dict[str, Any]]) -> None:
    print(f"\n{outcome} (candidate of those fitted on: {candidate})")
    print(f"{'predictor':16} {'n':>3} {'fitted':>7} {'judged':>7} {'95 %':>15} {'over teachers':>14} {'95 %':>15}")
    for row in found:
        own, beyond = (f"[{low:.2f}, {high:.2f}]" for low, high in (row["interval"], row["over_interval"]))
        print(
            f"{row['predictor']:16} {row['n']:3} {row['fitted']:7.2f} {row['rho']:7.2f} {own:>15}"
            f" {row['over_null']:14.2f} {beyond:>15}"
        )


def earned(found: list[dict[str, Any]], candidate: str) -> bool:
    own = next(row for row in found if row["predictor"] == candidate)
    return bool(own["over_interval"][0] > 0 and own["rho"] >= EARNED)


def second_round(first: Path, second: Path, picture: Path) -> None:
    """Fitted on the first round's mixtures, judged on the second's."""
    predictors = (*PREDICTORS, "form", CORRECTED)
    (names, old), (new_names, new) = (read(path, predictors) for path in (first, second))
    columns = {name: np.concatenate([old[name], new[name]]) for name in old}
    fit, judge = list(range(len(names))), list(range(len(names), len(names) + len(new_names)))
    print(f"{len(fit)} mixtures to fit, {len(judge)} of 48 judged, {int(new['seeds'].sum())} trainings of 96")
    for outcome in OUTCOMES:
        candidate, found = analyze(columns, fit, judge, outcome, predictors)
        table(outcome, candidate, found)
        if outcome == OUTCOMES[0]:
            print(f"{CORRECTED} earned: {'yes' if earned(found, CORRECTED) else 'no'}")
        say, width = predicted(old[CORRECTED], old[outcome], new[CORRECTED])
        error, naive = abs(say - new[outcome]), abs(old[outcome].mean() - new[outcome])
        print(
            f"predicted from {CORRECTED}: mean error {error.mean():.3f} (the first round's mean: {naive.mean():.3f});"
            f" {(error <= width).mean():.0%} within +-{width:.3f}, which is to hold 90 %"
        )
    draw(columns, CORRECTED, OUTCOMES[0], judge, picture)


def main(results: Path, picture: Path) -> None:
    names, columns = read(results)
    fit, judge = halves(names)
    count = int(columns["seeds"].sum())
    print(f"{len(names)} mixtures of 32, {count} trainings of 96; {len(fit)} to fit, {len(judge)} judged")
    if min(len(fit), len(judge)) < 4:
        print("too few mixtures for a correlation")
        return
    for outcome in OUTCOMES:
        candidate, found = analyze(columns, fit, judge, outcome)
        table(outcome, candidate, found)
        if outcome == OUTCOMES[0]:
            whole = len(names) == 32 and (columns["seeds"] == 3).all()
            partial = "" if whole else " (partial: not the decision)"
            print(f"earned: {'yes' if earned(found, candidate) else 'no'}{partial}")
            draw(columns, candidate, outcome, judge, picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--round", type=int, choices=(1, 2), default=1)
    parser.add_argument("--results", type=Path, default=HERE / "results.jsonl")
    parser.add_argument("--results2", type=Path, default=HERE / "results2.jsonl", help="of the second round")
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args()
    if given.round == 1:
        main(given.results, given.picture or HERE / "picture.png")
    else:
        second_round(given.results, given.results2, given.picture or HERE / "picture2.png")
