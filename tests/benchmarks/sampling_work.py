"""What `sampling.py` has everyone draw: models of people's shapes with random weights, prompts, and when rows stop."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

K = 16
SIZES: dict[str, dict[str, Any]] = {
    "5M": dict(hidden_size=128, intermediate_size=512, num_hidden_layers=6, num_attention_heads=4),
    "70M": dict(hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8),
    "1B": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=16),
    "7B": dict(hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32),
}
FAMILIES: dict[str, tuple[str, int]] = {"Olmo3": ("Olmo3", 1), "Llama": ("Llama", 4), "Qwen3": ("Qwen3", 2)}
"""transformers' name, and query heads to one key-value head."""
PEAKED = 6.0
"""Standard deviation of "peaked" logits: most of the mass on a few tokens, as in a trained model."""


@dataclass(frozen=True)
class Work:
    """One row of the table."""

    family: str
    size: str
    prompt: int
    new: int
    prompts: int
    vocabulary: int = 32_000
    temperature: float = 1.0
    top_p: float = 1.0
    ragged: bool = False
    """Prompts of half to one and a half times the length, so that a batch is padded."""
    peaked: bool = False

    @property
    def name(self) -> str:
        prompt = f"~{self.prompt}" if self.ragged else str(self.prompt)
        return f"{self.family:6}{self.size:>4} {prompt:>5} / {self.new:<4}"

    def model(self, device: str) -> Any:
        """In bf16 on a GPU, float32 on a CPU; 5M ties its embeddings, as small models do."""
        name, groups = FAMILIES[self.family]
        sizes = SIZES[self.size]
        heads = sizes["num_attention_heads"]
        config = getattr(transformers, f"{name}Config")(
            **sizes,
            vocab_size=self.vocabulary,
            num_key_value_heads=heads // groups,
            head_dim=sizes["hidden_size"] // heads,
            max_position_embeddings=4096,
            tie_word_embeddings=self.size == "5M",
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
            dtype=torch.bfloat16 if device == "cuda" else torch.float32,
        )
        torch.manual_seed(0)
        with torch.device(device):
            model = transformers.AutoModelForCausalLM.from_config(config, dtype=config.dtype).eval()
        if self.peaked:
            with torch.no_grad():
                model.model.norm.weight.fill_(PEAKED / (0.02 * math.sqrt(sizes["hidden_size"])))
        return model

    def texts(self) -> list[str]:
        """Prompts as text, a word a token."""
        generator = torch.Generator().manual_seed(1)
        low, high = (self.prompt // 2, 3 * self.prompt // 2) if self.ragged else (self.prompt, self.prompt)
        lengths = torch.linspace(low, high, self.prompts).long().tolist()
        ids = [torch.randint(5, self.vocabulary, (length,), generator=generator).tolist() for length in lengths]
        return [" ".join(f"w{i}" for i in row) for row in ids]

    def lengths(self) -> torch.Tensor:
        """New tokens [P, K] after which each row stops: log-normal, its K quantiles, shuffled for each prompt."""
        normal = NormalDist(math.log(0.4 * self.new), 0.7)
        quantiles = [min(self.new, max(1, round(math.exp(normal.inv_cdf((k + 0.5) / K))))) for k in range(K)]
        generator = torch.Generator().manual_seed(2)
        return torch.stack(
            [torch.tensor(quantiles)[torch.randperm(K, generator=generator)] for _ in range(self.prompts)]
        )

    def replace(self, **changes: Any) -> Work:
        return dataclasses.replace(self, **changes)


def tokenizer(vocabulary: int) -> Any:
    """A word a token, "w7" is 7, so that texts have the length they are asked for."""
    backend = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocabulary)}, unk_token="w1"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.WordPiece()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="w0", unk_token="w1", eos_token="w2", model_max_length=4096
    )
