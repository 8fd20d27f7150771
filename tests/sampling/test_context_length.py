"""What does not fit into a model's context: left out with its reason, or cut and counted as truncated."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from support import tiny

from divmon import DiversityMonitor
from divmon.prompts.rendering import Renderer
from divmon.sampling import Drawing, Request
from divmon.sampling.context_length import context_length
from divmon.sampling.sampler import Sampler
from divmon.types import Decoding, Prompt

CONTEXT = 40
LENGTHS = {"short": 5, "long": 25, "full": 39, "too long": 40, "far too long": 90}


def model(family: str) -> Any:
    config = {"vocab_size": 400, "max_position_embeddings": CONTEXT}
    if family == "gpt2":
        import torch
        import transformers

        torch.manual_seed(0)
        shape = transformers.GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT)
        return transformers.GPT2LMHeadModel(shape).eval()
    return tiny.model(family, **config)


def drawn(family: str, how: str, names: list[str]) -> Drawing:
    renderer = Renderer(tiny.tokenizer(), chat=False)
    limits = Decoding(max_new_tokens=24, temperature=1.0, top_p=1.0)
    requests = [
        Request(renderer.render("t", Prompt(name, tuple(range(10, 10 + LENGTHS[name])))), limits, 3) for name in names
    ]
    made = model(family)
    made.generation_config.eos_token_id = None
    sampler = Sampler(made, renderer, how=how)
    sampler.eos_token_ids = []
    return sampler.draw(requests, seed=0, step=0)


@pytest.mark.parametrize("how", ["auto", "live", "generate"])
@pytest.mark.parametrize("family", ["gpt2", "llama", "olmo3"])
def test_what_does_not_fit_is_left_out_or_cut_and_the_rest_is_as_it_is_alone(
    family: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Learned positions and rotary: the one fails beyond its last position, the other gives nonsense in silence."""
    with caplog.at_level(logging.WARNING, "divmon"):
        found = drawn(family, how, list(LENGTHS))
    assert {key[1] for key in found.missing} == {"too long", "far too long"}
    assert (
        "its 90 tokens leave no room for an answer in the model's context of 40" in found.missing["t", "far too long"]
    )
    new = {name: {s.n_tokens for s in found.samples if s.prompt_id == name} for name in ("short", "long", "full")}
    assert new == {"short": {24}, "long": {15}, "full": {1}}
    assert {s.finish for s in found.samples} == {"length"}
    assert "2 of 5 prompts are left out" in caplog.text and "the answers to 2 have less room" in caplog.text
    alone = [s for name in ("short", "long", "full") for s in drawn(family, how, [name]).samples]
    assert found.samples == alone


def test_one_long_prompt_does_not_cost_the_others_their_measurement(tmp_path: Path) -> None:
    """On learned positions it did, all of them."""
    monitor = DiversityMonitor(
        ["is it one?", "one plus two " * 40], output_dir=str(tmp_path), metrics="length", num_samples=2,
        max_new_tokens=64, progress=False, loggers=[],
    )  # fmt: skip
    snapshot = monitor.measure(model("gpt2"), tiny.tokenizer())
    assert {s.prompt_id for s in snapshot.samples} == {"0"} and len(snapshot.samples) == 8
    assert "context of 40" in snapshot.missing["prompts", "1"]
    assert snapshot.score("prompts", "clipped_ratio").mean > 0.5, "the room that was cut is counted"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "dynamic", "factor": 4.0}}, 256),
    ],
)
def test_the_context_of_a_config(config: dict[str, Any], expected: int) -> None:
    if "rope_parameters" in config:
        config["rope_parameters"]["rope_theta"] = 10000.0
    assert context_length(tiny.model("llama", **config)) == expected
