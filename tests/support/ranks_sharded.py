"""Run by test_sharding in two processes: a plain loop on a model whose parameters are sharded over two processes."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecision, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from divmon import DiversityMonitor
from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.sampler import Sampler
from divmon.training import live_run
from divmon.training.sharded_models import unwrapped, whole
from divmon.types import Decoding, RenderedPrompt
from support import runs, tiny

torch.set_num_threads(1)
PROMPTS = [{"id": f"p{i}", "prompt": row["prompt"]} for i, row in enumerate([*runs.ROWS[:2], runs.ROWS[9]])]
STEPS = (0, 1, 2)


class Gathers(TorchDispatchMode):
    """Counts the gathers of parameters inside."""

    count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "allgather" in str(function).replace("_", "")
        return function(*args, **kwargs or {})


def options(out: Path, name: str) -> dict[str, Any]:
    limits = {"max_new_tokens": 12, "max_batch_tokens": 100}  # several batches, more in one process than in the other
    return {**runs.CHEAP, **limits, "sampler": name, "output_dir": str(out / "_divmon"), "progress": False}


def sharded(kind: str, bf16: bool = False) -> Any:
    """As accelerate prepares it: under autocast, and FSDP1 with mixed precision."""
    model = runs.model()
    layer = type(model.model.layers[0])
    if bf16:
        model.forward = torch.autocast("cpu", torch.bfloat16)(model.forward)
    if kind == "fsdp1":
        low = torch.bfloat16 if bf16 else None
        return FullyShardedDataParallel(
            model, auto_wrap_policy=ModuleWrapPolicy({layer}), use_orig_params=True, device_id=torch.device("cpu"),
            mixed_precision=MixedPrecision(param_dtype=low, buffer_dtype=low),
        )  # fmt: skip
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    for module in model.modules():
        if isinstance(module, layer):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(isinstance(p, DTensor) for p in model.parameters())
    return model


def engine(kind: str) -> Any:
    """The model inside DeepSpeed, which brings its own backward and step."""
    import deepspeed

    model = runs.model()
    config = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": int(kind[-1])},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    return deepspeed.initialize(model=model, optimizer=torch.optim.AdamW(model.parameters(), lr=1e-2), config=config)[0]


def weights(kind: str, model: Any) -> dict[str, torch.Tensor]:
    if kind == "fsdp2":
        return {name: p.full_tensor() for name, p in model.named_parameters()}
    together: Any = nullcontext()
    if kind == "fsdp1":
        together = FullyShardedDataParallel.summon_full_params(model)
    elif kind == "zero3":
        import deepspeed

        together = deepspeed.zero.GatheredParameters(list(model.parameters()))
    with together:
        return {name: p.detach().clone() for name, p in model.named_parameters()}


def train(out: Path, kind: str, sampler: str | None) -> None:
    tokenizer = tiny.tokenizer(runs.TEXTS)
    monitor = DiversityMonitor(PROMPTS, **options(out, sampler), loggers=[]) if sampler else None
    wrapped = engine(kind) if kind.startswith("zero") else sharded(kind)
    model = wrapped.module if kind.startswith("zero") else wrapped
    optimizer = None if kind.startswith("zero") else torch.optim.AdamW(model.parameters(), lr=1e-2)
    wrapped.train()
    decoding, training = Gathers(), Gathers()
    draw = Sampler.draw

    def counted(*args: Any, **how: Any) -> Any:
        with decoding:
            return draw(*args, **how)

    Sampler.draw = counted  # type: ignore[method-assign]
    for step in range(max(STEPS) + 1):
        if monitor is not None and step in STEPS:
            monitor.trainer = SimpleNamespace(model_wrapped=wrapped)
            snapshot = monitor.measure(model, tokenizer, step)
            assert (snapshot is not None) == (dist.get_rank() == 0)
            assert model.training
        row = runs.TEXTS[(2 * step + dist.get_rank()) % len(runs.TEXTS)]
        ids = torch.tensor([tokenizer(row)["input_ids"]])
        with training:
            loss = wrapped(input_ids=ids, labels=ids).loss
        if optimizer is None:
            wrapped.backward(loss)
            wrapped.step()
        else:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    Sampler.draw = draw  # type: ignore[method-assign]
    final = weights(kind, model)
    if dist.get_rank() == 0:
        out.mkdir(parents=True, exist_ok=True)
        torch.save(final, out / "weights.pt")
        (out / "gathers.json").write_text(json.dumps({"decoding": decoding.count, "training": training.count}))


def in_bf16(out: Path, kind: str) -> None:
    """What is seen of a measurement's forwards, and whether training goes on as without it."""
    ids = torch.tensor([list(range(5, 17))])
    asked = [Request(RenderedPrompt("task", "p", "", (5, 6, 7)), Decoding(max_new_tokens=4), 2)]
    finals: list[Any] = []
    found: dict[str, Any] = {}
    for looks in (False, True):
        model = sharded(kind, bf16=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for _ in range(2):
            if looks:
                with torch.no_grad():
                    expected = model(input_ids=ids).logits
                with whole(model) as found["apart"]:
                    inner = unwrapped(model)
                    with torch.no_grad():
                        found["logits"] = torch.equal(inner(input_ids=ids).logits, expected)
                    sampler = Sampler(inner, Renderer(tiny.tokenizer(), chat=False), how="live")
                    found["samples"] = len(sampler.draw(asked, seed=0, step=0).samples)
                    found["reason"] = sampler.reason
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        finals.append(weights(kind, model))
    found["weights"] = all(torch.equal(finals[0][name], finals[1][name]) for name in finals[0])
    if dist.get_rank() == 0:
        (out / "in_bf16.json").write_text(json.dumps(found))


if __name__ == "__main__":
    dist.init_process_group("gloo")
    folder = Path(sys.argv[1])
    for kind in sys.argv[2:]:
        for name in ("without", "live", "generate"):
            train(folder / kind / name, kind, None if name == "without" else name)
        with pytest.MonkeyPatch.context() as patch:  # no room: each layer gathers its own
            patch.setattr(live_run, "ROOM", 0.0)
            train(folder / kind / "in_step", kind, "live")
        if kind.startswith("fsdp"):
            in_bf16(folder / kind, kind)
    dist.barrier()
    dist.destroy_process_group()
