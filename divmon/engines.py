"""Which engine draws in a training run: the model in this process, or the trainer's own vLLM."""

from __future__ import annotations

from typing import Any

from divmon.options import Options
from divmon.processes import Processes
from divmon.rendering import Renderer
from divmon.samplers.trainer_vllm import TrainerVLLM
from divmon.sampling import Sampler
from divmon.sharding import sharding_of, unwrapped

Drawer = Sampler | TrainerVLLM


def make_sampler(options: Options, model: Any, renderer: Renderer, processes: Processes, trainer: Any = None) -> Drawer:
    """What draws this process's share.

    Args:
        model: as the trainer passes it.
        trainer: where there is one; holds the vLLM of sampler="vllm".

    Raises:
        ValueError: the model or the trainer cannot be drawn from in this way.
    """
    if options.sampler == "vllm":
        return TrainerVLLM(trainer, renderer)
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
        together=processes if kind in ("fsdp1", "fsdp2") else None,
    )
