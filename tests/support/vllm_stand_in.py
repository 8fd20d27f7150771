"""What lies behind TRL's `VLLMGeneration`, where vLLM itself needs a GPU: an engine with a tiny model of its own.

TRL's own classes run as they are; only what they import from vLLM stands in here, and refuses what vLLM would refuse.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration


@dataclass
class SamplingParams:
    """vLLM's by its names; any other is a TypeError there and here."""

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    stop_token_ids: list[int] = field(default_factory=list)
    max_tokens: int = 16
    logprobs: int | None = None

    def __post_init__(self) -> None:
        if self.temperature == 0 and self.n > 1:
            raise ValueError("n must be 1 when using greedy sampling")
        self.seeded = self.seed is not None  # vLLM decides so at once, and a copy inherits it


class Engine:
    """As much of `vllm.LLM` as TRL uses."""

    def __init__(self, model: Any, tokenizer: Any, max_model_len: int = 512) -> None:
        self.model, self.tokenizer = copy.deepcopy(model).eval(), tokenizer
        self.forget()
        self.loads = 0
        self.awake = {"weights", "kv_cache"}
        self.own = torch.Generator().manual_seed(0)
        self.requests: list[SamplingParams] = []
        runner = SimpleNamespace(model=SimpleNamespace(load_weights=self.load_weights))
        self.llm_engine = SimpleNamespace(
            model_executor=SimpleNamespace(driver_worker=SimpleNamespace(model_runner=runner)),
            model_config=SimpleNamespace(max_model_len=max_model_len),
        )

    def forget(self) -> None:
        """Weights that were never sent, or dropped to sleep, give NaN and not an old model's text."""
        for parameter in self.model.parameters():
            parameter.data.fill_(float("nan"))

    def load_weights(self, weights: list[tuple[str, torch.Tensor]]) -> None:
        assert "weights" in self.awake
        mine = dict(self.model.named_parameters())
        for name, value in weights:
            mine[name].data.copy_(value)
            self.loads += name == next(iter(mine))

    def wake_up(self, tags: list[str]) -> None:
        self.awake |= set(tags)

    def sleep(self, level: int) -> None:
        self.awake.clear()
        if level == 2:
            self.forget()

    def reset_prefix_cache(self) -> None:
        pass

    def generate(self, prompts: list[dict], sampling_params: Any, *, use_tqdm: bool = True) -> list[Any]:
        assert self.awake == {"weights", "kv_cache"}
        each = sampling_params if isinstance(sampling_params, list) else [sampling_params] * len(prompts)
        assert len(each) == len(prompts)
        return [self._one(prompt["prompt_token_ids"], params) for prompt, params in zip(prompts, each, strict=True)]

    def _one(self, prompt: list[int], params: SamplingParams) -> Any:
        outputs = []
        for child in range(params.n):
            assert params.seeded == (params.seed is not None)
            chance = self.own
            if params.seed is not None:
                chance = torch.Generator().manual_seed(params.seed + child)
            outputs.append(self._complete(list(prompt), params, chance))
        self.requests.append(params)
        return SimpleNamespace(prompt_token_ids=list(prompt), outputs=outputs)

    @torch.no_grad()
    def _complete(self, ids: list[int], params: SamplingParams, chance: torch.Generator) -> Any:
        new: list[int] = []
        logprobs: list[dict[int, Any]] = []
        while len(new) < params.max_tokens and len(ids) < self.llm_engine.model_config.max_model_len:
            logits = self.model(torch.tensor([ids])).logits[0, -1]
            if not bool(torch.isfinite(logits).all()):
                raise RuntimeError("the engine has no weights")
            if params.temperature == 0:
                token = int(logits.argmax())
            else:
                probs = torch.softmax(logits / params.temperature, -1)
                token = int(torch.multinomial(probs, 1, generator=chance))
            logprobs.append({token: SimpleNamespace(logprob=float(torch.log_softmax(logits, -1)[token]), rank=1)})
            new.append(token)
            ids.append(token)
            text = self.tokenizer.decode(new, skip_special_tokens=True)
            if token in params.stop_token_ids or token == 2 or any(stop in text for stop in params.stop):
                break
        return SimpleNamespace(token_ids=new, logprobs=None if params.logprobs is None else logprobs)


class Client(VLLMClient):
    """TRL's client, but that weights do not go over NCCL."""

    engine: Engine

    def init_communicator(self, device: torch.device | str | int = 0) -> None:
        pass

    def update_named_params(self, metadata: Any, named_params: Any) -> None:
        named = list(named_params)
        assert [(name, str(p.dtype).removeprefix("torch."), list(p.shape)) for name, p in named] == metadata
        self.engine.load_weights(named)

    def reset_prefix_cache(self) -> None:
        pass


class Generation(VLLMGeneration):
    """TRL's object, but that vLLM is not started."""

    client: Client | None = None

    def _init_vllm(self) -> None:
        if self.mode == "server":
            self.vllm_client = self.client
            return
        self.llm = Engine(self.model_for_engine(), self.processing_class, self.max_model_length or 512)
        if self.enable_sleep_mode:
            self.llm.sleep(level=2)
        self._llm_weights_sleeping = self.enable_sleep_mode

    def model_for_engine(self) -> Any:
        model = self.model
        if not hasattr(model, "peft_config"):
            return model
        plain = copy.deepcopy(model)
        return plain.unload()


def answer(engine: Engine, body: dict[str, Any]) -> dict[str, Any]:
    """What `vllm serve` answers to a completion request of token ids."""
    known = SamplingParams.__dataclass_fields__.keys()
    params = SamplingParams(**{name: value for name, value in body.items() if name in known})
    outputs = engine.generate([{"prompt_token_ids": ids} for ids in body["prompt"]], params)
    return {
        "choices": [
            {"token_ids": made.token_ids, "prompt_token_ids": output.prompt_token_ids, "logprobs": None}
            for output in outputs
            for made in output.outputs
        ]
    }
