"""A model's own generation_config decides nothing of what is sampled, and is as it was afterwards."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import transformers
from support import tiny

from divmon.prompts.rendering import Renderer
from divmon.sampling import Drawing, Request
from divmon.sampling.generation_config import UNSAID, own_generation_config_aside
from divmon.sampling.sampler import Sampler
from divmon.types import Decoding, Prompt

TEXTS = ["what is one plus two?", "what?", "it is three. what is one plus one plus two plus two?"]
ALL = list(range(5, 400))

SET: dict[str, Any] = {
    "max_length": 9, "max_new_tokens": 2, "min_length": 30, "min_new_tokens": 6, "early_stopping": True,
    "max_time": 1e-9, "stop_strings": ["a", "e", "t"], "do_sample": True, "num_beams": 3, "use_mtp": True,
    "use_cache": False, "cache_implementation": "static", "cache_config": {"a": 1}, "max_cache_len": 4,
    "temperature": 0.1, "top_k": 1, "top_p": 0.1, "min_p": 0.9, "top_h": 0.1, "typical_p": 0.1, "epsilon_cutoff": 0.5,
    "eta_cutoff": 0.5, "repetition_penalty": 5.0, "encoder_repetition_penalty": 5.0, "length_penalty": 3.0,
    "no_repeat_ngram_size": 1, "bad_words_ids": [[token] for token in ALL[::2]], "renormalize_logits": True,
    "forced_bos_token_id": 7, "forced_eos_token_id": 2, "remove_invalid_values": True,
    "exponential_decay_length_penalty": (1, 9.0), "suppress_tokens": ALL[::2], "begin_suppress_tokens": ALL[1::2],
    "sequence_bias": [[[7], 30.0]], "token_healing": True, "guidance_scale": 4.0,
    "watermarking_config": transformers.WatermarkingConfig(bias=20.0), "num_return_sequences": 2,
    "output_attentions": True, "output_hidden_states": True, "output_scores": True, "output_logits": True,
    "return_dict_in_generate": True, "pad_token_id": 9, "bos_token_id": 9, "eos_token_id": [2, 11],
    "encoder_no_repeat_ngram_size": 1, "decoder_start_token_id": 7, "is_assistant": True, "num_assistant_tokens": 3,
    "num_assistant_tokens_schedule": "constant", "assistant_confidence_threshold": 0.4, "prompt_lookup_num_tokens": 3,
    "max_matching_ngram_size": 1, "assistant_early_exit": 1, "assistant_lookbehind": 2, "target_lookbehind": 2,
    "assistant_ensemble_weight": 0.5, "speculation_type": "dflash", "compile_config": transformers.CompileConfig(),
    "disable_compile": True, "continuous_batching_config": {"a": 1}, "low_memory": True, "penalty_alpha": 0.6,
    "dola_layers": "low", "diversity_penalty": 1.0, "num_beam_groups": 2, "constraints": [1],
    "force_words_ids": [[7]], "prefill_chunk_size": 2, "transformers_version": "4.0.0", "a_field_of_my_own": 3,
}  # fmt: skip
"""A value of every field that would change what `generate` gives, stop it early, or make it fail."""


def drawn(how: str, field: str | None = None, family: str = "llama") -> Drawing:
    model = tiny.model(family, vocab_size=400)
    config = model.generation_config
    config.eos_token_id = [2, 11]
    if field is not None:
        setattr(config, field, SET[field])
    before = copy.deepcopy(vars(config))
    renderer = Renderer(tiny.tokenizer(TEXTS), chat=False)
    decoding = Decoding(max_new_tokens=12, temperature=1.0, top_p=0.95)
    requests = [Request(renderer.render("t", Prompt(str(i), text)), decoding, 3) for i, text in enumerate(TEXTS)]
    sampler = Sampler(model, renderer, how=how)
    found = sampler.draw(requests, seed=7, step=3)
    assert sampler.name == ("generate" if how == "generate" else "live"), sampler.reason
    assert model.generation_config is config and plain(vars(config)) == plain(before)
    named = field is not None and field not in UNSAID
    assert ("put aside" in sampler.reason) is named and (not named or f"{field}=" in sampler.reason)
    return found


def plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in fields.items()}


@pytest.fixture(scope="module")
def expected() -> dict[str, list[Any]]:
    found = {how: drawn(how).samples for how in ("auto", "live", "generate")}
    assert found["live"] == found["generate"] == found["auto"]
    assert len(found["live"]) == 9
    return found


@pytest.mark.parametrize("field", SET)
def test_no_field_reaches_what_is_sampled(field: str, expected: dict[str, list[Any]]) -> None:
    for how, samples in expected.items():
        found = drawn(how, field)
        assert not found.missing
        assert found.samples == samples, how


def test_every_field_of_the_installed_config_is_tried() -> None:
    known = {name for name in vars(transformers.GenerationConfig()) if not name.startswith("_")}
    assert known <= set(SET), f"new in transformers {transformers.__version__}: {known - set(SET)}"


def test_the_config_under_an_adapter_comes_back_even_where_sampling_fails() -> None:
    from peft import LoraConfig, get_peft_model

    base = tiny.model("llama", vocab_size=400)
    base.generation_config.suppress_tokens = ALL
    config, model = base.generation_config, get_peft_model(base, LoraConfig(target_modules=["q_proj"]))
    with pytest.raises(KeyError), own_generation_config_aside(model):
        assert model.generation_config.suppress_tokens is None
        raise KeyError
    assert model.generation_config is config and base.generation_config is config
    assert config.suppress_tokens == ALL
