from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.metric_helpers import random_units
from torch import Tensor

from divmon.scoring.metrics.across import _nats, across, leave_one_out
from divmon.scoring.metrics.ead import ead
from divmon.scoring.metrics.sbert import sbert
from divmon.scoring.metrics.vendi import vendi


def texts(prompts: int, samples: int) -> list[list[str | None]]:
    return [[f"prompt {p} says {k} of p{p}" for k in range(samples)] for p in range(prompts)]


def naive_traced(embeddings_PKD: Tensor, mask_PK: Tensor) -> float:
    """Sample by sample, against each prompt's mean embedding without the sample itself."""
    hits = []
    prompts = [p for p in range(len(mask_PK)) if mask_PK[p].sum() >= 2]
    for p in prompts:
        for k in mask_PK[p].nonzero().flatten().tolist():
            best = {}
            for q in prompts:
                rows = [i for i in mask_PK[q].nonzero().flatten().tolist() if (q, i) != (p, k)]
                best[q] = torch.cosine_similarity(embeddings_PKD[p, k], embeddings_PKD[q, rows].mean(0), dim=0).item()
            hits.append(max(best, key=best.__getitem__) == p)
    return sum(hits) / len(hits)


def test_the_first_answers_are_scored_as_one_set() -> None:
    embeddings_PKD = random_units(0, 5, 3, 8)
    mask_PK = torch.ones(5, 3, dtype=torch.bool)
    words = texts(5, 3)
    mask_PK[1, 0], mask_PK[2] = False, False
    words[1][0], words[2] = None, [None] * 3
    firsts = torch.stack([embeddings_PKD[0, 0], embeddings_PKD[1, 1], embeddings_PKD[3, 0], embeddings_PKD[4, 0]])[None]
    figures = across(words, embeddings_PKD * mask_PK[..., None], mask_PK, vocab_size=500)
    everyone = torch.ones(1, 4, dtype=torch.bool)
    assert figures["across_sbert"].item() == pytest.approx(sbert(firsts, everyone)["sbert"].item())
    assert figures["across_vendi"].item() == pytest.approx(vendi(firsts, everyone)["vendi"].item())
    expected = ead([[words[0][0], words[1][1], words[3][0], words[4][0]]], 500).item()
    assert figures["across_ead"].item() == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_tracing_is_the_nearest_mean_without_oneself(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    centres = random_units(seed, 6, 1, 8)
    embeddings_PKD = torch.nn.functional.normalize(centres + 0.4 * torch.randn(6, 4, 8, generator=generator), dim=-1)
    mask_PK = torch.rand(6, 4, generator=generator) < 0.8
    figures = across(texts(6, 4), embeddings_PKD * mask_PK[..., None], mask_PK)
    assert figures["traced"].item() == pytest.approx(naive_traced(embeddings_PKD, mask_PK))
    assert figures["traced_chance"].item() == pytest.approx(1 / (mask_PK.sum(1) >= 2).sum().item())


def test_separate_prompts_are_traced_fully_and_one_style_by_chance() -> None:
    separate = torch.eye(5)[:, None].expand(5, 3, 5)
    mask_PK = torch.ones(5, 3, dtype=torch.bool)
    assert across(texts(5, 3), separate, mask_PK)["traced"].item() == 1
    one_text = random_units(1, 1, 1, 16).expand(5, 3, 16)
    collapsed = across(texts(5, 3), one_text, mask_PK)
    assert collapsed["traced"].item() == pytest.approx(0.2) == collapsed["traced_chance"].item()
    assert collapsed["across_sbert"].item() == pytest.approx(0, abs=1e-6)
    nats = [across(texts(5, 3), rows, mask_PK)["traced_nats"].item() for rows in (separate, one_text)]
    assert nats == pytest.approx([math.log(5), 0])


@pytest.mark.parametrize(("prompts", "share"), [(2, 0.9), (5, 0.6), (64, 0.3)])
def test_nats_are_those_of_the_channel_that_is_right_so_often_and_errs_evenly(prompts: int, share: float) -> None:
    joint = torch.full((prompts, prompts), (1 - share) / (prompts - 1) / prompts, dtype=torch.float64)
    joint.fill_diagonal_(share / prompts)
    independent = joint.sum(0) * joint.sum(1, keepdim=True)
    information = float((joint * (joint / independent).log()).sum())
    found = _nats(torch.tensor(share, dtype=torch.float64), torch.tensor(float(prompts), dtype=torch.float64))
    assert found.item() == pytest.approx(information)
    assert _nats(torch.tensor(0.5 / prompts), torch.tensor(float(prompts))).item() == 0, "below chance"


def test_tracing_by_noise_is_at_its_chance_level() -> None:
    embeddings_PKD = random_units(2, 20, 30, 64)
    figures = across(texts(20, 30), embeddings_PKD, torch.ones(20, 30, dtype=torch.bool))
    assert figures["traced"].item() == pytest.approx(figures["traced_chance"].item(), abs=0.04)


def test_one_prompt_is_undefined() -> None:
    figures = across(texts(1, 3), random_units(3, 1, 3, 4), torch.ones(1, 3, dtype=torch.bool))
    assert all(value.isnan() for value in figures.values())


SAID = ["yes", "yes yes", "no. it is not", "a b c d e f", "a b c d", "", "f e d c b a"]


def recomputed(words: list[list[str | None]], embeddings_PKD: Tensor, mask_PK: Tensor) -> dict[str, list[float]]:
    """The figures of the others, for each prompt; `traced` without those it is taken over, its chance has none."""
    without = []
    for p in range(len(words)):
        kept = [q for q in range(len(words)) if q != p]
        without.append(across([words[q] for q in kept], embeddings_PKD[kept], mask_PK[kept], 50))
    found = {name: [figures[name].item() for figures in without] for name in without[0]}
    del found["traced_chance"]
    enough = (mask_PK.sum(1) >= 2).tolist()
    traced = ("traced", "traced_nats")
    return found | {name: [x if e else math.nan for x, e in zip(found[name], enough, strict=True)] for name in traced}


def same(found: dict[str, Tensor], expected: dict[str, list[float]]) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == torch.float64
        assert found[name].tolist() == pytest.approx(values, abs=1e-9, nan_ok=True), name


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 4).flatmap(
        lambda k: st.lists(
            st.lists(st.none() | st.integers(0, len(SAID) - 1), min_size=k, max_size=k), min_size=1, max_size=8
        )
    ),
    st.integers(2, 9),
    st.integers(0, 20),
)
@example([[0, 0, 0]] * 5, 4, 0)  # one text, so that all share each draw
@example([[0, 1], [0, 0], [3, 4], [5, 6]], 4, 0)  # some do
@example([[0, None], [None, 3], [3, 4], [2, 5], [6, 1]], 4, 0)  # prompts of one answer
@example([[0, 2], [3, 4]], 4, 0)  # one left
def test_without_each_prompt_is_as_recomputed(said_PK: list[list[int | None]], dimensions: int, seed: int) -> None:
    """Equal texts have equal embeddings, in more directions than there are prompts and in fewer."""
    mask_PK = torch.tensor([[i is not None for i in said] for said in said_PK])
    which_PK = torch.tensor([[i or 0 for i in said] for said in said_PK])
    embeddings_PKD = random_units(seed, len(SAID), dimensions)[which_PK] * mask_PK[..., None]
    words = [[None if i is None else SAID[i] for i in said] for said in said_PK]
    same(leave_one_out(words, embeddings_PKD, mask_PK, 50), recomputed(words, embeddings_PKD, mask_PK))
    firsts = [next((text for text in row if text is not None), None) for row in words]
    whole = across(words, embeddings_PKD, mask_PK, 50)["across_ead"]
    assert torch.allclose(whole, ead([firsts], 50)[0], equal_nan=True)


