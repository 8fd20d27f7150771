"""At which distance do two answers say the same? Pairs with known classes, half of the prompts to fit, half to judge.

python recipes/signals/same.py
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import torch

from divmon.scoring.encoders import TextEncoder
from divmon.scoring.metrics.answer_clusters import distances, without


def auc(same: list[float], other: list[float]) -> float:
    """Chance that a pair that says the same is closer than one that does not; ties count half."""
    a, b = torch.tensor(same)[:, None], torch.tensor(other)[None]
    return float(((a < b).double() + (a == b).double() / 2).mean())


def main() -> None:
    torch.set_num_threads(1)
    rows = [json.loads(line) for line in Path(__file__).with_name("same.jsonl").read_text().splitlines()]
    encoder = TextEncoder("minilm", "cpu")
    designs: dict[str, list[list[tuple[float, bool]]]] = {"cosine": [], "hybrid": []}
    for row in rows:
        texts = [text for group in row["answers"] for text in group]
        group = [g for g, several in enumerate(row["answers"]) for _ in several]
        embeddings, prompt = encoder.encode(texts).double(), encoder.encode([row["prompt"]])[0]
        found = {"cosine": 1 - embeddings @ embeddings.T, "hybrid": distances(texts, without(embeddings, prompt))}
        for name, distance in found.items():
            pairs = itertools.combinations(range(len(texts)), 2)
            designs[name].append([(float(distance[i, j]), group[i] == group[j]) for i, j in pairs])
    for name, by_prompt in designs.items():
        within = [auc([d for d, s in pairs if s], [d for d, s in pairs if not s]) for pairs in by_prompt]
        every = [pair for pairs in by_prompt for pair in pairs]
        whole = auc([d for d, s in every if s], [d for d, s in every if not s])
        fit = [pair for pairs in by_prompt[::2] for pair in pairs]
        judged = [pair for pairs in by_prompt[1::2] for pair in pairs]

        def balanced(pairs: list[tuple[float, bool]], threshold: float) -> float:
            hits, misses = ([d < threshold for d, s in pairs if s == kind] for kind in (True, False))
            return (sum(hits) / len(hits) + 1 - sum(misses) / len(misses)) / 2

        grid = [t / 100 for t in range(10, 95)]
        best = max(grid, key=lambda t: balanced(fit, t))
        kept = [t for t in grid if balanced(fit, t) >= balanced(fit, best) - 1e-9]
        middle = kept[len(kept) // 2]
        print(
            f"{name:8} AUC {whole:.2f}, within a prompt {sum(within) / len(within):.2f}; threshold {middle:.2f}:"
            f" balanced accuracy {balanced(fit, middle):.2f} on the prompts it was fit on,"
            f" {balanced(judged, middle):.2f} on the others ({len(judged)} pairs)"
        )


if __name__ == "__main__":
    main()
