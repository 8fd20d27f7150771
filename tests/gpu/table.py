"""The table of `tests/gpu/run`: what was measured, its goal, and whether it is met.

A step of decoding is timed as the difference of two draws, of many and of few new tokens, so that it holds the forward,
the choice and the record as they come in a measurement. The limit is what a step cannot but read: all matrices once,
and the keys and values of each row, at the rate of a large copy.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import overhead
import roofline
import scoring
import torch
import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from sampling_work import K, Work, tokenizer
from support import runs

from divmon import DiversityCallback
from divmon.options import Options
from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.sampler import Sampler
from divmon.types import Decoding, Prompt
from divmon.undisturbed import release_memory

TESTS = Path(__file__).parents[1]
Line = tuple[str, str, str]
"""What, its value, its goal and whether it is met."""


def goal(met: bool, words: str, cpu: bool) -> str:
    return words if cpu else f"{words}: {'met' if met else 'MISSED'}"


def marked_tests(cpu: bool) -> Iterator[Line]:
    """The tests marked gpu; on a CPU they are only collected."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-m", "gpu", str(TESTS)]
    done = subprocess.run([*command, *(["--collect-only"] if cpu else [])], capture_output=True, text=True, cwd=TESTS)
    print(done.stdout[-3000:], done.stderr[-2000:], file=sys.stderr)
    count = next((line for line in reversed(done.stdout.splitlines()) if " in " in line), "none")
    yield "tests marked gpu", count.strip("= "), "all pass"


def contract_1(cpu: bool) -> Iterator[Line]:
    """One SFT training with and without the monitor, deterministic algorithms: equal weights."""
    options = {**runs.CHEAP, "every": 5, "on_error": "raise", "progress": False}
    weights = []
    for monitored in (True, False):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
            callback = DiversityCallback(runs.PROBES, **options, output_dir=f"{folder}/divmon")
            callbacks = [callback] if monitored else []
            trainer = runs.sft(Path(folder), callbacks, max_steps=10, bf16=True, full_determinism=True, use_cpu=cpu)
            trainer.train()
            weights.append(runs.weights(trainer))
    torch.use_deterministic_algorithms(False)
    AcceleratorState._reset_state(True)
    equal = all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(*(w.values() for w in weights), strict=True))
    yield "contract 1, bf16, full_determinism", "bit-equal" if equal else "NOT EQUAL", goal(equal, "bit-equal", cpu)


def cadence(cpu: bool) -> Iterator[Line]:
    """SFT, measured when it is by default, with metrics that need no encoder: the share of the run's time."""
    steps, most, threads = 10 if cpu else 2000, Options().max_overhead, torch.get_num_threads()
    assert most is not None
    with contextlib.redirect_stdout(sys.stderr):
        found = overhead.run(steps, True, most, "ead,length", use_cpu=cpu)
    AcceleratorState._reset_state(True)
    torch.set_num_threads(threads)
    value = f"{found['share']:.1%} of the run, {found['fixed']:.1%} fixed"
    yield f"default cadence, SFT of {steps:,} steps", value, goal(found["share"] <= most, f"at most {most:.0%}", cpu)


def draw_seconds(work: Work, model: Any, tokens: int, device: str) -> tuple[float, Sampler]:
    """Seconds of drawing `tokens` new tokens in every row."""
    renderer = Renderer(tokenizer(work.vocabulary), chat=False)
    decoding = Decoding(tokens, work.temperature, work.top_p)
    asked = [Request(renderer.render("t", Prompt(str(i), text)), decoding, K) for i, text in enumerate(work.texts())]
    sampler = Sampler(model, renderer, how="live")
    sampler.eos_token_ids = []
    began = roofline.synchronized(device)
    drawing = sampler.draw(asked, seed=0, step=0)
    assert len(drawing.samples) == K * work.prompts, drawing.missing
    return roofline.synchronized(device) - began, sampler


def step_ms(work: Work, model: Any, device: str) -> tuple[float, str]:
    """Milliseconds of a step (if all rows fit one batch), and what the sampler says of how it samples."""
    few = work.new // 4
    draw_seconds(work, model, few, device)
    found = []
    for _ in range(2):
        long, sampler = draw_seconds(work, model, work.new, device)
        found.append(1e3 * (long - draw_seconds(work, model, few, device)[0]) / (work.new - few))
    return statistics.median(found), sampler.reason


def limit_ms(work: Work, model: Any, bandwidth: float) -> float:
    """Milliseconds that reading takes, half way through the new tokens."""
    config, itemsize = model.config, 4 if next(model.parameters()).device.type == "cpu" else 2
    matrices = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear)) * itemsize
    a_token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * itemsize
    length = work.prompt + work.new * 5 / 8
    return 1e3 * (matrices + work.prompts * K * length * a_token) / bandwidth


