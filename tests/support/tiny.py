"""Tiny models with random weights in the architectures that people train, for tests."""

from __future__ import annotations

from typing import Any

import torch

VOCAB = 97
COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def model(name: str, seed: int = 0, **config: Any) -> Any:
    """A random model in evaluation mode: olmo3, llama, qwen3, gpt2, olmo3-lora, qwen3-next."""
    import transformers as T

    torch.manual_seed(seed)
    if name.startswith("olmo3"):
        layers = ["sliding_attention"] * 3 + ["full_attention"]
        made = T.Olmo3ForCausalLM(T.Olmo3Config(**{**COMMON, "sliding_window": 8, "layer_types": layers, **config}))
    elif name == "llama":
        made = T.LlamaForCausalLM(T.LlamaConfig(**{**COMMON, **config}))
    elif name == "qwen3":
        made = T.Qwen3ForCausalLM(T.Qwen3Config(**{**COMMON, "head_dim": 8, **config}))
    elif name == "gpt2":
        gpt2 = T.GPT2Config(
            vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=512, bos_token_id=1, eos_token_id=2, **config
        )
        made = T.GPT2LMHeadModel(gpt2)
        # Untrained GPT-2 barely looks at its context; larger weights make a wrong cache show.
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.mul_(15.0) if parameter.ndim > 1 else None
    elif name == "qwen3-next":
        qwen = {
            **COMMON,
            "head_dim": 8,
            "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
            "linear_num_value_heads": 4,
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
            **config,
        }
        made = T.Qwen3NextForCausalLM(T.Qwen3NextConfig(**qwen))
    else:
        raise ValueError(name)
    if name == "olmo3-lora":
        from peft import LoraConfig, get_peft_model

        made = get_peft_model(made, LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    made.generation_config.pad_token_id = 0
    return made.eval()


def tokenizer(texts: list[str] | None = None, chat_template: str | None = None) -> Any:
    """A byte-level BPE tokenizer with <pad>, <bos>, <eos> as 0, 1, 2, trained on a few lines."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<bos>", "<eos>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts or ["what is one plus two? it is three."], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        chat_template=chat_template,
        model_max_length=512,
    )
