"""Which prompts go to a trainer's vLLM in one call, the same number in every process, and with which seeds."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from divmon.prompts.rendering import Renderer
from divmon.sampling import Key, Request
from divmon.sampling.completions import seed_of
from divmon.types import Decoding

logger = logging.getLogger("divmon")

AT_ONCE = 64
"""Prompts that the server is asked for at a time, as by TRL itself."""


@dataclass
class Round:
    """Requests that are decoded alike, drawn in one call; padded so that every process brings as many prompts."""

    decoding: Decoding
    stops: bool
    """Stop strings are vLLM's to look for; not where reasoning may hold one, which it must not end."""
    count: int
    """Completions drawn of each prompt: one where decoding is greedy, for all are the same."""
    requests: list[Request]
    prompts: list[tuple[int, ...]]
    """Token ids: those of the requests, then padding."""
    keys: list[list[Key]]
    """Of each process, by rank, what its prompts are; padding has a name of its own."""


def rounds(requests: Sequence[Request], renderer: Renderer, accelerator: Any) -> Iterator[Round]:
    """The same rounds in the same order in every process."""
    mine: dict[Any, list[Request]] = {}
    for request in requests:
        stops = not request.prompt.in_reasoning and not renderer.reasons
        count = request.num_samples if request.decoding.temperature > 0 else 1
        mine.setdefault((request.decoding, stops, count), []).append(request)
    told = {kind: ([r.key for r in group], group[0].prompt.input_ids) for kind, group in mine.items()}
    shares = everyones(accelerator, told)
    for kind in sorted({kind for one in shares for kind in one}, key=repr):
        keys = [list(one[kind][0]) if kind in one else [] for one in shares]
        longest = max(map(len, keys))
        for rank, names in enumerate(keys):
            names += [(f"padding of process {rank}", str(place)) for place in range(len(names), longest)]
        group = mine.get(kind, [])
        filler = next(one[kind][1] for one in shares if kind in one)
        prompts = [request.prompt.input_ids for request in group]
        decoding, stops, count = kind
        yield Round(decoding, stops, count, group, prompts + [filler] * (longest - len(group)), keys)


def everyones(accelerator: Any, value: Any) -> list[Any]:
    """Each process's value, by rank, in all."""
    if accelerator.num_processes == 1:
        return [value]
    from accelerate.utils import gather_object

    return gather_object([value])


@contextmanager
def seeded(vllm: Any, draws: Round, seed: tuple[int, int], missing: dict[Key, str]) -> Iterator[None]:
    """Gives each request a seed of its own on the way to vLLM, and names the prompts that its server refuses.

    TRL hands one set of sampling parameters to all requests: with one seed for all, a prompt's samples would be the
    same sample (colocated), or all prompts share their randomness (server).
    """
    asker: _SeededServer | _SeededEngine
    if vllm.mode == "server":
        if not vllm.accelerator.is_main_process:  # only the main process talks to the server
            yield
            return
        keys = [key for names in draws.keys for key in names]
        owner = vllm.vllm_client
        asker = _SeededServer(owner.generate, [seed_of(*seed, *key) for key in keys])
    else:
        size = vllm.tensor_parallel_size  # processes of one engine bring their prompts together
        first = vllm.accelerator.process_index // size * size
        keys = [key for names in draws.keys[first : first + size] for key in names]
        owner = vllm.llm
        asker = _SeededEngine(
            owner.generate, [seed_of(*seed, *key, index) for key in keys for index in range(draws.count)]
        )
    before = vars(owner).get("generate")
    owner.generate = asker
    try:
        yield
    finally:
        if before is None:
            del owner.generate  # the class's own comes back
        else:
            owner.generate = before
        for place, reason in asker.failures.items():
            logger.warning("divmon: the trainer's vLLM server could not draw %s: %s", keys[place], reason)
            missing[keys[place]] = reason


@dataclass
class _SeededEngine:
    """`vllm.LLM.generate` with a seed for each request."""

    generate: Callable[..., Any]
    seeds: list[int]
    failures: dict[int, str] = field(default_factory=dict)

    def __call__(self, prompts: Sequence[Any], sampling_params: Any, **kwargs: Any) -> Any:
        each = [copy.copy(sampling_params) for _ in prompts]
        for place, params in enumerate(each):
            params.seed = self.seeds[place % len(self.seeds)]
        return self.generate(prompts, sampling_params=each, **kwargs)


@dataclass
class _SeededServer:
    """`VLLMClient.generate` a prompt at a time, with a seed for each; vLLM adds a sample's number to it.

    A prompt that fails gets empty completions: an error here would leave the other processes waiting.
    """

    generate: Callable[..., dict[str, Any]]
    seeds: list[int]
    failures: dict[int, str] = field(default_factory=dict)

    def __call__(self, prompts: Sequence[list[int]], **sampling: Any) -> dict[str, Any]:
        def one(place: int) -> list[list[int]]:
            extra = {**sampling["generation_kwargs"], "seed": self.seeds[place % len(self.seeds)]}
            try:
                answer = self.generate(prompts=[prompts[place]], **{**sampling, "generation_kwargs": extra})
                return answer["completion_ids"]
            except Exception as error:
                self.failures[place] = f"{type(error).__name__}: {error}"
                return [[] for _ in range(sampling["n"])]

        with ThreadPoolExecutor(AT_ONCE) as pool:
            drawn = list(pool.map(one, range(len(prompts))))
        completions = [tokens for ids in drawn for tokens in ids]
        return {"prompt_ids": list(prompts), "completion_ids": completions, "logprobs": None}
