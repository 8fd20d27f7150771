"""Scoring 500 prompts x 16 completions, embeddings given: divmon against plain loops and packages, one thread.

    python tests/benchmarks/scoring.py [--device cuda] [--prompts 500]

The loops are our own, written as such code usually is, and give the same values (checked first). `pip install
vendi-score sacrebleu` adds the lines of those packages. CPU seconds (on a device wall seconds of ours, synchronized);
each line alternates ours and theirs, medians. Collapsed means that 80 percent of a prompt's completions are copies.
"""

from __future__ import annotations

import argparse
import ast
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Callable
from itertools import combinations, islice
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import answers
import numpy as np
import torch

from divmon.metrics import across, ast_subtree, distinct_n, duplicates, ead, load, sbert, vendi

SAMPLES, DIMENSIONS, RUNS, VOCABULARY = 16, 768, 5, 50257
Loop = Callable[[Any], list[float]]


def sbert_pairs(vectors: np.ndarray) -> float:
    return float(np.mean([1 - np.dot(a, b) for a, b in combinations(vectors, 2)]))


def sbert_torch_pairs(vectors: torch.Tensor) -> float:
    return float(np.mean([1 - torch.dot(a, b).item() for a, b in combinations(vectors, 2)]))


def sbert_group(vectors: np.ndarray) -> float:
    return float((1 - (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]).mean())


def vendi2_pairs(vectors: np.ndarray) -> float:
    c2 = np.mean([np.dot(a, b) ** 2 for a, b in combinations(vectors, 2)])
    return float(8 / (1 + 7 * c2))


def vendi2_torch_pairs(vectors: torch.Tensor) -> float:
    c2 = np.mean([torch.dot(a, b).item() ** 2 for a, b in combinations(vectors, 2)])
    return float(8 / (1 + 7 * c2))


def vendi1_gram(gram: np.ndarray) -> float:
    eigenvalues = np.linalg.eigvalsh(gram / len(gram))
    eigenvalues = eigenvalues[eigenvalues > 0]
    return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))


def vendi1_group(vectors: np.ndarray) -> float:
    return vendi1_gram(vectors @ vectors.T)


def vendi4_group(vectors: np.ndarray) -> float:
    gram = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    return float(np.mean([vendi1_gram(gram[np.ix_(four, four)]) for four in combinations(range(len(gram)), 4)]))


def distinct_of_order(texts: list[str], n: int) -> tuple[int, int]:
    grams = []
    for text in texts:
        tokens = text.split()
        grams += [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(grams)), len(grams)


def ead_group(texts: list[str]) -> float:
    total = 0.0
    for n in range(1, 6):
        distinct, drawn = distinct_of_order([text.replace(".", "").replace("\n", "") for text in texts], n)
        if drawn:
            total += min(distinct / (VOCABULARY * (1 - ((VOCABULARY - 1) / VOCABULARY) ** drawn)), 1.0)
    return total / 5


def distinct_group(texts: list[str]) -> float:
    shares = [distinct_of_order(texts, n) for n in range(1, 5)]
    return shares[3][0] / shares[3][1]


def duplicate_pairs(texts: list[str]) -> float:
    return float(np.mean([a.strip() == b.strip() for a, b in combinations(texts, 2)]))


def height(node: ast.AST) -> int:
    return 1 + max(map(height, ast.iter_child_nodes(node)), default=0)


def subtrees(program: str) -> Counter[str]:
    return Counter(ast.dump(node) for node in ast.walk(ast.parse(program)) if height(node) == 4)


def jaccard(a: Counter[str], b: Counter[str]) -> float:
    union = (a | b).total()
    return 1 - (a & b).total() / union if union else float("nan")


def ast_group(programs: list[str]) -> float:
    return float(np.nanmean([jaccard(a, b) for a, b in combinations(map(subtrees, programs), 2)]))


def ast_pairs(programs: list[str]) -> float:
    return float(np.nanmean([jaccard(subtrees(a), subtrees(b)) for a, b in combinations(programs, 2)]))


def self_bleu(texts: list[str]) -> float:
    from sacrebleu.metrics import BLEU

    bleu = BLEU(effective_order=True)
    return float(np.mean([bleu.sentence_score(t, texts[:i] + texts[i + 1 :]).score for i, t in enumerate(texts)]))


def package_vendi(order: int) -> Callable[[np.ndarray], float]:
    from vendi_score import vendi as package

    # score_X would do the product, but takes every order for 1
    return lambda vectors: float(package.score_K(vectors @ vectors.T, q=order))


