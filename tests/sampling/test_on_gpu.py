"""What `test_queued.py` and `test_weight_copies.py` show by proxies, on the real thing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from support import tiny

import divmon
from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.sampler import Sampler
from divmon.types import Decoding, RenderedPrompt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
SHAPE = {"hidden_size": 64, "num_attention_heads": 4, "sliding_window": 256}


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def model(family: str = "olmo3") -> Any:
    return tiny.model(family, vocab_size=5000, **(SHAPE if family == "olmo3" else {})).cuda()


def sampler(made: Any) -> Sampler:
    return Sampler(made, Renderer(tiny.tokenizer(), chat=False), how="live")


def asked(lengths: tuple[int, ...] = (9, 12, 14, 10), **decoding: Any) -> list[Request]:
    limits = Decoding(**{"max_new_tokens": 100, "top_p": 0.95, **decoding})
    prompts = [tuple(3 + (7 * i + 5 * j) % 90 for j in range(length)) for i, length in enumerate(lengths)]
    return [Request(RenderedPrompt("task", f"p{i}", "", own), limits, 8) for i, own in enumerate(prompts)]


@pytest.mark.parametrize("top_p", [1.0, 0.95])
def test_deterministic_algorithms_end_no_measurement(deterministic: None, top_p: float) -> None:
    drawn = [sampler(model()).draw(asked(top_p=top_p), seed=0, step=0).samples for _ in range(2)]
    assert drawn[0] == drawn[1] and len(drawn[0]) == 32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_graphs_are_captured_and_draw_what_single_operations_draw(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, drawn = model().to(dtype), []
    for replays in (True, False):
        monkeypatch.setattr("divmon.sampling.devices.replays", lambda device, replays=replays: replays)
        one = sampler(made)
        drawn.append(one.draw(asked(), seed=0, step=0).samples)
        assert "no CUDA graph" not in one.reason
    equal = sum(a == b for a, b in zip(*drawn, strict=True))
    assert equal == 32 if dtype == torch.float32 else equal > 24  # masked attention is another kernel, which rounds


def test_nothing_waits_between_checks() -> None:
    made, counts = model(), []
    for tokens in (33, 41):
        torch.cuda.synchronize()
        with pytest.warns(UserWarning) as seen:
            torch.cuda.set_sync_debug_mode("warn")
            divmon.sample(
                made, torch.tensor([[5, 6, 7]]).cuda(), num_samples=4, max_new_tokens=tokens, eos_token_id=None
            )
            torch.cuda.set_sync_debug_mode("default")
        counts.append(sum("synchroniz" in str(warning.message) for warning in seen))
    assert counts[1] - counts[0] <= 1


def test_float32_under_autocast_is_cast_once() -> None:
    AcceleratorState._reset_state(True)
    made = Accelerator(mixed_precision="bf16").prepare(tiny.model("llama", vocab_size=5000))
    one = sampler(made)
    assert len(one.draw(asked(), seed=0, step=0).samples) == 32
    assert "weights cast to bfloat16 once" in one.reason
    assert all(p.dtype == torch.float32 for p in made.parameters())
    AcceleratorState._reset_state(True)


def test_reserved_memory_is_handed_back() -> None:
    made = model()
    sampler(made).draw(asked(), seed=0, step=0)
    before = torch.cuda.memory_reserved()
    sampler(made).draw(asked(max_new_tokens=400), seed=0, step=0)
    assert torch.cuda.memory_reserved() <= before * 1.01
