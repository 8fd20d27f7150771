"""Drawing K = 16 samples a prompt: divmon against what people would use instead, and against the limit.

    python tests/benchmarks/sampling.py [--full] [--only TEXT] [--rounds 5] [--prompts N] > tests/results/sampling.txt

The quick table takes some twenty minutes on one core, `--full` about ten hours. On a GPU there are the 1B and 7B too.

- divmon: `Sampler.draw`, from requests to samples with their text, batches by its own budget.
- limit: the prompts of each of its batches forwarded once, then one bare forward a token, rows gone at once as they
  stop, the cache for nothing; no sampling, no text.
- generate: `model.generate(num_return_sequences=16)` of the same batches; token ids only.
- TRL: `LogCompletionsCallback` of an `SFTTrainer`, each prompt repeated 16 times, its batch of 8;
  the one or two prompts of middle length.

The same lengths for all: a row stops after a number of tokens fixed beforehand, 16 quantiles of a log-normal with
median 0.4 of the limit and sigma 0.7, cut at the limit, in another order for each prompt. `generate` takes the rule as
a stopping criterion (handed to TRL's call of it too), divmon as the stopper that looks for stop strings otherwise.

One thread, CPU seconds (on a GPU wall seconds, synchronized), the ways in turn, rounds after a warm-up; a ratio is
the median over rounds of the ratio within one, its range behind it. Tokens are new tokens of rows that had not stopped.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import warnings

import torch
import transformers
from machine import head
from sampling_ways import TRL_BATCH, Way, ways
from sampling_work import FAMILIES, Work, tokenizer

OF_LIMIT, OVER_GENERATE, OVER_GENERATE_512, OVER_TRL = 0.85, 1.0, 1.5, 4.0
WIDE = 100_278
"""Olmo 3's vocabulary."""


def matrix(full: bool, device: str) -> list[Work]:
    """The default is what takes twenty minutes on a core, or on a GPU the shapes that need one."""
    sizes = ("5M", "70M") if device == "cpu" else ("5M", "70M", "1B", "7B")
    grid = [
        Work(family, size, prompt, new, _prompts(device, size, prompt))
        for size in sizes
        for family in FAMILIES
        for prompt in (32, 512, 2048)
        for new in (64, 512)
    ]
    if not full and device == "cpu":
        olmo = [("5M", 2048, 64), ("5M", 32, 512), ("70M", 512, 64)]
        small = [("5M", 32, 64), ("5M", 512, 64)]
        grid = [w for w in grid if (w.size, w.prompt, w.new) in [*small, *(olmo if w.family == "Olmo3" else [])]]
    elif not full:
        few = ((32, 512), (512, 64), (2048, 64))
        grid = [w for w in grid if w.size in ("1B", "7B") and (w.prompt, w.new) in few]
    mixed = Work("Olmo3", "5M", 512, 64, 3, ragged=True)
    return [*grid, mixed if device == "cpu" else mixed.replace(size="70M", prompts=64)]


def _prompts(device: str, size: str, prompt: int) -> int:
    """So many that a batch has several, as a look's has, where a round ends in minutes."""
    if device != "cpu":
        return 16 if size == "7B" else 64
    return {32: 4, 512: 2 if size == "5M" else 1}.get(prompt, 1)


def top_p_matrix() -> list[Work]:
    """The cost of choosing a token: a wide vocabulary on a small model, where it weighs the most."""
    plain = Work("Olmo3", "5M", 32, 64, 1, vocabulary=WIDE)
    paper = plain.replace(temperature=0.6, top_p=0.95)
    return [plain, paper.replace(peaked=True), paper]


def seconds(way: Way, device: str) -> tuple[float, int]:
    clock = time.perf_counter if device == "cuda" else time.process_time
    gc.collect()
    began = clock()
    tokens = way()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - began, tokens