@pytest.mark.parametrize("noise", [0.1, 2.0])
def test_without_each_prompt_of_many_is_as_recomputed(noise: float) -> None:
    """Distinct answers, mixed up where the noise is large; first answers near a line, with eigenvalues near zero."""
    centres, own = random_units(0, 40, 1, 24), random_units(1, 40, 5, 24)
    embeddings_PKD = torch.nn.functional.normalize(centres + noise * own, dim=-1)
    embeddings_PKD[1::2, 0] = torch.nn.functional.normalize(embeddings_PKD[0, 0] + 1e-3 * own[1::2, 0], dim=-1)
    words, mask_PK = texts(40, 5), torch.ones(40, 5, dtype=torch.bool)
    same(leave_one_out(words, embeddings_PKD, mask_PK, 50), recomputed(words, embeddings_PKD, mask_PK))


@pytest.mark.parametrize("at_a_time", [1, 3, 1000])
def test_tracing_some_prompts_at_a_time_is_as_all_at_once(monkeypatch: pytest.MonkeyPatch, at_a_time: int) -> None:
    mask_PK = torch.rand(40, 5, generator=torch.Generator().manual_seed(0)) < 0.6
    said_PK = torch.randint(30, (40, 5), generator=torch.Generator().manual_seed(1))  # some twice: draws are shared
    embeddings_PKD = random_units(2, 30, 24)[said_PK] * mask_PK[..., None]
    whole = across(texts(40, 5), embeddings_PKD, mask_PK), leave_one_out(texts(40, 5), embeddings_PKD, mask_PK)
    monkeypatch.setattr("divmon.scoring.metrics.across._BLOCK", at_a_time * 200)
    parts = across(texts(40, 5), embeddings_PKD, mask_PK), leave_one_out(texts(40, 5), embeddings_PKD, mask_PK)
    for found, expected in zip(parts, whole, strict=True):
        same(found, {name: value.tolist() for name, value in expected.items()})
