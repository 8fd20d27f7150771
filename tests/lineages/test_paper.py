"""The published numbers, and the paper's view of a run against the metrics it is made of."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from support import paper_frames

from divmon.lineages.published import paper
from divmon.scoring.metrics import sbert, vendi
from divmon.scoring.paper_view import paper_view


def test_stages_take_what_the_paper_says() -> None:
    """Percent of Base SBERT: Think -62, -4, +4 with 38 kept, Instruct -38, -23, -5 with 34 kept, RL-Zero keeps 93."""
    stages = paper_frames.stage_attribution()
    rounded = stages.round().astype({"change_percent": int, "kept_percent": int})
    assert rounded.values.tolist() == [
        ["Think", "SFT", -62, 38],
        ["Think", "DPO", -4, 33],
        ["Think", "RL", 4, 38],
        ["Instruct", "SFT", -38, 62],
        ["Instruct", "DPO", -23, 39],
        ["Instruct", "RL", -5, 34],
        ["RL-Zero", "RL", -7, 93],
    ]
    ends = stages.groupby("lineage", sort=False).agg({"change_percent": "sum", "kept_percent": "last"})
    assert np.allclose(100 + ends["change_percent"], ends["kept_percent"])


def test_all_rows_are_there() -> None:
    tables = paper.tables()
    assert list(tables.columns) == ["model", "task", "metric", "value", "paper_table"]
    assert len(tables) == 1358 and tables["model"].nunique() == 16 and tables["task"].nunique() == 15
    assert tables["value"].notna().all() and not tables.duplicated(["model", "task", "metric", "paper_table"]).any()
    by_table = tables.groupby("paper_table").size().to_dict()
    assert by_table == {3: 240, 4: 240, 5: 192, 6: 240, 14: 446}


def test_quality_filtered_rows_give_the_share_that_is_left() -> None:
    """Loss of D_c over loss of D_a of the two final models, which the text of the paper does not follow."""
    table = paper_frames.quality_filtered().set_index(["model", "task"])
    assert len(table) == 112
    loss = table.loc["base"] - table.loc[["think", "instruct"]].groupby("task").mean()
    share = (100 * loss["sbert_correct"] / loss["sbert_all"]).round()
    assert (share["ifeval"], share["mbpp"]) == (pytest.approx(93, abs=1), pytest.approx(64, abs=1))
    assert share["humaneval"] == pytest.approx(7, abs=1)
    assert math.isnan(table.loc[("rl-zero-if", "humaneval"), "sbert_correct"])  # nothing was correct


GENERATOR = torch.Generator().manual_seed(0)


def side(samples: int) -> tuple[torch.Tensor, torch.Tensor, list]:
    embeddings_PKD = torch.randn(7, samples, 12, generator=GENERATOR) + 1
    mask_PK = torch.rand(7, samples, generator=GENERATOR) > 0.1
    right_PK = torch.rand(7, samples, generator=GENERATOR) < torch.linspace(0, 1, 7)[:, None]
    verdicts = [[None if k % 5 == 4 else bool(v) for k, v in enumerate(row)] for row in right_PK]
    return embeddings_PKD, mask_PK, verdicts


def test_the_papers_view_is_its_metrics_averaged_over_its_own_prompt_sets() -> None:
    (reference, reference_mask, before), (now, now_mask, after) = side(24), side(8)
    view = paper_view(
        sbert.pairwise(reference, reference_mask), sbert.pairwise(now, now_mask), before, after, num_samples=8
    )
    for name, embeddings_PKD, mask_PK, verdicts in (
        ("reference", reference[:, :8], reference_mask[:, :8], [row[:8] for row in before]),
        ("now", now, now_mask, after),
    ):
        correct_PK = torch.tensor([[v is True for v in row] for row in verdicts])
        expected = sbert.sbert(embeddings_PKD, mask_PK, correct_PK) | vendi.vendi(embeddings_PKD, mask_PK, correct_PK)
        for figure, metric in (
            (view.d_all, "sbert"),
            (view.d_correct, "sbert_correct"),
            (view.v_all, "vendi"),
            (view.v_correct, "vendi_correct"),
        ):
            assert figure[name] == pytest.approx(expected[metric].nanmean().item(), abs=1e-9), metric
            assert figure[f"n_{name}"] == int((~expected[metric].isnan()).sum())
    loss_all, loss_correct = (figure["reference"] - figure["now"] for figure in (view.d_all, view.d_correct))
    assert view.residual_share == pytest.approx(loss_correct / loss_all)


def test_the_view_reads_as_json_and_is_undefined_where_nothing_changed_or_nothing_is_correct() -> None:
    distances, wrong = np.full((3, 4, 4), 0.2), [[False] * 4] * 3
    entry = json.loads(json.dumps(paper_view(distances, distances, wrong, wrong).as_dict(), allow_nan=False))
    assert set(entry) == {"d_all", "d_correct", "v_all", "v_correct", "residual_share"}
    assert entry["d_all"] == {"reference": pytest.approx(0.2), "n_reference": 3, "now": pytest.approx(0.2), "n_now": 3}
    assert entry["d_correct"]["now"] is None and entry["residual_share"] is None


def test_a_pair_without_a_distance_leaves_no_gram_matrix() -> None:
    distances = np.full((1, 3, 3), 0.5)
    distances[0, 0, 1] = distances[0, 1, 0] = math.nan
    view = paper_view(distances, distances, [[True] * 3], [[True] * 3])
    assert view.d_all["now"] == 0.5 and view.v_all["n_now"] == 0
