"""The trainer's own vLLM, colocated or a server, through the object that TRL generates its rollouts with.

Weights are synced as the trainer does it, settings put back, and every request gets a seed of its own, so that neither
the trainer's settings nor the engine's generator notice. Every process must call `draw`.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from divmon.prompts.rendering import Renderer
from divmon.sampling import Drawing, Request
from divmon.sampling.completions import from_ids
from divmon.sampling.vllm_rounds import Round, everyones, rounds, seeded
from divmon.types import Sample

SETTINGS = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "max_completion_length",
    "logprobs",
    "structured_outputs_regex",
    "generation_kwargs",
)
"""Attributes of TRL's `VLLMGeneration` that decide how it samples; saved, set and put back."""


class TrainerVLLM:
    """Samples from the vLLM that a trainer generates with.

    Args:
        trainer: a trainer of TRL with use_vllm=True.
        renderer: of the model's tokenizer.

    Raises:
        ValueError: the trainer has no vLLM that can be drawn from; the message says what to do.
    """

    name = "vllm"

    def __init__(self, trainer: Any, renderer: Renderer) -> None:
        vllm = getattr(trainer, "vllm_generation", None)
        if vllm is None:
            raise ValueError(_no_vllm(trainer))
        absent = [name for name in SETTINGS if not hasattr(vllm, name)]
        if absent:
            raise ValueError(
                f"sampler='vllm' sets {', '.join(absent)} of the trainer's vLLM, which TRL {_trl()} has not; upgrade"
                " TRL (this was written for 1.16), or leave sampler='auto'"
            )
        if not hasattr(trainer, "_last_loaded_step"):
            raise ValueError(
                f"{type(trainer).__name__} sends its weights to vLLM on a schedule of its own, which measuring would"
                " change, and with it the training; leave sampler='auto'"
            )
        self.trainer, self.renderer = trainer, renderer
        generation = getattr(trainer.model, "generation_config", None)
        self.eos_token_ids = sorted(renderer.eos_token_ids(getattr(generation, "eos_token_id", None)))
        self.reason = f"the trainer's own vLLM, {vllm.mode} mode; a seed for each prompt's samples"

    def use(self, model: Any) -> None:
        """Nothing: the trainer's own model is synced, whichever is passed."""

    def prepare(self, requests: Sequence[Request]) -> None:
        """Nothing."""

    def release(self) -> None:
        """Nothing: the engine is the trainer's."""

    def draw(
        self,
        requests: Sequence[Request],
        *,
        seed: int,
        step: int,
        progress: Callable[[int], None] = lambda samples: None,
    ) -> Drawing:
        """Samples every request with the weights of this moment; every process must call it, each with its own share.

        Raises:
            RuntimeError: the weights could not be sent to vLLM; in every process alike.
        """
        vllm, drawing = self.trainer.vllm_generation, Drawing()
        fitting = [request for request in requests if self._fits(request, drawing)]
        with _settings_kept(vllm), _weights_kept(self.trainer):
            self._sync()
            for draws in rounds(fitting, self.renderer, vllm.accelerator):
                self._set(draws)
                with seeded(vllm, draws, (seed, step), drawing.missing):
                    _, completions, _, _ = vllm.generate(
                        prompts=[list(ids) for ids in draws.prompts for _ in range(draws.count)],
                        images=None,
                        num_generations=draws.count,
                    )
                self._collect(draws, completions, drawing)
                progress(sum(request.num_samples for request in draws.requests))
        order = {request.key: place for place, request in enumerate(requests)}
        drawing.samples = [s for s in drawing.samples if (s.task, s.prompt_id) not in drawing.missing]
        drawing.samples.sort(key=lambda s: (order[s.task, s.prompt_id], s.index))
        return drawing

    def _fits(self, request: Request, drawing: Drawing) -> bool:
        """Whether vLLM's context holds a request; one that it does not is missing, not truncated."""
        vllm = self.trainer.vllm_generation
        limit = vllm.max_model_length
        if limit is None and vllm.mode == "colocate":
            limit = vllm.llm.llm_engine.model_config.max_model_len
        length, new = len(request.prompt.input_ids), request.decoding.max_new_tokens
        if limit is not None and length + new > limit:
            drawing.missing[request.key] = (
                f"its {length} tokens and {new} new ones do not fit into the trainer's vLLM, which holds {limit}: raise"
                " vllm_max_model_length, or lower max_new_tokens"
            )
            return False
        return True

    def _sync(self) -> None:
        """Sends the weights where vLLM does not have this step's yet, once, as the trainer itself would.

        The trainer is told, so that it does not send them again. But not with adapters, which are merged for sending:
        what that rounds is undone afterwards, so the trainer's own merging, if there is one, is still to come.
        """
        trainer, failure = self.trainer, ""
        if trainer.state.global_step != trainer._last_loaded_step:
            try:
                trainer.vllm_generation.sync_weights()
            except Exception as error:
                failure = f"{type(error).__name__}: {error}"
        failures = [said for said in everyones(trainer.vllm_generation.accelerator, failure) if said]
        if failures:
            raise RuntimeError(f"the weights could not be sent to the trainer's vLLM: {failures[0]}")
        if not _is_peft(trainer.model):
            trainer._last_loaded_step = trainer.state.global_step

    def _set(self, draws: Round) -> None:
        vllm, decoding = self.trainer.vllm_generation, draws.decoding
        vllm.temperature, vllm.top_p, vllm.top_k, vllm.min_p = decoding.temperature, decoding.top_p, 0, 0.0
        vllm.repetition_penalty, vllm.max_completion_length = 1.0, decoding.max_new_tokens
        vllm.logprobs, vllm.structured_outputs_regex = None, None
        vllm.generation_kwargs = {
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stop_token_ids": self.eos_token_ids,
            "stop": list(decoding.stop) if draws.stops else [],
            # Replaced by each request's own; vLLM decides by its presence how a request is sampled.
            "seed": 0,
        }

    def _collect(self, draws: Round, completions: Sequence[Sequence[int]], drawing: Drawing) -> None:
        expected = len(draws.prompts) * draws.count
        if len(completions) != expected:
            raise RuntimeError(
                f"the trainer's vLLM gave {len(completions)} completions where {expected} were asked for"
            )
        for place, request in enumerate(draws.requests):
            drawn = completions[place * draws.count :][: draws.count]
            if not all(drawn):
                drawing.missing.setdefault(
                    request.key, "the trainer's vLLM server gave no completion; the main process's log says why"
                )
            for index in range(request.num_samples):
                tokens = drawn[index % draws.count]
                drawing.samples.append(self._sample(request, index, tokens))
                drawing.tokens += len(tokens) if index < draws.count else 0

    def _sample(self, request: Request, index: int, tokens: Sequence[int]) -> Sample:
        if tokens and tokens[-1] in self.eos_token_ids:
            return from_ids(self.renderer, request, index, tokens[:-1], "eos")
        full = len(tokens) >= request.decoding.max_new_tokens or not request.decoding.stop
        return from_ids(self.renderer, request, index, tokens, "length" if full else "stop")


