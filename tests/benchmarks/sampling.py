"""Sampling against `model.generate(num_return_sequences=K)`: a 70M Olmo 3 shape, prompt 512, 64 new tokens, one thread.

    python tests/benchmarks/sampling.py

Alternating runs in one process, CPU seconds, medians; the ratio is what counts, as machines are noisy.
"""

from __future__ import annotations

import statistics
import time

import torch
import transformers

import divmon

PROMPT, NEW, K, RUNS = 512, 64, 16, 5


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = transformers.Olmo3Config(
        vocab_size=32_000,
        hidden_size=512,
        intermediate_size=2048,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        pad_token_id=0,
        eos_token_id=2,
    )
    model = transformers.Olmo3ForCausalLM(config).eval()
    ids = torch.randint(5, 32_000, (1, PROMPT))
    shared = {"max_new_tokens": NEW, "temperature": 0.6, "top_p": 0.95}

    def ours() -> None:
        divmon.sample(model, ids, num_samples=K, eos_token_id=None, **shared)

    def theirs() -> None:
        mask = torch.ones_like(ids)
        with torch.no_grad():
            model.generate(
                input_ids=ids, attention_mask=mask, num_return_sequences=K, min_new_tokens=NEW, do_sample=True, top_k=0,
                **shared,
            )  # fmt: skip

    seconds: dict[str, list[float]] = {"divmon.sample": [], "generate": []}
    ours(), theirs()
    for _ in range(RUNS):
        for name, run in (("divmon.sample", ours), ("generate", theirs)):
            began = time.process_time()
            run()
            seconds[name].append(time.process_time() - began)
    parameters = sum(p.numel() for p in model.parameters()) / 1e6
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {parameters:.0f}M parameters, K = {K}")
    for name, runs in seconds.items():
        median = statistics.median(runs)
        spread = f"{min(runs):.2f} to {max(runs):.2f}"
        print(f"{name:14} {median:6.2f} s CPU (median of {RUNS}; {spread})  {K * NEW / median:6.1f} tok/s")
    print(f"ratio {statistics.median(seconds['generate']) / statistics.median(seconds['divmon.sample']):.2f}")


if __name__ == "__main__":
    main()
