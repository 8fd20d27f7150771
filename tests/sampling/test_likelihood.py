"""Likelihood: of tokens while they are drawn, against closed forms, and of texts that exist, against plain forwards."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny

from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.likelihood import FORKING, MOST_TOKENS, TEXTS, of_sample, recorded, rows_of, text_nll
from divmon.sampling.likelihood import token_likelihood as facts
from divmon.sampling.sampler import Sampler
from divmon.types import Decoding, Prompt, RenderedPrompt, Sample


def test_closed_forms() -> None:
    even, sure = torch.zeros(1, 8), torch.tensor([[50.0, 0.0, 0.0, -torch.inf]])
    token = torch.tensor([0])
    assert facts(even, token)[0].tolist() == pytest.approx([math.log(8), 1 / 8, math.log(8)])
    assert facts(sure, token)[0].tolist() == pytest.approx([0, 1, 0], abs=1e-6)
    # Two tokens at p and 1 - p: the entropy of a coin.
    coin = torch.tensor([[math.log(0.9), math.log(0.1), -torch.inf]])
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    assert facts(coin, torch.tensor([1]))[0].tolist() == pytest.approx([entropy, 0.9, -math.log(0.1)], rel=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.floats(-60, 60, width=32), min_size=5, max_size=5), min_size=1, max_size=4),
    st.integers(0, 4),
    st.floats(-100, 100),
)
def test_it_is_the_distribution_in_double_precision_and_no_shift_moves_it(
    rows: list[list[float]], token: int, shift: float
) -> None:
    logits = torch.tensor(rows)
    p = torch.softmax(logits.double(), -1)
    entropy = -(p * p.clamp(min=1e-300).log()).sum(-1)
    expected = torch.stack([entropy, p.amax(-1), -torch.log_softmax(logits.double(), -1)[:, token]], -1)
    tokens = torch.full((len(rows),), token)
    assert torch.allclose(facts(logits, tokens).double(), expected, rtol=1e-4, atol=1e-4)
    assert torch.allclose(facts(logits + shift, tokens), facts(logits, tokens), rtol=1e-3, atol=1e-3)


def test_of_a_sample_are_means_over_its_tokens() -> None:
    found = of_sample(torch.tensor([[0.0, 1.0, 0.0], [FORKING + 0.01, 0.5, 0.6]]))
    assert found == pytest.approx(((FORKING + 0.01) / 2, 0.5, 0.75, 0.3))
    assert of_sample(torch.zeros(0, 3)) is None and of_sample(torch.full((2, 3), torch.nan)) is None


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Sample]]:
    """Samples of one model by both decoders."""
    renderer = Renderer(tiny.tokenizer(), chat=False)
    model = tiny.model("llama", vocab_size=400)
    prompts = [renderer.render("t", Prompt(str(i), text)) for i, text in enumerate(("what is one", "plus two?"))]
    requests = [Request(prompt, Decoding(12, 0.6, 0.95), 17) for prompt in prompts]
    return {
        how: Sampler(model, renderer, how=how, likelihood=True, max_batch_tokens=120)
        .draw(requests, seed=0, step=0)
        .samples
        for how in ("live", "generate")
    }


def test_both_decoders_record_the_first_samples_of_a_prompt(drawn: dict[str, list[Sample]]) -> None:
    live, generated = drawn["live"], drawn["generate"]
    assert [s.text for s in live] == [s.text for s in generated] and len(live) == 34
    assert [s.likelihood is not None for s in live] == [s.index < recorded(17) for s in live]
    for one, other in zip(live, generated, strict=True):
        assert (one.likelihood is None) == (other.likelihood is None)
        if one.likelihood is not None and other.likelihood is not None:
            assert one.likelihood == pytest.approx(other.likelihood, abs=1e-4)


def test_what_is_recorded_is_the_models_own_distribution_at_temperature_1() -> None:
    """A sample's record against one forward over its tokens; random tokens rarely survive their text, so by ids."""
    renderer, model = Renderer(tiny.tokenizer(), chat=False), tiny.model("llama", vocab_size=400)
    prompt = renderer.render("t", Prompt("0", "what is one"))
    kept: list[list[int]] = []
    split = renderer.split
    renderer.split = lambda ids, inside: (kept.append(list(ids)), split(ids, inside))[1]  # type: ignore[method-assign, func-returns-value]
    sampler = Sampler(model, renderer, how="live", likelihood=True)
    (sample,) = sampler.draw([Request(prompt, Decoding(9, 0.6, 0.9), 1)], seed=1, step=0).samples
    ids = kept[-1]
    assert sample.finish == "length" and len(ids) == 9 and sample.likelihood is not None
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt.input_ids, *ids]])).logits[0, len(prompt.input_ids) - 1 : -1]
    log_p = torch.log_softmax(logits.double(), -1)
    entropy_T = -(log_p.exp() * log_p).sum(-1)
    nll_T = -log_p.gather(-1, torch.tensor(ids)[:, None])[:, 0]
    expected = (entropy_T.mean(), (entropy_T > FORKING).double().mean(), log_p.exp().amax(-1).mean(), nll_T.mean())
    assert sample.likelihood == pytest.approx([float(x) for x in expected], abs=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "olmo3-lora"])
