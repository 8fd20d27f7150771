"""Scoring 500 prompts x 16 completions, embeddings given: divmon against plain loops and packages, one thread.

    python tests/benchmarks/scoring.py [--device cuda] [--prompts 500]
    python tests/benchmarks/scoring.py --answers        absolute times of figures that no such loop stands beside

The loops are our own, written as such code usually is, and give the same values (checked first). `pip install
vendi-score sacrebleu` adds the lines of those packages. CPU seconds (on a device wall seconds of ours, synchronized);
each line alternates ours and theirs, medians. Collapsed means that 80 percent of a prompt's completions are copies.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import time
import warnings
from collections.abc import Callable
from itertools import islice
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import answers
import numpy as np
import scoring_loops as loops
import torch
from machine import head

from divmon.analysis.comparison.homogeneity import overlap
from divmon.scoring import metrics
from divmon.scoring.embedding_geometry import vendi_order1
from divmon.scoring.metrics import across, ast_subtree, distinct_n, duplicates, ead, load, sbert, vendi
from divmon.scoring.quality import quality
from divmon.types import Sample

SAMPLES, DIMENSIONS, RUNS = 16, 768, 5
PACKAGES = ("vendi-score", "sacrebleu")


class Table:
    """Times each line, and prints it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

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
        against += f", 1 of {share} prompts, scaled" if share > 1 else ""
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


def embeddings(prompts: int, device: torch.device) -> torch.Tensor:
    """Unit vectors that are alike within a prompt, with cosines of about two thirds."""
    generator = torch.Generator().manual_seed(0)
    prompt_PD = torch.randn(prompts, 1, DIMENSIONS, generator=generator)
    own_PKD = torch.randn(prompts, SAMPLES, DIMENSIONS, generator=generator)
    return torch.nn.functional.normalize(prompt_PD + 0.7 * own_PKD, dim=-1).to(device)


def of_embeddings(table: Table, prompts: int) -> None:
    print("| metric | completions | against | theirs | ours | times as fast | target |")
    print("|--|--|--|--|--|--|--|")
    vectors_PKD = embeddings(prompts, table.device)
    mask_PK = torch.ones(vectors_PKD.shape[:2], dtype=torch.bool, device=table.device)
    tensors, arrays = list(vectors_PKD.cpu()), list(vectors_PKD.cpu().numpy())

    def order1() -> torch.Tensor:
        return vendi_order1(vendi._gram(vectors_PKD), mask_PK)

    def order2() -> torch.Tensor:
        return vendi._order2_at_size(vendi._gram(vectors_PKD), mask_PK, 8)

    def distance() -> torch.Tensor:
        return sbert.sbert(vectors_PKD, mask_PK)["sbert"]

    given = "embeddings"
    table.line("sbert", given, "a loop over pairs, numpy.dot", loops.sbert_pairs, arrays, distance, 10)
    table.line("sbert", given, "a loop over pairs, torch.dot", loops.sbert_torch_pairs, tensors, distance, 10, runs=3)
    table.line("sbert", given, "a loop over prompts, numpy", loops.sbert_group, arrays, distance)
    table.line("vendi order 2", given, "a loop over pairs, numpy.dot", loops.vendi2_pairs, arrays, order2, 10)
    table.line(
        "vendi order 2", given, "a loop over pairs, torch.dot", loops.vendi2_torch_pairs, tensors, order2, 10, runs=3
    )
    order1_target = 1 if table.device.type == "cpu" else 10
    table.line(
        "vendi order 1", given, "a loop over prompts, numpy, float32", loops.vendi1_group, arrays, order1, order1_target
    )
    table.line(
        "vendi order 1", given, "a loop over prompts, numpy, float64 as ours",
        lambda vectors: loops.vendi1_group(vectors.astype(np.float64)), arrays, order1, order1_target,
    )  # fmt: skip
    if importlib.util.find_spec("vendi_score"):
        table.line("vendi order 1", given, "vendi-score", loops.package_vendi(1), arrays, order1, order1_target)

        def at_size_8(values: np.ndarray) -> np.ndarray:
            return 8 / (1 + 7 * (SAMPLES / values - 1) / (SAMPLES - 1))

        table.line("vendi order 2", given, "vendi-score", loops.package_vendi(2), arrays, order2, same=at_size_8)
    else:
        print("| vendi | | vendi-score | not installed: `pip install vendi-score` | | | |")
    table.line(
        "vendi at size 4", given, "a loop over 1,820 subsets, numpy", loops.vendi4_group, arrays,
        lambda: vendi.vendi(vectors_PKD, mask_PK)["vendi_at4"], share=25, runs=3,
    )  # fmt: skip