def measured(work: Work, device: str, competitors: list[str], rounds: int) -> tuple[str, dict[str, float]]:
    """A line of the table, and its ratios."""
    model, words = work.model(device), tokenizer(work.vocabulary)
    each = {name: way for name, way in ways(work, model, words).items() if name in competitors}
    rates: dict[str, list[float]] = {name: [] for name in each}
    for name in ("divmon", "limit") if "limit" in each else ("divmon",):
        each[name]()
    for _ in range(rounds):
        for name, way in each.items():
            took, tokens = seconds(way, device)
            rates[name].append(tokens / took)
    rows = f"{work.prompts} x 16"
    line, ratios = f"{work.name:24} {rows:>7} {statistics.median(rates['divmon']):9,.0f}", {}
    for name in competitors[1:]:
        each_round = [ours / theirs for ours, theirs in zip(rates["divmon"], rates[name], strict=True)]
        ratios[name] = statistics.median(each_round)
        spread = f"({min(each_round):.2f}-{max(each_round):.2f})"
        line += f" {statistics.median(rates[name]):9,.0f} {ratios[name]:6.2f} {spread:13}"
    return line, ratios


def table(works: list[Work], device: str, competitors: list[str], rounds: int) -> list[tuple[Work, dict[str, float]]]:
    head = f"{'shape, prompt / new':24} {'rows':>7} {'divmon':>9}"
    print(head + "".join(f" {name:>9} {'ratio':>6} {'(range)':13}" for name in competitors[1:]))
    found = []
    for work in works:
        line, ratios = measured(work, device, competitors, rounds)
        kind = (
            f"  {work.vocabulary:,} words, T {work.temperature}, top-p {work.top_p}" if work.vocabulary == WIDE else ""
        )
        print(line + kind + (", peaked" if work.peaked else ""), flush=True)
        found.append((work, ratios))
    return found


def target(words: str, wanted: float, found: list[tuple[Work, dict[str, float]]], name: str) -> None:
    if found:
        worst, ratios = min(found, key=lambda row: row[1][name])
        missed = [work.name.strip() for work, ratios in found if ratios[name] < wanted]
        verdict = "met" if not missed else f"missed by {len(missed)} of {len(found)}: {', '.join(missed)}"
        print(f"{words}: lowest {ratios[name]:.2f} ({worst.name.strip()}); {verdict}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--full", action="store_true", help="every shape, prompt and number of new tokens")
    options.add_argument("--only", default="", help="rows whose name holds this, such as '70M   512'")
    options.add_argument("--against", default="limit,generate,TRL")
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--prompts", type=int, help="so many in every row")
    given = options.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    against = ["divmon", *given.against.split(",")]
    print(head("torch", "transformers", "trl", "numpy"))
    where = f"{torch.cuda.get_device_name()}, bf16, wall" if device == "cuda" else "float32, CPU"
    print(f"new tokens a second ({where} time), median of {given.rounds} rounds\n\ntemperature 1, top-p 1")
    works = [work for work in matrix(given.full, device) if given.only in work.name]
    works = [work.replace(prompts=given.prompts or work.prompts) for work in works]
    found = table(works, device, against, given.rounds)
    if wide := [w for w in top_p_matrix() if given.only in w.name]:
        print("\nthe choice of tokens from a wide vocabulary")
        table(wide, device, [name for name in against if name != "TRL"], given.rounds)
    print()
    if "limit" in against:
        target(f"of the limit at least {OF_LIMIT}", OF_LIMIT, found, "limit")
    if "generate" in against:
        target(f"over generate at least {OVER_GENERATE}", OVER_GENERATE, found, "generate")
        long = [(w, r) for w, r in found if (w.size, w.prompt, w.new) == ("70M", 512, 64)]
        target(f"over generate at 70M, 512 / 64, at least {OVER_GENERATE_512}", OVER_GENERATE_512, long, "generate")
    if "TRL" in against:
        target(f"over TRL (batch {TRL_BATCH}) at least {OVER_TRL}", OVER_TRL, found, "TRL")


if __name__ == "__main__":
    main()
