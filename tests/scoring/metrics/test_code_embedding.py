from __future__ import annotations

import torch

from divmon.scoring.metrics.code_embedding import code_embedding
from divmon.scoring.metrics.sbert import sbert
from divmon.scoring.metrics.vendi import vendi


def test_it_is_sbert_and_vendi_of_the_correct_programs() -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings_PKD = torch.nn.functional.normalize(torch.randn(5, 7, 6, generator=generator), dim=-1)
    mask_PK = torch.rand(5, 7, generator=generator) < 0.8
    correct_PK = torch.rand(5, 7, generator=generator) < 0.7
    figures = code_embedding(embeddings_PKD, mask_PK, correct_PK)
    expected_sbert = sbert(embeddings_PKD, mask_PK & correct_PK)["sbert"]
    expected_vendi = vendi(embeddings_PKD, mask_PK & correct_PK)["vendi"]
    assert torch.allclose(figures["code_sbert"], expected_sbert, equal_nan=True)
    assert torch.allclose(figures["code_vendi"], expected_vendi, equal_nan=True)


def test_without_verdicts_all_programs_count_and_vendi_takes_the_first_k() -> None:
    embeddings_PKD = torch.eye(4)[None]
    figures = code_embedding(embeddings_PKD, torch.ones(1, 4, dtype=torch.bool), num_samples=2)
    assert figures["code_sbert"].item() == 1
    assert round(figures["code_vendi"].item(), 12) == 2
