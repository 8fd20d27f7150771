"""What draws in a training run (the model in this process, or the trainer's own vLLM), and what scores beside it."""

from __future__ import annotations

from typing import Any

from divmon.options import Options
from divmon.prompts.rendering import Renderer
from divmon.sampling import TrainingEngine
from divmon.sampling.engines.trainer_vllm import TrainerVLLM
from divmon.sampling.sampler import Sampler
from divmon.sampling.serving.judge import Judge
from divmon.scoring.scorer import Scorer
from divmon.training.distributed import Processes
from divmon.training.own_vllm import OwnVLLM, has_none
from divmon.training.protocol import Asking
from divmon.training.sharded_models import sharding_of, unwrapped


def make_sampler(
    options: Options, model: Any, renderer: Renderer, processes: Processes, trainer: Any = None, longest: int = 0
) -> TrainingEngine:
    """What draws this process's share.

    Args:
        model: as the trainer passes it.
        trainer: where there is one; holds the vLLM of sampler="vllm", or gets one beside it.
        longest: prompt and new tokens of the longest request, what such a vLLM has room for.

    Raises:
        ValueError: the model or the trainer cannot be drawn from in this way.
    """
    if options.sampler == "vllm":
        if not has_none(trainer):
            return TrainerVLLM(trainer, renderer)
        own = TrainerVLLM(OwnVLLM(trainer, longest), renderer)
        own.reason = "a vLLM of divmon's own, asleep while training; a seed for each prompt's samples"
        return own
    kind = sharding_of(model)
    if kind and options.processes == "main":
        raise ValueError(
            "processes='main': this model's parameters are sharded over processes, so one cannot sample it alone"
        )
    return Sampler(
        unwrapped(model),
        renderer,
        how=options.sampler,
        max_batch_tokens=options.max_batch_tokens,
        max_memory_gb=options.max_memory_gb,
        timeout=options.timeout,
        together=processes if kind else None,  # until they are put together (`LiveRun.whole`)
    )


def make_scorer(options: Options, asking: Asking, model: Any) -> Scorer:
    """What scores, on the device of the model.

    Args:
        model: as for `make_sampler`; None where an engine draws.

    Raises:
        ValueError, Unavailable: as `Scorer`.
    """
    return Scorer(
        options.metrics,
        categories={prompt.category for probe in asking.probes for prompt in probe.prompts},
        embedder=options.embedder,
        code_embedder=options.code_embedder,
        nli_model=options.nli_model,
        judge=None if options.judge is None else Judge(options.judge, options.judge_calls),
        device=None if model is None else str(next(model.parameters()).device),
        encoder_device=options.encoder_device,
        max_memory_gb=options.max_memory_gb,
        vocab_size=len(asking.renderer.tokenizer),
        seed=options.seed,
    )