@contextmanager
def _settings_kept(vllm: Any) -> Iterator[None]:
    before = {name: getattr(vllm, name) for name in SETTINGS}
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(vllm, name, value)


@contextmanager
def _weights_kept(trainer: Any) -> Iterator[None]:
    """Adapters are merged into the weights for sending and taken out again, which rounds; inside, then put back.

    Without adapters sending only reads. The copies lie on the CPU.
    """
    vllm = trainer.vllm_generation
    sends = trainer.state.global_step != trainer._last_loaded_step or (
        vllm.mode == "colocate" and vllm.enable_sleep_mode
    )
    before: list[tuple[Any, str, Any, Any]] = []
    if sends and _is_peft(trainer.model):
        from peft.tuners.tuners_utils import BaseTunerLayer

        bases = [m.get_base_layer() for m in trainer.model.modules() if isinstance(m, BaseTunerLayer)]
        before = [
            (m, name, p, p.data.to("cpu", copy=True))
            for m in bases
            for name, p in m._parameters.items()
            if p is not None
        ]
    try:
        yield
    finally:
        for module, name, parameter, values in before:
            parameter.data.copy_(values)
            module._parameters[name] = parameter  # quantized layers are given a new one


def _is_peft(model: Any) -> bool:
    from accelerate.utils import is_peft_model

    return is_peft_model(model)


def _no_vllm(trainer: Any) -> str:
    kind = type(trainer).__name__
    if trainer is None:
        return (
            "sampler='vllm' draws with the trainer's own vLLM, and there is no trainer: pass trainer=, or leave 'auto'"
        )
    if getattr(trainer, "use_vllm", False):
        return (
            f"sampler='vllm' needs the object that TRL's trainers generate with, and {kind} of TRL {_trl()} has no"
            " vllm_generation; upgrade TRL (this was written for 1.16), or leave sampler='auto'"
        )
    return (
        f"sampler='vllm' draws with the trainer's own vLLM, and this {kind} has none: set use_vllm=True in its config"
        " where it has that (GRPO, RLOO, Distillation), or leave sampler='auto'"
    )


def _trl() -> str:
    return importlib.metadata.version("trl")
