"""How many approaches a language model sees among the answers to a prompt."""

from __future__ import annotations

import torch
from torch import Tensor

from divmon.scoring.metrics import Figure, effective_number, entropy, metric


@metric(
    "How many approaches (correct) answers take, as a language model judges them",
    figures={
        "judged_approaches": Figure(
            "Effective number of approaches among 8 (correct) answers as a judge sees them, of order 2",
            range=(1, 8),
            graded=True,
            rank=114,
            aggregate="harmonic_mean",
        ),
        "judged_entropy": Figure(
            "Entropy of the judge's classes of (correct) answers, nats", range=(0, None), graded=True, rank=116
        ),
    },
    source="Zhang et al. 2025 (NoveltyBench, arXiv:2504.05228); Simpson 1949",
    on_request=True,
)
def judge_clusters(judged_PK: list[list[int | None]]) -> dict[str, Tensor]:
    """How many approaches (correct) answers take, as a language model judges them.

    The judge is asked whether two answers take the same approach; an answer joins the first class whose first member it
    is the same as, else it opens one (the greedy partition of NoveltyBench). It defines approaches where there are
    neither equations nor programs to tell them by.

    Args:
        judged_PK: the class of each of a prompt's first 8 (correct) answers among the first K; None of the others.

    Returns:
        `judged_approaches` [P]: with C the share of pairs in one class, 8 / (1 + 7 C). `judged_entropy` [P]: -sum p log
        p of the classes' shares, comparable at equal numbers of (correct) answers only. NaN below two judged answers.

    >>> judge_clusters([[0, 1, None], [0, 0, None]])["judged_approaches"]
    tensor([8., 1.], dtype=torch.float64)
    """
    return {
        "judged_approaches": torch.tensor([effective_number(row) for row in judged_PK], dtype=torch.float64),
        "judged_entropy": torch.tensor([entropy(row) for row in judged_PK], dtype=torch.float64),
    }
