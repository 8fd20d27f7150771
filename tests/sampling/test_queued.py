"""On a GPU operations are queued: what a CPU can show of how sampling behaves there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import tiny
from support.queue_modes import Deterministic, Operations, Waits

import divmon
from divmon.prompts.rendering import Renderer
from divmon.sampling import Request, integer_cdf
from divmon.sampling.devices import CHECK_EVERY
from divmon.sampling.inverse_cdf import choose
from divmon.sampling.sampler import Sampler
from divmon.types import Decoding, RenderedPrompt, Sample
from divmon.undisturbed import free_bytes

PROMPT = torch.tensor([[5, 17, 40, 8, 23]])
OURS_AT_MOST = 34
"""Operations of a step that are not the model's."""
FORWARD_AT_MOST = {"olmo3": 270, "llama": 195, "gpt2": 70}
"""Operations of a forward of one token, in the four layers of a tiny model (three of GPT-2)."""


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode as on a GPU."""
    monkeypatch.setattr("divmon.sampling.devices.queued", lambda device: True)


def tokens_of(model: Any, tokens: int, **options: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    options = {"num_samples": 3, "eos_token_id": None, **options}
    return divmon.sample(model, PROMPT, max_new_tokens=tokens, generator=generator, **options)


@pytest.mark.parametrize("vocabulary", [97, 5000, 32_000])
@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_integers_choose_the_tokens_of_the_running_sum(queued: None, vocabulary: int, top_p: float) -> None:
    """Bit for bit on flat and peaked rows, by operations that are deterministic on a GPU too."""
    generator = torch.Generator().manual_seed(vocabulary)
    logits = torch.randn(60, vocabulary, generator=generator) * torch.tensor([0.1, 1, 3, 10]).repeat(15)[:, None]
    logits[30:, : vocabulary // 2] = -torch.inf
    u = torch.rand(60, generator=generator, dtype=torch.float64)
    with Deterministic():
        got = choose(logits, u, 0.8, top_p)
    probs = torch.softmax(logits.double() / 0.8, -1)
    if top_p < 1:
        values, ids = probs.sort(-1, descending=True)
        probs = torch.zeros_like(probs).scatter(-1, ids, values.masked_fill(values.cumsum(-1) - values >= top_p, 0))
    cdf = probs.cumsum(-1)
    expected = torch.searchsorted(cdf, u[:, None] * cdf[:, -1:], right=True)[:, 0]
    near = (cdf - u[:, None] * cdf[:, -1:]).abs().amin(-1) < 1e-6  # within the rounding of a softmax in float32
    assert torch.equal(got[~near], expected[~near]) and near.sum() < 5
    assert probs.gather(-1, got[:, None]).all()


def test_integers_never_choose_an_impossible_token(queued: None) -> None:
    logits = torch.full((4, 3000), -torch.inf)
    logits[:, 100:110] = 0.0
    u = torch.tensor([0.0, 1 - 2**-53, 0.5, 2**-53], dtype=torch.float64)
    for top_p in (1.0, 0.95):
        tokens = choose(logits, u, 1.0, top_p)
        assert ((tokens >= 100) & (tokens < 110)).all() and tokens[0] == 100 and tokens[1] >= 109 - (top_p < 1)


@pytest.mark.parametrize("top_p", [1.0, 0.95])
def test_a_measurement_runs_on_deterministic_operations_alone(queued: None, top_p: float) -> None:
    model = tiny.model("llama")
    with Deterministic():
        tokens = tokens_of(model, 12, top_p=top_p, eos_token_id=[3, 4, 5, 6, 7, 8])
    assert tokens.shape == (1, 3, 12)


@pytest.mark.parametrize(("family", "top_p"), [("olmo3", 1.0), ("llama", 0.95), ("gpt2", 1.0)])
def test_between_two_checks_nothing_waits_and_operations_are_few(queued: None, family: str, top_p: float) -> None:
    model, waits, counts = tiny.model(family), [], []
    for tokens in (2 * CHECK_EVERY + 1, 3 * CHECK_EVERY + 1):
        with Waits() as waited:
            tokens_of(model, tokens, top_p=top_p)
        waits.append(waited.count)
        with Operations(model) as operations:
            tokens_of(model, tokens, top_p=top_p)
        counts.append((operations.forward, operations.other))
    assert waits[1] - waits[0] == 1, "one check each eight tokens"
    forward, other = ((after - before) / CHECK_EVERY for before, after in zip(*counts, strict=True))
    assert forward <= FORWARD_AT_MOST[family]
    assert other <= OURS_AT_MOST


def asked(lengths: tuple[int, ...], stop: tuple[str, ...] = ()) -> list[Request]:
    """Four samples of a prompt of each of these lengths."""
    prompts = [tuple(3 + (7 * i + 5 * j) % 90 for j in range(length)) for i, length in enumerate(lengths)]
    decoding = Decoding(max_new_tokens=40, top_p=0.95, stop=stop)
    return [Request(RenderedPrompt("task", f"p{i}", "", own), decoding, 4) for i, own in enumerate(prompts)]


def drawn(
    model: Any, lengths: tuple[int, ...], stop: tuple[str, ...] = (), step: int = 0, **options: Any
) -> list[Sample]:
    sampler = Sampler(model, Renderer(tiny.tokenizer(), chat=False), how="live", **options)
    return sampler.draw(asked(lengths, stop), seed=0, step=step).samples


@pytest.mark.parametrize("family", ["olmo3", "gpt2"])
def test_prompts_of_unlike_lengths_are_decoded_without_a_mask(queued: None, family: str) -> None:
    """And the tokens are those of each prompt alone, with rows that end at different times."""
    model, masks = tiny.model(family), []
    model.generation_config.eos_token_id = list(range(5, 12))
    alone = drawn(model, (9, 12, 14, 10), max_batch_tokens=1)
    hook = model.register_forward_pre_hook(
        lambda module, args, given: masks.append(given["attention_mask"]), with_kwargs=True
    )
    together = drawn(model, (9, 12, 14, 10))
    hook.remove()
    assert len(masks) < 50 and all(mask is None for mask in masks)
    assert together == alone
    assert len({sample.n_tokens for sample in together}) > 4


def test_lengths_that_are_too_unlike_are_padded(queued: None) -> None:
    model = tiny.model("olmo3")
    assert drawn(model, (9, 30)) == drawn(model, (9, 30), max_batch_tokens=1)


def test_a_flat_distribution_is_decoded_again_step_by_step(queued: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples are the same, stop strings included."""
    model = tiny.model("llama", vocab_size=400)
    stops = tuple({sample.text[8:10] for sample in drawn(model, (9, 12)) if sample.text[8:10].isascii()})
    expected = drawn(model, (9, 12), stops)
    assert {sample.finish for sample in expected} >= {"stop"}
    monkeypatch.setattr(integer_cdf, "CANDIDATES", 4)
    assert drawn(model, (9, 12), stops) == expected


