"""Absolute times of drawing K = 16 samples a prompt, and how near its forwards come to what the machine can do.

    python tests/benchmarks/roofline.py [--only TEXT] [--rounds 3] > tests/results/roofline.txt

On a GPU the 1B and 7B shapes in bf16 (wall seconds, synchronized), on a CPU 70M and 1B in float32 on one thread (CPU
seconds). `Sampler.draw` with early stops as in sampling.py; a round after a warm-up, medians.

- prefill: seconds in forwards of prompts; their floating-point operations (matrices, and the causal half of attention)
  by the second, over those of a large square matrix product in the same run.
- decode: milliseconds a step in forwards of one token; bytes that a step cannot but read (all matrices once, keys and
  values of each running row) by the second, over those of a large copy in the same run. Matrices that a CPU's cache
  holds are read faster than that; many rows on a CPU are bound by arithmetic, and so below it.
- rest: what else the drawing took, a step: each sample's copy of its prompt's cache, choosing and recording tokens,
  rows that leave, text.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from machine import head
from sampling_ways import divmon_way
from sampling_work import FAMILIES, Work, tokenizer

from divmon.sampling import devices


def matrix(device: str) -> list[Work]:
    """Prompts as in sampling.py: several a batch on a GPU, what ends in minutes on a CPU."""
    if device == "cpu":
        small = [Work(family, "70M", prompt, 64, 1) for prompt in (512, 2048) for family in FAMILIES]
        return [*small, Work("Olmo3", "1B", 512, 64, 1)]
    cells = [(32, 512), (512, 64), (2048, 64)]
    return [
        Work(family, size, *cell, n) for size, n in (("1B", 64), ("7B", 16)) for cell in cells for family in FAMILIES
    ]


def synchronized(device: str) -> float:
    """Seconds of a clock, once the device has done all it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def best(run: Callable[[], Any], device: str) -> float:
    """The least seconds of several runs: what the machine can do."""
    run()
    found = []
    for _ in range(7):
        began = synchronized(device)
        run()
        found.append(synchronized(device) - began)
    return min(found)


def peaks(device: str) -> tuple[float, float]:
    """Floating-point operations a second of a matrix product, bytes a second (read and written) of a copy."""
    size, numbers = (8192, 1 << 30) if device == "cuda" else (2048, 1 << 26)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    square = torch.randn(size, size, device=device, dtype=dtype)
    room = torch.empty_like(square)
    product = best(lambda: torch.mm(square, square, out=room), device)
    source = torch.ones(numbers, device=device, dtype=dtype)
    target = torch.empty_like(source)
    copy = best(lambda: target.copy_(source), device)
    return 2 * size**3 / product, 2 * source.nbytes / copy


@dataclass
class Forwards:
    """Stands for a model's `forward`: times each, and adds up what it has to compute and to read."""

    model: Any
    device: str

    def __post_init__(self) -> None:
        self.inner, config = self.model.forward, self.model.config
        functools.update_wrapper(self, self.inner)  # the sampler looks at what it takes
        linear = [m.weight for m in self.model.modules() if isinstance(m, torch.nn.Linear)]
        self.matrices = sum(weight.numel() for weight in linear)
        self.matrix_bytes = sum(weight.nbytes for weight in linear)
        self.last = self.model.lm_head.weight.numel()
        self.attention = config.num_hidden_layers * config.num_attention_heads * config.head_dim
        cached = config.num_hidden_layers * config.num_key_value_heads * config.head_dim
        self.bytes_per_token = 2 * cached * linear[0].element_size()
        self.clear()

    def clear(self) -> None:
        self.prefill = self.decode = 0.0
        self.operations = self.bytes = self.steps = self.length = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("past_key_values") is None:  # a look at how the model computes
            return self.inner(*args, **kwargs)
        rows, tokens = kwargs["input_ids"].shape
        began = synchronized(self.device)
        out = self.inner(*args, **kwargs)
        took = synchronized(self.device) - began
        if tokens > 1:  # the output matrix is for the last token alone
            self.prefill += took
            self.operations += 2 * rows * ((self.matrices - self.last) * tokens + self.last)
            self.operations += 2 * rows * self.attention * tokens**2
            self.length = tokens
        else:
            self.decode += took
            self.steps += 1
            self.length += 1
            self.bytes += self.matrix_bytes + rows * self.length * self.bytes_per_token
        return out


def measured(work: Work, device: str, rounds: int, flops: float, bandwidth: float) -> str:
    """A line of the table."""
    model = work.model(device)
    forwards = Forwards(model, device)
    drawn, draw = divmon_way(work, model, tokenizer(work.vocabulary))
    draw()
    model.forward = forwards
    devices.replays = lambda device: False  # tests/gpu/run times graphs, whose forwards are no call of the model's
    found = []
    for _ in range(rounds):
        forwards.clear()
        began = synchronized(device)
        tokens = draw()
        took = synchronized(device) - began
        steps, rest = forwards.steps, took - forwards.prefill - forwards.decode
        computed, read = forwards.operations / forwards.prefill, forwards.bytes / forwards.decode
        found.append(
            (tokens / took, took, forwards.prefill, computed / 1e12, computed / flops,
             1e3 * forwards.decode / steps, read / 1e9, read / bandwidth, 1e3 * rest / steps)
        )  # fmt: skip
    rate, took, prefill, tera, of_flops, step, giga, of_bytes, rest = map(statistics.median, zip(*found, strict=True))
    batches = f"{work.prompts} x 16 in {len(drawn.batches)}"
    return (
        f"{work.name:24} {batches:>12} {rate:9,.0f} {took:8.3g} {prefill:9.3g} {tera:8.3g} {of_flops:6.2f}"
        f" {step:9.3g} {giga:7.0f} {of_bytes:6.2f} {rest:8.3g}"
    )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", default="", help="rows whose name holds this, such as '70M   512'")
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(head("torch", "transformers"))
    where = f"{torch.cuda.get_device_name()}, bf16, wall" if device == "cuda" else "float32, CPU"
    flops, bandwidth = peaks(device)
    print(f"{where} seconds; a matrix product: {flops / 1e12:.3g} Tflop/s, a copy: {bandwidth / 1e9:.3g} GB/s")
    print(f"{'':37} {'':9} {'':8} {'prefill':>25} {'decode, a step':>24} {'rest':>8}")
    print(
        f"{'shape, prompt / new':24} {'rows':>12} {'tokens/s':>9} {'s':>8} {'s':>9} {'Tflop/s':>8} {'share':>6}"
        f" {'ms':>9} {'GB/s':>7} {'share':>6} {'ms':>8}"
    )
    for work in matrix(device):
        if given.only in work.name:
            print(measured(work, device, given.rounds, flops, bandwidth), flush=True)


if __name__ == "__main__":
    main()