class Table:
    """Times each line, and prints it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        print("| metric | completions | against | theirs | ours | times as fast | target |")
        print("|--|--|--|--|--|--|--|")

    def line(
        self,
        metric: str,
        kind: str,
        against: str,
        theirs: Callable[[Any], float],
        data: Any,
        ours: Callable[[], torch.Tensor],
        target: float | None = None,
        *,
        same: Callable[[np.ndarray], np.ndarray] | None = lambda values: values,
        share: int = 1,
        runs: int = RUNS,
    ) -> None:
        """A line of the table.

        Args:
            theirs: of one prompt's `data`.
            same: turns their values into ours, to be checked; None where they measure something else.
            share: only so many-th of the prompts go through theirs, as it is slow; its seconds are scaled.
        """
        some = list(islice(data, 0, None, share))
        values = np.array([theirs(one) for one in some])
        # Theirs are float32, which order 1 shows most: eigenvalues near 0 carry entropy.
        own = ours().double().cpu().numpy()[::share]
        if same is not None:
            np.testing.assert_allclose(own, same(values), rtol=0, atol=1e-5, err_msg=f"{metric} against {against}")
        seconds: list[tuple[float, float]] = []
        for _ in range(runs):
            seconds.append((self.timed(lambda: [theirs(one) for one in some], cpu=True) * share, self.timed(ours)))
        slow, fast = (statistics.median(column) for column in zip(*seconds, strict=True))
        wanted = "" if target is None else f">= {target:g}"
        print(f"| {metric} | {kind} | {against} | {ms(slow)} | {ms(fast)} | {slow / fast:.1f} | {wanted} |", flush=True)

    def timed(self, run: Callable[[], Any], cpu: bool = False) -> float:
        if self.device.type == "cpu" or cpu:
            began = time.process_time()
            run()
            return time.process_time() - began
        torch.cuda.synchronize()
        wall = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - wall


def ms(seconds: float) -> str:
    return f"{1e3 * seconds:,.3g} ms" if seconds < 1 else f"{seconds:,.3g} s"


def versions() -> str:
    names = ("torch", "numpy", "vendi-score", "sacrebleu")
    there = {
        name: importlib.metadata.version(name) for name in names if importlib.util.find_spec(name.replace("-", "_"))
    }
    return ", ".join(f"{name} {there.get(name, 'missing')}" for name in names)


def embeddings(prompts: int, device: torch.device) -> torch.Tensor:
    """Unit vectors that are alike within a prompt, with cosines of about two thirds."""
    generator = torch.Generator().manual_seed(0)
    prompt_PD = torch.randn(prompts, 1, DIMENSIONS, generator=generator)
    own_PKD = torch.randn(prompts, SAMPLES, DIMENSIONS, generator=generator)
    return torch.nn.functional.normalize(prompt_PD + 0.7 * own_PKD, dim=-1).to(device)


def of_embeddings(table: Table, prompts: int) -> None:
    vectors_PKD = embeddings(prompts, table.device)
    mask_PK = torch.ones(vectors_PKD.shape[:2], dtype=torch.bool, device=table.device)
    tensors, arrays = list(vectors_PKD.cpu()), list(vectors_PKD.cpu().numpy())

    def order1() -> torch.Tensor:
        return vendi._order1(vendi._gram(vectors_PKD), mask_PK)

    def order2() -> torch.Tensor:
        return vendi._order2_at_size(vendi._gram(vectors_PKD), mask_PK, 8)

    def distance() -> torch.Tensor:
        return sbert.sbert(vectors_PKD, mask_PK)["sbert"]

    given = "embeddings"
    table.line("sbert", given, "a loop over pairs, numpy.dot", sbert_pairs, arrays, distance, 10)
    table.line("sbert", given, "a loop over pairs, torch.dot", sbert_torch_pairs, tensors, distance, 10, runs=3)
    table.line("sbert", given, "a loop over prompts, numpy", sbert_group, arrays, distance)
    table.line("vendi order 2", given, "a loop over pairs, numpy.dot", vendi2_pairs, arrays, order2, 10)
    table.line("vendi order 2", given, "a loop over pairs, torch.dot", vendi2_torch_pairs, tensors, order2, 10, runs=3)
    order1_target = 1 if table.device.type == "cpu" else 10
    table.line(
        "vendi order 1", given, "a loop over prompts, numpy, float32", vendi1_group, arrays, order1, order1_target
    )
    table.line(
        "vendi order 1", given, "a loop over prompts, numpy, float64 as ours",
        lambda vectors: vendi1_group(vectors.astype(np.float64)), arrays, order1, order1_target,
    )  # fmt: skip
    if importlib.util.find_spec("vendi_score"):
        table.line("vendi order 1", given, "vendi-score", package_vendi(1), arrays, order1, order1_target)

        def at_size_8(values: np.ndarray) -> np.ndarray:
            return 8 / (1 + 7 * (SAMPLES / values - 1) / (SAMPLES - 1))

        table.line("vendi order 2", given, "vendi-score", package_vendi(2), arrays, order2, same=at_size_8)
    else:
        print("| vendi | | vendi-score | not installed: `pip install vendi-score` | | | |")
    table.line(
        "vendi at size 4", given, "a loop over 1,820 subsets, numpy", vendi4_group, arrays,
        lambda: vendi.vendi(vectors_PKD, mask_PK)["vendi_at4"], share=25, runs=3,
    )  # fmt: skip


def of_texts(table: Table, prompts: int) -> None:
    for kind, distinct in (("distinct", SAMPLES), ("collapsed", 0.2 * SAMPLES)):
        texts = answers.solutions(prompts, SAMPLES, distinct)
        programs = answers.programs(prompts, SAMPLES, distinct)
        table.line("ead", kind, "a loop over prompts", ead_group, texts, lambda t=texts: ead.ead(t), 4)
        table.line(
            "distinct_n", kind, "a loop over prompts", distinct_group, texts,
            lambda t=texts: distinct_n.distinct_n(t)["distinct_4"],
        )  # fmt: skip
        table.line(
            "duplicates", kind, "a loop over pairs", duplicate_pairs, texts,
            lambda t=texts: duplicates.duplicates(t)["duplicate_pairs"],
        )  # fmt: skip

        def trees(given: list[list[str]] = programs) -> torch.Tensor:
            return ast_subtree.ast_subtree(given)["ast_pairwise"]

        table.line("ast_subtree", kind, "a loop over pairs", ast_pairs, programs, trees, 10, share=25, runs=3)
        table.line("ast_subtree", kind, "a loop over prompts", ast_group, programs, trees, 10, runs=3)
        if importlib.util.find_spec("sacrebleu"):
            table.line(
                "ead", kind, "sacrebleu's self-BLEU", self_bleu, texts, lambda t=texts: ead.ead(t),
                same=None, share=10, runs=3,
            )  # fmt: skip
        else:
            print("| ead | | sacrebleu's self-BLEU | not installed: `pip install sacrebleu` | | | |")


def on_device(table: Table, prompts: int) -> None:
    """All figures of the embeddings together."""
    vectors_PKD = embeddings(prompts, table.device)
    mask_PK = torch.ones(vectors_PKD.shape[:2], dtype=torch.bool, device=table.device)
    texts = answers.solutions(prompts, SAMPLES, SAMPLES)
    runs: dict[str, Callable[[], Any]] = {
        "sbert": lambda: sbert.sbert(vectors_PKD, mask_PK),
        "vendi, orders 1 and 2 and size 4": lambda: vendi.vendi(vectors_PKD, mask_PK),
        "across, without its interval": lambda: across.across(texts, vectors_PKD, mask_PK),
    }
    total = 0.0
    for name, run in runs.items():
        run()
        seconds = statistics.median(table.timed(run) for _ in range(RUNS))
        total += seconds
        print(f"{name}: {ms(seconds)}")
    print(f"all of them: {ms(total)}" + ("" if table.device.type == "cpu" else "; target < 50 ms"))
    print("The interval of across takes it again without each group of prompts, 64 times.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", help='"cuda" times ours there')
    parser.add_argument("--prompts", type=int, default=500)
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    device = torch.device(args.device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"{cpu_name()}, one thread"
    of = "real answers and programs, with variants of them" if answers.are_real() else "generated answers and programs"
    print(f"{args.prompts} prompts x {SAMPLES}, {DIMENSIONS} dimensions; {of}; {where}; {versions()}\n")
    assert load("sbert").function is sbert.sbert  # what is timed is what a monitor computes
    table = Table(device)
    of_embeddings(table, args.prompts)
    of_texts(table, args.prompts)
    print(f"\nThe figures of embeddings on {device.type}:")
    on_device(table, args.prompts)


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
