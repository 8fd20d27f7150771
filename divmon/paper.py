"""What the paper (arXiv 2604.16027) publishes, as data frames, and its own view of a run, so that the two compare.

The numbers are facts from its tables 3 to 6 (SBERT, EAD, NLI and Vendi of 16 models by task) and 14 (quality-filtered),
kept in data/paper_tables.csv.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from divmon.decomposition import Array, Verdicts, as_distances, plain, sides
from divmon.stats import mean_interval

if TYPE_CHECKING:
    import pandas as pd

LINEAGES = {
    "Think": (("SFT", "think-sft"), ("DPO", "think-dpo"), ("RL", "think")),
    "Instruct": (("SFT", "instruct-sft"), ("DPO", "instruct-dpo"), ("RL", "instruct")),
}
"""The stages of each lineage in order, and the model after each. RL-Zero is one stage with six runs."""


def tables() -> pd.DataFrame:
    """All published numbers, one a row: model, task, metric, value, paper_table."""
    import pandas as pd

    with resources.files("divmon").joinpath("data/paper_tables.csv").open(encoding="utf-8") as file:
        return pd.read_csv(file, comment="#")


def stage_attribution() -> pd.DataFrame:
    """What each stage of post-training takes of the base model's SBERT diversity (table 3).

    Returns:
        One row a stage: lineage, stage, change_percent (of the base model, over the stage) and kept_percent (after it).
        Each is the mean over the 15 tasks of the percentage of base on that task, which is what gives the paper's
        figures; RL-Zero is the mean of its six runs.
    """
    import pandas as pd

    table_3 = tables().query("paper_table == 3").pivot(index="model", columns="task", values="value")
    kept = (100 * table_3 / table_3.loc["base"]).mean(axis=1)
    rows = []
    for lineage, stages in LINEAGES.items():
        before = kept["base"]
        for stage, model in stages:
            rows.append((lineage, stage, kept[model] - before, kept[model]))
            before = kept[model]
    zero = kept[kept.index.str.startswith("rl-zero")].mean()
    rows.append(("RL-Zero", "RL", zero - kept["base"], zero))
    return pd.DataFrame(rows, columns=["lineage", "stage", "change_percent", "kept_percent"])


def quality_filtered() -> pd.DataFrame:
    """Table 14 by model and task: accuracy_percent, sbert_all (D_a), sbert_correct (D_c), vendi_correct (V_c)."""
    table_14 = tables().query("paper_table == 14")
    columns = table_14["metric"].unique()
    return table_14.pivot(index=["model", "task"], columns="metric", values="value")[columns].reset_index()


@dataclass(frozen=True)
class PaperView:
    """Quality-filtered diversity as the paper reports it, so that published numbers compare. Not an estimate of
    narrowing: D_c and V_c are of whichever prompts have two correct answers, and that set moves with accuracy (survivor
    bias); V_c also grows with the number of correct answers.

    Each entry holds `reference`, `now`, `n_reference` and `n_now`, the prompts behind the means.
    """

    d_all: dict[str, float]
    """D_a: mean distance of all answers."""
    d_correct: dict[str, float]
    """D_c: of correct answers, prompts with two or more."""
    v_all: dict[str, float]
    """V_a: Vendi score of all answers."""
    v_correct: dict[str, float]
    residual_share: float
    """Loss of D_c over loss of D_a, which the paper reads as the share that is narrowing; NaN where D_a is equal."""

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers, ready for JSON; undefined is None."""
        return plain(vars(self))


def paper_view(
    reference_PNN: Any,
    now_PNN: Any,
    reference_verdicts: Verdicts,
    now_verdicts: Verdicts,
    num_samples: int | None = None,
) -> PaperView:
    """The paper's own quality-filtered figures (its table 14) on both sides.

    Args:
        reference_PNN, now_PNN: cosine distances [P, N, N], so that 1 minus them is the Gram matrix of Vendi.
        num_samples: K; the first K samples are taken, since the prompts behind D_c depend on their number. All where
            None.

    Raises:
        ValueError: the shapes do not fit one another.
    """
    figures: dict[str, dict[str, float]] = {name: {} for name in ("d_all", "d_correct", "v_all", "v_correct")}
    for side, given, verdicts in (("reference", reference_PNN, reference_verdicts), ("now", now_PNN, now_verdicts)):
        distances = as_distances(given)
        right_PN, _ = sides(verdicts, distances.shape)
        for suffix, kept_PN in (("all", np.ones(right_PN.shape, dtype=bool)), ("correct", right_PN)):
            first = distances[:, :num_samples, :num_samples], kept_PN[:, :num_samples]
            for letter, value_P in zip("dv", _distance_and_vendi(*first), strict=True):
                mean = mean_interval(value_P)
                figures[f"{letter}_{suffix}"] |= {side: mean.value, f"n_{side}": mean.n}
    loss = {name: value["reference"] - value["now"] for name, value in figures.items()}
    share = loss["d_correct"] / loss["d_all"] if loss["d_all"] else math.nan
    return PaperView(**figures, residual_share=share)


def _distance_and_vendi(distance_PNN: Array, kept_PN: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Mean pairwise distance and Vendi score of order 1 of the kept samples [P], NaN below two."""
    off_diagonal_NN = ~np.eye(distance_PNN.shape[1], dtype=bool)
    pair_PNN = np.isfinite(distance_PNN) & kept_PN[:, :, None] & kept_PN[:, None, :] & off_diagonal_NN
    count_P, there_PN = pair_PNN.sum((1, 2)), pair_PNN.sum(2) > 0
    n_P = there_PN.sum(1)
    gram_PNN = np.where(pair_PNN, 1 - distance_PNN, 0.0) + there_PN[:, :, None] * ~off_diagonal_NN
    value_PN = np.linalg.eigvalsh(gram_PNN / np.maximum(n_P, 1)[:, None, None]).clip(min=0)
    entropy_P = -(value_PN * np.log(value_PN, where=value_PN > 0, out=np.zeros_like(value_PN))).sum(1)
    with np.errstate(invalid="ignore"):
        mean_P = np.where(pair_PNN, distance_PNN, 0.0).sum((1, 2)) / count_P
    # With a pair undefined between two samples there is no Gram matrix.
    return mean_P, np.where((n_P >= 2) & (count_P == n_P * (n_P - 1)), np.exp(entropy_P), np.nan)