def of_texts(table: Table, prompts: int) -> None:
    for kind, distinct in (("distinct", SAMPLES), ("collapsed", 0.2 * SAMPLES)):
        texts = answers.solutions(prompts, SAMPLES, distinct)
        programs = answers.programs(prompts, SAMPLES, distinct)
        table.line("ead", kind, "a loop over prompts", loops.ead_group, texts, lambda t=texts: ead.ead(t), 4)
        table.line(
            "distinct_n", kind, "a loop over prompts", loops.distinct_group, texts,
            lambda t=texts: distinct_n.distinct_n(t)["distinct_4"],
        )  # fmt: skip
        table.line(
            "duplicates", kind, "a loop over pairs", loops.duplicate_pairs, texts,
            lambda t=texts: duplicates.duplicates(t)["duplicate_pairs"],
        )  # fmt: skip

        def trees(given: list[list[str]] = programs) -> torch.Tensor:
            return ast_subtree.ast_subtree(given)["ast_pairwise"]

        table.line("ast_subtree", kind, "a loop over pairs", loops.ast_pairs, programs, trees, 10, share=25, runs=3)
        table.line("ast_subtree", kind, "a loop over prompts", loops.ast_group, programs, trees, 10, runs=3)
        if importlib.util.find_spec("sacrebleu"):
            table.line(
                "ead", kind, "sacrebleu's self-BLEU", loops.self_bleu, texts, lambda t=texts: ead.ead(t),
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
    seconds = statistics.median(
        table.timed(lambda: across.leave_one_out(texts, vectors_PKD, mask_PK)) for _ in range(RUNS)
    )
    print(f"the interval of across, from it without each prompt: {ms(seconds)}")


def of_answers(table: Table, prompts: int) -> None:
    """What no plain loop stands beside: clusters, approaches, likelihoods, pass@k and cover@n, overlap of runs."""
    texts = answers.solutions(prompts, SAMPLES, SAMPLES)
    vectors_PKD = embeddings(prompts, table.device)
    nothing: list[list[None]] = [[]] * prompts
    correct = [[(k + p) % 3 > 0 for k in range(SAMPLES)] for p in range(prompts)]
    final = [[text.split()[-1] for text in row] for row in texts]
    rows = [[Sample("t", str(p), k, t, "eos", 9) for k, t in enumerate(row)] for p, row in enumerate(texts)]
    given = {
        "texts_PK": texts, "embeddings_PKD": vectors_PKD, "prompt_embeddings_PD": vectors_PKD[:, 0],
        "mask_PK": torch.ones(prompts, SAMPLES, dtype=torch.bool), "prose_PK": texts, "programs_PK": nothing,
        "likelihood_PKF": torch.rand(prompts, SAMPLES, 4), "lengths_PK": torch.full((prompts, SAMPLES), 9.0),
        "stored_nll_PF": torch.rand(prompts, 4), "judged_PK": [[k % 3 for k in range(8)]] * prompts,
    }  # fmt: skip

    def of(name: str) -> Callable[[], Any]:
        metric = metrics.load(name)
        return lambda: metric.function(**{key: value for key, value in given.items() if key in metric.takes})

    names = ("answer_clusters", "approach", "prompt_removed", "token_entropy", "cross_entropy", "judge_clusters")
    runs = {name: of(name) for name in names}
    runs["pass@k, cover@n and votes"] = lambda: quality(correct, SAMPLES, answers=final)
    runs["overlap of two runs"] = lambda: overlap(rows, rows)
    for name, run in runs.items():
        run()
        print(f"{name}: {ms(statistics.median(table.timed(run) for _ in range(3)))}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu", help='"cuda" times ours there')
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--answers", action="store_true", help="only the figures without a loop beside them")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    device = torch.device(args.device)
    where = f"; ours on {torch.cuda.get_device_name()}" if device.type == "cuda" else ""
    packages = [name for name in PACKAGES if importlib.util.find_spec(name.replace("-", "_"))]
    print(head("torch", "numpy", *packages))
    of = "real answers and programs, with variants of them" if answers.are_real() else "generated answers and programs"
    print(f"{args.prompts} prompts x {SAMPLES}, {DIMENSIONS} dimensions; {of}{where}\n")
    assert load("sbert").function is sbert.sbert  # what is timed is what a monitor computes
    if args.answers:
        of_answers(Table(device), args.prompts)
        return
    table = Table(device)
    of_embeddings(table, args.prompts)
    of_texts(table, args.prompts)
    print(f"\nThe figures of embeddings on {device.type}:")
    on_device(table, args.prompts)


if __name__ == "__main__":
    main()
