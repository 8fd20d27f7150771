"""The live sampler draws what `generate` draws, and a sample is its own whatever batch it is drawn in."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats
from support import tiny

import divmon

FAMILIES = ["olmo3", "llama", "qwen3", "gpt2", "olmo3-lora"]


def padded_prompts() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(3, tiny.VOCAB, (3, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :11] = 0
    mask[2, :2] = 0
    return ids * mask, mask


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_are_generates(family: str) -> None:
    model = tiny.model(family)
    ids, mask = padded_prompts()
    ours = divmon.sample(
        model, ids, attention_mask=mask, num_samples=3, max_new_tokens=24, temperature=0, eos_token_id=None
    )
    assert ours.shape == (3, 3, 24)
    for p in range(3):
        alone = ids[p : p + 1, mask[p] == 1]
        expected = model.generate(
            input_ids=alone,
            attention_mask=torch.ones_like(alone),
            do_sample=False,
            max_new_tokens=24,
            eos_token_id=None,
        )[0, alone.shape[1] :]
        for k in range(3):
            assert ours[p, k].tolist() == expected.tolist()


@pytest.mark.parametrize("top_p", [1.0, 0.8])
@pytest.mark.parametrize("family", FAMILIES)
def test_two_tokens_follow_the_exact_distribution(family: str, top_p: float) -> None:
    """Chi-squared of 4,000 drawn pairs of tokens against the probabilities that the model's own forward gives."""
    model = tiny.model(family)
    prompt = torch.tensor([[5, 17, 40, 8, 23, 61, 9, 33, 12, 70]])
    n, temperature = 4000, 0.9
    drawn = divmon.sample(
        model,
        prompt,
        num_samples=n,
        max_new_tokens=2,
        temperature=temperature,
        top_p=top_p,
        eos_token_id=None,
        generator=torch.Generator().manual_seed(3),
    )[0]
    with torch.no_grad():
        first = nucleus(model(input_ids=prompt).logits[0, -1] / temperature, top_p)
        kept = first.nonzero().squeeze(-1)
        contexts = torch.cat([prompt.expand(len(kept), -1), kept[:, None]], dim=1)
        second = nucleus(model(input_ids=contexts).logits[:, -1] / temperature, top_p)
    expected = {
        (int(a), b): float(first[a] * second[i, b])
        for (i, a), b in itertools.product(enumerate(kept), range(tiny.VOCAB))
    }
    seen = {pair: 0 for pair in expected}
    for a, b in drawn.tolist():
        seen[a, b] += 1  # a KeyError here is a pair that the distribution cannot give
    assert all(expected[pair] > 0 for pair, count in seen.items() if count)
    common = [pair for pair, p in expected.items() if p * n >= 5]
    observed = np.array([seen[pair] for pair in common] + [n - sum(seen[pair] for pair in common)])
    theory = np.array([expected[pair] * n for pair in common])
    theory = np.append(theory, n - theory.sum())
    if theory[-1] < 5:
        theory, observed = theory[:-1] / theory[:-1].sum() * observed[:-1].sum(), observed[:-1]
    assert len(common) > 10, "the model must be unsure for this to test anything"
    assert stats.chisquare(observed, theory).pvalue > 1e-4


def nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Probabilities after top-p, written the plain way: the smallest set of likeliest tokens that reaches top_p."""
    probs = torch.softmax(logits.double(), -1)
    rows = probs if probs.ndim == 2 else probs[None]
    out = torch.zeros_like(rows)
    for r, row in enumerate(rows):
        total = 0.0
        for token in row.argsort(descending=True).tolist():
            if total >= top_p:
                break
            out[r, token] = row[token]
            total += float(row[token])
    out = out / out.sum(-1, keepdim=True)
    return out if probs.ndim == 2 else out[0]


def test_sampling_agrees_with_generates_own_sampler() -> None:
    """Two samples of three-token texts, ours and `generate`'s with every field said: one distribution."""
    model = tiny.model("olmo3")
    prompt = torch.tensor([[5, 17, 40, 8, 23]])
    n = 3000
    ours = divmon.sample(model, prompt, num_samples=n, max_new_tokens=3, temperature=0.7, top_p=0.9, eos_token_id=2)[0]
    torch.manual_seed(0)
    theirs = model.generate(
        input_ids=prompt.expand(n, -1), attention_mask=torch.ones(n, 5, dtype=torch.long), max_new_tokens=3,
        do_sample=True, temperature=0.7, top_p=0.9, top_k=0, eos_token_id=2, pad_token_id=2,
    )[:, 5:]  # fmt: skip
    texts = [list(map(tuple, tokens.tolist())) for tokens in (ours, theirs)]
    common = [t for t in set(texts[0]) | set(texts[1]) if min(x.count(t) for x in texts) >= 5]
    table = [[x.count(t) for t in common] + [n - sum(x.count(t) for t in common)] for x in texts]
    assert len(common) > 10
    assert stats.chi2_contingency(table).pvalue > 1e-4


def test_rows_that_end_leave_and_the_others_go_on_unchanged() -> None:
    model = tiny.model("olmo3")
    ids, mask = padded_prompts()

    def draw(eos: list[int] | None) -> torch.Tensor:
        return divmon.sample(
            model,
            ids,
            attention_mask=mask,
            num_samples=8,
            max_new_tokens=30,
            eos_token_id=eos,
            generator=torch.Generator().manual_seed(5),
        )

    endless, eos = draw(None), list(range(3, 12))
    ended = draw(eos)
    lengths = []
    for with_end, without in zip(ended.view(-1, 30).tolist(), endless.view(-1, 30).tolist(), strict=True):
        end = next((i + 1 for i, token in enumerate(without) if token in eos), 30)
        lengths.append(end)
        assert with_end == without[:end] + [eos[0]] * (30 - end)
    assert len(set(lengths)) > 5, "ends must be spread for rows to leave at different times"


def test_the_default_end_is_the_models_own() -> None:
    model = tiny.model("llama")
    prompt = torch.tensor([[5, 17, 40]])
    seeded = {"num_samples": 40, "max_new_tokens": 20}
    own = divmon.sample(model, prompt, **seeded, generator=torch.Generator().manual_seed(0))
    said = divmon.sample(model, prompt, **seeded, eos_token_id=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(own, said)
    assert (own == 2).any()


def test_the_model_and_every_generator_are_left_alone() -> None:
    model = tiny.model("olmo3-lora")
    model.train()
    model.get_base_model().model.layers[1].eval()
    modes = [m.training for m in model.modules()]
    state, python, numpy = torch.get_rng_state(), __import__("random").getstate(), np.random.get_state()[1].tolist()
    divmon.sample(model, torch.tensor([[5, 17, 40]]), num_samples=4, max_new_tokens=5)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert __import__("random").getstate() == python
    assert np.random.get_state()[1].tolist() == numpy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0"),
        ({"top_p": 0.0}, "top_p must be above 0"),
        ({"num_samples": 0}, "at least 1"),
        ({"input_ids_PL": torch.tensor([5, 6])}, "expected shape"),
        ({"attention_mask": torch.tensor([[1, 1, 0]])}, "padded on the left"),
    ],
)
def test_wrong_settings_say_what_was_expected(change: dict, message: str) -> None:
    arguments = {"input_ids_PL": torch.tensor([[5, 6, 7]]), "num_samples": 2, "max_new_tokens": 2, **change}
    with pytest.raises(ValueError, match=message):
        divmon.sample(tiny.model("llama"), **arguments)


def test_a_diverged_model_is_named() -> None:
    model = tiny.model("llama")
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="diverged"):
        divmon.sample(model, torch.tensor([[5, 6]]), num_samples=2, max_new_tokens=4)


def test_a_row_that_rules_every_token_out_is_not_sampled_from() -> None:
    from divmon.sampling.engines import not_finite

    ruled_out = torch.full((1, 4), -torch.inf)
    assert not_finite(ruled_out) and not_finite(torch.tensor([[0.0, torch.nan]])) and not_finite(-ruled_out)
    assert not not_finite(torch.tensor([[-torch.inf, 0.0]]))
