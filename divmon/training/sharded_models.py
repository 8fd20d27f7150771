"""What stands around a model in several processes: wrappers to look inside of, parameters to put together first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

Sharding = Literal["", "fsdp1", "fsdp2", "zero3"]
"""How a model's parameters lie over processes; "" where each process holds them whole (DDP, ZeRO-1 and 2)."""


def unwrapped(model: Any) -> Any:
    """The model inside DistributedDataParallel, FSDP1, DeepSpeed, DataParallel or torch.compile.

    Raises:
        ValueError: it is no causal language model.
    """
    from accelerate.utils import extract_model_from_parallel

    inner = extract_model_from_parallel(model, keep_torch_compile=False)
    config, can_generate = getattr(inner, "config", None), getattr(inner, "can_generate", None)
    if can_generate is None or not can_generate() or getattr(config, "is_encoder_decoder", False):
        raise ValueError(
            f"divmon samples causal language models of transformers (or PEFT around one); got {type(inner).__name__}"
        )
    return inner


def sharding_of(model: Any) -> Sharding:
    """How the parameters lie over processes.

    Raises:
        ValueError: in a way that cannot be sampled with other prompts in each process (tensor parallelism).
    """
    parameters, modules = list(model.parameters()), list(model.modules())
    if any(hasattr(p, "ds_id") for p in parameters):
        return "zero3"
    if any(type(m).__name__ == "FullyShardedDataParallel" for m in modules):
        return "fsdp1"
    split = [p for p in parameters if hasattr(p, "device_mesh")]
    if not split:
        return ""
    fsdp2 = any(_is_fsdp2(m) for m in modules)
    names = {name for p in split for name in (p.device_mesh.mesh_dim_names or ())}
    if not fsdp2 or "tp" in names:
        raise ValueError(
            "divmon cannot sample a tensor-parallel model: every process would need the same prompts at the same time;"
            " measure its checkpoints from a side process instead (divmon watch)"
        )
    return "fsdp2"


@contextmanager
def whole(model: Any, wrapped: Any = None) -> Iterator[None]:
    """Inside, the model inside the wrappers can be called; every process must come here and leave together.

    ZeRO-3: all parameters are gathered, so that each process may forward as it likes. FSDP1: those of the root, as TRL
    does for generation; FSDP2: nothing. In both, layers still gather theirs at each forward, so processes must forward
    equally often.

    Args:
        model: as the trainer passes it.
        wrapped: `trainer.model_wrapped`, which under DeepSpeed is the engine around it.
    """
    kind = sharding_of(model)
    if kind == "zero3":
        # trl's unwrap_model_for_generation does the same and switches gradient checkpointing, which loses its settings.
        import deepspeed
        from trl.models.utils import add_hooks, remove_hooks

        engine = model if hasattr(model, "module") else wrapped  # a reference model has an engine of its own
        with deepspeed.zero.GatheredParameters(list(model.parameters())):
            remove_hooks(engine)
            try:
                yield
            finally:
                add_hooks(engine)
    elif kind == "fsdp1":
        from torch.distributed.fsdp import FullyShardedDataParallel

        with FullyShardedDataParallel.summon_full_params(model, recurse=False, writeback=False):
            yield
    else:
        try:
            yield
        finally:
            if kind == "fsdp2":  # a root that was only called forward would keep its parameters together
                for module in filter(_is_fsdp2, model.modules()):
                    module.reshard()


def _is_fsdp2(module: Any) -> bool:
    return any(base.__name__ == "FSDPModule" for base in type(module).__mro__)