@pytest.mark.parametrize(
    ("family", "window", "reason"),
    [("olmo3", 30, ""), ("olmo3-lora", 30, ""), ("gpt2", None, ""), ("olmo3", 8, "; no CUDA graphs: its cache has")],
)
def test_forwards_at_fixed_shapes_draw_the_same_samples(
    queued: None, family: str, window: int | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With rows that leave, prompts of unlike lengths, and windows shorter than the samples."""
    model = tiny.model(family, **({} if window is None else {"sliding_window": window}))
    model.generation_config.eos_token_id = list(range(5, 12))
    growing = drawn(model, (9, 12, 14, 10))
    monkeypatch.setattr("divmon.sampling.devices.replays", lambda device: True)
    monkeypatch.setattr("divmon.sampling.fixed_shapes.LENGTHS", 16)
    monkeypatch.setattr("divmon.sampling.fixed_shapes.FEWEST_ROWS", 2)
    sampler = Sampler(model, Renderer(tiny.tokenizer(), chat=False), how="live")
    assert sampler.draw(asked((9, 12, 14, 10)), seed=0, step=0).samples == growing
    assert sampler.reason.startswith("asked for by sampler='live'" + reason)
    assert bool(reason) == ("no CUDA graph" in sampler.reason)


@pytest.mark.parametrize(("family", "window", "graphs"), [("llama", None, False), ("olmo3", 40, True)])
def test_a_batch_has_as_many_rows_as_the_cache_holds_by_the_lengths_seen_before(
    queued: None, family: str, window: int | None, graphs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that end hand their place to those that go on: the same samples in far fewer steps, in the same memory."""
    monkeypatch.setattr("divmon.sampling.devices.replays", lambda device: graphs)
    monkeypatch.setattr("divmon.sampling.fixed_shapes.LENGTHS", 16)
    monkeypatch.setattr("divmon.sampling.fixed_shapes.FEWEST_ROWS", 2)
    model = tiny.model(family, **({} if window is None else {"sliding_window": window}))
    model.generation_config.eos_token_id = list(range(5, 20))
    lengths = (9, 12, 14, 10, 9, 12, 10, 11)
    room = 4 * (14 + 40) * 4
    expected = drawn(model, lengths, step=1)
    sampler = Sampler(model, Renderer(tiny.tokenizer(), chat=False), how="live", max_batch_tokens=room)
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda module, args, given: sizes.append(len(given["input_ids"])), with_kwargs=True
    )
    steps = []
    for step in (0, 1):
        samples = sampler.draw(asked(lengths), seed=0, step=step).samples
        steps.append(len(sizes))
        sizes.clear()
    hook.remove()
    assert samples == expected
    assert len({sample.n_tokens for sample in samples}) > 10
    assert steps[1] < 0.6 * steps[0]


def test_rows_that_are_longer_than_seen_before_are_drawn_in_smaller_batches(queued: None) -> None:
    model = tiny.model("llama")
    expected = drawn(model, (9, 12, 14, 10))
    sampler = Sampler(model, Renderer(tiny.tokenizer(), chat=False), how="live", max_batch_tokens=500)
    for unit in sampler._units(asked((9, 12, 14, 10))):
        sampler._lengths.add(unit, [1])
    [*planned] = sampler._batches(sampler._units(asked((9, 12, 14, 10))), sized=True)
    assert len(planned) == 1
    assert sampler.draw(asked((9, 12, 14, 10)), seed=0, step=0).samples == expected


def test_memory_that_is_reserved_and_not_used_is_handed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the budget is read, and after the last batch; also after one that fails."""
    model, calls = tiny.model("llama"), []
    for name in ("is_available", "is_initialized"):
        monkeypatch.setattr(torch.cuda, name, lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(len(forwards)))
    forwards: list[Any] = []
    hook = model.register_forward_hook(lambda *_: forwards.append(None))
    drawn(model, (9,))
    hook.remove()
    assert calls == [0, len(forwards)]


def test_free_memory_is_the_devices_and_the_allocators(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("mem_get_info", (30, 80)), ("memory_reserved", 45), ("memory_allocated", 25)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_bytes(torch.device("cuda")) == 50
    assert free_bytes(torch.device("cpu")) is None