def decoding(cpu: bool) -> Iterator[Line]:
    """Olmo 3 of 1B and 7B: bf16, float32 as TRL prepares it, and prompts of unlike lengths."""
    device = "cpu" if cpu else "cuda"
    _, bandwidth = roofline.peaks(device)
    shapes = [Work("Olmo3", "1B", 64, 256, 64), Work("Olmo3", "7B", 64, 128, 4)]
    for work, wanted in zip([Work("Olmo3", "5M", 32, 64, 2)] if cpu else shapes, (0.5, 0.7), strict=False):
        model = work.model(device)
        even, reason = step_ms(work, model, device)
        share = limit_ms(work, model, bandwidth) / even
        words = goal(share >= wanted, f"at least {wanted}", cpu)
        yield f"decode {work.name.strip()}, {work.prompts} x {K}", f"{even:.3g} ms, {share:.2f} of the limit", words
        yield f"  {reason}", "", ""
        took, _ = step_ms(Unlike(**vars(work)), model, device)
        words = goal(took < 1.05 * even, "at most 1.05", cpu)
        yield "  prompts of unlike lengths", f"{took:.3g} ms, {took / even:.2f} of equal ones", words
        prepared = Accelerator(mixed_precision="bf16", cpu=cpu).prepare(model.float())
        took, reason = step_ms(work, prepared, device)
        words = goal(took < 1.1 * even, "at most 1.10", cpu)
        yield "  float32 under bf16 autocast", f"{took:.3g} ms, {took / even:.2f} of bf16", words
        yield f"  {reason}", "", ""
        del model, prepared
        AcceleratorState._reset_state(True)
        release_memory()


class Unlike(Work):
    """Prompts of unlike lengths, within what is decoded without padding also where few tokens are asked for."""

    def texts(self) -> list[str]:
        shorter = range(self.prompts)
        return [
            " ".join(text.split()[i % (self.new // 32 + 1) :]) for i, text in zip(shorter, super().texts(), strict=True)
        ]


def metrics(cpu: bool) -> Iterator[Line]:
    """The figures of embeddings, 500 x 16 x 768."""
    device = torch.device("cpu" if cpu else "cuda")
    prompts = 5 if cpu else 500
    with contextlib.redirect_stdout(sys.stderr):
        table = scoring.Table(device)
    vectors = scoring.embeddings(prompts, device)
    full = torch.ones(vectors.shape[:2], dtype=torch.bool, device=device)
    some = torch.arange(16, device=device) < 1 + torch.arange(prompts, device=device)[:, None] % 16
    for name, mask in (("all samples", full), ("the correct ones, 1 to 16 per prompt", some)):

        def run(mask: torch.Tensor = mask) -> None:
            scoring.sbert.sbert(vectors, mask)
            scoring.vendi.vendi(vectors, mask)

        run()
        ms = 1e3 * statistics.median(table.timed(run) for _ in range(5))
        yield f"sbert and vendi, {prompts} x 16 x 768, {name}", f"{ms:.3g} ms", goal(ms < 50, "under 50 ms", cpu)


def memory(cpu: bool) -> Iterator[Line]:
    """What a measurement leaves reserved."""
    device = "cpu" if cpu else "cuda"
    work = Work("Olmo3", "5M", 32, 16, 2)
    model = work.model(device)
    draw_seconds(work, model, 4, device)
    if cpu:
        yield "reserved memory after a measurement", "not on a CPU", "within 1 percent"
        return
    before = torch.cuda.memory_reserved()
    draw_seconds(work, model, work.new, device)
    after = torch.cuda.memory_reserved()
    yield (
        "reserved memory after a measurement", f"{before / 1e6:,.0f} -> {after / 1e6:,.0f} MB",
        goal(after <= 1.01 * before, "within 1 percent", cpu),
    )  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--cpu", action="store_true", help="tiny shapes on a CPU, to see that the script works")
    cpu = options.parse_args().cpu
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1 if cpu else torch.get_num_threads())
    if not cpu and not torch.cuda.is_available():
        raise SystemExit("no CUDA device is available; --cpu runs tiny shapes, to see that the script works")
    print(f"torch {torch.__version__}, {'CPU' if cpu else torch.cuda.get_device_name()}")
    failed, began = 0, time.monotonic()
    for part in (marked_tests, contract_1, cadence, decoding, metrics, memory):
        try:
            for what, value, wanted in part(cpu):
                print(f"{what:55} {value:38} {wanted}", flush=True)
        except Exception as error:
            failed += 1
            traceback.print_exc()
            print(f"{part.__name__:55} {type(error).__name__}: {error}".splitlines()[0], flush=True)
    print(f"{time.monotonic() - began:.0f} s")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
