from __future__ import annotations

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.metric_helpers import close, random_units
from torch import Tensor

from divmon.scoring.metrics.sbert import sbert


def naive(embeddings_PKD: Tensor, mask_PK: Tensor) -> Tensor:
    """Pair by pair."""
    values = []
    for embeddings_KD, mask_K in zip(embeddings_PKD.double(), mask_PK, strict=True):
        distances = [1 - torch.dot(a, b) for a, b in combinations(embeddings_KD[mask_K], 2)]
        values.append(sum(distances) / len(distances) if distances else torch.tensor(torch.nan))
    return torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in values])


def test_the_papers_values(embedded: tuple[Tensor, Tensor, Tensor], golden: dict | None) -> None:
    embeddings_PKD, mask_PK, correct_PK = embedded
    figures = sbert(embeddings_PKD, mask_PK, correct_PK)
    for name, mask in {"sbert": mask_PK, "sbert_correct": correct_PK}.items():
        expected = golden[name] if golden else naive(embeddings_PKD, mask).tolist()
        assert close(figures[name], expected, 1e-4)


@given(st.integers(0, 10_000), st.integers(1, 9))
def test_it_is_the_mean_over_pairs_whatever_their_order(seed: int, samples: int) -> None:
    embeddings_PKD = random_units(seed, 4, samples, 6)
    mask_PK = torch.rand(4, samples, generator=torch.Generator().manual_seed(seed)) < 0.7
    embeddings_PKD = embeddings_PKD * mask_PK[..., None]
    value = sbert(embeddings_PKD, mask_PK)["sbert"]
    assert torch.allclose(value, naive(embeddings_PKD, mask_PK), atol=1e-6, equal_nan=True)
    assert torch.allclose(value, sbert(embeddings_PKD.flip(1), mask_PK.flip(1))["sbert"], equal_nan=True)
    assert ((value >= 0) & (value <= 2) | value.isnan()).all()
    assert torch.equal(value.isnan(), mask_PK.sum(1) < 2)


def test_identical_texts_are_exactly_zero_and_orthogonal_ones_one() -> None:
    same = random_units(0, 1, 1, 384).expand(1, 16, 384)
    assert sbert(same, torch.ones(1, 16, dtype=torch.bool))["sbert"].item() == pytest.approx(0, abs=1e-14)
    assert sbert(torch.eye(5)[None], torch.ones(1, 5, dtype=torch.bool))["sbert"].item() == 1
    opposite = torch.tensor([[[1.0, 0], [-1, 0]]])
    assert sbert(opposite, torch.ones(1, 2, dtype=torch.bool))["sbert"].item() == 2


def test_a_duplicate_lowers_it() -> None:
    embeddings_PKD = random_units(1, 20, 4, 6)
    doubled = torch.cat([embeddings_PKD, embeddings_PKD], 1)
    before, after = (sbert(e, torch.ones(e.shape[:2], dtype=torch.bool))["sbert"] for e in (embeddings_PKD, doubled))
    assert (after < before).all()


def test_it_is_the_same_in_expectation_for_every_number_of_samples() -> None:
    """The mean over all subsets of a size is the value of the whole set, exactly: a U-statistic."""
    embeddings_PKD = random_units(2, 1, 7, 5)
    whole = sbert(embeddings_PKD, torch.ones(1, 7, dtype=torch.bool))["sbert"].item()
    for size in range(2, 7):
        masks = torch.zeros(35 if size in (3, 4) else 21 if size in (2, 5) else 7, 7, dtype=torch.bool)
        for mask, chosen in zip(masks, combinations(range(7), size), strict=True):
            mask[list(chosen)] = True
        assert sbert(embeddings_PKD.expand(len(masks), 7, 5), masks)["sbert"].mean().item() == pytest.approx(whole)
