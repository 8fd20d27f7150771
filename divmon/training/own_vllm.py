"""A vLLM of divmon's own beside a trainer that has none (SFT, DPO, KTO): TRL's object, colocated and asleep."""

from __future__ import annotations

from typing import Any

MEMORY = 0.3
"""Share of the GPU that it may take while it is awake, as TRL's trainers give theirs."""


class OwnVLLM:
    """What `TrainerVLLM` needs of a trainer, around a trainer that has no vLLM.

    Args:
        trainer: of TRL or transformers, with an accelerator.
        longest: prompt and new tokens of the longest request.

    Raises:
        ValueError: vLLM is not installed, or this TRL cannot start it beside such a trainer.
    """

    def __init__(self, trainer: Any, longest: int) -> None:
        try:
            from trl.generation.vllm_generation import VLLMGeneration, is_vllm_available
        except ImportError as error:
            raise ValueError(f"sampler='vllm' needs TRL's VLLMGeneration (TRL 1.16 has it): {error}") from None
        if not is_vllm_available():
            raise ValueError(
                f"sampler='vllm' starts vLLM beside {type(trainer).__name__}, and vLLM is not installed:"
                " run pip install 'trl[vllm]', or leave sampler='auto'"
            )
        self.model, self.state, self._trainer = trainer.model, trainer.state, trainer
        self._last_loaded_step = -1
        self.vllm_generation = VLLMGeneration(
            trainer.model,
            trainer.accelerator,
            trainer.processing_class,
            mode="colocate",
            gpu_memory_utilization=getattr(trainer.args, "vllm_gpu_memory_utilization", MEMORY),
            max_model_length=longest,
            enable_sleep_mode=True,  # its weights and its cache are given back after each measurement
        )


def has_none(trainer: Any) -> bool:
    """Whether a trainer neither has a vLLM nor an option that would give it one."""
    return trainer is not None and not hasattr(trainer, "vllm_generation") and not hasattr(trainer, "use_vllm")
