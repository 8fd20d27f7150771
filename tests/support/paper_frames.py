"""Figures that the paper states in its text, from the tables that it publishes (`divmon.lineages.published.paper`)."""

from __future__ import annotations

import pandas as pd

from divmon.lineages.published.paper import tables

LINEAGES = {
    "Think": (("SFT", "think-sft"), ("DPO", "think-dpo"), ("RL", "think")),
    "Instruct": (("SFT", "instruct-sft"), ("DPO", "instruct-dpo"), ("RL", "instruct")),
}
"""The stages of each lineage in order, and the model after each. RL-Zero is one stage with six runs."""


def stage_attribution() -> pd.DataFrame:
    """What each stage of post-training takes of the base model's SBERT diversity (table 3).

    Returns:
        One row a stage: lineage, stage, change_percent (of the base model, over the stage) and kept_percent (after it).
        Each is the mean over the 15 tasks of the percentage of base on that task, which is what gives the paper's
        figures; RL-Zero is the mean of its six runs.
    """
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
