from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from divmon.sampling.inverse_cdf import FIRST_CANDIDATES, _invert, _likeliest, _nucleus, choose, uniforms


def test_uniforms_are_their_keys_alone_and_uniform() -> None:
    a = uniforms((0, 100, "gsm8k", "7", 3), 5000)
    assert np.array_equal(a, uniforms((0, 100, "gsm8k", "7", 3), 5000))
    assert np.array_equal(a[:10], uniforms((0, 100, "gsm8k", "7", 3), 10)), "a longer limit draws the same tokens"
    assert stats.kstest(a, "uniform").pvalue > 1e-3
    others = [
        (1, 100, "gsm8k", "7", 3),
        (0, 101, "gsm8k", "7", 3),
        (0, 100, "gsm8k", "8", 3),
        (0, 100, "gsm8k", "7", 4),
    ]
    for key in others:
        assert abs(np.corrcoef(a, uniforms(key, 5000))[0, 1]) < 0.06


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([1.0, 0.95, 0.5, 0.01]), st.floats(0.2, 3.0), st.integers(2, 3000))
def test_the_token_is_where_the_exact_cdf_says(seed: int, top_p: float, temperature: float, vocabulary: int) -> None:
    """Against the definition in float64, on flat and peaked distributions, within rounding of a boundary."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(6, vocabulary, generator=generator) * torch.tensor([0.0, 0.1, 1, 3, 10, 50])[:, None]
    u = torch.rand(6, generator=generator, dtype=torch.float64)
    got = choose(logits, u, temperature, top_p)
    for row in range(6):
        p = torch.softmax(logits[row].double() / temperature, -1).numpy()
        if top_p < 1:
            order = np.argsort(-p, kind="stable")
            kept = order[(np.cumsum(p[order]) - p[order]) < top_p - 1e-6]
            threshold = p[kept].min(initial=1.0)
            assert p[got[row]] >= threshold * (1 - 1e-3) or p[got[row]] >= p.max() * (1 - 1e-6)
            edge = np.cumsum(p[order])
            if np.abs(edge - top_p).min() < 1e-5 or row < 2:
                continue  # the nucleus itself is a matter of rounding, or of ties
            p = np.where(np.isin(np.arange(vocabulary), kept), p, 0)
        cdf = np.cumsum(p) / p.sum()
        low = cdf[got[row]] - p[got[row]] / p.sum()
        assert low - 1e-5 <= u[row] <= cdf[got[row]] + 1e-5


@pytest.mark.parametrize("vocabulary", [4096, 5000, 32_000, 50_001])
@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0, 8.0])
def test_sums_of_blocks_pick_what_the_running_sum_picks(vocabulary: int, spread: float) -> None:
    """Bit for bit, also right at the ends of tokens, at both ends of the vocabulary, and past ruled-out tokens."""
    generator = torch.Generator().manual_seed(vocabulary)
    logits = spread * torch.randn(50, vocabulary, generator=generator)
    logits[25:, : vocabulary // 2] = -torch.inf
    logits[40:, -70:] = -torch.inf
    cdf = torch.softmax(logits, -1).cumsum(-1)
    at = torch.randint(vocabulary, (50, 1), generator=generator)
    ends = cdf.gather(-1, at).squeeze(-1).double().clamp(max=1 - 2**-53)
    anywhere = torch.rand(50, generator=generator, dtype=torch.float64)
    for u in (anywhere, anywhere * 1e-6, 1 - anywhere * 1e-6, ends, (ends - 2**-25).clamp(min=0)):
        assert torch.equal(choose(logits, u, 1.0, 1.0), _invert(cdf, u).squeeze(-1))


@pytest.mark.parametrize("vocabulary", [100, 9000, 32_000, 50_001])
def test_the_likeliest_are_found_by_blocks(vocabulary: int) -> None:
    logits = torch.randn(7, vocabulary, generator=torch.Generator().manual_seed(0))
    logits[0] = torch.linspace(0, 9, vocabulary)  # all in the last blocks
    values, ids = _likeliest(logits, FIRST_CANDIDATES)
    assert torch.equal(values, logits.topk(FIRST_CANDIDATES).values)
    assert torch.equal(logits.gather(-1, ids), values)
    assert all(len(set(row)) == FIRST_CANDIDATES for row in ids.tolist())


@pytest.mark.parametrize("top_p", [0.95, 0.5])
def test_of_equally_likely_tokens_at_the_edge_those_of_topk_stay(top_p: float) -> None:
    """Half precision ties many logits; which of them a nucleus holds moves the interval of every token behind."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.full((300, 9000), -9.0)
    likely = torch.rand(300, 9000, generator=generator).topk(50).indices  # anywhere, and fewer than the candidates
    logits.scatter_(-1, likely, 9 + 0.3 * torch.randn(300, 50, generator=generator))
    logits = logits.bfloat16()
    u = torch.rand(300, generator=generator, dtype=torch.float64)
    values, order = torch.softmax(logits.float(), -1).topk(FIRST_CANDIDATES)
    kept = values.masked_fill(values.cumsum(-1) - values >= top_p, 0.0)
    whole = torch.zeros(300, 9000).scatter(-1, order, kept)
    assert (values.sum(-1) >= top_p).all()
    assert torch.equal(choose(logits, u, 1.0, top_p), _invert(whole.cumsum(-1), u).squeeze(-1))


def test_flat_rows_and_peaked_rows_in_one_batch_do_not_touch_each_other() -> None:
    vocabulary = FIRST_CANDIDATES * 20
    flat, peaked = torch.zeros(vocabulary), torch.zeros(vocabulary)
    peaked[7] = 30.0
    u = torch.tensor([0.9, 0.3, 0.9], dtype=torch.float64)
    together = choose(torch.stack([flat, peaked, flat]), u, 1.0, 0.95)
    alone = [choose(row[None], u[i : i + 1], 1.0, 0.95).item() for i, row in enumerate((flat, peaked, flat))]
    assert together.tolist() == alone
    assert together[1] == 7


def test_the_ends_of_the_unit_interval_never_pick_an_impossible_token() -> None:
    logits = torch.full((3, 50), -torch.inf)
    logits[:, 10:20] = 0.0
    u = torch.tensor([0.0, 1 - 2**-53, 0.5], dtype=torch.float64)
    for top_p in (1.0, 0.95):
        assert all(10 <= token < 20 for token in choose(logits, u, 1.0, top_p).tolist())


def test_greedy_is_the_largest() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [5.0, 2.0, 1.0]])
    assert choose(logits, torch.zeros(2, dtype=torch.float64), 0.0, 0.5).tolist() == [1, 0]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([0.95, 0.5, 0.1]), st.booleans())
def test_the_nucleus_is_the_smallest_set_of_likeliest_tokens(seed: int, top_p: float, coarse: bool) -> None:
    """Also with many ties, as half precision gives them."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(4, 500, generator=generator) * torch.tensor([0.01, 0.3, 1, 4])[:, None]
    probs = torch.softmax(logits.bfloat16().float() if coarse else logits, -1)
    nucleus = _nucleus(probs, top_p)
    for row in range(4):
        kept = nucleus[row] > 0
        assert torch.equal(nucleus[row][kept], probs[row][kept])
        assert probs[row][~kept].max() <= probs[row][kept].min()
        assert probs[row][kept].double().sum() >= top_p - 1e-5
        assert probs[row][kept].double().sum() - probs[row][kept].min() < top_p + 1e-5, "one fewer falls short"
