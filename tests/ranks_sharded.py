"""Run by test_sharding under torchrun: a plain loop on a model whose parameters are sharded over two processes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import runs
import tiny
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy
from torch.distributed.tensor import DTensor

from divmon import DiversityMonitor

torch.set_num_threads(1)
PROMPTS = [{"id": f"p{i}", "prompt": row["prompt"]} for i, row in enumerate([*runs.ROWS[:2], runs.ROWS[9]])]
STEPS = (0, 3, 6)


def options(out: Path, name: str) -> dict[str, Any]:
    limits = {"max_new_tokens": 12, "max_batch_tokens": 100}  # several batches, more in one process than in the other
    return {**runs.CHEAP, **limits, "sampler": name, "output_dir": str(out / "_divmon"), "progress": False}


def sharded(kind: str) -> Any:
    model = runs.model()
    layer = type(model.model.layers[0])
    if kind == "fsdp1":
        return FullyShardedDataParallel(
            model, auto_wrap_policy=ModuleWrapPolicy({layer}), use_orig_params=True, device_id=torch.device("cpu")
        )
    mesh = dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))
    for module in model.modules():
        if isinstance(module, layer):
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    assert all(isinstance(p, DTensor) for p in model.parameters())
    return model


def weights(kind: str, model: Any) -> dict[str, torch.Tensor]:
    if kind == "fsdp1":
        with FullyShardedDataParallel.summon_full_params(model):
            return {name: p.detach().clone() for name, p in model.named_parameters()}
    return {name: p.full_tensor() for name, p in model.named_parameters()}


def train(out: Path, kind: str, sampler: str | None) -> None:
    model, tokenizer = sharded(kind), tiny.tokenizer(runs.TEXTS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    monitor = DiversityMonitor(PROMPTS, **options(out, sampler), loggers=[]) if sampler else None
    model.train()
    for step in range(max(STEPS) + 1):
        if monitor is not None and step in STEPS:
            snapshot = monitor.measure(model, tokenizer, step)
            assert (snapshot is not None) == (dist.get_rank() == 0)
            assert model.training
        row = runs.TEXTS[(2 * step + dist.get_rank()) % len(runs.TEXTS)]
        ids = torch.tensor([tokenizer(row)["input_ids"]])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    final = weights(kind, model)
    if dist.get_rank() == 0:
        out.mkdir(parents=True, exist_ok=True)
        torch.save(final, out / "weights.pt")


if __name__ == "__main__":
    dist.init_process_group("gloo")
    folder = Path(sys.argv[1])
    for kind in ("fsdp1", "fsdp2"):
        for name in ("without", "live", "generate"):
            train(folder / kind / name, kind, None if name == "without" else name)
    dist.barrier()
    dist.destroy_process_group()