def test_text_nll_is_that_of_a_plain_forward_whatever_else_is_in_its_batch(name: str) -> None:
    model = tiny.model(name)
    generator = torch.Generator().manual_seed(0)
    rows = [
        tuple(tuple(torch.randint(3, tiny.VOCAB, (n,), generator=generator).tolist()) for n in sizes)
        for sizes in ((3, 5), (11, 2), (1, 9), (600, 2))
    ]
    found = text_nll(model, rows)  # type: ignore[arg-type]
    assert math.isnan(found[3]), "it does not fit the model's context"
    for (prompt, answer), nll in zip(rows[:3], found[:3], strict=True):
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1].double()
        expected = -torch.log_softmax(logits, -1).gather(-1, torch.tensor(answer)[:, None]).sum()
        assert nll == pytest.approx(float(expected), rel=1e-4)
    assert text_nll(model, []) == []


def test_the_expected_log_ratio_is_the_divergence() -> None:
    """Over all answers of two tokens the mean of log p(y) - log q(y) under p is KL(p, q) as it is defined."""
    ours, theirs = tiny.model("llama", seed=0, vocab_size=7), tiny.model("llama", seed=1, vocab_size=7)
    answers = [(a, b) for a in range(7) for b in range(7)]
    log_p, log_q = (-torch.tensor(text_nll(m, [((1, 4), y) for y in answers])).double() for m in (ours, theirs))
    assert float(log_p.exp().sum()) == pytest.approx(1, abs=1e-4)
    estimate = float((log_p.exp() * (log_p - log_q)).sum())
    assert estimate == pytest.approx(float(torch.nn.functional.kl_div(log_q, log_p, log_target=True, reduction="sum")))
    assert estimate > 0


def test_rows_are_the_first_texts_encoded_again_with_their_reasoning() -> None:
    renderer = Renderer(tiny.tokenizer(), chat=False, think="on")
    prompt = RenderedPrompt("t", "0", "what", (5, 6))

    def sample(index: int, text: str, reasoning: str | None = None) -> Sample:
        return Sample("t", "0", index, text, "eos", 3, reasoning)

    rows = rows_of(renderer, prompt, [sample(0, ""), sample(1, "three", "one plus two"), *[sample(2, "two")] * 5])
    assert len(rows) == TEXTS and rows[0][0] == (5, 6)
    assert renderer.tokenizer.decode(rows[0][1]) == "<think>one plus two</think>three"
    assert len(rows_of(renderer, prompt, [sample(0, "x" * 999)])[0][1]) == MOST_TOKENS
