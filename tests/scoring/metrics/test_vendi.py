from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.metric_helpers import close, random_units
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from divmon.scoring.metrics.vendi import vendi


class Operations(TorchDispatchMode):
    """Counts what is launched inside."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return function(*args, **kwargs or {})


def full(embeddings_PKD: Tensor) -> Tensor:
    return torch.ones(embeddings_PKD.shape[:2], dtype=torch.bool)


def order1(embeddings_KD: Tensor) -> float:
    """By numpy, one set at a time."""
    vectors = embeddings_KD.double().numpy()
    if len(vectors) < 2:
        return math.nan
    values = np.linalg.eigvalsh(vectors @ vectors.T / len(vectors))
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def test_the_papers_values(embedded: tuple[Tensor, Tensor, Tensor], golden: dict | None) -> None:
    embeddings_PKD, mask_PK, correct_PK = embedded
    figures = vendi(embeddings_PKD, mask_PK, correct_PK)
    for name, mask in {"vendi": mask_PK, "vendi_correct": correct_PK}.items():
        naive = [order1(e[m]) for e, m in zip(embeddings_PKD, mask, strict=True)]
        assert close(figures[name], golden[name] if golden else naive, 1e-4)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8))
def test_it_is_numpys_set_by_set_whatever_the_order(seed: int, samples: int) -> None:
    mask_PK = torch.rand(3, samples, generator=torch.Generator().manual_seed(seed)) < 0.7
    embeddings_PKD = random_units(seed, 3, samples, 5) * mask_PK[..., None]
    figures, flipped = vendi(embeddings_PKD, mask_PK), vendi(embeddings_PKD.flip(1), mask_PK.flip(1))
    assert close(figures["vendi"], [order1(e[m]) for e, m in zip(embeddings_PKD, mask_PK, strict=True)], 1e-6)
    n_P = mask_PK.sum(1)
    for name, least in {"vendi": 2, "vendi_at4": 4, "vendi2_at8": 2}.items():
        value, limit = figures[name], {"vendi": n_P, "vendi_at4": 4, "vendi2_at8": 8}[name]
        assert torch.allclose(value, flipped[name], equal_nan=True)
        assert torch.equal(value.isnan(), n_P < least)
        assert (value.isnan() | (value >= 1 - 1e-9) & (value <= limit + 1e-9)).all()


def test_closed_forms() -> None:
    orthogonal = vendi(torch.eye(6)[None], torch.ones(1, 6, dtype=torch.bool))
    assert [round(v.item(), 12) for v in orthogonal.values()] == [6, 4, 8]
    same = random_units(0, 1, 1, 384).expand(1, 16, 384)
    assert [round(v.item(), 9) for v in vendi(same, full(same)).values()] == [1, 1, 1]
    two_by_two = torch.eye(2)[[0, 0, 1, 1]][None]
    assert vendi(two_by_two, full(two_by_two))["vendi"].item() == pytest.approx(2)


def test_size_four_is_the_mean_over_all_subsets_of_four() -> None:
    embeddings_PKD = random_units(1, 1, 7, 5)
    expected = np.mean([order1(embeddings_PKD[0, list(chosen)]) for chosen in combinations(range(7), 4)])
    assert vendi(embeddings_PKD, full(embeddings_PKD))["vendi_at4"].item() == pytest.approx(expected)


def test_size_four_holds_where_answers_are_copies_or_nearly() -> None:
    raw = torch.randn(6, 10, 3, generator=torch.Generator().manual_seed(7))
    raw[:3, ::2] = raw[:3, 1::2]
    raw[3:, ::2] = raw[3:, 1::2] + torch.tensor([1e-1, 1e-4, 1e-6])[:, None, None] * raw[3:, ::2]
    embeddings_PKD = torch.nn.functional.normalize(raw.double(), dim=-1)
    mask_PK = full(embeddings_PKD)
    mask_PK[1, :5] = mask_PK[4, 7] = False
    expected = [
        np.mean([order1(e[list(chosen)]) for chosen in combinations(m.nonzero().flatten().tolist(), 4)])
        for e, m in zip(embeddings_PKD, mask_PK, strict=True)
    ]
    assert close(vendi(embeddings_PKD, mask_PK)["vendi_at4"], expected, 1e-9)


@settings(deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_size_four_of_any_mask_is_the_mean_over_subsets_of_what_is_there(seed: int, samples: int) -> None:
    mask_PK = torch.rand(4, samples, generator=torch.Generator().manual_seed(seed)) < 0.8
    embeddings_PKD = random_units(seed, 4, samples, 5) * mask_PK[..., None]
    expected = []
    for e_KD, there_K in zip(embeddings_PKD, mask_PK, strict=True):
        chosen = list(combinations(there_K.nonzero().flatten().tolist(), 4))
        expected.append(np.mean([order1(e_KD[list(four)]) for four in chosen]) if chosen else math.nan)
    assert close(vendi(embeddings_PKD, mask_PK)["vendi_at4"], expected, 1e-6)


def test_the_number_of_operations_does_not_depend_on_which_answers_are_correct() -> None:
    embeddings_PKD = random_units(8, 12, 12, 5)
    vendi(embeddings_PKD, full(embeddings_PKD))  # the subsets of each size are listed once
    counts = set()
    for correct_P in ([12] * 12, range(1, 13), [0] * 12):
        correct_PK = torch.arange(12) < torch.tensor(list(correct_P))[:, None]
        with Operations() as operations:
            vendi(embeddings_PKD, full(embeddings_PKD), correct_PK)
        counts.add(operations.count)
    assert len(counts) == 1, "each number of correct answers was a group of launches of its own"


def test_over_two_thousand_subsets_are_drawn_by_seed_and_stay_close() -> None:
    embeddings_PKD = random_units(2, 2, 17, 8)  # 2,380 subsets of four
    expected = [np.mean([order1(e[list(c)]) for c in combinations(range(17), 4)]) for e in embeddings_PKD]
    one, again, other = (vendi(embeddings_PKD, full(embeddings_PKD), seed=s)["vendi_at4"] for s in (0, 0, 1))
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert close(one, expected, 0.05) and close(other, expected, 0.05)


def test_drawing_subsets_leaves_the_default_generator_alone() -> None:
    embeddings_PKD = random_units(3, 1, 20, 4)
    before = torch.get_rng_state()
    vendi(embeddings_PKD, full(embeddings_PKD), seed=123)
    assert torch.equal(before, torch.get_rng_state())


def test_squared_cosines_are_the_same_in_expectation_for_every_number_of_samples() -> None:
    """C2 of the whole set is the mean of C2 over all subsets of a size, so its harmonic-mean average is unbiased."""
    embeddings_PKD = random_units(4, 1, 6, 5)

    def c2(value: Tensor) -> Tensor:
        return (8 / value - 1) / 7

    whole = c2(vendi(embeddings_PKD, full(embeddings_PKD))["vendi2_at8"]).item()
    for size in range(2, 6):
        subsets = torch.stack([embeddings_PKD[0, list(chosen)] for chosen in combinations(range(6), size)])
        assert c2(vendi(subsets, full(subsets))["vendi2_at8"]).mean().item() == pytest.approx(whole)


def test_of_more_samples_the_papers_figure_takes_the_first_k_and_the_others_all() -> None:
    embeddings_PKD = random_units(5, 2, 12, 6)
    first = embeddings_PKD[:, :5]
    more, fewer = vendi(embeddings_PKD, full(embeddings_PKD), num_samples=5), vendi(first, full(first))
    assert torch.allclose(more["vendi"], fewer["vendi"])
    assert not torch.allclose(more["vendi_at4"], fewer["vendi_at4"])


def test_a_duplicate_in_place_of_a_new_answer_lowers_it() -> None:
    distinct = random_units(6, 20, 6, 32)
    repeated = distinct.clone()
    repeated[:, 5] = repeated[:, 0]
    before, after = vendi(distinct, full(distinct)), vendi(repeated, full(repeated))
    assert all((after[name] < before[name]).all() for name in before)
