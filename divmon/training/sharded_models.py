"""What stands around a model in several processes: wrappers to look inside of, parameters to put together first."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from divmon.undisturbed import free_bytes

logger = logging.getLogger("divmon")

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
def whole(model: Any, wrapped: Any = None, has_room: Callable[[int], bool] = lambda size: True) -> Iterator[bool]:
    """Inside, the model inside the wrappers can be called; every process must come here and leave together.

    Parameters that lie over processes are put together once, where every process has room for them: else each layer
    gathers its own at each forward, so at every token, and processes must forward equally often.

    Args:
        model: as the trainer passes it.
        wrapped: `trainer.model_wrapped`, which under DeepSpeed is the engine around it.
        has_room: whether so many bytes fit in every process beside what it holds; asks them all.

    Yields:
        Whether each process may forward as it likes.
    """
    kind = sharding_of(model)
    if not kind:
        yield True
        return
    apart = has_room(whole_bytes(model))
    if not apart:
        _say_once(
            "divmon: layers gather their parameters at every token, which is slow: put together they do not fit the"
            " memory that is free in every process"
        )
    around = {"zero3": _whole_zero3, "fsdp1": _whole_fsdp1, "fsdp2": _whole_fsdp2}[kind]
    with around(model, wrapped, apart):
        yield apart


@contextmanager
def _whole_zero3(model: Any, wrapped: Any, apart: bool) -> Iterator[None]:
    if not apart:  # its hooks gather a layer at a time
        yield
        return
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


@contextmanager
def _whole_fsdp1(model: Any, wrapped: Any, apart: bool) -> Iterator[None]:
    """Of all modules, or of the root alone, as TRL does for generation."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    inner: list[Any] = FullyShardedDataParallel.fsdp_modules(model) if apart else []
    with FullyShardedDataParallel.summon_full_params(model, recurse=apart, writeback=False), _as_forwarded(inner):
        try:
            for module in inner:  # its own forward would gather and give the parameters away again
                module.forward = module.module.__call__
            yield
        finally:
            for module in inner:
                del module.forward


@contextmanager
def _as_forwarded(parts: list[Any]) -> Iterator[None]:
    """Parameters in the type that FSDP1's mixed precision forwards with: put together they are in full precision."""
    slots = [
        (module, name, parameter, part.mixed_precision.param_dtype)
        for part in parts
        if _low_precision(part) is not None
        for module in part._handle.flat_param._modules
        for name, parameter in module._parameters.items()
        if parameter is not None
    ]
    try:
        copies = {id(p): type(p)(p.detach().to(dtype), requires_grad=False) for _, _, p, dtype in slots}
        for module, name, parameter, _ in slots:
            module._parameters[name] = copies[id(parameter)]
        yield
    finally:
        for module, name, parameter, _ in slots:
            module._parameters[name] = parameter


def _low_precision(part: Any) -> Any:
    """The type that a module of FSDP1 forwards with, where it is another one than that of its parameters."""
    handle = part._handle
    return None if handle is None or handle._use_full_prec_in_eval else part.mixed_precision.param_dtype


@contextmanager
def _whole_fsdp2(model: Any, wrapped: Any, apart: bool) -> Iterator[None]:
    modules = list(filter(_is_fsdp2, model.modules()))
    kept: list[tuple[Any, str, Any]] = []
    try:
        if apart:
            modules[0]._get_fsdp_state()._lazy_init()  # which decides by itself whether the root stays together
            for module in modules:
                state = module._get_fsdp_state()
                kept.append((state, "_auto_reshard_after_forward", state._auto_reshard_after_forward))
                kept += [(g, "post_forward_mesh_info", g.post_forward_mesh_info) for g in state._fsdp_param_groups]
                module.set_reshard_after_forward(False, recurse=False)
                module.unshard()
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)
        for module in modules:  # a root that was only called forward would keep its parameters together
            module.reshard()


def whole_bytes(model: Any) -> int:
    """Of all parameters of a sharded model, put together."""
    import torch.distributed as dist

    parameters = list(model.parameters())
    if sharding_of(model) == "fsdp1":  # each process has its share
        from torch.distributed.fsdp import FullyShardedDataParallel

        parts = FullyShardedDataParallel.fsdp_modules(model)
        beside = max((dtype.itemsize for part in parts if (dtype := _low_precision(part)) is not None), default=0)
        return sum(p.numel() * (p.element_size() + beside) for p in parameters) * dist.get_world_size()
    return sum(getattr(p, "ds_numel", p.numel()) * p.element_size() for p in parameters)


def free_memory(model: Any) -> int:
    """Memory that is free for this process on the model's device."""
    import psutil

    free = free_bytes(next(model.parameters()).device)
    return int(psutil.virtual_memory().available) if free is None else free


@functools.cache
def _say_once(line: str) -> None:
    logger.warning("%s", line)


def _is_fsdp2(module: Any) -> bool:
    return any(base.__name__ == "FSDPModule" for base in type(module).__mro__)
