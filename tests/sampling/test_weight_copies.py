"""Under bf16 autocast each weight is cast once per measurement, and the model is afterwards what it was."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from support import tiny
from torch.utils._python_dispatch import TorchDispatchMode

import divmon
from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.sampler import Sampler
from divmon.sampling.weight_copies import weights_cast_once
from divmon.types import Decoding, RenderedPrompt

FAMILIES = ["olmo3", "gpt2", "tied-lora"]
PROMPT = torch.tensor([[5, 17, 40, 8, 23]])


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    """What a trainer with bf16=True prepares its model with."""
    AcceleratorState._reset_state(True)
    yield Accelerator(mixed_precision="bf16", cpu=True)
    AcceleratorState._reset_state(True)


def prepared(family: str, accelerator: Accelerator) -> Any:
    """A float32 model whose forward runs under autocast; LoRA of all linear layers."""
    from peft import LoraConfig, get_peft_model

    kind, _, lora = family.partition("-")
    model = tiny.model("llama", tie_word_embeddings=True) if kind == "tied" else tiny.model(kind)
    if lora:
        model = get_peft_model(model, LoraConfig(target_modules="all-linear", init_lora_weights=False))
    return accelerator.prepare(model)


class WeightCasts(TorchDispatchMode):
    """Counts the matrices that are copied from float32 to bfloat16."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.weights = {p.data_ptr() for p in model.parameters() if p.ndim == 2}
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and kwargs.get("dtype") == torch.bfloat16:
            self.count += args[0].data_ptr() in self.weights
        return func(*args, **kwargs)


def casts(model: Any, tokens: int) -> int:
    with WeightCasts(model) as counted:
        divmon.sample(model, PROMPT, num_samples=2, max_new_tokens=tokens, eos_token_id=None)
    return counted.count


@pytest.mark.parametrize("family", FAMILIES)
def test_the_number_of_casts_does_not_grow_with_tokens(family: str, accelerator: Accelerator) -> None:
    model = prepared(family, accelerator)
    assert casts(model, 4) == casts(model, 12) > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_autocast_alone(
    family: str, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokens = prepared(family, accelerator), []
    for limit in (None, 0.0):  # none fit where nothing may be used
        monkeypatch.setattr(
            "divmon.sampling.engines.live.weights_cast_once", lambda model, limit=limit: weights_cast_once(model, limit)
        )
        generator = torch.Generator().manual_seed(0)
        tokens.append(
            divmon.sample(model, PROMPT, num_samples=4, max_new_tokens=12, eos_token_id=None, generator=generator)
        )
    assert torch.equal(*tokens)


@pytest.mark.parametrize(("family", "raises"), [("olmo3", True), ("gpt2", False), ("tied-lora", True)])
def test_the_very_same_parameters_are_put_back(family: str, raises: bool, accelerator: Accelerator) -> None:
    model = prepared(family, accelerator)
    before = [(name, p, p.clone(), p.requires_grad) for name, p in model.named_parameters()]
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    hooks = [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in model.modules()]
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    try:
        with torch.no_grad(), weights_cast_once(model) as casting:
            assert casting.words.startswith("weights cast to bfloat16 once")
            inside = dict(model.named_parameters(remove_duplicate=False))
            assert list(inside) == names
            assert any(p.dtype == torch.bfloat16 for p in inside.values())
            if raises:
                raise KeyError
    except KeyError:
        pass
    after = list(model.named_parameters())
    for (name, p, bits, requires_grad), (name_after, p_after) in zip(before, after, strict=True):
        assert name == name_after and p is p_after and torch.equal(p, bits) and p.requires_grad == requires_grad
    assert hooks == [(len(m._forward_pre_hooks), len(m._forward_hooks)) for m in model.modules()]
    trained = list(itertools.chain.from_iterable(group["params"] for group in optimizer.param_groups))
    assert [id(p) for p in trained] == [id(p) for _, p in after if p.requires_grad]


def test_what_was_done_is_recorded(accelerator: Accelerator) -> None:
    request = Request(RenderedPrompt("task", "p", "", (5, 6, 7)), Decoding(max_new_tokens=4), 2)
    reasons = []
    for model, limit in ((tiny.model("llama"), None), *((prepared("llama", accelerator), gb) for gb in (None, 1e-6))):
        sampler = Sampler(model, Renderer(tiny.tokenizer(), chat=False), how="live", max_memory_gb=limit)
        assert len(sampler.draw([request], seed=0, step=0).samples) == 2
        reasons.append(sampler.reason.partition("; ")[2])
    assert reasons[0] == ""
    assert reasons[1].startswith("weights cast to bfloat16 once (")
    assert reasons[2].startswith("weights are cast to bfloat16 at every token: copies take ")


def test_the_budget_counts_the_cache_as_autocast_makes_it(
    accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A float32 model's rows are as many as those of a bfloat16 model, on a GPU with 8 MB free."""
    monkeypatch.setattr("divmon.sampling.batch_memory.free_bytes", lambda device: 8_000_000)
    batches = []
    for model in (prepared("llama", accelerator), tiny.model("llama").bfloat16()):
        sampler = Sampler(model, Renderer(tiny.tokenizer(), chat=False), how="live")
        with torch.no_grad(), weights_cast_once(model) as sampler._casting:
            asked = [Request(RenderedPrompt("task", str(i), "", (5, 6, 7)), Decoding(50), 64) for i in range(64)]
            batches.append([[u.count for u in batch] for batch in sampler._batches(sampler._units(asked))])
    assert batches[0] == batches[1]
    rows, bytes_a_row = sum(batches[0][0]), 53 * 2 * 4 * 2 * 8 * 2 + 97 * 26
    assert rows * bytes_a_row <= 0.8 * 8_000_000 < (rows + 64) * bytes_a_row, "keys and values, and the row's logits"


def test_a_model_that_computes_with_its_weights_otherwise_keeps_them(accelerator: Accelerator) -> None:
    """DoRA takes the norm of each weight, which is another one of a rounded copy."""
    from peft import LoraConfig, get_peft_model

    dora = get_peft_model(
        tiny.model("llama"), LoraConfig(target_modules="all-linear", use_dora=True, init_lora_weights=False)
    )
    model = accelerator.prepare(dora)
    with torch.no_grad(), weights_cast_once(model) as casting:
        assert "at every token" in casting.words
        assert all(p.dtype == torch.float32 for p in model.parameters())
