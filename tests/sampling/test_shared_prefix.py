"""A long prompt's keys and values are kept once for all its samples, and the samples are what they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import transformers
from support import tiny

from divmon.prompts.rendering import Renderer
from divmon.sampling import Request, shared_prefix
from divmon.sampling.engines import live
from divmon.sampling.sampler import Sampler
from divmon.types import Decoding, RenderedPrompt, Sample

WINDOW = {"olmo3": {"sliding_window": 4096}}


def asked(lengths: tuple[int, ...], new: int, samples: int = 8, **decoding: Any) -> list[Request]:
    prompts = [tuple(3 + (7 * i + 5 * j + j * j // 11) % 90 for j in range(n)) for i, n in enumerate(lengths)]
    limits = Decoding(**{"max_new_tokens": new, "top_p": 0.95, **decoding})
    return [Request(RenderedPrompt("task", f"p{i}", "", own), limits, samples) for i, own in enumerate(prompts)]


def drawn(model: Any, requests: list[Request], how: str = "live") -> tuple[list[Sample], str]:
    sampler = Sampler(model, Renderer(tiny.tokenizer(), chat=False), how=how)
    return sampler.draw(requests, seed=0, step=0).samples, sampler.reason


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, Any]]]:
    """Prompts that were kept once, with the cache of what was generated. From 16 tokens on, to be quick."""
    found: list[tuple[Any, Any]] = []

    class Kept(shared_prefix.SharedPrefix):
        def __init__(self, model: Any, cache: Any, *rest: Any) -> None:
            super().__init__(model, cache, *rest)
            found.append((self, cache))

    monkeypatch.setattr(live, "SharedPrefix", Kept)
    monkeypatch.setattr("divmon.sampling.shared_prefix.SHORTEST", 16)
    yield found


@pytest.mark.parametrize("family", ["olmo3", "llama", "qwen3"])
@pytest.mark.parametrize(("temperature", "graphs"), [(0.0, False), (1.0, True)])
def test_samples_are_those_of_prompts_kept_once_per_sample(
    family: str, temperature: float, graphs: bool, made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts of unlike lengths, rows that end at different times, and a prompt of which none is left."""
    monkeypatch.setattr("divmon.sampling.devices.replays", lambda device: graphs)
    monkeypatch.setattr("divmon.sampling.fixed_shapes.LENGTHS", 8)
    monkeypatch.setattr("divmon.sampling.fixed_shapes.FEWEST_ROWS", 2)
    model = tiny.model(family, **WINDOW.get(family, {}))
    model.generation_config.eos_token_id = list(range(5, 20))
    requests = asked((18, 30, 23, 18), new=24, temperature=temperature)
    shared, reason = drawn(model, requests)
    assert len(made) == 1 and reason == "asked for by sampler='live'"
    assert model.config._attn_implementation == "sdpa"
    monkeypatch.setattr("divmon.sampling.shared_prefix.SHORTEST", 10**6)
    assert shared == drawn(model, requests)[0]
    assert len(made) == 1 and len({sample.n_tokens for sample in shared}) > (1 if temperature == 0 else 8)


def test_a_prompt_of_2048_tokens_is_kept_once_for_16_samples(made: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model("llama", max_position_embeddings=4096)
    requests = asked((2048,), new=8, samples=16)
    shared, _ = drawn(model, requests)
    ((prompts, cache),) = made
    a_token = 2 * 4 * 2 * 8 * 4  # keys and values, layers, heads, dim, bytes
    held = [room for layer in cache.layers for room in layer.room.rooms]
    held += [states for layer in prompts.layers for states in layer]
    assert sum(states.untyped_storage().nbytes() for states in held) <= 1.3 * (2048 + 16 * 8) * a_token
    monkeypatch.setattr("divmon.sampling.shared_prefix.SHORTEST", 10**6)
    assert shared == drawn(model, requests)[0]


def test_a_batch_holds_more_rows_of_prompts_that_are_kept_once(made: list[Any]) -> None:
    sampler = Sampler(tiny.model("llama"), Renderer(tiny.tokenizer(), chat=False), how="live", max_batch_tokens=1000)
    sizes = [[unit.count for unit in batch] for batch in sampler._batches(sampler._units(asked((100,) * 5, new=10)))]
    assert sizes == [[8] * 5]  # 5 * 100 + 40 * 10 tokens, of which each sample would have its 110


@pytest.mark.parametrize(("family", "reason"), [("softcap", "its attention takes softcap"), ("window", "")])
def test_models_of_another_attention_keep_a_prompt_per_sample(
    family: str, reason: str, made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if family == "softcap":
        config = transformers.Gemma2Config(**tiny.COMMON, head_dim=8, attn_implementation="eager")
        torch.manual_seed(0)
        model = transformers.Gemma2ForCausalLM(config).eval()
    else:
        model = tiny.model("olmo3")  # a window of 8 tokens
    requests = asked((18, 18), new=6)
    samples, said = drawn(model, requests)
    assert said.endswith(f"long prompts are kept once per sample: {reason}" if reason else "sampler='live'")
    monkeypatch.setattr("divmon.sampling.shared_prefix.SHORTEST", 10**6)
    assert samples == drawn(model, requests)[0]
    assert len(made) == bool(reason), "tried once, where only a forward can tell"


def test_an_attention_that_gives_other_tokens_than_generate_is_not_used(
    made: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a kind that no argument tells apart."""
    model, attend = tiny.model("llama"), shared_prefix.SharedPrefix.attend
    expected, _ = drawn(model, asked((18, 18), new=6))
    monkeypatch.setattr(shared_prefix.SharedPrefix, "attend", lambda self, *given: 2 * attend(self, *given))
    samples, reason = drawn(model, asked((18, 18), new=6), how="auto")
    assert samples == expected
    assert "long prompts are kept once per sample: with a shared cache, greedy token" in reason
