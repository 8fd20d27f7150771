"""Run by test_sampling in a process of its own: sampling while the process may hardly allocate."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import torch

from divmon.prompts.rendering import Renderer
from divmon.sampling import Request, shared_prefix
from divmon.sampling.engines import live as live_module
from divmon.sampling.sampler import Sampler
from divmon.types import Decoding, Prompt
from support import tiny

torch.set_num_threads(1)
shared_prefix.SHORTEST = 10**9  # a prompt per sample: that is what is large here


def allowed(megabytes: float) -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(megabytes * 2**20), resource.RLIM_INFINITY))


def main() -> None:
    # Long prompts, so that the caches of a whole batch are large.
    model = tiny.model("llama", vocab_size=400, max_position_embeddings=8192)
    renderer = Renderer(tiny.tokenizer(), chat=False)
    prompts = [renderer.render("task", Prompt(str(i), "what is one plus two?" * (100 + i))) for i in range(4)]
    requests = [Request(prompt, Decoding(max_new_tokens=6), 16) for prompt in prompts]
    sampler = Sampler(model, renderer, how="live", max_batch_tokens=10**9)
    batches: list[int] = []
    inner = live_module.live

    def counted(model: object, batch: object) -> object:
        batches.append(len(batch.limits_R))  # type: ignore[attr-defined]
        return inner(model, batch)  # type: ignore[arg-type]

    import divmon.sampling

    divmon.sampling.sampler.live = counted  # type: ignore[assignment]
    sampler.draw(requests[:1], seed=0, step=0)
    batches.clear()
    whole = sampler.draw(requests, seed=0, step=0)
    assert batches == [64], batches
    batches.clear()
    allowed(20)
    halves = sampler.draw(requests, seed=0, step=0)
    assert max(batches) == 64 and len(batches) > 2, batches
    print("halved", batches)
    assert halves.samples == whole.samples and not halves.missing
    print("same samples")
    allowed(0.5)
    few = [replace(request, num_samples=2) for request in requests]
    some = sampler.draw(few, seed=0, step=0)
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert some.missing and all("out of memory" in reason for reason in some.missing.values()), some
    drawn = [s for s in whole.samples if (s.task, s.prompt_id) not in some.missing and s.index < 2]
    assert some.samples == drawn
    print("skipped with its reason", some.missing)


main()
